"""From a cell source and row numbers to minibatches on the device.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from sparcell.data import sampler
from sparcell.data.packed import PackedRows
from sparcell.data.sources import HeldCells, InMemoryCells
from sparcell.data.streaming import cut, read_ahead, sequential_windows
from sparcell.protocols import Minibatch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.data.covariates import CovariateValues
    from sparcell.protocols import CellSource, SparseRows

MAX_RESIDENT_BYTES = 2**31
"""Up to this size all cells are kept dense in the CPU's memory, so that a minibatch is one gather."""
MAX_RESIDENT_FRACTION = 0.5
"""All cells are kept dense on a GPU if they take at most this fraction of its free memory."""
MAX_SPARSE_DENSITY, N_INSPECTED = 0.3, 256
"""On the CPU, cells stay sparse if at most this fraction of the values of the first cells is not 0."""
WINDOW_BYTES = 2**27
"""Size of the dense cells that a GPU gets at once where not all cells fit there."""
MAX_AT_ONCE = 4096
"""Most cells of a minibatch on a GPU where nothing is trained."""
N_READERS = 4
"""Threads that copy cells in memory into windows for a GPU."""


class Loader:
    """Minibatches of a cell source on a device: sparse rows on the CPU, unless most values are not 0; dense otherwise.

    Dense minibatches are rows of one resident matrix if it fits. Otherwise a GPU gets windows of many minibatches, and the CPU makes them
    one by one.
    """

    def __init__(
        self,
        source: CellSource,
        covariates: CovariateValues,
        n_genes: int,
        device: torch.device,
        max_resident_bytes: int | None = None,
    ) -> None:
        self.source: CellSource = source
        n_batches = len(covariates.batch_proportions_b)
        self.device = device
        # 2 bytes a cell; a minibatch gets int64
        self.batch_n = torch.from_numpy(
            covariates.batch_n.astype(np.int16 if n_batches < 2**15 else np.int32)
        ).to(device)
        self.covariates_nc = torch.from_numpy(covariates.covariates_nc).to(device)
        self.batch_proportions_b = torch.from_numpy(covariates.batch_proportions_b).to(device)
        label_n = covariates.label_n
        self.label_n = None if label_n is None else torch.from_numpy(label_n).to(device)
        self._library_size_n = np.full(len(source), np.nan, np.float32)  # filled when a cell is first read
        first = source.rows(np.arange(min(len(source), N_INSPECTED)))
        n_values = (first.stop_n - first.start_n).sum()
        self.sparse = device.type == "cpu" and n_values <= MAX_SPARSE_DENSITY * first.shape[0] * n_genes
        self.by_windows = device.type != "cpu"
        self.window_cells = max(1, WINDOW_BYTES // (4 * n_genes))
        self.resident: tuple[Tensor, Tensor] | None = None
        limit = _resident_limit(device) if max_resident_bytes is None else max_resident_bytes
        if not self.sparse and source.edges is None and len(source) * n_genes * 4 <= limit:
            self.resident = self._all_dense(n_genes)

    def hold(self, rows: NDArray[np.integer]) -> None:
        """Read some cells into memory, in one pass over the file; only these cells can be asked for afterwards. No change in memory."""
        if self.source.edges is not None:
            self.source = HeldCells(self.source, rows)

    def _library_sizes(self, index: NDArray[np.integer], cells: SparseRows) -> Tensor:
        size_n = self._library_size_n[index]
        if np.isnan(size_n).any():
            size_n[:] = np.maximum(np.asarray(cells.matrix().sum(axis=1, dtype=np.float64)).ravel(), 1.0)
            self._library_size_n[index] = size_n
        return torch.from_numpy(size_n[:, None])

    def _all_dense(self, n_genes: int) -> tuple[Tensor, Tensor]:
        x_ng = torch.empty((len(self.source), n_genes), device=self.device)
        library_size_n1 = torch.empty((len(x_ng), 1), device=self.device)
        for index in sampler.sequential_batches(len(x_ng), self.window_cells):
            part = self.minibatch(index, self.source.rows(index))
            x_ng[index[0] : index[-1] + 1] = part.x_ng
            library_size_n1[index[0] : index[-1] + 1] = part.library_size_n1
        return x_ng, library_size_n1

    def minibatch(self, index: NDArray[np.integer], cells: SparseRows | PackedRows) -> Minibatch:
        """Return the minibatch of cells that were read already; `index` are their row numbers."""
        rows = torch.from_numpy(np.asarray(index, dtype=np.int64)).to(self.device)
        x: Tensor | SparseRows
        if not self.by_windows and not isinstance(cells, PackedRows):
            x = cells if self.sparse else cells.dense()
            library_size_n1 = self._library_sizes(index, cells)
        else:
            packed = cells if isinstance(cells, PackedRows) else PackedRows.of(cells)
            x = packed.to(self.device).dense()
            library_size_n1 = library_sizes(x)
        return self._minibatch(x, library_size_n1, rows)

    def _minibatch(self, x: Tensor | SparseRows, library_size_n1: Tensor, rows: Tensor) -> Minibatch:
        return Minibatch(
            x,
            library_size_n1,
            self.batch_n[rows].long(),
            self.covariates_nc[rows],
            self.batch_proportions_b,
            None if self.label_n is None else self.label_n[rows].long(),
        )

    def cells_at_once(self, batch_size: int) -> int:
        """Return the size of minibatches where nothing is trained: a GPU takes more cells than in a training step."""
        return max(batch_size, min(MAX_AT_ONCE, self.window_cells // 8)) if self.by_windows else batch_size

    def all_cells(self, batch_size: int) -> Iterator[Minibatch]:
        """Yield all cells in the order of the data."""
        n_cells = len(self.source)
        if self.source.edges is None:
            return self.batches(sampler.sequential_batches(n_cells, batch_size))
        return self.cut(sequential_windows(self.source, range(n_cells), batch_size), batch_size)

    def cut(
        self, windows: Iterable[tuple[NDArray[np.integer], SparseRows]], batch_size: int
    ) -> Iterator[Minibatch]:
        """Cut windows of cells into minibatches of `batch_size`; the cells left over of a window begin the next minibatch."""
        if not self.by_windows:
            return (self.minibatch(*part) for part in cut(windows, batch_size))
        return self._cut_on_device(((rows, PackedRows.of(cells)) for rows, cells in windows), batch_size)

    def _cut_on_device(
        self, windows: Iterable[tuple[NDArray[np.integer], PackedRows]], batch_size: int
    ) -> Iterator[Minibatch]:
        """The same with windows that are made dense on the device as a whole, so that a minibatch is a part of one without a copy."""
        left: Minibatch | None = None
        for rows, packed in windows:
            cells = packed.to(self.device)
            for piece in sampler.sequential_batches(len(rows), max(batch_size, self.window_cells)):
                first, stop = int(piece[0]), int(piece[-1]) + 1
                window = self.minibatch(rows[first:stop], cells.part(first, stop))
                if left is not None:
                    window = left.joined(window)
                n_whole = len(window) - len(window) % batch_size
                for start in range(0, n_whole, batch_size):
                    yield window.part(start, start + batch_size)
                left = window.part(n_whole, len(window)) if n_whole < len(window) else None
        if left is not None:
            yield left

    def batches(self, plan: Iterable[NDArray[np.integer]]) -> Iterator[Minibatch]:
        """Yield the minibatches whose row numbers `plan` lists."""
        steps = list(plan)
        if self.resident is not None:
            yield from self._resident_batches(steps, *self.resident)
        elif self.by_windows:
            yield from self._batches_by_windows(steps)
        else:
            for index in steps:
                yield self.minibatch(index, self.source.rows(index))

    def _resident_batches(
        self, steps: list[NDArray[np.integer]], x_ng: Tensor, library_size_n1: Tensor
    ) -> Iterator[Minibatch]:
        if not steps:
            return
        # One transfer for all steps: each transfer would wait until the device is idle.
        order = torch.from_numpy(np.concatenate(steps)).to(self.device).long()
        for rows in torch.split(order, [len(index) for index in steps]):
            yield self._minibatch(x_ng[rows], library_size_n1[rows], rows)

    def _batches_by_windows(self, steps: list[NDArray[np.integer]]) -> Iterator[Minibatch]:
        """Threads copy the cells of the next steps side by side into pinned memory while the device works."""
        if not steps:
            return
        batch_size = len(steps[0])
        at_once = max(1, self.window_cells // batch_size)
        windows = (np.concatenate(steps[first : first + at_once]) for first in range(0, len(steps), at_once))
        pin = self.device.type == "cuda"
        read = self.source.copied if isinstance(self.source, InMemoryCells) else self.source.rows
        packed = read_ahead(lambda rows: PackedRows.of(read(rows), pin=pin), windows, N_READERS)
        yield from self._cut_on_device(packed, batch_size)


def library_sizes(x_ng: Tensor) -> Tensor:
    """Return the total of each cell, (n, 1), float32, at least 1."""
    exact = torch.float32 if x_ng.device.type == "mps" else torch.float64  # mps has no float64
    pieces = [part.sum(dim=1, keepdim=True, dtype=exact) for part in torch.split(x_ng, 2**16)]
    return torch.cat(pieces).clamp_min(1).float()


def _resident_limit(device: torch.device) -> float:
    if device.type == "cuda":
        return MAX_RESIDENT_FRACTION * torch.cuda.mem_get_info(device)[0]
    return MAX_RESIDENT_BYTES


@dataclass
class TrainingData:
    """The cells of a training run: the training cells, shuffled again in each epoch, and the validation cells."""

    loader: Loader
    train_rows: NDArray[np.integer]
    """Row numbers of the training cells."""
    validation_rows: NDArray[np.integer]
    batch_size: int
    seed: int
    place: tuple[int, int] = (0, 1)
    """Number of this process, and the number of processes that train together."""
    n_lanes: ClassVar[int] = 1
    """Cells in memory are shared out within each minibatch, so the plan is the same for any number of processes."""
    _epoch: tuple[int, NDArray[np.integer]] = field(default=(0, np.empty(0, np.int32)), init=False)
    """Number of the last epoch, and its training cells in their order."""

    def use_lanes(self, n_lanes: int) -> None:
        """Do nothing: see `n_lanes`."""

    def close(self) -> None:
        """Do nothing: the cells are in memory."""

    @property
    def n_steps(self) -> int:
        """Number of steps in an epoch."""
        return -(-len(self.train_rows) // self.batch_size)

    def batches(self, epoch: int, first: int, last: int) -> Iterator[Minibatch]:
        """Yield the minibatches of steps first … last - 1 of an epoch. Steps count from 0, epochs from 1."""
        if self._epoch[0] != epoch:
            self._epoch = epoch, self.train_rows[sampler.epoch_order(len(self.train_rows), self.seed, epoch)]
        size, order = self.batch_size, self._epoch[1]
        return self._own_batches(
            [order[size * step : size * (step + 1)] for step in range(first, min(last, self.n_steps))]
        )

    def sequential_batches(self) -> Iterator[Minibatch]:
        """Yield the training cells in the order of the data."""
        return self.loader.batches(np.array_split(self.train_rows, self.n_steps))

    def some(self, rows: NDArray[np.integer]) -> Iterator[Minibatch]:
        """Yield the cells numbered `rows`, in that order."""
        steps = sampler.sequential_batches(len(rows), self.batch_size)
        return self.loader.batches(rows[step] for step in steps)

    def validation_batches(self) -> Iterator[Minibatch]:
        """Yield the validation cells, always in the same order."""
        at_once = self.loader.cells_at_once(self.batch_size)
        steps = sampler.sequential_batches(len(self.validation_rows), at_once)
        return self._own_batches([self.validation_rows[step] for step in steps])

    def _own_batches(self, steps: list[NDArray[np.integer]]) -> Iterator[Minibatch]:
        """Yield the cells that this process has of each step."""
        if self.place == (0, 1):
            return self.loader.batches(steps)
        shares = [sampler.share(len(rows), *self.place) for rows in steps]
        own = [rows[sampler.own_index(share)] for rows, share in zip(steps, shares, strict=True)]
        batches = zip(self.loader.batches(own), shares, strict=True)
        return (replace(batch, share=share) for batch, share in batches)
