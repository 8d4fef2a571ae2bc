"""A result with one dense layer that is written by blocks, so that the layer is never in memory as a whole.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from sparcell.io import h5ad
from sparcell.io.result_files import write_result
from sparcell.io.stored import StoredCells
from sparcell.io.stored_writing import write_obs

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def write_dense_layer(
    path: str | Path,
    layer: str,
    blocks: Iterable[NDArray[np.float32]],
    cells: AnnData | StoredCells,
    var: pd.DataFrame,
) -> None:
    """Write an .h5ad file or zarr folder with obs, var and one dense layer, without X.

    Parameters
    ----------
    path
        New .h5ad file or zarr folder; an existing result is replaced once the new one is complete.
    layer
        Name of the layer.
    blocks
        The values, (n of the block, g), in the order of the cells.
    cells
        The cells, whose obs is written.
    var
        Annotations of the genes.

    Raises
    ------
    InputError, OutputError
        See `write_result`.

    Examples
    --------
    ::

        write_dense_layer("denoised.zarr", "denoised", blocks, adata, adata.var)
    """
    is_stored = isinstance(cells, StoredCells)
    tables = AnnData(obs=None if is_stored else cells.obs, var=var)
    with write_result(path) as writer:
        for name, part in h5ad.parts(tables):
            if name != "obs" or not is_stored:
                writer.put(writer.root, name, part)
        if isinstance(cells, StoredCells):
            write_obs(cells, writer)
        written, start = None, 0
        for block_ng in blocks:
            if written is None:
                written = writer.put_rows(writer.root["layers"], layer, block_ng[:1], cells.n_obs)
            written[start : start + len(block_ng)] = block_ng
            start += len(block_ng)
