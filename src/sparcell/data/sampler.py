"""Which cells are in which minibatch: row numbers, as a pure function of the arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


MAX_VALIDATION_CELLS = 65_536
"""More cells would not make the validation loss more exact than early stopping needs, and they are kept in memory."""


def epoch_batches(n_cells: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Shuffle the cells of one epoch into minibatches. The last one may be smaller, down to one cell."""
    order = np.random.default_rng([seed, epoch]).permutation(n_cells)
    return [order[start : start + batch_size] for start in range(0, n_cells, batch_size)]


def sequential_batches(n_cells: int, batch_size: int) -> list[NDArray[np.int64]]:
    """Return minibatches in the order of the data, used outside of training."""
    return [np.arange(start, min(start + batch_size, n_cells)) for start in range(0, n_cells, batch_size)]


def train_validation_split(
    n_cells: int, validation_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row numbers of the training cells and of the validation cells, both in the order of the data.

    The number of validation cells is rounded down and at most MAX_VALIDATION_CELLS. At least one cell is for training.
    """
    n_validation = min(int(validation_fraction * n_cells), n_cells - 1, MAX_VALIDATION_CELLS)
    order = np.random.default_rng([seed, 0]).permutation(n_cells)  # epochs count from 1
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def subsample(n_cells: int, n_max: int, seed: int) -> NDArray[np.int64]:
    """Return at most `n_max` row numbers, drawn without replacement, in the order of the data."""
    if n_cells <= n_max:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, n_max, replace=False))


def epoch_windows(
    train_rows: NDArray[np.integer], edges: NDArray[np.integer], n_blocks: int, seed: int, epoch: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the training cells of one epoch in windows: shuffled within a window of blocks from all over the file.

    Cells that are stored side by side, such as one donor's, are then in minibatches with cells of `n_blocks` - 1 other places. Every
    training cell is yielded once. A window without training cells is left out.

    Parameters
    ----------
    train_rows
        Row numbers of the training cells, in the order of the file.
    edges
        Rows where blocks begin, and the number of cells.
    n_blocks
        Blocks in a window.
    seed, epoch
        Decide the order; the same arguments give the same windows.
    """
    rng = np.random.default_rng([seed, epoch])
    bounds = np.searchsorted(train_rows, edges)
    blocks = rng.permutation(len(edges) - 1)
    for start in range(0, len(blocks), n_blocks):
        taken = np.sort(blocks[start : start + n_blocks])
        rows = np.concatenate([train_rows[bounds[block] : bounds[block + 1]] for block in taken])
        if len(rows):
            yield rng.permutation(rows).astype(np.int64)
