"""Implementations of CellSource."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparcell.protocols import SparseRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy import sparse


class InMemoryCells:
    """The cells of a CSR matrix in memory, read without a copy."""

    def __init__(self, x_ng: sparse.csr_matrix) -> None:
        self.x_ng = x_ng

    def __len__(self) -> int:
        return int(self.x_ng.shape[0])

    def rows(self, index: NDArray[np.integer]) -> SparseRows:
        """Return the cells numbered `index`, in that order."""
        x_ng = self.x_ng
        return SparseRows(
            x_ng.indptr[index], x_ng.indptr[index + 1], x_ng.indices, x_ng.data, int(x_ng.shape[1])
        )
