"""An .h5ad file with one dense layer that is written by blocks, so that the layer is never in memory as a whole.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from anndata import AnnData

from sparcell.io import marks
from sparcell.io.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

CHUNK_VALUES = 1 << 16
"""Approximate number of values in a chunk of the file."""


def write_dense_layer(
    path: str | Path,
    layer: str,
    blocks: Iterable[NDArray[np.float32]],
    obs: pd.DataFrame,
    var: pd.DataFrame,
) -> None:
    """Write an .h5ad file with obs, var and one dense layer, without X.

    Parameters
    ----------
    path
        New .h5ad file; an existing one is replaced once the new one is complete.
    layer
        Name of the layer.
    blocks
        The values, (n of the block, g), in the order of the cells.
    obs, var
        Annotations of all cells and genes.

    Raises
    ------
    InputError, OutputError
        See `atomic_write`.

    Examples
    --------
    ::

        write_dense_layer("denoised.h5ad", "denoised", blocks, adata.obs, adata.var)
    """
    n_cells, n_genes = len(obs), len(var)
    rows = min(n_cells, max(1, CHUNK_VALUES // n_genes))
    with atomic_write(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            AnnData(obs=obs, var=var).write_h5ad(temporary, compression="gzip")
        with h5py.File(temporary, "r+") as file:
            values = file.require_group("layers").create_dataset(
                layer, (n_cells, n_genes), np.float32, chunks=(rows, n_genes), compression="gzip"
            )
            values.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
            start = 0
            for block_ng in blocks:
                values[start : start + len(block_ng)] = block_ng
                start += len(block_ng)
        marks.mark(temporary)
