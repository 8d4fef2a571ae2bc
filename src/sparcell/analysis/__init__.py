"""The analysis of one data set: from raw counts to named clusters, gene programs, differences between conditions, and a report."""

from __future__ import annotations

from sparcell.analysis.pipeline import run, show

__all__ = ["run", "show"]


def __dir__() -> list[str]:
    return list(__all__)
