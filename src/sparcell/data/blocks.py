"""Large sparse matrices by blocks of cells, so that a change of units or genes needs no second copy of all values.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sparcell.data.values import BLOCK_VALUES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.data.values import Matrix


ROW_BLOCK_VALUES = 1 << 20
"""Approximate number of values of a block of cells, which is copied several times on its way to the model's units."""


def row_blocks(x_ng: Matrix) -> Iterator[sparse.csr_matrix]:
    """Yield blocks of cells as CSR float32, each value once and none of them 0. The blocks are copies."""
    matrix: Matrix = x_ng.tocsr() if sparse.issparse(x_ng) else np.asarray(x_ng)
    n_cells = matrix.shape[0]
    per_cell = matrix.nnz / max(1, n_cells) if sparse.issparse(matrix) else matrix.shape[1]
    step = max(1, int(ROW_BLOCK_VALUES / max(1, per_cell)))
    for start in range(0, n_cells, step):
        block = sparse.csr_matrix(matrix[start : start + step], dtype=np.float32, copy=True)
        block.sum_duplicates()
        block.eliminate_zeros()
        yield block


def needs_no_change(x_ng: Matrix, *, whole: bool) -> bool:
    """Return whether `row_blocks`, put together again, would be the matrix itself: CSR float32 in canonical form, without zeros.

    With `whole`, all values must also be whole numbers.
    """
    if not (sparse.issparse(x_ng) and x_ng.format == "csr" and x_ng.dtype == np.float32):
        return False
    if not (isinstance(x_ng, sparse.csr_matrix) and x_ng.has_canonical_format):
        return False
    for start in range(0, len(x_ng.data), BLOCK_VALUES):
        values = x_ng.data[start : start + BLOCK_VALUES]
        if np.count_nonzero(values) < len(values) or (whole and (np.rint(values) != values).any()):
            return False
    return True


def choose_columns(
    block: sparse.csr_matrix, position_g: NDArray[np.int64], n_columns: int
) -> sparse.csr_matrix:
    """Return the columns whose new position is 0 or more, at their new positions, (n, n_columns)."""
    new = position_g[block.indices]
    is_kept = new >= 0
    indptr = np.concatenate([[0], np.cumsum(is_kept)])[block.indptr]
    chosen = sparse.csr_matrix((block.data[is_kept], new[is_kept], indptr), shape=(block.shape[0], n_columns))
    chosen.sort_indices()
    return chosen


def stack(blocks: Iterable[sparse.csr_matrix], shape: tuple[int, int], max_values: int) -> sparse.csr_matrix:
    """Return the blocks as one matrix, (n, g), of at most `max_values` values.

    The arrays are reserved once and filled; memory that is not filled is never used.
    """
    index_type = sparse.get_index_dtype(maxval=max(max_values, *shape))
    data, indices = np.empty(max_values, np.float32), np.empty(max_values, index_type)
    indptr = np.zeros(shape[0] + 1, index_type)
    row = filled = 0
    for block in blocks:
        stop = filled + block.nnz
        data[filled:stop], indices[filled:stop] = block.data, block.indices
        indptr[row + 1 : row + 1 + block.shape[0]] = block.indptr[1:].astype(index_type) + filled
        row, filled = row + block.shape[0], stop
    matrix = sparse.csr_matrix((data[:filled], indices[:filled], indptr), shape=shape)
    matrix.has_canonical_format = True
    return matrix
