"""Where the rows of a stored CSR matrix begin, in 2 bytes a row instead of 8.

Suffixes: n rows, p pieces of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIECE = 1024
"""Rows between two beginnings that are kept."""
ROWS_AT_ONCE = 1 << 16
"""Rows whose beginnings are read at a time, a whole number of pieces."""


class RowLengths:
    """The number of values of each row.

    Parameters
    ----------
    indptr
        Array of h5py or zarr with the beginning of each row and the number of values, (n + 1,). It is read by pieces.

    Raises
    ------
    ValueError
        If a row ends before it begins, or the first one does not begin at 0.
    """

    def __init__(self, indptr: Any) -> None:
        n_rows = int(indptr.shape[0]) - 1
        self.length_n: NDArray[np.integer] = np.zeros(max(0, n_rows), np.uint16)
        starts = []
        for first in range(0, max(1, n_rows), ROWS_AT_ONCE):
            bound_n = np.asarray(indptr[first : first + ROWS_AT_ONCE + 1], dtype=np.int64)
            length_n = np.diff(bound_n)
            if not len(bound_n) or (first == 0 and bound_n[0] != 0) or (length_n < 0).any():
                raise ValueError("the beginnings of the rows are not in order")
            if len(length_n) and length_n.max() > np.iinfo(self.length_n.dtype).max:
                self.length_n = self.length_n.astype(np.int64)
            self.length_n[first : first + len(length_n)] = length_n
            starts.append(bound_n[:-1:PIECE])
        self.n_values = int(bound_n[-1])
        """Number of values of all rows."""
        self.start_p = np.append(np.concatenate(starts), self.n_values)

    def __len__(self) -> int:
        return len(self.length_n)

    def bounds(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return where rows start … stop - 1 begin, and where the last one ends, (stop - start + 1,)."""
        piece = min(start // PIECE, len(self.start_p) - 1)
        bound_n = np.zeros(stop - piece * PIECE + 1, np.int64)
        np.cumsum(self.length_n[piece * PIECE : stop], out=bound_n[1:])
        bound_n += self.start_p[piece]
        return bound_n[start - piece * PIECE :]

    def first_row_from(self, position: int) -> int:
        """Return the first row that begins at this value or after it, or the number of rows."""
        piece = int(np.searchsorted(self.start_p, position, side="left"))
        first = max(0, piece - 1) * PIECE
        bound_n = self.bounds(first, min(piece * PIECE, len(self)))
        return first + int(np.searchsorted(bound_n, position, side="left"))
