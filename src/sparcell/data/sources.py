"""Implementations of CellSource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sparcell.protocols import SparseRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sparcell.data.blocks import RowUnits, StoredRows
    from sparcell.protocols import CellSource


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
    units
        The model's genes, and how values are changed.
    zscore
        Turns cells in these units into z-scores, (n, g) dense. Default: not z-scored.
    """

    def __init__(
        self,
        stored: StoredRows,
        units: RowUnits,
        zscore: Callable[[NDArray[np.floating]], NDArray[np.float32]] | None = None,
    ) -> None:
        self.stored, self.units, self.zscore = stored, units, zscore

    def __len__(self) -> int:
        return int(self.stored.edges[-1])

    @property
    def edges(self) -> NDArray[np.int64]:
        """Rows where stored blocks begin, and the number of cells."""
        return self.stored.edges

    @property
    def identity(self) -> dict[str, Any] | None:
        """What changes if the file changes; None if it cannot be told."""
        return self.stored.identity

    def rows(self, index: NDArray[np.integer]) -> SparseRows:
        """Return the cells numbered `index`, in that order."""
        order = np.argsort(index, kind="stable")
        cells = self.stored.select(np.asarray(index, dtype=np.int64)[order], self.units)
        if self.zscore is not None:
            cells = rows_of_matrix(sparse.csr_matrix(self.zscore(cells.matrix().toarray())))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return cells.take(place)


class HeldCells:
    """Some cells of another source, read once and kept in memory under their row numbers; no other cells can be asked for.

    Parameters
    ----------
    source
        The cells.
    rows
        Numbers of the cells to keep, in any order.
    """

    def __init__(self, source: CellSource, rows: NDArray[np.integer]) -> None:
        self.row_m = np.unique(rows)
        self.cells = source.rows(self.row_m)
        self.n_cells = len(source)

    def __len__(self) -> int:
        return self.n_cells

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
        position = np.searchsorted(self.row_m, index)
        assert np.array_equal(self.row_m[position], index), "cells that are not held"
        return self.cells.take(position)
