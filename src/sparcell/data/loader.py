"""From rows and a plan to batches on the device.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from sparcell.data import sampler
from sparcell.protocols import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.data.covariates import Known
    from sparcell.protocols import Rows, SparseRows

DENSE_LIMIT = 2**31
"""Bytes up to which all cells are held dense on the device, so that a batch is one gather."""
SPARSE_SHARE, LOOKED_AT = 0.3, 256
"""On the CPU cells stay sparse rows if at most this share of the values of the first cells is not 0."""


class Loader:
    """Batches of `rows` on `device`: on the CPU as sparse rows, unless most values are not 0; else dense.

    Dense ones come from one resident matrix where it fits, else are made batch by batch.
    """

    def __init__(
        self, rows: Rows, known: Known, n_genes: int, device: torch.device, dense_limit: int = DENSE_LIMIT
    ) -> None:
        self.rows = rows
        self.device = device
        self.batch_nb = torch.from_numpy(known.batch_nb).to(device)
        self.covariates_nc = torch.from_numpy(known.covariates_nc).to(device)
        self._size_n = np.full(len(rows), np.nan, np.float32)  # of a cell that has been read
        first = rows.rows(np.arange(min(len(rows), LOOKED_AT)))
        self.sparse = (
            device.type == "cpu"
            and (first.stop_n - first.start_n).sum() <= SPARSE_SHARE * first.shape[0] * n_genes
        )
        self.resident: tuple[Tensor, Tensor] | None = None
        if not self.sparse and len(rows) * n_genes * 4 <= dense_limit:
            self.resident = self._dense(np.arange(len(rows)))

    def _read(self, index: NDArray[np.integer]) -> tuple[SparseRows, Tensor]:
        cells = self.rows.rows(index)
        size_n = self._size_n[index]
        if np.isnan(size_n).any():
            size_n[:] = np.maximum(np.asarray(cells.matrix().sum(axis=1, dtype=np.float64)).ravel(), 1.0)
            self._size_n[index] = size_n
        return cells, torch.from_numpy(size_n[:, None])

    def _dense(self, index: NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        cells, size_n1 = self._read(index)
        return cells.dense().to(self.device), size_n1.to(self.device)

    def batches(self, plan: Iterable[NDArray[np.integer]]) -> Iterator[Batch]:
        """Yield the batches of a plan."""
        steps = list(plan)
        if not steps:
            return
        # one transfer for all: each would wait until the device has nothing left to do
        order = torch.from_numpy(np.concatenate(steps)).to(self.device)
        chosen_of = torch.split(order, [len(index) for index in steps])
        for index, chosen in zip(steps, chosen_of, strict=True):
            x: Tensor | SparseRows
            if self.resident is not None:
                x, size_n1 = (values[chosen] for values in self.resident)
            else:
                x, size_n1 = self._read(index) if self.sparse else self._dense(index)
            yield Batch(x, size_n1, self.batch_nb[chosen], self.covariates_nc[chosen])


@dataclass(frozen=True)
class Feed:
    """The cells of a training run: those that train, in the order of the plan, and those held out."""

    loader: Loader
    training: NDArray[np.integer]
    """Row numbers."""
    held_out_rows: NDArray[np.integer]
    batch_size: int
    seed: int

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.training) // self.batch_size)

    def batches(self, epoch: int, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of the steps first … last - 1 of an epoch, counted from 0; epochs from 1."""
        steps = sampler.plan(len(self.training), self.batch_size, self.seed, epoch)[first:last]
        return self.loader.batches(self.training[step] for step in steps)

    def held_out(self) -> Iterator[Batch]:
        """Yield the cells held out, always in the same order."""
        steps = sampler.in_order(len(self.held_out_rows), self.batch_size)
        return self.loader.batches(self.held_out_rows[step] for step in steps)
