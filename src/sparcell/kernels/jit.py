"""How loops are compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import event

log = logging.getLogger("sparcell")

FAST = {"reassoc", "contract", "nsz"}
"""Sums may be taken in any order, so that they can be vectors; NaN and infinity keep their meaning."""
INLINED: Any = {"forceinline": True}
"""Every call is replaced by the function itself."""


def inlined(**options: Any) -> Callable[[Any], Any]:
    """Make a part of compiled loops, such as a task: it has no code of its own there.

    A loop that is kept on disk would carry a copy of a function that it calls, optimised once more and so rounded differently; the process
    that compiled the loop calls the first one. The same seed would give other bits in the first process than in all later ones.
    """

    def decorate(function: Any) -> Any:
        return njit(nogil=True, error_model="numpy", **INLINED, **options)(function)

    return decorate


def compiled(**options: Any) -> Callable[[Any], Any]:
    """Compile when first called, without the interpreter's lock; keep the result on disk where there is a place for it.

    What is kept is renewed when the file of the loop changes, not with a part of it that stands in another file (all that is `inlined`,
    `vectors`): whoever changes one of those removes `__pycache__`.
    """

    def decorate(function: Any) -> Any:
        try:
            return njit(nogil=True, error_model="numpy", cache=True, **options)(function)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            return njit(nogil=True, error_model="numpy", **options)(function)

    return decorate


class CompileNotice(event.Listener):
    """Says why nothing moves when the first loop of ours is compiled, once in a process; loops found on disk are not."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, event: Any) -> None:
        """Tell apart our loops from those of other packages."""
        if not self.said and event.data["dispatcher"].py_func.__module__.startswith("sparcell."):
            self.said = True
            log.info("compiling loops for this processor, some 10 s; they are kept for the next time")

    def on_end(self, event: Any) -> None:
        """Say nothing."""


event.register("numba:compile", CompileNotice())  # type: ignore[no-untyped-call]
