"""Work shared out over threads, in blocks that do not depend on their number: the same bits with two cores and with twenty.

The threads are those of torch's own operations (OpenMP), which wait awake for a moment after each one: they begin at once, and no others
stand in their way. A torch operation inside a block runs in that thread alone.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import torch

_TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def openmp() -> Any | None:
    """Find `void GOMP_parallel(void (*task)(void *), void *data, unsigned n_threads, unsigned flags)`, as GNU's and LLVM's OpenMP call it.

    Torch loads its OpenMP for the whole process to see. None where there is none, as on Windows.
    """
    try:
        parallel = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    parallel.argtypes, parallel.restype = [_TASK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return parallel


@cache
def _helpers(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="sparcell")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def n_threads() -> int:
    """How many threads there are: as many as torch uses for an operation."""
    return torch.get_num_threads()


@cache
def _address() -> int:
    """Where GOMP_parallel lies in memory, for compiled code; 0 where there is none."""
    return ctypes.cast(parallel, ctypes.c_void_p).value or 0 if (parallel := openmp()) else 0


def share(launch: Callable[..., bool], n_tasks: int, *given: Any) -> None:
    """Have compiled tasks 0 … n_tasks - 1 done by a launcher of theirs (`kernels.tasks`)."""
    if (n_takers := min(n_threads(), n_tasks)) <= 1 or openmp():
        whole = launch((_address(), n_takers), (0, n_tasks), given)
    else:
        done: list[bool] = []
        over(n_tasks, 1, lambda first, last: done.append(launch((0, 1), (first, last), given)))
        whole = all(done)
    if not whole:
        raise MemoryError("a loop over cells found no memory for its sums")


def over(n: int, block: int, work: Callable[[int, int], None]) -> None:
    """Call `work(first, last)` for each block of 0 … n - 1; it may not hold the interpreter's lock.

    Whoever is free takes the next. After an error in one no more are begun, and it is raised here.
    """
    tasks = [partial(work, first, min(first + block, n)) for first in range(0, n, block)]
    waiting, errors = iter(tasks), list[BaseException]()

    def take(_: object = None) -> None:
        try:
            for task in waiting:
                if errors:
                    return
                task()
        except BaseException as error:  # OpenMP's threads cannot raise it
            errors.append(error)

    n_takers = min(n_threads(), len(tasks))
    if n_takers <= 1:
        take()
    elif parallel := openmp():
        parallel(_TASK(take), None, n_takers, 0)
    else:
        helpers = [_helpers(n_threads()).submit(take) for _ in range(n_takers - 1)]
        take()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    if errors:
        raise errors[0]
