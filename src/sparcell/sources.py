"""Where cells come from: the implementations of Rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MemoryRows:
    """Cells of a matrix in memory."""

    def __init__(self, x_ng: sparse.csr_matrix) -> None:
        self.x_ng = x_ng

    def __len__(self) -> int:
        return int(self.x_ng.shape[0])

    def rows(self, index: NDArray[np.integer]) -> sparse.csr_matrix:
        """Return the cells numbered `index`, in that order."""
        return self.x_ng[index]
