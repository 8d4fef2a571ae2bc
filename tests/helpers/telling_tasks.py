"""Tasks that tell how they were done: those that end only if two threads are in them at once, and those that count."""

from __future__ import annotations

import ctypes
import threading

from numba import njit

from sparcell.kernels.tasks import each, part


@njit
def mark(number, given):
    """Add n + 1 to each number n of a block; one of the tasks may fail after it."""
    block, count_n, fails = given
    first, last = part(number, block, count_n.shape[0])
    for n in range(first, last):
        count_n[n] += n + 1
    if number == fails:
        raise ValueError("from a task")


@njit
def share_mark(team, span, given):
    return each(team, span, mark, given)


def meeting():
    """A launcher of two such tasks, and the threads that will have met."""
    met, workers = threading.Barrier(2, timeout=60), set()

    @ctypes.CFUNCTYPE(None)
    def arrive():
        met.wait()
        workers.add(threading.get_ident())

    @njit
    def meet(number, given):
        arrive()

    @njit(nogil=True)
    def share_meet(team, span, given):
        return each(team, span, meet, given)

    return share_meet, workers
