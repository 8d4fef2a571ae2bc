"""Several files, such as one per donor, as one matrix of cells × common genes: on disk, or read into memory.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.data.blocks import StoredRows
from sparcell.data.facts import scan
from sparcell.errors import InputError, did_you_mean
from sparcell.io.joining import (
    common_genes,
    file_column,
    file_labels,
    join_obs,
    join_var,
    positions,
    unique_cell_names,
)
from sparcell.io.matrix_files import MatrixFile, genes_of
from sparcell.io.readers import read
from sparcell.io.selection import select_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.blocks import RowUnits
    from sparcell.data.facts import MatrixFacts
    from sparcell.protocols import SparseRows


class MatrixFiles(StoredRows):
    """The matrices of several files below each other, with the genes that all files have. Attributes are those of `MatrixFile`.

    Parameters
    ----------
    paths
        .h5ad files or zarr folders.
    layer
        As for `MatrixFile`.
    gene_symbols
        Column of var with the names of the genes. Default: the names of var.

    Raises
    ------
    InputError
        As `MatrixFile` and `common_genes`.

    Examples
    --------
    >>> files = MatrixFiles(["donor1.h5ad", "donor2.h5ad"])
    """

    def __init__(
        self, paths: Sequence[str | Path], layer: str | None = None, gene_symbols: str | None = None
    ) -> None:
        self.layer = layer
        self.labels = file_labels([Path(path) for path in paths])
        self.files = [MatrixFile(path, layer) for path in paths]
        tables = [genes_of(file, gene_symbols) for file in self.files]
        genes = common_genes([table.index for table in tables], self.labels)
        for file, table in zip(self.files, tables, strict=True):
            file.place_genes(positions(table.index, genes), len(genes))
        self.var = join_var(tables, genes)
        self.row_f = np.cumsum([0, *(len(file) for file in self.files)])
        """Where the cells of each file begin, and the number of cells."""
        self.shape = (int(self.row_f[-1]), len(genes))
        self.edges = np.unique(
            np.concatenate(
                [file.edges + first for file, first in zip(self.files, self.row_f[:-1], strict=True)]
            )
        )
        self.where = f"{layer or 'X'} of {len(self.files)} files"

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def n_values(self) -> int:
        """Number of stored values, also those of genes that are left out."""
        return sum(file.n_values for file in self.files)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.result_type(*(file.dtype for file in self.files))

    @property
    def identity(self) -> dict[str, Any]:
        """What changes if a file is replaced or written to."""
        return {"files": [file.identity for file in self.files]}

    @cached_property
    def facts(self) -> MatrixFacts:
        """What one pass over all files finds; the first call reads them."""
        return scan(self.checked_blocks())

    def checked_blocks(self) -> Iterator[sparse.csr_matrix]:
        """Yield all blocks of all files; raise InputError for signs of damage."""
        return (block for file in self.files for block in file.checked_blocks())

    def place_genes(self, position_g: NDArray[np.integer], n_genes: int) -> None:
        """Read genes at other places from now on: see `MatrixFile.place_genes`."""
        self.__dict__.pop("facts", None)  # those of other genes
        for file in self.files:
            file.place_genes(position_g, n_genes)
        self.shape = (self.shape[0], n_genes)

    def obsm(self, key: str) -> None:
        """None: arrays of several files are not joined."""
        return

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return rows start … stop - 1, (n, g)."""
        parts = [self.files[number].read(first, last) for number, first, last in self._ranges(start, stop)]
        if not parts:
            return sparse.csr_matrix((0, self.shape[1]), dtype=self.dtype)
        return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")

    def select(self, row_n: NDArray[np.integer], units: RowUnits) -> SparseRows:
        """Return rows `row_n`, in ascending order, in a model's genes and units. Several threads read."""
        bound_f = np.searchsorted(row_n, self.row_f)
        return select_rows(
            [
                (file, row_n[bound_f[number] : bound_f[number + 1]] - self.row_f[number], units)
                for number, file in enumerate(self.files)
            ]
        )

    def obs(self, keys: Sequence[str] = ()) -> pd.DataFrame:
        """Return columns of obs that all files have, and the file of each cell. Cells are numbered."""
        keys = [key for key in keys if key != self.file_column]
        for file, label in zip(self.files, self.labels, strict=True):
            for key in keys:
                if key not in file.obs_columns:
                    raise InputError(
                        f"obs of {label} has no column {key!r}; {did_you_mean(key, self.obs_columns)}"
                    )
        return join_obs([file.obs(keys) for file in self.files], self.labels, self.file_column)

    @property
    def file_column(self) -> str:
        """Name of the column of obs with the file of each cell."""
        return file_column([column for file in self.files for column in file.obs_columns])

    @property
    def obs_columns(self) -> list[str]:
        """Names of the columns of obs that all files have, and the name of the column with the file of each cell."""
        first, *others = [file.obs_columns for file in self.files]
        return [*(key for key in first if all(key in other for other in others)), self.file_column]

    def table(self, name: str) -> pd.DataFrame:
        """Return obs with all columns that all files have and with the names of the cells, or var."""
        if name != "obs":
            return self.var
        tables = [file.table("obs") for file in self.files]
        obs = join_obs(tables, self.labels)
        obs.index = unique_cell_names([table.index for table in tables], self.labels)
        return obs

    @property
    def stored_obs(self) -> None:
        """None: the tables of several files are joined."""
        return

    @property
    def cell_names(self) -> pd.Index:
        """Names of the cells, read from the files at each call."""
        return unique_cell_names([file.cell_names for file in self.files], self.labels)

    def _ranges(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the number of each file with some of the rows start … stop - 1, and these rows in the file."""
        for number, (begin, end) in enumerate(zip(self.row_f[:-1], self.row_f[1:], strict=True)):
            first, last = max(start, int(begin)), min(stop, int(end))
            if first < last:
                yield number, first - int(begin), last - int(begin)


def read_whole(paths: Sequence[Path], gene_symbols: str | None = None) -> AnnData:
    """Read one file as `read` does, or several as `read_files` does."""
    return read(paths[0], gene_symbols=gene_symbols) if len(paths) == 1 else read_files(paths, gene_symbols)


def read_files(paths: Sequence[str | Path], gene_symbols: str | None = None) -> AnnData:
    """Read several files into one AnnData with the genes that all files have and the file of each cell in obs["file"].

    Parameters
    ----------
    paths
        Files of any format that `read` reads.
    gene_symbols
        As for `read`.

    Raises
    ------
    InputError
        See `read` and `common_genes`.
    """
    import anndata

    labels = file_labels([Path(path) for path in paths])
    parts = [read(path, gene_symbols=gene_symbols) for path in paths]
    empty = [label for part, label in zip(parts, labels, strict=True) if part.X is None]
    if empty and len(empty) < len(parts):
        raise InputError(f"{empty[0]} has no X, but other files have; expected X in all of them, or in none.")
    genes = common_genes([part.var_names for part in parts], labels)
    obs = join_obs([part.obs for part in parts], labels)
    names = unique_cell_names([part.obs_names for part in parts], labels)
    var = join_var([part.var for part in parts], genes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # repeated names of cells, which get new ones
        joined = anndata.concat([part[:, genes] for part in parts], join="inner")
    joined.obs, joined.var = obs.set_axis(names), var
    return joined
