"""Writing cells that stay on disk: obs is copied by blocks of rows, so that names of millions of cells are never in memory at once."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.io.stored_rows import KeptRows
from sparcell.results.large_arrays import row_blocks

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from sparcell.data.blocks import StoredRows
    from sparcell.io.result_files import ResultWriter
    from sparcell.io.stored import StoredCells

ROWS = 1 << 17
"""Rows that are copied at a time, a whole number of chunks."""
VALUES = 1 << 20
"""Values of the matrix that are copied at a time."""
KEYED = "categorical"
"""Encoding of a column whose values are numbers of categories: only the numbers belong to rows."""


def write_stored(cells: StoredCells, writer: ResultWriter, *, with_x: bool) -> None:
    """Write what `StoredCells.write` writes."""
    root = writer.root
    write_obs(cells, writer)
    writer.put(root, "var", cells.var)
    writer.put(root, "obsm", {})
    for key, values in cells.obsm.items():
        if isinstance(values, np.ndarray):
            _write_by_rows(writer, root["obsm"], key, values)
        else:
            writer.put(root["obsm"], key, values)
    for name in ("varm", "uns"):
        writer.put(root, name, getattr(cells, name))
    for name in ("layers", "obsp", "varp"):
        writer.put(root, name, {})
    for start, stop in pairwise(_edges(cells.rows)) if with_x else ():
        writer.append_rows("X", cells.rows.read(start, stop))


def _edges(rows: StoredRows) -> list[int]:
    """Return where the rows begin that are copied together, whole blocks with about `VALUES` values, and the number of rows."""
    n_together = max(1, VALUES * (len(rows.edges) - 1) // max(1, rows.n_values))
    return [*rows.edges[:-1:n_together].tolist(), int(rows.edges[-1])]


def _write_by_rows(writer: ResultWriter, group: Any, key: str, values: NDArray[Any]) -> None:
    """Write an array as anndata does, but by blocks of rows."""
    written, start = writer.put_rows(group, key, values[:1], len(values)), 0
    for (block,) in row_blocks(values):
        written[start : start + len(block)] = block
        start += len(block)


def write_obs(cells: StoredCells, writer: ResultWriter) -> None:
    """Write obs of the file, with the columns that were added to `cells`; names and columns are copied by blocks if the file allows it."""
    row_n = cells.rows.row_m if isinstance(cells.rows, KeptRows) else None
    obs = cells.obs
    if cells.file is not None:
        stored = cells.file.stored_obs
        if stored is not None:
            copy_table(stored, writer, "obs", row_n, obs)
            return
        table = cells.file.table("obs")
        table = table if row_n is None else table.iloc[row_n]
        obs = table.assign(**{str(key): obs[key].array for key in obs})
    writer.put(writer.root, "obs", obs)


def copy_table(
    table: Any, writer: ResultWriter, name: str, row_n: NDArray[np.integer] | None, added: pd.DataFrame
) -> None:
    """Copy a table of an .h5ad file or zarr folder into a result, by blocks of rows.

    Parameters
    ----------
    table
        The group of the table, with columns as anndata writes them since version 0.8.
    writer, name
        Where the copy is written.
    row_n
        Rows to copy, ascending. Default: all.
    added
        Columns that take the place of those of the same name, or are added at the end.
    """
    copy = writer.root.create_group(name)
    copy.attrs.update({key: _attribute(value) for key, value in table.attrs.items()})
    for column in table:
        if column not in added.columns:
            _copy(table[column], writer, copy, column, row_n)
    for column in added.columns:
        values = added[column]
        writer.put(copy, column, values.to_numpy() if isinstance(values.dtype, np.dtype) else values.array)
    order = [str(column) for column in table.attrs["column-order"]]
    order += [column for column in map(str, added.columns) if column not in order]
    copy.attrs["column-order"] = order


def _copy(
    source: Any, writer: ResultWriter, target: Any, name: str, row_n: NDArray[np.integer] | None
) -> None:
    if hasattr(source, "keys"):
        copy = target.create_group(name)
        copy.attrs.update({key: _attribute(value) for key, value in source.attrs.items()})
        is_keyed = source.attrs.get("encoding-type") == KEYED
        for part in source:
            _copy(source[part], writer, copy, part, None if is_keyed and part != "codes" else row_n)
        return
    is_text = source.dtype.kind in "OUST"
    if not source.shape:
        writer.put(target, name, source[()])
    else:
        n_rows = source.shape[0] if row_n is None else len(row_n)
        first = _rows(source, 0, min(1, n_rows), row_n, is_text=is_text)
        copied = writer.put_rows(target, name, first, n_rows)
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
    """Return an attribute as HDF5 and the JSON of zarr both hold it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return list(map(str, value)) if isinstance(value, list) else value
