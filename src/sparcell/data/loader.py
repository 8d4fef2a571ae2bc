"""From a cell source and row numbers to minibatches on the device.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from sparcell.data import sampler
from sparcell.data.streaming import read_sequentially
from sparcell.protocols import Minibatch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.data.covariates import CovariateValues
    from sparcell.protocols import CellSource, SparseRows

MAX_RESIDENT_BYTES = 2**31
"""Up to this size all cells are kept dense on the device, so that a minibatch is one gather."""
MAX_SPARSE_DENSITY, N_INSPECTED = 0.3, 256
"""On the CPU, cells stay sparse if at most this fraction of the values of the first cells is not 0."""


class Loader:
    """Minibatches of a cell source on a device: sparse rows on the CPU, unless most values are not 0; dense otherwise.

    Dense minibatches are rows of one resident matrix if it fits, and are made one by one otherwise.
    """

    def __init__(
        self,
        source: CellSource,
        covariates: CovariateValues,
        n_genes: int,
        device: torch.device,
        max_resident_bytes: int = MAX_RESIDENT_BYTES,
    ) -> None:
        self.source = source
        self.device = device
        self.batch_n = torch.from_numpy(covariates.batch_n).to(device)
        self.covariates_nc = torch.from_numpy(covariates.covariates_nc).to(device)
        self.batch_proportions_b = torch.from_numpy(covariates.batch_proportions_b).to(device)
        self._library_size_n = np.full(len(source), np.nan, np.float32)  # filled when a cell is first read
        first = source.rows(np.arange(min(len(source), N_INSPECTED)))
        n_values = (first.stop_n - first.start_n).sum()
        self.sparse = device.type == "cpu" and n_values <= MAX_SPARSE_DENSITY * first.shape[0] * n_genes
        self.resident: tuple[Tensor, Tensor] | None = None
        if not self.sparse and len(source) * n_genes * 4 <= max_resident_bytes:
            self.resident = self._dense(np.arange(len(source)))

    def _library_sizes(self, index: NDArray[np.integer], cells: SparseRows) -> Tensor:
        size_n = self._library_size_n[index]
        if np.isnan(size_n).any():
            size_n[:] = np.maximum(np.asarray(cells.matrix().sum(axis=1, dtype=np.float64)).ravel(), 1.0)
            self._library_size_n[index] = size_n
        return torch.from_numpy(size_n[:, None])

    def _dense(self, index: NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        cells = self.source.rows(index)
        return cells.dense().to(self.device), self._library_sizes(index, cells).to(self.device)

    def minibatch(self, index: NDArray[np.integer], cells: SparseRows) -> Minibatch:
        """Return the minibatch of cells that were read already; `index` are their row numbers."""
        x = cells if self.sparse else cells.dense().to(self.device)
        rows = torch.from_numpy(np.asarray(index, dtype=np.int64)).to(self.device)
        library_size_n1 = self._library_sizes(index, cells).to(self.device)
        return Minibatch(
            x, library_size_n1, self.batch_n[rows], self.covariates_nc[rows], self.batch_proportions_b
        )

    def all_cells(self, batch_size: int) -> Iterator[Minibatch]:
        """Yield all cells in the order of the data."""
        n_cells = len(self.source)
        if self.source.edges is None:
            return self.batches(sampler.sequential_batches(n_cells, batch_size))
        return (
            self.minibatch(*part) for part in read_sequentially(self.source, np.arange(n_cells), batch_size)
        )

    def batches(self, plan: Iterable[NDArray[np.integer]]) -> Iterator[Minibatch]:
        """Yield the minibatches whose row numbers `plan` lists."""
        steps = list(plan)
        if not steps:
            return
        # One transfer for all steps: each transfer would wait until the device is idle.
        order = torch.from_numpy(np.concatenate(steps)).to(self.device)
        rows_of_steps = torch.split(order, [len(index) for index in steps])
        for index, rows in zip(steps, rows_of_steps, strict=True):
            if self.resident is None:
                yield self.minibatch(index, self.source.rows(index))
                continue
            x, library_size_n1 = (values[rows] for values in self.resident)
            yield Minibatch(
                x, library_size_n1, self.batch_n[rows], self.covariates_nc[rows], self.batch_proportions_b
            )


@dataclass(frozen=True)
class TrainingData:
    """The cells of a training run: the training cells, shuffled again in each epoch, and the validation cells."""

    loader: Loader
    train_rows: NDArray[np.integer]
    """Row numbers of the training cells."""
    validation_rows: NDArray[np.integer]
    batch_size: int
    seed: int

    @property
    def n_steps(self) -> int:
        """Number of steps in an epoch."""
        return -(-len(self.train_rows) // self.batch_size)

    def batches(self, epoch: int, first: int, last: int) -> Iterator[Minibatch]:
        """Yield the minibatches of steps first … last - 1 of an epoch. Steps count from 0, epochs from 1."""
        steps = sampler.epoch_batches(len(self.train_rows), self.batch_size, self.seed, epoch)[first:last]
        return self.loader.batches(self.train_rows[step] for step in steps)

    def sequential_batches(self) -> Iterator[Minibatch]:
        """Yield the training cells in the order of the data."""
        return self.loader.batches(np.array_split(self.train_rows, self.n_steps))

    def some(self, rows: NDArray[np.integer]) -> Iterator[Minibatch]:
        """Yield the cells numbered `rows`, in that order."""
        steps = sampler.sequential_batches(len(rows), self.batch_size)
        return self.loader.batches(rows[step] for step in steps)

    def validation_batches(self) -> Iterator[Minibatch]:
        """Yield the validation cells, always in the same order."""
        steps = sampler.sequential_batches(len(self.validation_rows), self.batch_size)
        return self.loader.batches(self.validation_rows[step] for step in steps)
