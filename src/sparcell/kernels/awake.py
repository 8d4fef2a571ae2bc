"""Threads kept awake between the shared parts of a training step, while one makes its small operations.

A step has some hundred of them, of 5 to 50 µs. Shared out as torch does it, each wakes a thread that fell asleep since the last one, for 50
to 130 µs. GNU's OpenMP can only wait without giving way: waiting for long it takes the processor from whatever else runs there. So the
threads wait in a task of ours, which looks for its end again and again and gives way in between. While it lasts all of torch's operations
are made by the one thread; what is large has to be `together`.
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
from numba.core import cgutils
from numba.extending import intrinsic

from sparcell.kernels.jit import compiled

INT, BYTES = ir.IntType(64), ir.IntType(8).as_pointer()
TASK = ir.FunctionType(ir.VoidType(), [BYTES])
START = ir.FunctionType(ir.VoidType(), [TASK.as_pointer(), BYTES, ir.IntType(32)])
END = ir.FunctionType(ir.VoidType(), [])
MOST_LOOKS = 4000
"""How often a thread looks before it may sleep all the same: some 2 ms."""

P = ParamSpec("P")
R = TypeVar("R")


def _start(context: Any, address: Any, n_threads: Any, place: Any) -> Any:
    """Begin a task of all threads, which the others do: look at the number at a place in memory until it is 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        module = builder.module
        task = ir.Function(module, TASK, module.get_unique_name("sparcell_wait"))
        task.linkage = "internal"
        inner = ir.IRBuilder(task.append_basic_block("entry"))
        give_way = cgutils.get_or_insert_function(module, ir.FunctionType(ir.IntType(32), []), "sched_yield")
        seen, entry = inner.bitcast(task.args[0], INT.as_pointer()), inner.block
        look, stay, end = (task.append_basic_block(name) for name in ("look", "stay", "end"))
        inner.branch(look)
        inner.position_at_end(look)
        looks = inner.phi(INT)
        looks.add_incoming(INT(0), entry)
        wanted = inner.icmp_signed("!=", inner.load_atomic(seen, "monotonic", 8), INT(0))
        inner.cbranch(inner.and_(wanted, inner.icmp_signed("<", looks, INT(MOST_LOOKS))), stay, end)
        inner.position_at_end(stay)
        inner.call(give_way, [])
        looks.add_incoming(inner.add(looks, INT(1)), stay)
        inner.branch(look)
        inner.position_at_end(end)
        inner.ret_void()

        address, n_threads, place = args
        begin = builder.inttoptr(address, START.as_pointer())
        n_threads = builder.trunc(n_threads, ir.IntType(32))
        builder.store_atomic(INT(1), builder.inttoptr(place, INT.as_pointer()), "release", 8)
        builder.call(begin, [task, builder.inttoptr(place, BYTES), n_threads])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _end(context: Any, address: Any, place: Any) -> Any:
    """Set the number at a place to 0, and wait until the threads have seen it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(INT(0), builder.inttoptr(args[1], INT.as_pointer()), "release", 8)
        builder.call(builder.inttoptr(args[0], END.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


start: Callable[..., None] = intrinsic(_start)
end: Callable[..., None] = intrinsic(_end)


@compiled()
def hold(address: Any, n_threads: Any, held: Any) -> None:
    """Keep the threads awake, if they are not; in one call, so that no interruption can part it."""
    if held[0] == 0:
        start(address, n_threads, held.ctypes.data)


@compiled()
def free(address: Any, held: Any) -> None:
    """Let them go, if they are kept."""
    if held[0] != 0:
        end(address, held.ctypes.data)


@cache
def address(name: str) -> int:
    """Where in memory a function lies that the process has loaded for all to see, such as torch's OpenMP; 0 where there is none."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # the last on Windows
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def openmp() -> tuple[int, int]:
    """Where in memory GNU OpenMP's `GOMP_parallel_start` and `GOMP_parallel_end` lie; two zeros where torch comes with another OpenMP.

    LLVM's lets its threads give way while they wait, for 200 ms: they need not be kept awake.
    """
    if address("__kmpc_fork_call"):
        return 0, 0
    return address("GOMP_parallel_start"), address("GOMP_parallel_end")


class _Held(threading.local):
    """What the calling thread's helpers do."""

    def __init__(self) -> None:
        self.wanted = False
        """Whether they are to stay awake."""
        self.n_threads, self.first, self.last = 1, 0, 0
        """How many there are, this one too; where OpenMP's functions lie that begin and end their task."""
        self.now = np.zeros(1, np.int64)
        """Whether they are kept awake now."""

    def hold(self) -> None:
        self.wanted = True
        hold(self.first, self.n_threads, self.now)

    def free(self) -> None:
        self.wanted = False
        free(self.last, self.now)


_HELD = _Held()


@contextmanager
def kept_awake(wanted: bool) -> Iterator[None]:
    """Keep the other threads awake, if `wanted` and there are any: torch's operations have this thread only, what is `together` has all."""
    held = _HELD
    held.n_threads, (held.first, held.last) = torch.get_num_threads(), openmp()
    if not (wanted and held.first and held.last and held.n_threads > 1):
        yield
        return
    try:
        held.hold()
        yield
    finally:
        held.free()


def together(work: Callable[P, R]) -> Callable[P, R]:
    """Have a function use all threads, also while they are kept awake."""

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
