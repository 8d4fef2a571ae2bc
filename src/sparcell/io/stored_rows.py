"""Matrices read by ranges of rows that are no files of their own: some rows of another one, and Dask arrays.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sparcell.data.blocks import StoredRows, canonical, choose_columns, row_slices
from sparcell.data.facts import scan
from sparcell.data.sources import rows_of_matrix
from sparcell.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.data.blocks import RowUnits
    from sparcell.data.facts import MatrixFacts
    from sparcell.io.matrix_files import MatrixFile
    from sparcell.io.several_files import MatrixFiles
    from sparcell.protocols import SparseRows


class KeptRows(StoredRows):
    """Some rows of a matrix that is read by ranges of rows, in their order.

    Parameters
    ----------
    rows
        The matrix.
    kept_n
        True for each row to keep, one value per row of `rows`; at least one.
    """

    def __init__(self, rows: StoredRows, kept_n: NDArray[np.bool_]) -> None:
        self.stored = rows
        self.row_m = np.flatnonzero(kept_n)
        self.edges = np.unique(np.searchsorted(self.row_m, rows.edges)).astype(np.int64)
        self.where = rows.where

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """Numbers of kept cells and genes."""
        return len(self.row_m), self.stored.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.stored.dtype

    @property
    def n_values(self) -> int:
        """Approximate number of stored values."""
        return round(self.stored.n_values * len(self.row_m) / max(1, self.stored.shape[0]))

    @cached_property
    def facts(self) -> MatrixFacts:
        """What one pass over the kept rows finds; the first call reads them."""
        return scan(self.checked_blocks())

    @property
    def identity(self) -> dict[str, Any] | None:
        """What changes if the file or the choice of rows changes."""
        identity = self.stored.identity
        return (
            None
            if identity is None
            else {**identity, "rows": hashlib.sha256(self.row_m.tobytes()).hexdigest()}
        )

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return kept rows start … stop - 1 as they are stored."""
        row_m = self.row_m[start:stop]
        if not len(row_m):
            return self.stored.read(0, 0)
        first, last = int(row_m[0]), int(row_m[-1]) + 1
        block = self.stored.read(first, last)
        return block if last - first == len(row_m) else block[row_m - first]

    def checked_blocks(self) -> Iterator[sparse.csr_matrix]:
        """Yield all blocks; positions that are stored twice are added up."""
        return row_slices(self)

    def select(self, row_n: NDArray[np.integer], units: RowUnits) -> SparseRows:
        """Return kept rows in ascending order in a model's genes and units."""
        return self.stored.select(self.row_m[row_n], units)

    def place_genes(self, position_g: NDArray[np.integer], n_genes: int) -> None:
        """Read genes at other places from now on: see `StoredRows`."""
        self.__dict__.pop("facts", None)
        self.stored.place_genes(position_g, n_genes)


class CellNames(Sequence[str]):
    """Names of the cells of a file, read when a message needs one."""

    def __init__(self, file: MatrixFile | MatrixFiles, rows: StoredRows) -> None:
        self.file, self.rows = file, rows

    def __len__(self) -> int:
        return self.rows.shape[0]

    def __getitem__(self, number: Any) -> Any:
        names = self.file.cell_names
        return (names[self.rows.row_m] if isinstance(self.rows, KeptRows) else names)[number]


class DaskRows(StoredRows):
    """A Dask array of cells × genes, computed by blocks of rows. A block is a chunk of rows with all genes.

    Parameters
    ----------
    array
        A two-dimensional Dask array of numpy arrays or of scipy's sparse matrices.
    where
        Name of the matrix in messages.

    Raises
    ------
    InputError
        If the numbers of rows of the chunks are not known.
    """

    def __init__(self, array: Any, where: str) -> None:
        self.array, self.where = array, where
        rows = np.asarray(array.chunks[0], dtype=np.float64)
        if not np.isfinite([*rows, array.shape[1]]).all():
            raise InputError(
                f"{where} is a Dask array whose chunks have unknown sizes; call its compute_chunk_sizes() first."
            )
        self.edges = np.unique(np.concatenate([[0], np.cumsum(rows)])).astype(np.int64)
        self.shape = (int(self.edges[-1]), int(array.shape[1]))
        self._position_g: NDArray[np.int64] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def n_values(self) -> int:
        """Number of values that are not 0; the first call computes the whole array once."""
        return self.facts.n_values

    @cached_property
    def facts(self) -> MatrixFacts:
        """What one pass over the array finds; the first call computes the whole array once."""
        return scan(self.checked_blocks())

    @property
    def identity(self) -> None:
        """None: only the values themselves tell two arrays apart."""
        return

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return rows start … stop - 1, computed."""
        rows = self.array[start:stop].compute()
        if rows.dtype == np.float16:  # scipy's sparse matrices have no such type
            rows = rows.astype(np.float32)
        block = sparse.csr_matrix(rows)
        return block if self._position_g is None else choose_columns(block, self._position_g, self.shape[1])

    def checked_blocks(self) -> Iterator[sparse.csr_matrix]:
        """Yield all blocks; positions that are stored twice are added up."""
        return row_slices(self)

    def select(self, row_n: NDArray[np.integer], units: RowUnits) -> SparseRows:
        """Return rows in ascending order in a model's genes and units; each chunk is computed once."""
        block_n = np.searchsorted(self.edges, row_n, side="right")
        blocks = []
        for rows in np.split(np.asarray(row_n), np.flatnonzero(np.diff(block_n)) + 1):
            if len(rows):
                first = int(rows[0])
                blocks.append(in_units(self.read(first, int(rows[-1]) + 1)[rows - first], units))
        empty = sparse.csr_matrix((0, units.n_genes), dtype=np.float32)
        return rows_of_matrix(sparse.vstack(blocks or [empty], format="csr"))

    def place_genes(self, position_g: NDArray[np.integer], n_genes: int) -> None:
        """Read genes at other places from now on: see `StoredRows`."""
        self.__dict__.pop("facts", None)
        if self._position_g is None:
            self._position_g = np.asarray(position_g, dtype=np.int64)
        else:
            kept = self._position_g >= 0
            self._position_g[kept] = np.asarray(position_g)[self._position_g[kept]]
        self.shape = (self.shape[0], n_genes)


def in_units(block: sparse.csr_matrix, units: RowUnits) -> sparse.csr_matrix:
    """Return rows in a model's genes and units: columns sorted, each once, no zeros. `block` may be changed."""
    rows = canonical(block)
    if units.rounded:
        np.rint(rows.data, out=rows.data)
        rows.eliminate_zeros()
    if units.target_sum:
        total_n = np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()
        scale_n = np.divide(units.target_sum, total_n, out=np.zeros_like(total_n), where=total_n > 0)
        rows = sparse.csr_matrix(sparse.diags_array(scale_n) @ rows, dtype=np.float32)
        np.log1p(rows.data, out=rows.data)
    return choose_columns(rows, np.asarray(units.position_g, dtype=np.int64), units.n_genes)


def is_dask(matrix: Any) -> bool:
    """Return whether a matrix is a Dask array. Dask is not imported."""
    return type(matrix).__module__.partition(".")[0] == "dask" and hasattr(matrix, "chunks")
