"""Work shared out over threads, in blocks that do not depend on their number: the same bits with two cores and with twenty.

The threads are those of torch's own operations (OpenMP), which wait awake for a moment after each one: they begin at once, and no others
stand in their way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

from sparcell.kernels.awake import address, board


def openmp() -> int:
    """Where in memory `void GOMP_parallel(void (*task)(void *), void *data, unsigned n_threads, unsigned flags)` lies.

    GNU's and LLVM's OpenMP call it so, and torch loads its OpenMP for the whole process to see. 0 where there is none, as on Windows.
    """
    return address("GOMP_parallel")


@cache
def _helpers(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="sparcell")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def n_threads() -> int:
    """How many threads there are: as many as torch uses for an operation."""
    return torch.get_num_threads()


def share(launch: Callable[..., bool], n_tasks: int, *given: Any) -> None:
    """Have compiled tasks 0 … n_tasks - 1 done by a launcher of theirs (`kernels.tasks`); whoever is free takes the next."""
    n_takers = min(n_threads(), n_tasks)
    if n_takers <= 1 or openmp():
        whole = launch((openmp(), n_takers, board()), (0, n_tasks), given)
    else:
        spans = [(number, number + 1) for number in range(n_tasks)]
        whole = all(list(_helpers(n_takers).map(lambda span: launch((0, 1, 0), span, given), spans)))
    if not whole:
        raise MemoryError("a loop over cells found no memory for its sums")
