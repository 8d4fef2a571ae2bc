"""Comparison of the models on one data set: `run` makes it, `show` prints its table."""

from __future__ import annotations

from sparcell.study.pipeline import run, show

__all__ = [
    "run",
    "show",
]


def __dir__() -> list[str]:
    return list(__all__)
