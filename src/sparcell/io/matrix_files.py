"""Cells of an .h5ad file or a zarr folder, read by ranges of rows: the matrix is never in memory as a whole.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.data.blocks import StoredRows, choose_columns
from sparcell.data.facts import scan
from sparcell.data.genes import describe_other_features, gene_mask, named_by
from sparcell.errors import InputError, did_you_mean
from sparcell.io.chunks import values_reader
from sparcell.io.files import existing_path
from sparcell.io.hdf5_filters import load_filters, require_filters
from sparcell.io.row_lengths import RowLengths
from sparcell.io.selection import in_threads, select_rows
from sparcell.io.stored_tables import column_names, is_by_columns, read_columns, read_table, require_layout
from sparcell.kernels.row_loops import NO_GENE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.data.blocks import RowUnits
    from sparcell.data.facts import MatrixFacts
    from sparcell.protocols import SparseRows

log = logging.getLogger("sparcell")

BLOCK_VALUES = 1 << 16
"""Least number of values in a block; a block is a whole number of stored chunks. A row that crosses the end of a block makes one more chunk
to be read, so smaller blocks would read most chunks twice."""

METADATA_BYTES = 1 << 20
"""Most that HDF5 keeps of its index of chunks, which is read once. By default that grows with the file, up to 32 MB."""


class MatrixFile(StoredRows):
    """A matrix of cells × genes in an .h5ad file or a zarr folder, with the names and annotations beside it.

    Parameters
    ----------
    path
        An .h5ad file or a zarr folder. It is only read.
    layer
        A layer, "raw" for the matrix of raw, or None for X.

    Attributes
    ----------
    shape
        Numbers of cells and genes.
    edges
        Rows where blocks begin, and the number of cells: (number of blocks + 1,). A block holds at least 65,536 values.
    where
        Name of the matrix in messages, such as ``X of atlas.h5ad``.

    Raises
    ------
    InputError
        If the path cannot be opened, there is no such layer, or the matrix is stored by genes (CSC).

    Examples
    --------
    >>> file = MatrixFile("atlas.h5ad")
    >>> x_ng = file.read(0, 1000)  # the first 1,000 cells as a CSR matrix
    """

    def __init__(self, path: str | Path, layer: str | None = None) -> None:
        self.path = existing_path(path, "an .h5ad file or a zarr folder")
        self.layer = layer
        self._name = name_in_file(layer)
        self.where = f"{layer or 'X'} of {self.path.name}"
        self._open()
        self._check_layer()
        encoding = str(self._matrix.attrs.get("encoding-type", "array"))
        if encoding == "csc_matrix":
            raise InputError(
                f"{self.where} is stored by genes (CSC), so that single cells cannot be read without reading the whole file; "
                "expected CSR: adata.X = adata.X.tocsr(), then adata.write_h5ad(path)."
            )
        self.sparse = encoding == "csr_matrix"
        shape = self._matrix.attrs["shape"] if self.sparse else self._matrix.shape
        self.shape = (int(shape[0]), int(shape[1]))
        self._n_columns = self.shape[1]
        self._rows = self._read_row_lengths() if self.sparse else None
        self.edges = self._block_edges()
        self._position_g: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def n_values(self) -> int:
        """Number of stored values."""
        return self.shape[0] * self.shape[1] if self._rows is None else self._rows.n_values

    def n_values_of(self, row_n: NDArray[np.integer]) -> int:
        """Return the number of stored values of some rows."""
        if self._rows is None:
            return len(row_n) * self._n_columns
        return int(self._rows.length_n[row_n].sum(dtype=np.int64))

    @cached_property
    def facts(self) -> MatrixFacts:
        """What one pass over the matrix finds; the first call reads the whole matrix."""
        return scan(self.checked_blocks())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        values = self._matrix["data"] if self.sparse else self._matrix
        dtype: np.dtype[Any] = values.dtype
        return dtype

    @property
    def identity(self) -> dict[str, Any]:
        """What changes if the file is replaced or written to: its size, time of change, shape and number of values."""
        files = (
            [self.path] if self.path.is_file() else [path for path in self.path.rglob("*") if path.is_file()]
        )
        stats = [file.stat() for file in files]
        return {
            "size": sum(stat.st_size for stat in stats),
            "changed": max(stat.st_mtime_ns for stat in stats),
            "shape": list(self.shape),
            "n_values": self.n_values,
            "matrix": self._name,
        }

    def place_genes(self, position_g: NDArray[np.integer], n_genes: int) -> None:
        """Read genes at other places from now on: `position_g` holds the new number of each gene, or -1 to leave it out, (g,)."""
        self.__dict__.pop("facts", None)  # those of other genes
        if self._position_g is None:
            self._position_g = np.asarray(position_g, dtype=np.int64)
        else:
            kept = self._position_g >= 0
            self._position_g[kept] = np.asarray(position_g)[self._position_g[kept]]
        self.shape = (self.shape[0], n_genes)

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return rows start … stop - 1 as they are stored, (n, g)."""
        rows = self._read(start, stop)
        return rows if self._position_g is None else choose_columns(rows, self._position_g, self.shape[1])

    def select(self, row_n: NDArray[np.integer], units: RowUnits) -> SparseRows:
        """Return rows `row_n`, in ascending order, in a model's genes and units. Several threads read."""
        return select_rows([(self, row_n, units)])

    def _read(self, start: int, stop: int) -> sparse.csr_matrix:
        column, value, indptr = self.stored_values(start, stop)
        if len(column) and not (int(column.min()) >= 0 and int(column.max()) < self._n_columns):
            raise self.outside(start, stop)
        return sparse.csr_matrix((value, column, indptr), shape=(stop - start, self._n_columns))

    def stored_values(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """Return columns and values of rows start … stop - 1, and where each row begins; columns are not checked."""
        if os.getpid() != self._process:  # a handle of HDF5 does not survive a fork
            self._open()
        if self._changed() != self._opened:
            raise InputError(
                f"{self.path} was changed while it was read; expected a file that stays as it is. Start again."
            )
        try:
            if self._rows is None:
                dense = sparse.csr_matrix(np.asarray(self._matrix[start:stop]))
                return dense.indices, dense.data, dense.indptr.astype(np.int64)
            bound_n = self._rows.bounds(start, stop)
            first, last = int(bound_n[0]), int(bound_n[-1])
            value, column = self._values(first, last), self._columns(first, last)
        except Exception as error:  # h5py, zarr and the decompressors raise many types for damaged files
            raise InputError(
                f"{self.where}: cells {start + 1} to {stop} cannot be read ({type(error).__name__}: {str(error)[:200]}). The file is "
                "damaged. Copy the file again."
            ) from error
        if len(column) != last - first or len(value) != last - first:
            raise InputError(
                f"{self.where} ends before its last cell; the file is incomplete. Copy it again."
            )
        return column, value, bound_n - first

    def outside(self, start: int, stop: int) -> InputError:
        """Return the error for columns that do not exist."""
        return InputError(
            f"{self.where} is damaged: cells {start + 1} to {stop} have values outside of its {self._n_columns} genes. Copy it again."
        )

    def position(self, units: RowUnits) -> NDArray[np.int64]:
        """Return the new position of each stored column, as `kernels.row_loops.map_rows` reads it."""
        if self._position_g is None:
            return np.asarray(units.position_g, dtype=np.int64)
        position_g = np.full(self._n_columns, NO_GENE, dtype=np.int64)
        kept = self._position_g >= 0
        position_g[kept] = np.asarray(units.position_g)[self._position_g[kept]]
        return position_g

    def obs(self, keys: Sequence[str] = ()) -> pd.DataFrame:
        """Return columns of obs, (n, number of keys). Cells are numbered; their names are not read."""
        for key in keys:
            if key not in self.obs_columns:
                raise InputError(f"obs has no column {key!r}; {did_you_mean(key, self.obs_columns)}")
        return pd.DataFrame(read_columns(self._root["obs"], keys), index=pd.RangeIndex(self.shape[0]))

    @property
    def obs_columns(self) -> list[str]:
        """Names of the columns of obs."""
        return column_names(self._root["obs"])

    def table(self, name: str) -> pd.DataFrame:
        """Return all columns and names of a table of the file, such as "obs", "var" or "raw/var"."""
        return read_table(self._root[name])

    def obsm(self, key: str) -> Any:
        """Return an array of obsm as numpy array, (n, …); None if the file has no such array."""
        stored = self._root["obsm"].get(key) if "obsm" in self._root else None
        return None if stored is None or hasattr(stored, "keys") else np.asarray(stored[:])

    @property
    def stored_obs(self) -> Any:
        """The group of obs if it can be copied by blocks; None for the layout before anndata 0.8."""
        group = self._root["obs"]
        return group if is_by_columns(group) else None

    @property
    def var(self) -> pd.DataFrame:
        """The genes of the matrix with all columns, (g, …)."""
        return self.table("raw/var" if self.layer == "raw" else "var")

    @property
    def cell_names(self) -> pd.Index:
        """Names of the cells, read from the file at each call."""
        return pd.Index(self._names("obs"))

    def checked_blocks(self) -> Iterator[sparse.csr_matrix]:
        """Yield all blocks; raise InputError if a cell has two values of one gene, as after the loss of a part of the indices."""
        bounds = list(pairwise(self.edges.tolist()))
        blocks = in_threads(lambda rows: self.read(*rows), bounds)
        for (start, stop), block in zip(bounds, blocks, strict=True):
            n_values = block.nnz
            block.sum_duplicates()
            if block.nnz < n_values:
                raise InputError(
                    f"{self.where} is damaged: cells {start + 1} to {stop} hold {n_values - block.nnz} values of a cell and gene that have "
                    "one already; expected one value each: copy or export the file again."
                )
            yield block

    def _open(self) -> None:
        self._root = open_root(self.path)
        self._process, self._opened = os.getpid(), self._changed()
        self._matrix: Any = self._root.get(self._name, None)
        if self._matrix is not None and hasattr(self._matrix, "keys"):
            self._values = values_reader(self._matrix["data"], self.path)
            self._columns = values_reader(self._matrix["indices"], self.path)

    def _changed(self) -> list[tuple[int, int]]:
        """Return size and time of change of the file, or of a zarr folder and the folders of its chunks."""
        try:
            stats = [self.path.stat()]
            if not self.path.is_file():
                stats += [
                    path.stat()
                    for part in ("", "data", "indices", "data/c", "indices/c")
                    if (path := self.path / self._name / part).is_dir()
                ]
        except OSError as error:
            raise InputError(
                f"{self.path} is gone ({error.strerror}); expected a file that stays while it is read."
            ) from error
        return [(stat.st_size, stat.st_mtime_ns) for stat in stats]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a worker process opens again: handles of the file."""
        handles = ("_root", "_matrix", "_values", "_columns")
        return {name: value for name, value in vars(self).items() if name not in handles}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        opened = self._opened
        self._open()
        self._opened = opened

    def _check_layer(self) -> None:
        if self._matrix is None:
            layers = [str(name) for name in self._root["layers"]] if "layers" in self._root else []
            layers += ["raw"] if "raw/X" in self._root else []
            raise InputError(
                f"{self.path.name} has no {self._name}; {did_you_mean(self.layer or '', layers)}"
            )
        require_layout(self._root, self._matrix, self.path.name)

    def _read_row_lengths(self) -> RowLengths:
        stored = min(int(self._matrix[name].shape[0]) for name in ("data", "indices"))
        try:
            rows = RowLengths(self._matrix["indptr"])
            if len(rows) == self.shape[0] and rows.n_values <= stored:
                return rows
        except ValueError:
            pass
        raise InputError(
            f"{self.where} is damaged: the beginnings of its rows do not fit {self.shape[0]} cells and {stored} values. Copy it again."
        )

    def _names(self, group: str) -> NDArray[np.object_]:
        stored = self._root[group]
        key = str(stored.attrs.get("_index", "_index"))
        names = stored[key].asstr()[:] if hasattr(stored[key], "asstr") else stored[key][:]
        return np.asarray(names, dtype=object).astype(str).astype(object)

    def _block_edges(self) -> NDArray[np.int64]:
        """Return the rows where blocks begin, and the number of cells."""
        if self._rows is None:
            step = max(1, BLOCK_VALUES // max(1, self.shape[1]))
            return np.append(np.arange(0, self.shape[0], step), self.shape[0]).astype(np.int64)
        stored = self._matrix["indices"]
        unit = stored.chunks or (1,)
        size = -(-BLOCK_VALUES // int(unit[0])) * int(unit[0])
        edges = [self._rows.first_row_from(begin) for begin in range(0, max(1, self.n_values), size)]
        return np.unique([*edges, 0, self.shape[0]]).astype(np.int64)


def open_root(path: Path) -> Any:
    """Open an .h5ad file or a zarr folder for reading; raise InputError for anything else."""
    try:
        if path.is_dir():
            import zarr

            return zarr.open_group(path, mode="r")
        import h5py

        load_filters()
        root = h5py.File(path, "r")
        limit = root.id.get_mdc_config()
        limit.initial_size = limit.min_size = limit.max_size = METADATA_BYTES
        root.id.set_mdc_config(limit)
        require_filters(root, path.name)
        return root
    except InputError:
        raise
    except Exception as error:  # h5py and zarr raise many types
        raise InputError(
            f"{path} cannot be opened ({type(error).__name__}: {str(error)[:200]}); expected an .h5ad file or a zarr folder."
        ) from error


def genes_of(file: MatrixFile, gene_symbols: str | None) -> pd.DataFrame:
    """Return var of a file with the rows that are genes, and leave other features, such as antibodies, out of the matrix.

    The index holds the names of column `gene_symbols`, if there is one.
    """
    var, mask_g = file.var, gene_mask(file.var)
    if not mask_g.all():
        log.info("%s: %s", file.path, describe_other_features(var))
        file.place_genes(np.where(mask_g, np.cumsum(mask_g) - 1, -1), int(mask_g.sum()))
    return named_by(var[mask_g], gene_symbols) if gene_symbols else var[mask_g]


def name_in_file(layer: str | None) -> str:
    """Return where a file has a layer; None is X."""
    return {None: "X", "raw": "raw/X"}.get(layer, f"layers/{layer}")


def n_stored_values(path: str | Path, layer: str | None = None) -> int:
    """Return the number of values that a file stores of a matrix, 0 if there is no such matrix. The values are not read."""
    root = open_root(existing_path(path, "an .h5ad file or a zarr folder"))
    name = name_in_file(layer)
    if name not in root:
        return 0
    stored = root[name]["data"] if hasattr(root[name], "keys") else root[name]
    return int(np.prod(stored.shape))
