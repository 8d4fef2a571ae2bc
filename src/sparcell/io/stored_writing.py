"""Writing cells that stay on disk: obs is copied by blocks of rows, so that names of millions of cells are never in memory at once."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from sparcell.io.stored_rows import KeptRows
from sparcell.results.large_arrays import row_blocks

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from sparcell.io.stored import StoredCells

ROWS = 1 << 17
"""Rows that are copied at a time."""
KEYED = "categorical"
"""Encoding of a column whose values are numbers of categories: only the numbers belong to rows."""


def write_cells(cells: StoredCells, path: Path, *, with_x: bool) -> None:
    """Write what `StoredCells.write` writes, straight into `path`."""
    from anndata.io import sparse_dataset, write_elem

    gzip = {"compression": "gzip"}
    with h5py.File(path, "w") as target, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        _write_obs(cells, target)
        write_elem(target, "var", cells.var, dataset_kwargs=gzip)
        write_elem(target, "obsm", {})
        for key, values in cells.obsm.items():
            if isinstance(values, np.ndarray):
                _write_by_rows(target["obsm"], key, values)
            else:
                write_elem(target["obsm"], key, values, dataset_kwargs=gzip)
        for name in ("varm", "uns"):
            write_elem(target, name, getattr(cells, name), dataset_kwargs=gzip)
        for name in ("layers", "obsp", "varp"):
            write_elem(target, name, {})
        for start, stop in pairwise(cells.rows.edges.tolist()) if with_x else ():
            block = cells.rows.read(start, stop)
            if start == 0:
                write_elem(target, "X", block, dataset_kwargs=gzip)
            else:
                sparse_dataset(target["X"]).append(block)


def _write_by_rows(group: h5py.Group, key: str, values: NDArray[Any]) -> None:
    """Write an array as anndata does, but by blocks of rows."""
    from anndata.io import write_elem

    write_elem(group, key, values[:1], dataset_kwargs={"compression": "gzip"})
    attributes = dict(group[key].attrs)
    del group[key]
    written = group.create_dataset(key, values.shape, values.dtype, chunks=True, compression="gzip")
    written.attrs.update(attributes)
    start = 0
    for (block,) in row_blocks(values):
        written[start : start + len(block)] = block
        start += len(block)


def _write_obs(cells: StoredCells, target: h5py.File) -> None:
    from anndata.io import write_elem

    row_n = cells.rows.row_m if isinstance(cells.rows, KeptRows) else None
    obs = cells.obs
    if cells.file is not None:
        stored = cells.file.stored_obs
        if stored is not None:
            copy_table(stored, target, "obs", row_n, obs)
            return
        table = cells.file.table("obs")
        table = table if row_n is None else table.iloc[row_n]
        obs = table.assign(**{str(key): obs[key].array for key in obs})
    write_elem(target, "obs", obs, dataset_kwargs={"compression": "gzip"})


def copy_table(
    table: Any, target: h5py.Group, name: str, row_n: NDArray[np.integer] | None, added: pd.DataFrame
) -> None:
    """Copy a table of an .h5ad file or zarr folder into an .h5ad file, by blocks of rows.

    Parameters
    ----------
    table
        The group of the table, with columns as anndata writes them since version 0.8.
    target, name
        Where the copy is written.
    row_n
        Rows to copy, ascending. Default: all.
    added
        Columns that take the place of those of the same name, or are added at the end.
    """
    from anndata.io import write_elem

    copy = target.create_group(name)
    copy.attrs.update({key: _attribute(value) for key, value in table.attrs.items()})
    for column in table:
        if column not in added.columns:
            _copy(table[column], copy, column, row_n)
    for column in added.columns:
        values = added[column]
        array = values.to_numpy() if isinstance(values.dtype, np.dtype) else values.array
        write_elem(copy, column, array, dataset_kwargs={"compression": "gzip"})
    order = [str(column) for column in table.attrs["column-order"]]
    order += [column for column in map(str, added.columns) if column not in order]
    copy.attrs["column-order"] = order


def _copy(source: Any, target: h5py.Group, name: str, row_n: NDArray[np.integer] | None) -> None:
    if hasattr(source, "keys"):
        copy = target.create_group(name)
        copy.attrs.update({key: _attribute(value) for key, value in source.attrs.items()})
        is_keyed = source.attrs.get("encoding-type") == KEYED
        for part in source:
            _copy(source[part], copy, part, None if is_keyed and part != "codes" else row_n)
        return
    shape, is_text = source.shape, source.dtype.kind in "OUST"
    if not shape:
        target[name] = source[()]
    else:
        n_rows = shape[0] if row_n is None else len(row_n)
        dtype = h5py.string_dtype() if is_text else source.dtype
        copied = target.create_dataset(name, (n_rows, *shape[1:]), dtype, chunks=True, compression="gzip")
        for start in range(0, n_rows, ROWS):
            stop = min(start + ROWS, n_rows)
            copied[start:stop] = _rows(source, start, stop, row_n, is_text=is_text)
    target[name].attrs.update({key: _attribute(value) for key, value in source.attrs.items()})


def _rows(source: Any, start: int, stop: int, row_n: NDArray[np.integer] | None, *, is_text: bool) -> Any:
    """Return rows of a data set, start and stop counted among those to copy."""
    first, last = (start, stop) if row_n is None else (int(row_n[start]), int(row_n[stop - 1]) + 1)
    values = source.asstr()[first:last] if hasattr(source, "asstr") and is_text else source[first:last]
    values = np.asarray(values, dtype=object) if is_text else np.asarray(values)
    return values if row_n is None else values[row_n[start:stop] - first]


def _attribute(value: Any) -> Any:
    return list(map(str, value)) if isinstance(value, list) else value
