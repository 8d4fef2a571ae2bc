"""Minibatches of cells that stay on disk: windows of shuffled cells, the next one read by a thread while the network trains.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from scipy import sparse

from sparcell.data import sampler
from sparcell.data.sources import rows_of_matrix
from sparcell.protocols import Minibatch, Share, SparseRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from sparcell.data.loader import Loader
    from sparcell.protocols import CellSource

READ_VALUES = 1 << 22
"""Approximate number of values that are read at a time where cells are read in their order, so that few blocks are read twice."""
MAX_WINDOW_VALUES = 1 << 24
"""Approximate number of values in a window: 128 MiB of numbers and positions. Two windows are in memory."""

NumberedCells = tuple["NDArray[np.integer]", SparseRows]
"""Row numbers, and these cells in the same order."""
OwnCells = tuple["NDArray[np.integer]", SparseRows, Share]
"""The same of the cells that this process has of a minibatch, and which they are."""

Item = TypeVar("Item")


def read_ahead(
    read: Callable[[NDArray[np.integer]], Item], plan: Iterable[NDArray[np.integer]], n_threads: int = 1
) -> Iterator[tuple[NDArray[np.integer], Item]]:
    """Yield each item of `plan` with what `read` returns for it; threads read the next items meanwhile.

    At most `n_threads` + 1 items are in memory. An error of a thread is raised where its item would have been yielded.
    """
    with ThreadPoolExecutor(n_threads, thread_name_prefix="sparcell-reader") as threads:
        pending: deque[tuple[NDArray[np.integer], Future[Item]]] = deque()
        for index in plan:
            pending.append((index, threads.submit(read, index)))
            if len(pending) > n_threads:
                rows, coming = pending.popleft()
                yield rows, coming.result()
        for rows, coming in pending:
            yield rows, coming.result()


def cut(windows: Iterable[NumberedCells], batch_size: int) -> Iterator[NumberedCells]:
    """Cut windows into minibatches of `batch_size` cells; the cells left over at the end of a window begin the next minibatch."""
    left: NumberedCells | None = None
    for rows, cells in windows:
        start = 0
        if left is not None:
            start = min(batch_size - len(left[0]), len(rows))
            left = _joined(left, (rows[:start], cells.take(np.arange(start))))
            if len(left[0]) < batch_size:
                continue
            yield left
        last = start + (len(rows) - start) // batch_size * batch_size
        for first in range(start, last, batch_size):
            yield rows[first : first + batch_size], cells.take(np.arange(first, first + batch_size))
        left = _copied(rows[last:], cells.take(np.arange(last, len(rows)))) if last < len(rows) else None
    if left is not None:
        yield left


def sequential_windows(
    source: CellSource, rows: NDArray[np.integer] | range, batch_size: int
) -> Iterator[NumberedCells]:
    """Yield cells of a source on disk in windows of at least `batch_size` cells, in the order of `rows`."""
    step = max(batch_size, round(READ_VALUES / values_per_cell(source)))
    return read_ahead(
        source.rows, (np.asarray(rows[start : start + step]) for start in range(0, len(rows), step))
    )


def values_per_cell(source: CellSource) -> float:
    """Return the mean number of values of the cells of the first block, at least 1."""
    assert source.edges is not None
    cells = source.rows(np.arange(source.edges[1]))
    return max(1.0, float((cells.stop_n - cells.start_n).mean()))


def skip(windows: Iterable[NDArray[np.integer]], n_cells: int) -> Iterator[NDArray[np.integer]]:
    """Leave out the first `n_cells` cells of the windows, without reading them."""
    for rows in windows:
        if n_cells >= len(rows):
            n_cells -= len(rows)
            continue
        yield rows[n_cells:]
        n_cells = 0


def _joined(first: NumberedCells, second: NumberedCells) -> NumberedCells:
    x_ng = sparse.vstack([first[1].matrix(), second[1].matrix()], format="csr")
    return np.concatenate([first[0], second[0]]), rows_of_matrix(x_ng)


def _copied(rows: NDArray[np.integer], cells: SparseRows) -> NumberedCells:
    """Return the cells in arrays of their own, so that those of their window can be freed."""
    return rows, rows_of_matrix(cells.matrix())


class StreamedTrainingData:
    """The cells of a training run that stay on disk: windows of training cells, shuffled again in each epoch; validation cells in memory.

    Parameters
    ----------
    loader
        Loader of all cells.
    train_rows, validation_rows
        Row numbers, in the order of the file.
    batch_size
        Cells in a minibatch.
    seed
        Seed of the order of the cells.
    n_blocks
        Stored blocks in a window. Default: as many as make a window of 16 million values.
    place
        Number of this process, and the number of processes that train together. Each reads a lane of its own: cells of the epoch, drawn
        again each time, with a place of their own in every minibatch. `n_lanes` is their number.
    """

    def __init__(
        self,
        loader: Loader,
        train_rows: NDArray[np.integer],
        validation_rows: NDArray[np.integer],
        batch_size: int,
        seed: int,
        n_blocks: int | None = None,
        place: tuple[int, int] = (0, 1),
    ) -> None:
        self.loader, self.train_rows, self.validation_rows = loader, train_rows, validation_rows
        self.batch_size, self.seed, self.place, self.n_lanes = batch_size, seed, place, place[1]
        self.n_blocks = n_blocks or _blocks_in_window(loader.source)
        at_once = loader.cells_at_once(batch_size)
        self._validation = [
            self._own_part(rows, cells)
            for rows, cells in cut(sequential_windows(loader.source, validation_rows, at_once), at_once)
        ]
        self._stream: Iterator[Minibatch] = iter(())
        self._next = (0, 0)  # epoch and step of the next minibatch of the stream

    def use_lanes(self, n_lanes: int) -> None:
        """Read the cells in as many lanes as the processes that started this run; InputError if this is no share of them."""
        sampler.lanes_of(*self.place, n_lanes)
        self.n_lanes = n_lanes

    def close(self) -> None:
        """Stop reading ahead, so that the file can be closed."""
        self._stream, self._next = iter(()), (0, 0)

    @property
    def n_steps(self) -> int:
        """Number of steps in an epoch."""
        return -(-len(self.train_rows) // self.batch_size)

    def batches(self, epoch: int, first: int, last: int) -> Iterator[Minibatch]:
        """Yield the minibatches of steps first … last - 1 of an epoch. Steps count from 0, epochs from 1.

        The windows are read on from the last call if that ended where this one begins; otherwise reading starts again at the window of the
        first step.
        """
        if self._next != (epoch, first):
            self._stream = self._read(epoch, first)
        for step in range(first, min(last, self.n_steps)):
            self._next = (0, 0)  # whoever stops here cannot go on
            batch = next(self._stream)
            self._next = (epoch, step + 1)
            yield batch

    def sequential_batches(self) -> Iterator[Minibatch]:
        """Yield the training cells in the order of the file."""
        return self.some(self.train_rows)

    def some(self, rows: NDArray[np.integer]) -> Iterator[Minibatch]:
        """Yield the cells numbered `rows`, in that order."""
        windows = sequential_windows(self.loader.source, rows, self.batch_size)
        return self.loader.cut(windows, self.batch_size)

    def validation_batches(self) -> Iterator[Minibatch]:
        """Yield the validation cells, always in the same order."""
        for rows, cells, share in self._validation:
            batch = self.loader.minibatch(rows, cells)
            yield batch if self.place == (0, 1) else replace(batch, share=share)

    def _own_part(self, rows: NDArray[np.integer], cells: SparseRows) -> OwnCells:
        """Return what this process has of cells that each process reads."""
        share = sampler.share(len(rows), *self.place)
        own = sampler.own_index(share)
        return *_copied(rows[own], cells.take(own)), share

    def _read(self, epoch: int, first: int) -> Iterator[Minibatch]:
        """Yield what this process has of each step, from step `first` on."""
        lanes, number, n_parts = sampler.lanes_of(*self.place, self.n_lanes)
        streams = [self._read_lane(epoch, first, lane) for lane in lanes]
        if self.n_lanes == n_parts == 1:
            yield from streams[0]
            return
        for step in range(first, self.n_steps):
            size = min(self.batch_size, len(self.train_rows) - step * self.batch_size)
            share = sampler.share(size, *self.place, self.n_lanes)
            # In the last step there may be fewer cells than lanes, and none in those of this process: any cell then, which does not count.
            found = [batch for stream in streams if (batch := next(stream, None)) is not None]
            batch = reduce(Minibatch.joined, found or [next(self.some(self.train_rows[:1]))])
            if n_parts > 1:
                start = sampler.part(len(batch), number, n_parts)[0]
                own = sampler.own_index(Share(start, share.n_own, len(batch)))
                batch = batch.take(torch.from_numpy(own).to(self.loader.device))
            yield replace(batch, share=share)

    def _read_lane(self, epoch: int, first: int, lane: int) -> Iterator[Minibatch]:
        source, n_lanes = self.loader.source, self.n_lanes
        assert source.edges is not None
        bounds = sampler.lane_cells(len(self.train_rows), self.batch_size, lane, n_lanes)
        windows = sampler.epoch_windows(
            *(self.train_rows, source.edges, self.n_blocks, self.seed, epoch),
            lane=bounds if n_lanes > 1 else None,
        )
        start, stop = sampler.part(self.batch_size, lane, n_lanes)
        read = read_ahead(source.rows, skip(windows, first * (stop - start)))
        return self.loader.cut(read, stop - start)


def _blocks_in_window(source: CellSource) -> int:
    assert source.edges is not None
    per_block = values_per_cell(source) * len(source) / (len(source.edges) - 1)
    return max(1, round(MAX_WINDOW_VALUES / per_block))
