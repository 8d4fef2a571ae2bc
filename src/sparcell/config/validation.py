"""Checks of single settings: each raises an InputError that names the setting, what was found and what was expected."""

from __future__ import annotations

import math
import re
import typing
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path

from sparcell.errors import InputError


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise InputError unless the condition holds."""
    if not condition:
        raise InputError(f"{name} is {value!r}; expected {expected}.")


def require_choice(config: type, name: str, value: object) -> None:
    """Raise InputError unless a setting is one of the words that its type lists."""
    choices = typing.get_args(typing.get_type_hints(config)[name])
    require(value in choices, name, value, f"one of {', '.join(map(str, choices))}")


def convert_numbers(config: object) -> None:
    """Replace numpy's numbers in settings by Python's, which a saved model, as JSON, can hold."""
    for field in fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if type(value).__module__ == "numpy" and hasattr(value, "item"):
            object.__setattr__(config, field.name, value.item())


def convert_paths(config: object, *names: str) -> None:
    """Replace text in settings of files by paths: one path, or for a setting of several files a tuple of paths."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, str):
            value = Path(value)
        if typing.get_origin(typing.get_type_hints(type(config))[name]) is tuple:
            value = (value,) if isinstance(value, Path) else tuple(Path(path) for path in value)
        object.__setattr__(config, name, value)


def is_whole(value: object, minimum: int) -> bool:
    """Return whether a value is a whole number of at least `minimum` that fits into 63 bits."""
    return isinstance(value, Integral) and minimum <= int(value) < 2**63


def require_whole(name: str, value: object, minimum: int, *, or_word: str | None = None) -> None:
    """Raise InputError unless a setting is a whole number of at least `minimum`, or the word."""
    in_range = is_whole(value, minimum) or (or_word is not None and value == or_word)
    require(in_range, name, value, f"a whole number of at least {minimum}" + _or(or_word))


def require_number(
    name: str,
    value: object,
    *,
    above: float,
    below: float = math.inf,
    or_equal: bool = False,
    or_word: str | None = None,
) -> None:
    """Raise InputError unless a setting is a finite number above `above` (or equal to it) and below `below`, or the word."""
    if or_word is not None and value == or_word:
        return
    in_range = isinstance(value, Real) and (above < float(value) < below or (or_equal and value == above))
    limit = f"of at least {above:g}" if or_equal else f"above {above:g}"
    limit += f" and below {below:g}" if below < math.inf else ""
    require(in_range, name, value, f"a number {limit}" + _or(or_word))


def require_size(name: str, size: object) -> int:
    """Return a number of bytes from text such as 4GB, 500 MB or 1e9, or from a number; raise InputError for anything else."""
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)B?\s*", str(size), re.IGNORECASE)
    try:
        amount = float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " ") if found else 0.0
    except ValueError:
        amount = 0.0
    require(0 < amount < math.inf, name, size, "a size above 0, such as 4GB or 500MB")
    return int(amount)


def require_widths(name: str, widths: object) -> tuple[int, ...]:
    """Return layer widths as a tuple; raise InputError unless they are one or more whole numbers of at least 1."""
    if isinstance(widths, list | tuple) and len(widths) > 0 and all(is_whole(width, 1) for width in widths):
        return tuple(int(width) for width in widths)
    raise InputError(f"{name} is {widths!r}; expected one or more widths of at least 1.")


def _or(word: str | None) -> str:
    return "" if word is None else f", or {word!r}"
