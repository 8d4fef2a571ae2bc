"""Tasks that end only if two threads are in them at once."""

from __future__ import annotations

import ctypes
import threading

from numba import njit

from sparcell.kernels.tasks import each


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
