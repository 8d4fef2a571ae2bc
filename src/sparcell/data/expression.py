"""The one matrix of an AnnData that a step reads: X, a layer or raw; in memory, genes only. The user's object and file never change.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.data.blocks import StoredRows
from sparcell.data.genes import describe_other_features, gene_mask
from sparcell.data.validation import check_structure, infer_matrix_kind
from sparcell.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.data.blocks import Matrix

log = logging.getLogger("sparcell")

RAW = "raw"
"""Name of the layer that means adata.raw, unless the data has a layer of that name. raw may have more genes than X."""


def is_raw(adata: AnnData, layer: str | None) -> bool:
    """Return whether a name of a layer means adata.raw."""
    return layer == RAW and RAW not in adata.layers and adata.raw is not None


def has_layer(adata: AnnData, layer: str | None) -> bool:
    """Return whether the data has a matrix of this name: a layer, "raw", or X for None."""
    if layer is None:
        return adata.X is not None
    return layer in adata.layers or is_raw(adata, layer)


def read_layer(adata: AnnData, layer: str | None) -> tuple[Any, str]:
    """Return a layer (X for None, adata.raw for "raw") in memory, and its name for messages; raise InputError if there is none."""
    names = [*adata.layers, *([] if adata.raw is None else [RAW])]
    if layer is None:
        matrix = adata.X
        if matrix is None:
            raise InputError(
                f"X is empty; expected a matrix, or the name of a layer: {did_you_mean('', names)}"
            )
        return in_memory(matrix), "X"
    if is_raw(adata, layer):
        return in_memory(adata.raw.X), RAW
    if layer not in adata.layers:
        raise InputError(f"no layer {layer!r} in the data; {did_you_mean(layer, names)}")
    return in_memory(adata.layers[layer]), f"layers[{layer!r}]"


def in_memory(matrix: Any) -> Matrix:
    """Return a matrix that a backed AnnData or a delayed computation holds as an array or a sparse matrix; others as they are."""
    if isinstance(matrix, np.ndarray | StoredRows) or sparse.issparse(matrix):
        return matrix
    for method in ("to_memory", "compute"):  # anndata's sparse data sets; dask's arrays
        if hasattr(matrix, method):
            return getattr(matrix, method)()
    return np.asarray(matrix) if hasattr(matrix, "shape") else matrix  # h5py's and zarr's data sets


def model_cells(adata: AnnData, layer: str | None, *, announce: bool = False) -> AnnData:
    """Return data whose layer holds genes only and is in memory: the same object if that is so already.

    Otherwise a new AnnData with this one matrix. For raw it has the genes of raw, with the columns of var that raw lacks. `announce`
    logs the number of features that are left out.
    """
    of_raw = is_raw(adata, layer)
    var = raw_var(adata) if of_raw else adata.var
    mask_g = gene_mask(var)
    if not (of_raw or adata.isbacked or adata.is_view) and mask_g.all():
        return adata
    matrix, where = read_layer(adata, layer)
    if not mask_g.all():
        if announce:
            log.info("%s", describe_other_features(var))
        check_structure(matrix, where)
        matrix, var = (matrix.tocsr() if sparse.issparse(matrix) else matrix)[:, mask_g], var[mask_g]
    return _with_matrix(matrix, adata.obs, var, layer)


def raw_var(adata: AnnData) -> pd.DataFrame:
    """Return var of raw, with the columns of adata.var that raw lacks: False or missing for genes that only raw has."""
    var: pd.DataFrame = adata.raw.var.copy()
    if not adata.var_names.is_unique:
        return var
    for column in adata.var.columns.difference(var.columns):
        fill = False if adata.var[column].dtype == bool else None
        values = adata.var[column].reindex(var.index, fill_value=fill)
        var[column] = values
    return var


def _with_matrix(matrix: Matrix, obs: pd.DataFrame, var: pd.DataFrame, layer: str | None) -> AnnData:
    from anndata import AnnData

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # repeated names: require_unique_genes raises for them
        if layer is None:
            return AnnData(matrix, obs=obs, var=var)
        return AnnData(obs=obs, var=var, layers={layer: matrix})


def layers_with_counts(adata: AnnData) -> list[str]:
    """Return the names of the layers that hold raw counts, for the message to one who named another: all values are read."""
    matrices = {**adata.layers, **({} if adata.raw is None else {RAW: adata.raw.X})}
    found = []
    for name, stored in matrices.items():
        matrix = in_memory(stored)
        try:
            check_structure(matrix, name)
        except InputError:
            continue
        if (
            np.dtype(getattr(matrix, "dtype", object)).kind in "biuf"
            and infer_matrix_kind(matrix) == "counts"
        ):
            found.append(name)
    return found


def counts_finder(adata: AnnData) -> Callable[[], list[str]]:
    """Return a function that finds the layers with counts, for `require_kind`, which calls it only to explain an error."""
    return lambda: layers_with_counts(adata)


def write_gene_column(adata: AnnData, layer: str | None, name: str, values: pd.Series) -> None:
    """Write true or false for each gene of a layer into var, and into raw.var if the layer is raw, which may have more genes.

    `values` is indexed by gene name. Genes without a value get False.
    """
    adata.var[name] = values.reindex(adata.var_names, fill_value=False)
    if is_raw(adata, layer):
        adata.raw.var[name] = values.reindex(adata.raw.var_names, fill_value=False)
