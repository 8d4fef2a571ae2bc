"""Large sparse matrices by blocks of cells, so that a change of units or genes needs no second copy of all values.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.data.facts import MatrixFacts
    from sparcell.protocols import SparseRows

Matrix: TypeAlias = Any
"""A numpy array, any scipy sparse matrix or array (scipy ships no types), or a matrix on disk (`StoredRows`)."""

BLOCK_VALUES = 1 << 22
"""Number of values that are looked at together, so that checks need no second copy."""
ROW_BLOCK_VALUES = 1 << 20
"""Approximate number of values of a block of cells, which is copied several times on its way to the model's units."""


@dataclass(frozen=True)
class RowUnits:
    """How rows of a stored matrix become those of a model."""

    position_g: NDArray[np.integer]
    """Number of each stored gene among those that are kept, (g,); -1 for a gene that is left out."""
    n_genes: int
    """Number of genes that are kept."""
    rounded: bool = False
    """Whether values are rounded to whole numbers."""
    target_sum: float = 0.0
    """Total that each cell is scaled to over all stored genes, before log(1 + x); 0 for values that stay as they are."""

    @classmethod
    def unchanged(cls, n_genes: int) -> RowUnits:
        """Keep all genes and values."""
        return cls(np.arange(n_genes), n_genes)


class StoredRows(ABC):
    """A matrix that is read by ranges of rows, such as `io.MatrixFile`.

    A base class, not a protocol: before Python 3.12, isinstance of a protocol would call `facts`, which reads the whole matrix.
    """

    shape: tuple[int, int]
    edges: NDArray[np.int64]
    """Rows where stored blocks begin, and the number of cells."""
    where: str
    """Name of the matrix in messages."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    @property
    @abstractmethod
    def n_values(self) -> int:
        """Number of stored values."""

    @property
    @abstractmethod
    def facts(self) -> MatrixFacts:
        """Facts of the whole matrix; the first call reads it once."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any] | None:
        """What changes if the file changes; None if only the values themselves tell two matrices apart."""

    @abstractmethod
    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return rows start … stop - 1 as they are stored."""

    @abstractmethod
    def checked_blocks(self) -> Iterator[sparse.csr_matrix]:
        """Yield all blocks, each position once; raise InputError for signs of damage."""

    @abstractmethod
    def select(self, row_n: NDArray[np.integer], units: RowUnits) -> SparseRows:
        """Return rows in ascending order in a model's genes and units; columns sorted, each once, no zeros."""

    @abstractmethod
    def place_genes(self, position_g: NDArray[np.integer], n_genes: int) -> None:
        """Read genes at other places from now on: `position_g` holds the new number of each gene, or -1 to leave it out, (g,)."""

    def keep_genes(self, mask_g: NDArray[np.bool_]) -> None:
        """Leave out the genes that are False in `mask_g`, (g,), from now on."""
        self.place_genes(np.where(mask_g, np.cumsum(mask_g) - 1, -1), int(mask_g.sum()))


def row_slices(x_ng: Matrix) -> Iterator[sparse.csr_matrix]:
    """Yield blocks of cells as CSR, each position once. The blocks are copies; the type of the values is that of the matrix."""
    if isinstance(x_ng, StoredRows):
        for start, stop in zip(x_ng.edges[:-1], x_ng.edges[1:], strict=True):
            block = x_ng.read(int(start), int(stop))
            block.sum_duplicates()
            yield block
        return
    matrix: Matrix = x_ng.tocsr() if sparse.issparse(x_ng) else np.asarray(x_ng)
    n_cells = matrix.shape[0]
    per_cell = matrix.nnz / max(1, n_cells) if sparse.issparse(matrix) else matrix.shape[1]
    step = max(1, int(ROW_BLOCK_VALUES / max(1, per_cell)))
    for start in range(0, n_cells, step):
        rows = matrix[start : start + step]
        if rows.dtype == np.float16:  # scipy's sparse matrices have no such type
            rows = rows.astype(np.float32)
        block = sparse.csr_matrix(rows, copy=True)
        block.sum_duplicates()
        yield block


def row_blocks(x_ng: Matrix) -> Iterator[sparse.csr_matrix]:
    """Yield blocks of cells as CSR float32, each value once and none of them 0. The blocks are copies."""
    return (canonical(rows) for rows in row_slices(x_ng))


def canonical(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return rows as CSR float32, each value once and none of them 0. `rows` may be changed."""
    rows.sum_duplicates()
    block = sparse.csr_matrix(rows, dtype=np.float32)
    block.eliminate_zeros()
    return block


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
