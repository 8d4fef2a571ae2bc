"""Data that stay on disk: an .h5ad file or zarr folder with the attributes of an AnnData that fitting and encoding read.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sparcell.config.experiments import MAX_MEMORY
from sparcell.config.validation import require_size
from sparcell.data.blocks import RowUnits
from sparcell.data.sampler import subsample
from sparcell.errors import InputError
from sparcell.io.files import atomic_write
from sparcell.io.joining import file_column
from sparcell.io.matrix_files import MatrixFile, genes_of, n_stored_values
from sparcell.io.readers import read
from sparcell.io.several_files import MatrixFiles, read_files

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger("sparcell")

BYTES_PER_VALUE = 8
"""Of a sparse matrix in memory: float32 value and int32 index."""
SAMPLE_VALUES = 1 << 25
"""Values of the cells that variable genes are chosen from: 256 MB in memory."""


class CellNames(Sequence[str]):
    """Names of the cells of a file, read one at a time when a message needs one."""

    def __init__(self, file: MatrixFile | MatrixFiles) -> None:
        self.file = file

    def __len__(self) -> int:
        return len(self.file)

    def __getitem__(self, number: Any) -> Any:
        return self.file.cell_names[number]


class StoredCells:
    """Cells of an .h5ad file or zarr folder whose matrix stays on disk.

    `fit`, `transform` and `embed` take it in place of an AnnData. The file is only read.

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
        The columns `obs_keys`; cells are numbered, because names of many cells need much memory.
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

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        layer: str | None = None,
        obs_keys: Sequence[str] = (),
        gene_symbols: str | None = None,
    ) -> None:
        paths = as_paths(path)
        self.file: MatrixFile | MatrixFiles
        if len(paths) == 1:
            self.file = MatrixFile(paths[0], layer)
            self.var = genes_of(self.file, gene_symbols)
        else:
            self.file = MatrixFiles(paths, layer, gene_symbols)
            self.var = self.file.var
        self.layer = layer
        self.obs = self.file.obs(list(dict.fromkeys(obs_keys)))
        self.obsm: dict[str, Any] = {}
        self.varm: dict[str, Any] = {}
        self.uns: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"StoredCells: {self.n_obs} cells × {self.n_vars} genes, {self.file.where}"

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.file.shape[0]

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return self.file.shape[1]

    @property
    def X(self) -> MatrixFile | MatrixFiles | None:
        """The matrix, if it is X."""
        return self.file if self.layer is None else None

    @property
    def layers(self) -> dict[str, MatrixFile | MatrixFiles]:
        """The matrix, if it is a layer or raw."""
        return {} if self.layer is None else {self.layer: self.file}

    @property
    def var_names(self) -> pd.Index:
        """Names of the genes."""
        return self.var.index

    @property
    def obs_names(self) -> CellNames:
        """Names of the cells, read when asked for."""
        return CellNames(self.file)

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
        from anndata import AnnData

        n_cells = round(max_values * self.n_obs / max(1, self.file.n_values))
        rows = subsample(self.n_obs, max(1, n_cells), seed)
        cells = self.file.select(rows, RowUnits.unchanged(self.n_vars))
        obs = self.obs.iloc[rows].set_axis(rows.astype(str))
        if self.layer is None:
            return AnnData(cells.matrix(), obs=obs, var=self.var)
        return AnnData(obs=obs, var=self.var, layers={self.layer: cells.matrix()})

    def write(self, path: str | Path, *, with_x: bool = False) -> None:
        """Write an .h5ad file: obs and var of the file, and the results in obsm, varm and uns.

        Parameters
        ----------
        path
            New .h5ad file; an existing one is replaced once the new one is complete.
        with_x
            Also copy the matrix, by blocks.

        Raises
        ------
        InputError
            See `atomic_write`.

        Examples
        --------
        ::

            model.embed(cells)
            cells.write("embedded.h5ad")
        """
        with atomic_write(path) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._write(temporary, with_x)

    def _write(self, path: Path, with_x: bool) -> None:
        import h5py
        from anndata import AnnData
        from anndata.io import sparse_dataset, write_elem

        obs, how = self.file.stored_obs, {"compression": "gzip"}
        if obs is None:
            shell = AnnData(
                obs=self.file.table("obs"), var=self.var, obsm=self.obsm, varm=self.varm, uns=self.uns
            )
        else:
            shell = AnnData(var=self.var, varm=self.varm, uns=self.uns)
        shell.write_h5ad(path, **how)
        with h5py.File(path, "r+") as target:
            if obs is not None:  # names of many cells need much memory, so they are copied from file to file
                del target["obs"]
                obs.file.copy(obs, target, name="obs")
                for key, values in self.obsm.items():
                    write_elem(target["obsm"], key, values, dataset_kwargs=how)
            if not with_x:
                return
            for number, (start, stop) in enumerate(
                zip(self.file.edges[:-1], self.file.edges[1:], strict=True)
            ):
                block = self.file.read(int(start), int(stop))
                if number == 0:
                    write_elem(target, "X", block, dataset_kwargs=how)
                else:
                    sparse_dataset(target["X"]).append(block)


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
    if not all(map(_can_stay_on_disk, paths)) or _n_values(paths, layer) * BYTES_PER_VALUE <= limit:
        return (
            read(paths[0], gene_symbols=gene_symbols) if len(paths) == 1 else read_files(paths, gene_symbols)
        )
    return StoredCells(paths, layer, obs_keys, gene_symbols)


def open_for_model(
    path: str | Path | Sequence[str | Path],
    layer: str | None,
    obs_keys: Sequence[str],
    *,
    gene_symbols: str | None = None,
    memory: str | int = MAX_MEMORY,
) -> AnnData | StoredCells:
    """Open files for a fitted model as `open_cells` does: X where a file lacks the layer, columns of obs as far as all files have them."""
    paths = as_paths(path)
    if not all(map(_can_stay_on_disk, paths)):
        return open_cells(paths, gene_symbols=gene_symbols)
    layer = layer if all(n_stored_values(one, layer) for one in paths) else None
    columns = [set(MatrixFile(one, layer).obs_columns) for one in paths]
    there = set.intersection(*columns) | (
        {file_column(list(set.union(*columns)))} if len(paths) > 1 else set()
    )
    return open_cells(
        paths,
        layer=layer,
        obs_keys=[key for key in obs_keys if key in there],
        gene_symbols=gene_symbols,
        memory=memory,
    )


def as_paths(path: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return one path or several as a list."""
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    if not paths:
        raise InputError("no file is given; expected one path or more.")
    return paths


def _n_values(paths: Sequence[Path], layer: str | None) -> int:
    return sum(n_stored_values(path, layer) for path in paths)


def _can_stay_on_disk(path: Path) -> bool:
    return path.suffix == ".h5ad" or (path.is_dir() and path.suffix == ".zarr")
