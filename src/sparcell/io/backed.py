"""AnnData whose matrix is not in memory: one that a file backs, or one with a Dask array."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sparcell.config.input import MAX_MEMORY
from sparcell.config.validation import require_size
from sparcell.data.budget import BYTES_PER_VALUE
from sparcell.data.expression import has_layer, is_raw, raw_var
from sparcell.errors import InputError
from sparcell.io.matrix_files import MatrixFile, n_stored_values
from sparcell.io.stored import StoredCells
from sparcell.io.stored_rows import DaskRows, is_dask

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger("sparcell")


def leave_on_disk(
    adata: AnnData | StoredCells, layer: str | None, *, memory: str | int = MAX_MEMORY
) -> AnnData | StoredCells:
    """Return an AnnData with a Dask array, or one that a large file backs, as `StoredCells`; others as they are.

    Parameters
    ----------
    adata
        The data. obs and var are those of the object.
    layer
        The matrix that is read.
    memory
        A file that backs the data is read as a whole if its matrix takes at most this.

    Examples
    --------
    ::

        cells = leave_on_disk(anndata.read_h5ad("atlas.h5ad", backed="r"), None)
    """
    if isinstance(adata, StoredCells) or not has_layer(adata, layer):
        return adata
    of_raw = is_raw(adata, layer)
    if adata.isbacked and not adata.is_view and (layer is None or of_raw):
        return _of_file(adata, layer, require_size("memory", memory))
    matrix = adata.raw.X if of_raw else adata.X if layer is None else adata.layers[layer]
    if not is_dask(matrix):
        return adata
    where = "X" if layer is None else layer if of_raw else f"layers[{layer!r}]"
    var = raw_var(adata) if of_raw else adata.var
    cells = StoredCells.of(DaskRows(matrix, where), layer, adata.obs, var)
    cells.memory = require_size("memory", memory)
    return cells


def _of_file(adata: AnnData, layer: str | None, limit: int) -> AnnData | StoredCells:
    """Return the cells of the file that backs `adata`, if its matrix takes more memory than `limit`."""
    path = Path(adata.filename)
    try:
        if n_stored_values(path, layer) * BYTES_PER_VALUE <= limit:
            return adata
        rows = MatrixFile(path, layer)
    except (
        InputError
    ) as error:  # stored by genes, or open for writing, so that it cannot be opened a second time
        log.info("the matrix is read into memory: %s", error)
        return adata
    cells = StoredCells.of(rows, layer, adata.obs, adata.var if layer is None else raw_var(adata))
    cells.memory = limit
    return cells
