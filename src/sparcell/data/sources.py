"""Implementations of CellSource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.protocols import SparseRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from scipy import sparse

    from sparcell.data.blocks import StoredRows


class InMemoryCells:
    """The cells of a CSR matrix in memory, read without a copy."""

    def __init__(self, x_ng: sparse.csr_matrix) -> None:
        self.x_ng = x_ng

    def __len__(self) -> int:
        return int(self.x_ng.shape[0])

    @property
    def edges(self) -> None:
        """None: cells are read in any order at the same cost."""
        return

    @property
    def identity(self) -> None:
        """None: only the values themselves tell two matrices apart."""
        return

    def rows(self, index: NDArray[np.integer]) -> SparseRows:
        """Return the cells numbered `index`, in that order."""
        return rows_of_matrix(self.x_ng).take(index)

    def copied(self, index: NDArray[np.integer]) -> SparseRows:
        """Return the same cells in arrays of their own, side by side."""
        return rows_of_matrix(self.x_ng[index])


def rows_of_matrix(x_ng: sparse.csr_matrix) -> SparseRows:
    """Return all cells of a CSR matrix without a copy."""
    return SparseRows(x_ng.indptr[:-1], x_ng.indptr[1:], x_ng.indices, x_ng.data, int(x_ng.shape[1]))


class CellsOnDisk:
    """The cells of a stored matrix in the model's units. Each read touches only the blocks of the cells asked for.

    Parameters
    ----------
    stored
        The matrix on disk.
    to_model_units
        Turns rows as they are stored into the model's genes and units; columns sorted, each once, no zeros.
    n_genes
        Number of the model's genes.
    """

    def __init__(
        self,
        stored: StoredRows,
        to_model_units: Callable[[sparse.csr_matrix], sparse.csr_matrix],
        n_genes: int,
    ) -> None:
        self.stored = stored
        self.to_model_units = to_model_units
        self.n_genes = n_genes

    def __len__(self) -> int:
        return int(self.stored.edges[-1])

    @property
    def edges(self) -> NDArray[np.int64]:
        """Rows where stored blocks begin, and the number of cells."""
        return self.stored.edges

    @property
    def identity(self) -> dict[str, Any]:
        """What changes if the file changes."""
        return self.stored.identity

    def rows(self, index: NDArray[np.integer]) -> SparseRows:
        """Return the cells numbered `index`, in that order."""
        order = np.argsort(index, kind="stable")
        row_n = np.asarray(index, dtype=np.int64)[order]
        block_n = np.searchsorted(self.stored.edges, row_n, side="right") - 1
        parts, starts, stops, offset = [], [], [], 0
        for rows in np.split(row_n, np.flatnonzero(np.diff(block_n)) + 1):
            if not len(rows):
                continue
            first = int(rows[0])
            part = self.to_model_units(self.stored.read(first, int(rows[-1]) + 1))
            starts.append(part.indptr[rows - first].astype(np.int64) + offset)
            stops.append(part.indptr[rows - first + 1].astype(np.int64) + offset)
            offset += len(part.data)
            parts.append(part)
        if not parts:
            none = np.empty(0, dtype=np.int64)
            return SparseRows(none, none, none.astype(np.int32), none.astype(np.float32), self.n_genes)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        column = np.concatenate([part.indices for part in parts])
        value = np.concatenate([part.data for part in parts])
        return SparseRows(
            np.concatenate(starts)[back], np.concatenate(stops)[back], column, value, self.n_genes
        )
