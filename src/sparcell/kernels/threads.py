"""Blocks of a compiled loop shared among threads: the same bits with any number of threads.

The threads are numba's. With the OpenMP layer they are the threads of torch's own operations, because both load the same library: two
threads instead of one make an epoch 1.3 to 1.8 times faster, and a pool of Python threads takes 1.2 to 1.9 times as long as these
(AMD EPYC, 2 cores, AVX-512, 2026-11-28).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numba
import torch
from numba import njit, prange

from sparcell.kernels.jit import cached_jit, inline_jit


class _Process:
    """What holds for this process: whether its threads run, and whether it is a fork of one that had threads."""

    def __init__(self) -> None:
        self.launch_lock = threading.Lock()
        self.is_launched = False
        self.is_forked = False
        self.serial: dict[Any, Callable[..., None]] = {}

    def after_fork(self) -> None:
        """Note in a forked child that the threads are gone: GNU OpenMP cannot start them again there.

        Torch would wait for them for ever in its first parallel operation, so the child uses one thread.
        """
        self.is_forked, self.launch_lock = self.is_launched, threading.Lock()
        torch.set_num_threads(1)

    def launch(self) -> None:
        """Start numba's threads from a thread of its own, once.

        Numba sets the number of OpenMP threads of the calling thread to all processors, which torch would then use too.
        """
        if not self.is_launched:
            self.is_launched = True
            starter = threading.Thread(target=_count, args=(1,))
            starter.start()
            starter.join()


_PROCESS = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PROCESS.after_fork)


def parallel_jit() -> Callable[[Any], Any]:
    """Return a decorator for a loop over blocks, `for number in prange(n_blocks)`, which `parallel_for` runs."""
    return cached_jit(parallel=True)


@parallel_jit()
def _count(n_blocks):
    total = 0
    for _ in prange(n_blocks):
        total += 1
    return total


def n_threads() -> int:
    """Return the number of threads of a loop: as many as torch uses, at most as many as numba may start."""
    return min(torch.get_num_threads(), int(numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def parallel_for(loop: Any, n_blocks: int, *arguments: Any) -> None:
    """Run a `parallel_jit` loop over its blocks 0 … n_blocks - 1. One loop runs at a time, since not all of numba's layers allow more."""
    with _PROCESS.launch_lock:
        if _PROCESS.is_forked:
            serial = _PROCESS.serial.setdefault(loop, njit(nogil=True, error_model="numpy")(loop.py_func))
            serial(n_blocks, *arguments)
            return
        _PROCESS.launch()
        if numba.get_num_threads() != n_threads():
            numba.set_num_threads(n_threads())
        loop(n_blocks, *arguments)


@inline_jit()
def block_range(number, block, n):
    """Return the first item of a block of 0 … n - 1 and the one after its last."""
    return number * block, min((number + 1) * block, n)
