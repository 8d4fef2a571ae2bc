"""Which cells stand in which step: row numbers, as a pure function of its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def plan(n_cells: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Shuffle the cells of one epoch into batches; the last one may be smaller, down to one cell."""
    order = np.random.default_rng([seed, epoch]).permutation(n_cells)
    return [order[start : start + batch_size] for start in range(0, n_cells, batch_size)]


def in_order(n_cells: int, batch_size: int) -> list[NDArray[np.int64]]:
    """Batches in the order of the data, for everything that is not training."""
    return [np.arange(start, min(start + batch_size, n_cells)) for start in range(0, n_cells, batch_size)]


def split(n_cells: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of the cells that train and of those held out, both in the order of the data.

    `share` of the cells are held out, rounded down, but at least one cell trains.
    """
    n_held_out = min(int(share * n_cells), n_cells - 1)
    order = np.random.default_rng([seed, 0]).permutation(n_cells)  # epochs count from 1
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def drawn(n_cells: int, most: int, seed: int) -> NDArray[np.int64]:
    """Row numbers of at most `most` cells, drawn without repeats, in the order of the data."""
    if n_cells <= most:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, most, replace=False))
