"""Reading matrices from an AnnData and writing results to it, without overwriting columns of the user."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sparcell.data.expression import counts_finder, in_memory, is_raw, read_layer
from sparcell.data.genes import describe_other_features, gene_mask
from sparcell.data.validation import check_matrix, check_structure, require_kind
from sparcell.errors import InputError
from sparcell.io.stored import StoredCells

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.data.blocks import Matrix

log = logging.getLogger("sparcell")

UNS_KEY = "sparcell_pp"
"""Key of uns that holds settings and scores of the steps, and the names of the columns that they wrote."""


def checked_matrix(adata: AnnData, layer: str | None, *, announce: bool = True) -> tuple[str, Matrix]:
    """Return the name for messages and the matrix of a layer (X for None, adata.raw for "raw"), in memory, with the genes of var.

    Features that are not gene expression are 0, so that no step counts or chooses them; `announce` logs their number.
    Raises InputError if there is no such matrix, or if `check_matrix` finds a fault.
    """
    if isinstance(adata, StoredCells):
        raise InputError(
            f"these cells stay on disk ({adata!r}), and this step works in memory; expected some of them, cells.sample() or "
            "cells[rows], or the whole file, sp.io.read(path)."
        )
    if layer == "lognorm" and layer not in adata.layers:
        raise InputError("There is no layer 'lognorm'; run sp.pp.lognormalize(adata) first.")
    if layer is None and adata.X is None:
        raise InputError(
            "X is empty; expected a matrix of cells × genes: name a layer, or put one into X, as in "
            f"adata.X = adata.layers[{next(iter(adata.layers), 'counts')!r}].copy()."
        )
    matrix, where = read_layer(adata, layer)
    if is_raw(adata, layer):
        check_structure(matrix, where)
        matrix = _genes_of_var(adata, matrix)
    check_matrix(matrix, where, gene_names=adata.var_names, cell_names=adata.obs_names)
    mask_g = gene_mask(adata.var)
    if mask_g.all():
        return where, matrix
    if announce:
        log.info("%s", describe_other_features(adata.var))
    if sparse.issparse(matrix):
        return where, sparse.csr_matrix(matrix @ sparse.diags_array(mask_g.astype(matrix.dtype)))
    return where, np.where(mask_g, matrix, 0)


def _genes_of_var(adata: AnnData, raw_ng: Matrix) -> Matrix:
    """Return the columns of raw that are genes of var, in the order of var; raise InputError if raw lacks some."""
    if not adata.raw.var_names.is_unique:
        raise InputError(
            "gene names of raw are repeated; run adata.raw.var.index = anndata.utils.make_index_unique(adata.raw.var_names)."
        )
    column_g = adata.raw.var_names.get_indexer(adata.var_names)
    lacks_g = column_g < 0
    if lacks_g.any():
        raise InputError(
            f"raw lacks {int(lacks_g.sum())} of the {adata.n_vars} genes, the first {adata.var_names[int(lacks_g.argmax())]!r}; "
            "expected all of them: work on raw alone, adata = adata.raw.to_adata()."
        )
    return (raw_ng.tocsr() if sparse.issparse(raw_ng) else raw_ng)[:, column_g]


def require_counts(adata: AnnData) -> None:
    """Raise InputError unless X holds raw counts."""
    where, x_ng = checked_matrix(adata, None, announce=False)
    require_kind(x_ng, "counts", where, setting=None, find_counts=counts_finder(adata))


def take_into_memory(adata: AnnData) -> None:
    """Read data that a file backs into memory, in place, since steps that remove cells or genes would change the file."""
    if adata.isbacked:
        in_memory_copy = adata.to_memory()
        adata.file.close()
        adata._init_as_actual(in_memory_copy)  # setting the file name to None would lose raw


def drop_other_features(adata: AnnData) -> None:
    """Remove features that are not gene expression, such as antibodies, in place; log one line."""
    mask_g = gene_mask(adata.var)
    if not mask_g.all():
        log.info("%s", describe_other_features(adata.var))
        adata._inplace_subset_var(mask_g)


def require_same_counts(adata: AnnData) -> None:
    """Raise InputError if layers["counts"], which `seurat` writes, exists and differs from X."""
    if "counts" not in adata.layers:
        return
    if abs(sparse.csr_matrix(adata.layers["counts"]) - sparse.csr_matrix(in_memory(adata.X))).max() > 0:
        raise InputError(
            "layers['counts'] exists and differs from X; expected the same raw counts in both. Put the right "
            "counts into X: adata.X = adata.layers['counts'] (in a shell: --layer counts), or "
            "del adata.layers['counts']."
        )


def free_column(adata: AnnData, name: str) -> str:
    """Return the column of obs to write: `name`, or "sparcell_" + `name` if the user has a column of that name.

    A column that uns["sparcell_pp"]["keys"] lists was written by sparcell and is written again.
    """
    recorded = adata.uns.get(UNS_KEY, {}).get("keys", {})
    if name not in adata.obs or recorded.get(name) == name:
        return name
    log.warning("obs[%r] exists and is not changed: the new column is obs['sparcell_%s']", name, name)
    return f"sparcell_{name}"


def record_in_uns(adata: AnnData, **entries: object) -> None:
    """Add entries to uns["sparcell_pp"]; the entry `keys` is merged with the recorded one."""
    record = dict(adata.uns.get(UNS_KEY, {}))
    for key, value in entries.items():
        if key == "keys" and isinstance(value, dict):
            record["keys"] = {**record.get("keys", {}), **value}
        else:
            record[key] = value
    adata.uns[UNS_KEY] = record
