"""Which cells are in which minibatch: row numbers, as a pure function of the arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.errors import InputError
from sparcell.protocols import Share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


MAX_VALIDATION_CELLS = 65_536
"""More cells would not make the validation loss more exact than early stopping needs, and they are kept in memory."""


def epoch_order(n_cells: int, seed: int, epoch: int) -> NDArray[np.integer]:
    """Return the numbers of the cells in the order of an epoch, (n,): 4 bytes a cell. Epochs count from 1."""
    order: NDArray[np.integer] = np.arange(n_cells, dtype=np.int32 if n_cells < 2**31 else np.int64)
    np.random.default_rng([seed, epoch]).shuffle(order)
    return order


def epoch_batches(n_cells: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.integer]]:
    """Shuffle the cells of one epoch into minibatches. The last one may be smaller, down to one cell."""
    order = epoch_order(n_cells, seed, epoch)
    return [order[start : start + batch_size] for start in range(0, n_cells, batch_size)]


def sequential_batches(n_cells: int, batch_size: int) -> list[NDArray[np.int64]]:
    """Return minibatches in the order of the data, used outside of training."""
    return [np.arange(start, min(start + batch_size, n_cells)) for start in range(0, n_cells, batch_size)]


def train_validation_split(
    n_cells: int, validation_fraction: float, seed: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return the row numbers of the training cells and of the validation cells, both in the order of the data.

    The number of validation cells is rounded down and at most MAX_VALIDATION_CELLS. At least one cell is for training.
    """
    n_validation = min(int(validation_fraction * n_cells), n_cells - 1, MAX_VALIDATION_CELLS)
    order = epoch_order(n_cells, seed, 0)
    validation, training = np.sort(order[:n_validation]), order[n_validation:]
    training.sort()  # in place: the numbers of all cells are large
    return training, validation


def subsample(n_cells: int, n_max: int, seed: int) -> NDArray[np.int64]:
    """Return at most `n_max` row numbers, drawn without replacement, in the order of the data."""
    if n_cells <= n_max:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, n_max, replace=False))


def part(n_items: int, number: int, n_parts: int) -> tuple[int, int]:
    """Return the first item of a part, and the one after its last, of items in parts whose sizes differ by at most 1."""
    return n_items * number // n_parts, n_items * (number + 1) // n_parts


def lanes_of(rank: int, world: int, n_lanes: int) -> tuple[range, int, int]:
    """Return the lanes that a process reads, which part of their minibatches it has, and the number of parts.

    A lane is a part of the cells with a place of its own in each minibatch. A process has one or several lanes, or shares one with others.
    Raises InputError if the lanes cannot be dealt evenly.
    """
    if n_lanes % world == 0:
        each = n_lanes // world
        return range(rank * each, (rank + 1) * each), 0, 1
    if world % n_lanes == 0:
        sharing = world // n_lanes
        return range(rank // sharing, rank // sharing + 1), rank % sharing, sharing
    raise InputError(
        f"this run was started by {n_lanes} processes and reads the file in {n_lanes} lanes, which cannot be dealt to {world} processes; "
        f"expected a divisor or a multiple of {n_lanes}."
    )


def share(n_cells: int, rank: int, world: int, n_lanes: int = 1) -> Share:
    """Return which of the cells of a step a process has."""
    lanes, number, n_parts = lanes_of(rank, world, n_lanes)
    first, last = part(n_cells, lanes[0], n_lanes)[0], part(n_cells, lanes[-1], n_lanes)[1]
    start, stop = part(last - first, number, n_parts)
    return Share(first + start, stop - start, n_cells)


def own_index(share: Share) -> NDArray[np.int64]:
    """Return the numbers of the cells of a process within the step; one cell, which does not count, if it has none."""
    start = min(share.start, share.n_cells - 1)
    return np.arange(start, start + max(1, share.n_own))


def lane_cells(n_cells: int, batch_size: int, lane: int, n_lanes: int) -> tuple[int, int]:
    """Return the first cell of an epoch that is in a lane, and the one after its last: as many as its place in all minibatches holds."""
    n_full = max(0, n_cells - 1) // batch_size
    bounds = zip(
        part(batch_size, lane, n_lanes), part(n_cells - n_full * batch_size, lane, n_lanes), strict=True
    )
    first, last = (n_full * of_full + of_tail for of_full, of_tail in bounds)
    return first, last


def epoch_windows(
    train_rows: NDArray[np.integer],
    edges: NDArray[np.integer],
    n_blocks: int,
    seed: int,
    epoch: int,
    lane: tuple[int, int] | None = None,
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
    lane
        Yield only these cells of the epoch (see `lane_cells`): the first and the one after the last, in the random order of the blocks. A
        block may lie in two lanes. Default: all.
    """
    rng = np.random.default_rng([seed, epoch])
    bounds = np.searchsorted(train_rows, edges)
    blocks = rng.permutation(len(edges) - 1)
    first, last = lane or (0, len(train_rows))
    before_block = np.empty(len(blocks), dtype=np.int64)  # cells of the epoch before each block
    before_block[blocks] = np.cumsum(np.diff(bounds)[blocks]) - np.diff(bounds)[blocks]
    start_of, stop_of = (
        np.clip(bounds[:-1] + at - before_block, bounds[:-1], bounds[1:]) for at in (first, last)
    )
    if lane is not None:
        blocks = blocks[(start_of < stop_of)[blocks]]
        rng = np.random.default_rng([seed, epoch, first])
    for start in range(0, len(blocks), n_blocks):
        taken = np.sort(blocks[start : start + n_blocks])
        rows = np.concatenate([train_rows[start_of[block] : stop_of[block]] for block in taken])
        if len(rows):
            yield rng.permutation(rows).astype(np.int64)
