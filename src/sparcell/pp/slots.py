"""Reading matrices from an AnnData and writing results to it, without overwriting columns of the user."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from scipy import sparse

from sparcell.data.validation import check_matrix, require_kind
from sparcell.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.data.values import Matrix

log = logging.getLogger("sparcell")

UNS_KEY = "sparcell_pp"
"""Key of uns that holds settings and scores of the steps, and the names of the columns that they wrote."""


def checked_matrix(adata: AnnData, layer: str | None) -> tuple[str, Matrix]:
    """Return the name for messages and the matrix of a layer (X for None).

    Raises InputError if there is no such matrix, or if `check_matrix` finds a fault.
    """
    if layer is None:
        where, matrix = "X", adata.X
    elif layer in adata.layers:
        where, matrix = f"layers[{layer!r}]", adata.layers[layer]
    else:
        remedy = "; run sp.pp.lognormalize(adata) first" if layer == "lognorm" else ""
        raise InputError(f"There is no layer {layer!r}{remedy}: {did_you_mean(layer, adata.layers)}")
    if matrix is None:
        raise InputError(
            "X is empty; expected a matrix of cells × genes: name a layer, or put one into X, as in "
            f"adata.X = adata.layers[{next(iter(adata.layers), 'counts')!r}].copy()."
        )
    check_matrix(matrix, where, gene_names=adata.var_names, cell_names=adata.obs_names)
    return where, matrix


def require_counts(adata: AnnData) -> None:
    """Raise InputError unless X holds raw counts."""
    where, x_ng = checked_matrix(adata, None)
    require_kind(x_ng, "counts", where)


def require_same_counts(adata: AnnData) -> None:
    """Raise InputError if layers["counts"], which `seurat` writes, exists and differs from X."""
    if "counts" not in adata.layers:
        return
    if abs(sparse.csr_matrix(adata.layers["counts"]) - sparse.csr_matrix(adata.X)).max() > 0:
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
