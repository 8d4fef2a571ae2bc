"""Comparison of sparcell's models with baselines and external models on the same cells: `run` makes it, `show` prints its tables."""

from __future__ import annotations

from sparcell.benchmark.pipeline import run
from sparcell.benchmark.write import show

__all__ = [
    "run",
    "show",
]


def __dir__() -> list[str]:
    return list(__all__)
