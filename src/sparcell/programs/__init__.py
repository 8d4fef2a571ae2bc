"""The gene programs of a fitted model, named and written as a page: `run`."""

from __future__ import annotations

from sparcell.programs.pipeline import catalogue, run

__all__ = [
    "catalogue",
    "run",
]


def __dir__() -> list[str]:
    return list(__all__)
