"""Threads kept awake during a training step: one makes its small operations, the others take a share of what is large at once.

A step has some hundred small operations, of 5 to 50 µs. Shared out as torch does it, each wakes a thread that fell asleep since the last
one, for 50 to 130 µs. GNU's OpenMP can only wait without giving way: waiting for long it takes the processor from whatever else runs there.
So the threads wait in a task of ours, which looks again and again for its end and for a job, and gives way in between. While it lasts
torch makes its operations in the one thread. Jobs are the tasks that `kernels.tasks` shares out; what else is large, such as a library's
product, has to be `together`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sparcell.kernels.jit import compiled

INT, BYTES = ir.IntType(64), ir.IntType(8).as_pointer()
TASK = ir.FunctionType(ir.VoidType(), [BYTES])
START = ir.FunctionType(ir.VoidType(), [TASK.as_pointer(), BYTES, ir.IntType(32)])
END = ir.FunctionType(ir.VoidType(), [])
GIVE_WAY = ir.FunctionType(ir.IntType(32), [])
MOST_LOOKS = 4000
"""How often a thread looks before it may sleep all the same: some 2 ms."""
WANTED, JOB, WORK, DATA, BUSY, GONE, LAST, YIELD = range(8)
"""Numbers that the threads look at: whether they are to stay; which job there is, or 0; what a job calls, and with what; how many threads
are within a job; how many fell asleep; the last job's number; where in memory `sched_yield` lies."""

P = ParamSpec("P")
R = TypeVar("R")


class _Board:
    """Where these numbers lie, in code that a builder writes; every thread sees what another one wrote before it."""

    def __init__(self, builder: Any, place: Any) -> None:
        self.builder, self.first = builder, builder.inttoptr(place, INT.as_pointer())

    def _at(self, number: int) -> Any:
        return self.builder.gep(self.first, [INT(number)])

    def read(self, number: int) -> Any:
        return self.builder.load_atomic(self._at(number), "seq_cst", 8)

    def write(self, number: int, value: Any) -> None:
        self.builder.store_atomic(value, self._at(number), "seq_cst", 8)

    def add(self, number: int, value: int) -> None:
        self.builder.atomic_rmw("add", self._at(number), INT(value), "seq_cst")

    def call(self, number: int, kind: Any, *given: Any) -> None:
        self.builder.call(self.builder.inttoptr(self.read(number), kind.as_pointer()), given)


def have_done(builder: Any, place: Any, work: Any, data: Any) -> None:
    """Write code that has `work(data)` called by this thread and by those kept awake, and goes on when all have come back."""
    board = _Board(builder, place)
    board.write(WORK, builder.ptrtoint(work, INT))
    board.write(DATA, builder.ptrtoint(data, INT))
    board.write(LAST, builder.add(board.read(LAST), INT(1)))
    board.write(JOB, board.read(LAST))
    builder.call(work, [data])
    board.write(JOB, INT(0))
    look, stay, end = (builder.append_basic_block(name) for name in ("look", "stay", "end"))
    builder.branch(look)
    builder.position_at_end(look)
    builder.cbranch(builder.icmp_signed("!=", board.read(BUSY), INT(0)), stay, end)
    builder.position_at_end(stay)
    board.call(YIELD, GIVE_WAY)
    builder.branch(look)
    builder.position_at_end(end)


def _write_task(task: Any) -> None:
    """What the threads do that are kept awake."""
    builder = ir.IRBuilder(task.append_basic_block("entry"))
    board, entry = _Board(builder, builder.ptrtoint(task.args[0], INT)), builder.block
    names = ("look", "seek", "enter", "do", "leave", "idle", "stay", "give_up", "end")
    look, seek, enter, do, leave, idle, stay, give_up, end = map(task.append_basic_block, names)
    builder.branch(look)
    builder.position_at_end(look)
    looks, done = builder.phi(INT), builder.phi(INT)
    job = board.read(JOB)
    builder.cbranch(builder.icmp_signed("!=", board.read(WANTED), INT(0)), seek, end)
    builder.position_at_end(seek)
    new = builder.and_(builder.icmp_signed("!=", job, INT(0)), builder.icmp_signed("!=", job, done))
    builder.cbranch(new, enter, idle)
    builder.position_at_end(enter)
    board.add(BUSY, 1)
    # it may have ended since; if not, it will not while this thread is counted
    builder.cbranch(builder.icmp_signed("==", board.read(JOB), job), do, leave)
    builder.position_at_end(do)
    board.call(WORK, TASK, builder.inttoptr(board.read(DATA), BYTES))
    builder.branch(leave)
    builder.position_at_end(leave)
    board.add(BUSY, -1)
    builder.branch(look)
    builder.position_at_end(idle)
    builder.cbranch(builder.icmp_signed("<", looks, INT(MOST_LOOKS)), stay, give_up)
    builder.position_at_end(stay)
    board.call(YIELD, GIVE_WAY)
    more = builder.add(looks, INT(1))
    builder.branch(look)
    builder.position_at_end(give_up)
    board.add(GONE, 1)
    builder.branch(end)
    builder.position_at_end(end)
    builder.ret_void()
    for block, number_of_looks, last in ((entry, INT(0), INT(0)), (leave, INT(0), job), (stay, more, done)):
        looks.add_incoming(number_of_looks, block)
        done.add_incoming(last, block)


def _start(context: Any, address: Any, n_threads: Any, place: Any) -> Any:
    """Begin the task of all threads, which the others do."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        module = builder.module
        task = ir.Function(module, TASK, module.get_unique_name("sparcell_wait"))
        task.linkage = "internal"
        _write_task(task)
        address, n_threads, place = args
        board = _Board(builder, place)
        board.write(GONE, INT(0))
        board.write(WANTED, INT(1))
        begin = builder.inttoptr(address, START.as_pointer())
        builder.call(begin, [task, builder.inttoptr(place, BYTES), builder.trunc(n_threads, ir.IntType(32))])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _end(context: Any, address: Any, place: Any) -> Any:
    """Tell the threads that they need not stay, and wait until they have seen it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _Board(builder, args[1]).write(WANTED, INT(0))
        builder.call(builder.inttoptr(args[0], END.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


start: Callable[..., None] = intrinsic(_start)
end: Callable[..., None] = intrinsic(_end)


@compiled()
def hold(address: Any, n_threads: Any, numbers: Any) -> None:
    """Keep the threads awake, if they are not; in one call, so that no interruption can part it."""
    if numbers[WANTED] == 0:
        start(address, n_threads, numbers.ctypes.data)


@compiled()
def free(address: Any, numbers: Any) -> None:
    """Let them go, if they are kept."""
    if numbers[WANTED] != 0:
        end(address, numbers.ctypes.data)


@cache
def address(name: str) -> int:
    """Where in memory a function lies that the process has loaded for all to see, such as torch's OpenMP; 0 where there is none."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # the last on Windows
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def openmp() -> tuple[int, int]:
    """Where in memory GNU OpenMP's `GOMP_parallel_start` and `GOMP_parallel_end` lie; two zeros where torch comes with another OpenMP.

    LLVM's lets its threads give way while they wait, for 200 ms: they need not be kept awake.
    """
    if address("__kmpc_fork_call") or not address("sched_yield"):
        return 0, 0
    return address("GOMP_parallel_start"), address("GOMP_parallel_end")


class _Held(threading.local):
    """What the calling thread's helpers do."""

    def __init__(self) -> None:
        self.wanted = False
        """Whether they are to stay awake."""
        self.numbers = np.zeros(8, np.int64)
        """What they look at."""
        self.numbers[YIELD] = address("sched_yield")
        self.place: int = self.numbers.ctypes.data

    def hold(self) -> None:
        self.wanted = True
        hold(openmp()[0], torch.get_num_threads(), self.numbers)

    def free(self) -> None:
        self.wanted = False
        free(openmp()[1], self.numbers)


_HELD = _Held()


def board() -> int:
    """Where in memory the numbers lie that this thread's helpers look at, of whom those asleep are woken; 0 where none are kept."""
    if not _HELD.wanted:
        return 0
    if _HELD.numbers[GONE]:
        _HELD.free()
        _HELD.hold()
    return _HELD.place


@contextmanager
def kept_awake(wanted: bool) -> Iterator[None]:
    """Keep the other threads awake, if `wanted` and there are any: torch's operations have this thread only, what is `together` has all."""
    if not (wanted and all(openmp()) and torch.get_num_threads() > 1):
        yield
        return
    try:
        _HELD.hold()
        yield
    finally:
        _HELD.free()


def together(work: Callable[P, R]) -> Callable[P, R]:
    """Have torch's operations in a function use all threads, also while they are kept awake."""

    @wraps(work)
    def whole(*args: P.args, **kwargs: P.kwargs) -> R:
        if not _HELD.wanted:
            return work(*args, **kwargs)
        _HELD.free()
        try:
            return work(*args, **kwargs)
        finally:
            _HELD.hold()

    return whole
