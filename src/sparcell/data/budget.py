"""How much memory the training from a file takes, part by part, and how large its windows may be.

Suffixes: n cells.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparcell.data.streaming import MAX_WINDOW_VALUES
from sparcell.errors import InputError, format_settings

BYTES_PER_VALUE = 8
"""Of a cell in memory: float32 value and int32 gene."""
BYTES_PER_CELL = 40
"""Of each cell of the file: length of its row, total and number of values, library size, batch, and place in an epoch (23 bytes), and
copies of some of them that do not last."""
N_WINDOWS = 4
"""Windows in memory: the one that training reads, the next one, the pieces that it is put together from, and what is freed late."""
MIN_BLOCKS = 8
"""Fewest blocks in a window: cells of fewer places of the file would be too much alike."""
MIN_BUDGET = 64_000_000
"""Smaller limits are taken as this one: importing the libraries takes more."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that the training from a file takes, over those of the libraries and of the model."""

    cells: int
    """Numbers that are kept of each cell."""
    validation: int
    """Validation cells."""
    windows: int
    n_blocks: int
    """Stored blocks in a window."""

    @property
    def total(self) -> int:
        """All parts together."""
        return self.cells + self.validation + self.windows

    def __str__(self) -> str:
        parts = {
            "windows": self.windows,
            "validation cells": self.validation,
            "numbers of each cell": self.cells,
        }
        listed = ", ".join(f"{name} {format_size(size)}" for name, size in parts.items())
        return f"{format_size(self.total)}: {listed}"


def plan_memory(
    n_cells: int,
    n_stored: int,
    values_per_cell: float,
    n_validation: int,
    limit: int | None,
    n_columns: int = 0,
) -> MemoryPlan:
    """Return how much memory training takes; windows are as large as `limit` allows, and hold at most 16 million values.

    Parameters
    ----------
    n_cells, n_stored
        Numbers of cells and of blocks in the file.
    values_per_cell
        Mean number of values of a cell, of the model's genes.
    n_validation
        Number of validation cells.
    limit
        Bytes that training may take; None for no limit. Limits below 64 MB count as 64 MB.
    n_columns
        Numbers of further covariates of each cell.

    Raises
    ------
    InputError
        If windows of eight blocks would exceed the limit.
    """
    cells = n_cells * (BYTES_PER_CELL + 4 * n_columns)
    validation = round(n_validation * values_per_cell * BYTES_PER_VALUE)
    per_block = values_per_cell * BYTES_PER_VALUE * n_cells / n_stored * N_WINDOWS
    n_blocks = max(1, round(MAX_WINDOW_VALUES * BYTES_PER_VALUE * N_WINDOWS / per_block))
    if limit is not None:
        left = max(limit, MIN_BUDGET) - cells - validation
        fewest = min(MIN_BLOCKS, n_stored)
        if left < fewest * per_block:
            least = MemoryPlan(cells, validation, round(fewest * per_block), fewest)
            enough = f"{-(-least.total // 10_000_000) * 10}MB"
            raise InputError(
                f"memory is {format_size(limit)}, and training from this file takes at least {least}. Give that much, "
                f"{format_settings(memory=enough)}, or fewer validation cells, {format_settings(validation_fraction=0.01)}."
            )
        n_blocks = min(n_blocks, int(left // per_block))
    return MemoryPlan(cells, validation, round(min(n_blocks, n_stored) * per_block), n_blocks)


def format_size(n_bytes: float) -> str:
    """Return a size as it is typed: 640 MB, 1.5 GB."""
    return f"{n_bytes / 1e9:,.3g} GB" if n_bytes >= 1e9 else f"{max(1, round(n_bytes / 1e6))} MB"
