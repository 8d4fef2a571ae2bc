"""The values of a matrix, dense or sparse, by blocks: what checks read, without a second copy.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

Matrix: TypeAlias = Any
"""A numpy array or any scipy sparse matrix or array (scipy ships no types)."""

BLOCK_VALUES = 1 << 22
"""Number of values of a dense matrix that are read at a time, so that the checks need no second copy."""

ROUNDING, MAX_ROUNDING = 1e-4, 0.1
"""Largest distance of a count from a whole number: relative, and absolute. Float32 counts are off after a logarithm and back."""


def nonzero_per_cell(x_ng: Matrix) -> NDArray[np.int64]:
    """Return the number of values of each cell that are not 0, (n,)."""
    matrix = tabular(x_ng)
    if not sparse.issparse(matrix):
        return np.concatenate([np.count_nonzero(block, axis=1) for block in blocks(matrix)])
    n_cells = int(matrix.shape[0])
    if matrix.format == "csc":
        count_n = np.zeros(n_cells, dtype=np.int64)
        for start in range(0, len(matrix.data), BLOCK_VALUES):
            stop = start + BLOCK_VALUES
            count_n += np.bincount(
                matrix.indices[start:stop][matrix.data[start:stop] != 0], minlength=n_cells
            )
        return count_n
    count_n = np.diff(matrix.indptr).astype(np.int64)
    for start in range(0, len(matrix.data), BLOCK_VALUES):
        zero_at = start + np.flatnonzero(matrix.data[start : start + BLOCK_VALUES] == 0)
        if len(zero_at):
            count_n -= np.bincount(
                np.searchsorted(matrix.indptr, zero_at, side="right") - 1, minlength=n_cells
            )
    return np.asarray(count_n)


def whole(block: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which values are whole numbers, up to rounding. Only 0 itself rounds to 0."""
    if block.dtype.kind in "biu":
        return np.ones(block.shape, dtype=bool)
    rounded = np.rint(block)
    is_whole: NDArray[np.bool_] = block == rounded
    if not is_whole.all():
        is_whole = np.abs(block - rounded) <= np.minimum(ROUNDING * np.abs(rounded), MAX_ROUNDING)
    return is_whole


def extreme(x_ng: Matrix, *, low: bool) -> float:
    """Return the smallest or the largest value."""
    values = [float(block.min() if low else block.max()) for block in blocks(x_ng) if block.size]
    if sparse.issparse(x_ng) or not values:
        values.append(0.0)
    return min(values) if low else max(values)


def tabular(x_ng: Matrix) -> Matrix:
    """Return an array, or a CSR or CSC matrix in which each position is stored once (repeated ones are added up)."""
    if not sparse.issparse(x_ng):
        return np.asarray(x_ng)
    matrix = x_ng if x_ng.format in ("csr", "csc") else x_ng.tocsr()
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def blocks(x_ng: Matrix) -> Iterator[NDArray[Any]]:
    """Yield the stored values in blocks: rows of an array, or parts of the data vector of a sparse matrix."""
    matrix = tabular(x_ng)
    if sparse.issparse(matrix):
        for start in range(0, len(matrix.data), BLOCK_VALUES):
            yield matrix.data[start : start + BLOCK_VALUES]
        return
    step = max(1, BLOCK_VALUES // max(1, matrix.shape[1]))
    for start in range(0, matrix.shape[0], step):
        yield matrix[start : start + step]


def quoted(names: Sequence[str] | None, index: int) -> str:
    """Return the name of a cell or gene as messages show it; its number, from 1, if there are no names."""
    return repr(str(names[index])) if names is not None else f"number {index + 1}"
