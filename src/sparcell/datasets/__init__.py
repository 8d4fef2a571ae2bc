"""Data sets that need no network: PBMC3k, a set that scanpy ships, and simulated gene programs, branching paths and donors."""

from __future__ import annotations

from sparcell.datasets.donors import simulate_donors
from sparcell.datasets.pbmc3k import pbmc3k, pbmc68k_reduced
from sparcell.datasets.simulate import simulate_branches, simulate_programs, thin_counts

__all__ = [
    "pbmc3k",
    "pbmc68k_reduced",
    "simulate_branches",
    "simulate_donors",
    "simulate_programs",
    "thin_counts",
]


def __dir__() -> list[str]:
    return list(__all__)
