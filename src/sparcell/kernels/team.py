"""Work shared out over threads, in blocks that do not depend on their number: the same bits with two cores and with twenty."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


@cache
def _helpers(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="sparcell")


os.register_at_fork(after_in_child=_helpers.cache_clear)  # threads do not survive a fork


def n_threads() -> int:
    """How many threads there are: as many as torch uses for an operation."""
    return torch.get_num_threads()


def over(n: int, block: int, work: Callable[[int, int], None]) -> None:
    """Call `work(first, last)` for each block of 0 … n - 1; it must not hold the interpreter's lock while it computes.

    Whoever is free takes the next block. Torch's own idle threads spin on their cores for a while after each operation, so a helper may
    start late: the caller works too, and does not wait for helpers that have nothing left to do.
    """
    starts = iter(range(0, n, block))

    def take() -> None:
        for first in starts:
            work(first, min(first + block, n))

    n_helpers = min(n_threads(), -(-n // block)) - 1
    waiting = [_helpers(n_threads()).submit(take) for _ in range(n_helpers)]
    take()
    for helper in waiting:
        if not helper.cancel():
            helper.result()
