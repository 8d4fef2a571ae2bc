"""Data that stay on disk: an .h5ad file or zarr folder with the attributes of an AnnData that fitting and encoding read.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparcell.config.input import MAX_MEMORY
from sparcell.config.validation import require_size
from sparcell.data.blocks import RowUnits, StoredRows
from sparcell.data.budget import BYTES_PER_VALUE, MIN_BUDGET
from sparcell.data.genes import describe_other_features, gene_mask
from sparcell.data.sampler import subsample
from sparcell.errors import InputError
from sparcell.io.files import as_paths
from sparcell.io.joining import file_column
from sparcell.io.matrix_files import MatrixFile, genes_of, n_stored_values
from sparcell.io.result_files import write_result
from sparcell.io.several_files import MatrixFiles, read_whole
from sparcell.io.stored_rows import CellNames, KeptRows
from sparcell.io.stored_writing import write_stored

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

log = logging.getLogger("sparcell")

SAMPLE_VALUES = 1 << 25
"""Values of the cells that variable genes are chosen from: 256 MB in memory."""


class StoredCells:
    """Cells of an .h5ad file or zarr folder whose matrix stays on disk.

    `fit`, `transform`, `embed`, `programs` and steps of `sp.pp` take it in place of an AnnData. The file is only read.

    Parameters
    ----------
    path
        An .h5ad file or a zarr folder with the matrix stored as CSR, or several. Cells of several files are below each other, with the
        genes that all files have (matched by name, in the order of the first file) and the file of each cell in obs["file"].
    layer
        The matrix: a layer, "raw", or None for X.
    obs_keys
        Columns of obs that are read, such as the batch.
    gene_symbols
        Column of var with the names of the genes. Default: the names of var.

    Attributes
    ----------
    n_obs, n_vars, var, var_names
        As in AnnData. For layer "raw", genes are those of raw.
    obs
        The columns `obs_keys`; cells are numbered, because names of many cells need much memory. `write` adds columns that are put here
        to those of the file.
    obsm, uns, varm
        Empty dicts, for results. `write` stores them beside the annotations of the file.

    Raises
    ------
    InputError
        As `MatrixFile`, and for missing columns.

    Examples
    --------
    >>> cells = sp.io.StoredCells("atlas.h5ad", obs_keys=["donor"])
    >>> model = sp.BetaVSC().fit(cells, batch_key="donor")
    >>> cells = sp.io.StoredCells(["donor1.h5ad", "donor2.h5ad"])
    >>> model = sp.BetaVSC().fit(cells, batch_key="file")
    """

    isbacked = is_view = False
    raw = None
    var: pd.DataFrame
    memory: int | None = None
    """Bytes that training from this file may take; None for no limit."""

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        layer: str | None = None,
        obs_keys: Sequence[str] = (),
        gene_symbols: str | None = None,
    ) -> None:
        paths = as_paths(path)
        file: MatrixFile | MatrixFiles
        if len(paths) == 1:
            file = MatrixFile(paths[0], layer)
            var = genes_of(file, gene_symbols)
        else:
            file = MatrixFiles(paths, layer, gene_symbols)
            var = file.var
        self._take_over(file, layer, file.obs(list(dict.fromkeys(obs_keys))), var)

    @classmethod
    def of(cls, rows: StoredRows, layer: str | None, obs: pd.DataFrame, var: pd.DataFrame) -> StoredCells:
        """Return cells whose matrix is read from `rows`, with tables that are in memory.

        Examples
        --------
        ::

            cells = sp.io.StoredCells.of(rows, None, adata.obs, adata.var)
        """
        cells = cls.__new__(cls)
        cells._take_over(rows, layer, obs, var)
        return cells

    def _take_over(self, rows: StoredRows, layer: str | None, obs: pd.DataFrame, var: pd.DataFrame) -> None:
        self.rows, self.layer, self.obs = rows, layer, obs
        self.file = rows if isinstance(rows, MatrixFile | MatrixFiles) else None
        is_gene_g = gene_mask(var)
        self.var = var[is_gene_g].copy()
        if not is_gene_g.all():
            log.info("%s: %s", rows.where, describe_other_features(var))
            rows.keep_genes(is_gene_g)
        self.obsm: dict[str, Any] = {}
        self.varm: dict[str, Any] = {}
        self.uns: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"StoredCells: {self.n_obs} cells × {self.n_vars} genes, {self.rows.where}"

    def __getitem__(self, rows: Any) -> AnnData:
        """Return some cells in memory, as `AnnData`: row numbers, a mask or a slice. Cells are named by their numbers in the file."""
        from anndata import AnnData

        number_m = np.arange(self.n_obs)[rows]
        order = np.argsort(number_m, kind="stable")
        cells = self.rows.select(number_m[order], RowUnits.unchanged(self.n_vars))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        cells = cells.take(place)
        obs = self.obs.iloc[number_m]
        obs = obs.set_axis(obs.index.astype(str))
        if self.layer is None:
            return AnnData(cells.matrix(), obs=obs, var=self.var)
        return AnnData(obs=obs, var=self.var, layers={self.layer: cells.matrix()})

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.rows.shape[0]

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return self.rows.shape[1]

    @property
    def X(self) -> StoredRows | None:
        """The matrix, if it is X."""
        return self.rows if self.layer is None else None

    @property
    def layers(self) -> dict[str, StoredRows]:
        """The matrix, if it is a layer or raw."""
        return {} if self.layer is None else {self.layer: self.rows}

    @property
    def var_names(self) -> pd.Index:
        """Names of the genes."""
        return self.var.index

    @property
    def obs_names(self) -> Any:
        """Names of the cells, read when asked for."""
        return self.obs.index if self.file is None else CellNames(self.file, self.rows)

    def read_obs(self, keys: Sequence[str]) -> None:
        """Read further columns of obs from the file; raise InputError for missing ones.

        Examples
        --------
        ::

            cells.read_obs(["cell_type"])
        """
        missing = [key for key in dict.fromkeys(keys) if key not in self.obs]
        if self.file is not None and missing:
            columns = self.file.obs(missing)
            self.obs = self.obs.assign(**{key: columns[key].iloc[self.obs.index].array for key in missing})

    def read_obsm(self, key: str) -> Any:
        """Return an array of obsm of the file, (n, …), such as "X_umap"; None if there is none.

        Examples
        --------
        ::

            umap_n2 = cells.read_obsm("X_umap")
        """
        values = self.obsm.get(key)
        if values is None and self.file is not None:
            values = self.file.obsm(key)
            values = (
                values[self.rows.row_m] if values is not None and isinstance(self.rows, KeptRows) else values
            )
        return values

    def keep_cells(self, kept_n: NDArray[np.bool_]) -> None:
        """Leave out the cells that are False in `kept_n`, (n,), from now on: `fit` and `embed` do not see them. The file stays as it is.

        Raises
        ------
        InputError
            Unless there is a value for each cell, and at least one is true.

        Examples
        --------
        ::

            cells.keep_cells(cells.obs["donor"] == "a")
        """
        kept_n = np.asarray(kept_n, dtype=bool)
        if kept_n.shape != (self.n_obs,) or not kept_n.any():
            raise InputError(
                f"the mask has {int(kept_n.sum())} of {kept_n.size} cells; expected one value for each of {self.n_obs} cells, one or more "
                "of them true."
            )
        if kept_n.all():
            return
        inner, of_all_n = self.rows, kept_n
        if isinstance(inner, KeptRows):
            of_all_n = np.zeros(inner.stored.shape[0], dtype=bool)
            of_all_n[inner.row_m[kept_n]] = True
            inner = inner.stored
        self.rows = KeptRows(inner, of_all_n)
        self.obs = self.obs[kept_n].copy()
        self.obsm = {key: values[kept_n] for key, values in self.obsm.items()}

    def keep_genes(self, kept_g: NDArray[np.bool_]) -> None:
        """Leave out the genes that are False in `kept_g`, (g,), from now on. The file stays as it is.

        Examples
        --------
        ::

            cells.keep_genes(~cells.var_names.str.startswith("MT-"))
        """
        kept_g = np.asarray(kept_g, dtype=bool)
        self.rows.keep_genes(kept_g)
        self.var = self.var[kept_g].copy()
        self.varm = {key: values[kept_g] for key, values in self.varm.items()}

    def without_results(self) -> StoredCells:
        """Return the same cells with empty obsm, varm and uns. The matrix and its facts are shared.

        Examples
        --------
        ::

            model.programs(cells.without_results())  # writes nothing into cells
        """
        cells = StoredCells.__new__(StoredCells)
        cells.__dict__.update(self.__dict__, var=self.var.copy(), obsm={}, varm={}, uns={})
        return cells

    def sample(self, max_values: int = SAMPLE_VALUES, seed: int = 0) -> AnnData:
        """Return cells from all over the file, drawn at random, in memory: as many as hold about `max_values` values, or all.

        Returns
        -------
        AnnData with the matrix in X, or in the layer; obs and var as here. Cells are in the order of the file, and are named by their
        numbers.

        Examples
        --------
        ::

            sp.pp.variable_genes(cells.sample())
        """
        if self.memory is not None:  # choosing genes copies the cells several times
            max_values = min(max_values, max(self.memory, MIN_BUDGET) // (4 * BYTES_PER_VALUE))
        n_cells = round(max_values * self.n_obs / max(1, self.rows.n_values))
        return self[subsample(self.n_obs, max(1, n_cells), seed)]

    def write(self, path: str | Path, *, with_x: bool = False) -> None:
        """Write obs and var of the file, and the results in obsm, varm and uns, into an .h5ad file or a zarr folder.

        Parameters
        ----------
        path
            New .h5ad file or .zarr folder. An existing file is replaced once the new one is complete, an existing folder only if sparcell
            wrote it as a result.
        with_x
            Also copy the matrix, by blocks.

        Raises
        ------
        InputError
            For another suffix, for a folder that sparcell did not write, and as `atomic_write`.

        Examples
        --------
        ::

            model.embed(cells)
            cells.write("embedded.h5ad")
            cells.write("embedded.zarr", with_x=True)
        """
        with write_result(path) as writer:
            write_stored(self, writer, with_x=with_x)


def open_cells(
    path: str | Path | Sequence[str | Path],
    *,
    layer: str | None = None,
    obs_keys: Sequence[str] = (),
    gene_symbols: str | None = None,
    memory: str | int = MAX_MEMORY,
) -> AnnData | StoredCells:
    """Read a file or several as a whole, or leave the matrix on disk if it would take more than `memory`.

    Parameters
    ----------
    path
        Any format that `read` reads, or several files, which are joined as in `StoredCells`. Only .h5ad and zarr can stay on disk.
    layer, obs_keys, gene_symbols
        As for `StoredCells`.
    memory
        Largest matrix in memory, of all files together: bytes, or text such as "4GB" or "500MB".

    Raises
    ------
    InputError
        See `read` and `StoredCells`.

    Examples
    --------
    ::

        cells = sp.io.open_cells("atlas.h5ad", obs_keys=["donor"], memory="2GB")
        cells = sp.io.open_cells(["donor1.h5ad", "donor2.h5ad"])
    """
    limit, paths = require_size("memory", memory), as_paths(path)
    if bytes_in_memory(paths, layer) <= limit:
        return read_whole(paths, gene_symbols)
    return _left_on_disk(paths, layer, obs_keys, gene_symbols, limit)


def _left_on_disk(
    paths: Sequence[Path],
    layer: str | None,
    obs_keys: Sequence[str],
    gene_symbols: str | None,
    limit: int,
) -> StoredCells:
    cells = StoredCells(paths, layer, obs_keys, gene_symbols)
    cells.memory = limit
    return cells


def open_for_model(
    path: str | Path | Sequence[str | Path],
    layer: str | None,
    obs_keys: Sequence[str],
    *,
    gene_symbols: str | None = None,
    memory: str | int = MAX_MEMORY,
) -> AnnData | StoredCells:
    """Open files for a fitted model as `open_cells` does: X where a file lacks the layer, columns of obs as far as all files have them."""
    limit, paths = require_size("memory", memory), as_paths(path)
    if not all(map(can_stay_on_disk, paths)):
        return read_whole(paths, gene_symbols)
    sizes = [n_stored_values(one, layer) for one in paths]
    if layer is not None and not all(sizes):
        layer, sizes = None, [n_stored_values(one) for one in paths]
    if sum(sizes) * BYTES_PER_VALUE <= limit:
        return read_whole(paths, gene_symbols)
    columns = [set(MatrixFile(one, layer).obs_columns) for one in paths]
    there = set.intersection(*columns)
    there |= {file_column(list(set.union(*columns)))} if len(paths) > 1 else set()
    return _left_on_disk(paths, layer, [key for key in obs_keys if key in there], gene_symbols, limit)


def bytes_in_memory(paths: Sequence[Path], layer: str | None) -> int:
    """Return how much memory the matrix of files would take; 0 where a file cannot stay on disk, and has to be read as a whole."""
    if not all(map(can_stay_on_disk, paths)):
        return 0
    return sum(n_stored_values(path, layer) for path in paths) * BYTES_PER_VALUE


def can_stay_on_disk(path: Path) -> bool:
    """Return whether cells of a file can be read without reading the whole file."""
    return path.suffix == ".h5ad" or (path.is_dir() and path.suffix == ".zarr")
