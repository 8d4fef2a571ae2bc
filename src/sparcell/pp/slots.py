"""What the steps of `pp` take from an AnnData and where they write: checked, and nothing of the user's overwritten."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from scipy import sparse

from sparcell.data.validation import check_matrix, require_kind
from sparcell.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.data.validation import Matrix

log = logging.getLogger("sparcell")

NOTES = "sparcell_pp"
"""Key of uns under which the steps note their settings, scores and the columns they wrote."""


def matrix_of(adata: AnnData, layer: str | None) -> tuple[str, Matrix]:
    """Give the name the user knows it by, and the matrix: X (None) or a layer, checked.

    Raises
    ------
    InputError
        If there is none, or `checks.check_matrix` finds a fault.
    """
    if layer is None:
        where, matrix = "X", adata.X
    elif layer in adata.layers:
        where, matrix = f"layers[{layer!r}]", adata.layers[layer]
    else:
        made = "; run sp.pp.lognormalize(adata) first" if layer == "lognorm" else ""
        raise InputError(f"There is no layer {layer!r}{made}: {did_you_mean(layer, adata.layers)}")
    if matrix is None:
        raise InputError(
            "X is empty; expected a matrix of cells × genes: name a layer, or put one into X, as in "
            f"adata.X = adata.layers[{next(iter(adata.layers), 'counts')!r}].copy()."
        )
    check_matrix(matrix, where, gene_names=adata.var_names, cell_names=adata.obs_names)
    return where, matrix


def require_counts(adata: AnnData) -> None:
    """Raise an `InputError` unless X holds raw counts."""
    where, x_ng = matrix_of(adata, None)
    require_kind(x_ng, "counts", where)


def require_same_counts(adata: AnnData) -> None:
    """Raise an `InputError` if layers["counts"], which the recipe writes, holds other values than X."""
    if "counts" not in adata.layers:
        return
    if abs(sparse.csr_matrix(adata.layers["counts"]) - sparse.csr_matrix(adata.X)).max() > 0:
        raise InputError(
            "layers['counts'] is there and differs from X; expected the same raw counts in both: put the "
            "right ones into X (adata.X = adata.layers['counts']; in a shell: --counts-layer counts) or del "
            "adata.layers['counts']."
        )


def own_column(adata: AnnData, name: str) -> str:
    """Give the column of obs to write: `name`, unless the user has one; then "sparcell_" + `name`.

    A column noted in uns["sparcell_pp"]["keys"] is ours and is written again.
    """
    noted = adata.uns.get(NOTES, {}).get("keys", {})
    if name not in adata.obs or noted.get(name) == name:
        return name
    log.warning("obs[%r] is there and stays as it is: written to obs['sparcell_%s'] instead", name, name)
    return f"sparcell_{name}"


def note(adata: AnnData, **entries: object) -> None:
    """Add entries to uns["sparcell_pp"]; entries that are tables of keys are merged."""
    notes = dict(adata.uns.get(NOTES, {}))
    for key, value in entries.items():
        merged = {**notes.get("keys", {}), **value} if key == "keys" and isinstance(value, dict) else value
        notes[key] = merged
    adata.uns[NOTES] = notes
