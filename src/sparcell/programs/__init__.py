"""The gene programs of a fitted model: named, compared over seeds, and written as page, tables and figures."""

from __future__ import annotations

from sparcell.programs.pipeline import collect, run

__all__ = [
    "collect",
    "run",
]


def __dir__() -> list[str]:
    return list(__all__)
