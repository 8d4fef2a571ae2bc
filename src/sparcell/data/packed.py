"""Sparse cells on their way to a GPU: what travels are the values that are not 0; they become a dense matrix there.

Suffixes: n cells, g genes, v values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.protocols import SparseRows


@dataclass(frozen=True)
class PackedRows:
    """Cells as compressed sparse rows in tensors, whose memory a GPU reads without a copy if it is pinned."""

    start_n: Tensor
    """Position of each cell's first value in `column_v` and `value_v`."""
    length_n: Tensor
    """Number of values of each cell."""
    column_v: Tensor
    value_v: Tensor
    n_genes: int
    n_values: int
    """Number of values of these cells, known without asking the device."""

    @classmethod
    def of(cls, cells: SparseRows, *, pin: bool = False) -> PackedRows:
        """Pack cells; values of other cells that lie among theirs travel along, unless these are more than half."""
        start_n, length_n = cells.start_n, cells.stop_n - cells.start_n
        column_v, value_v = cells.column, cells.value
        if len(value_v) > 2 * length_n.sum():
            compact = cells.matrix()
            start_n, column_v, value_v = compact.indptr[:-1], compact.indices, compact.data
        return cls(
            _own(start_n, pin=pin),
            _own(length_n, pin=pin),
            _own(column_v, pin=pin),
            _own(value_v, pin=pin),
            cells.n_genes,
            int(length_n.sum()),
        )

    def __len__(self) -> int:
        return len(self.start_n)

    def part(self, first: int, stop: int) -> PackedRows:
        """Return cells first … stop - 1 without a copy."""
        if (first, stop) == (0, len(self)):
            return self
        return replace(
            self,
            start_n=self.start_n[first:stop],
            length_n=self.length_n[first:stop],
            n_values=int(self.length_n[first:stop].sum()),
        )

    def to(self, device: torch.device) -> PackedRows:
        """Copy the cells to a device; from pinned memory without waiting for it."""
        return PackedRows(
            self.start_n.to(device, non_blocking=True),
            self.length_n.to(device, non_blocking=True),
            self.column_v.to(device, non_blocking=True),
            self.value_v.to(device, non_blocking=True),
            self.n_genes,
            self.n_values,
        )

    def dense(self) -> Tensor:
        """Return the cells as a dense matrix where they are, (n, g), float32."""
        device = self.start_n.device
        x_ng = torch.zeros((len(self), self.n_genes), device=device)
        cell_v = torch.repeat_interleave(
            torch.arange(len(self), device=device), self.length_n, output_size=self.n_values
        )
        first_n = self.length_n.cumsum(0) - self.length_n
        at_v = torch.arange(self.n_values, device=device) + (self.start_n - first_n)[cell_v]
        x_ng[cell_v, self.column_v[at_v].long()] = self.value_v[at_v].float()
        return x_ng


def _own(values: NDArray[np.number], *, pin: bool) -> Tensor:
    if not values.flags.writeable or not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    tensor = torch.from_numpy(values)
    return tensor.pin_memory() if pin else tensor
