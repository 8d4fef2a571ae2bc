"""The errors that speak to the user: what was found, what was expected, what to type instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SparcellError(Exception):
    """Its message is a complete answer, so the command line prints it without a traceback."""


class InputError(SparcellError, ValueError):
    """Something the user gave does not fit; raised before any work, with nothing changed."""


class TrainingError(SparcellError, RuntimeError):
    """Training cannot go on, because the loss is no longer a number."""


def as_typed(**settings: object) -> str:
    """Write settings as they are typed in Python and in a shell: layer='counts' (in a shell: --layer counts)."""
    python = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    words = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
        for name, value in settings.items()
    ]
    return f"{python} (in a shell: {' '.join(words)})"


def did_you_mean(word: str, choices: Iterable[str], limit: int = 8) -> str:
    """Name the choice nearest to `word`, else list the first few: the tail of a message about an unknown key."""
    known = [str(choice) for choice in choices]
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if not known:
        return "there are none."
    more = ", …" if len(known) > limit else ""
    return f"there are: {', '.join(known[:limit])}{more}."
