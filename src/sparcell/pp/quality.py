"""Quality control of cells: the table and what to say when nothing passes. Arrays and names in, no AnnData.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.errors import InputError, as_typed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.data.validation import Matrix

log = logging.getLogger("sparcell")

MANY_REMOVED = 0.25
"""Where more than this share of the cells goes, the limits are more likely wrong than the cells: a warning."""

KEPT_BY_ADVICE = 0.95
"""Share of the cells that pass each limit we advise."""

MANY_GONE = "Quality control removed"
"""How that warning begins."""

Limits = dict[str, float | None]
"""min_genes, max_genes, max_pct_mito; None: no limit."""


def count_nonzero(x_ng: Matrix, axis: int) -> NDArray[np.int64]:
    """Count the values that are not 0, per gene (axis 0) or per cell (axis 1)."""
    return np.asarray((x_ng != 0).sum(axis=axis), dtype=np.int64).ravel()


def quality_table(x_ng: Matrix, gene_names: pd.Index, cell_names: pd.Index, mito_prefix: str) -> pd.DataFrame:
    """Measure each cell.

    Parameters
    ----------
    x_ng
        Raw counts, cells × the genes that stay.
    gene_names, cell_names
        Lengths g and n.
    mito_prefix
        How mitochondrial gene names begin, in upper or lower case.

    Returns
    -------
    Indexed by barcode: n_genes, total_counts, pct_mito (0 to 100; 0 for a cell without counts).
    """
    mito_g = np.flatnonzero(gene_names.astype(str).str.upper().str.startswith(mito_prefix.upper()))
    if not len(mito_g):
        log.info("no gene name begins with %r: no cell is left out for mitochondrial counts", mito_prefix)
    total_n = np.asarray(x_ng.sum(axis=1), dtype=np.float64).ravel()
    mito_n = np.asarray(x_ng[:, mito_g].sum(axis=1), dtype=np.float64).ravel()
    return pd.DataFrame(
        {
            "n_genes": count_nonzero(x_ng, axis=1),
            "total_counts": total_n,
            "pct_mito": 100 * np.divide(mito_n, total_n, out=np.zeros_like(total_n), where=total_n > 0),
        },
        index=pd.Index(cell_names, name="barcode"),
    )


def kept_cells(qc: pd.DataFrame, limits: Limits) -> NDArray[np.bool_]:
    """Tell which cells lie strictly within all limits.

    Parameters
    ----------
    qc
        From `quality_table`.
    limits
        See `Limits`.

    Raises
    ------
    InputError
        If none does: which limit removes how many, and limits that would keep most.
    """
    kept_n: NDArray[np.bool_] = np.logical_and.reduce(list(_passed(qc, limits).values()))
    if kept_n.any():
        return kept_n
    removed, advice = _removed_and_advice(qc, limits)
    raise InputError(
        f"No cell is left of {len(qc)} after quality control: {removed}. Expected some to pass; limits that "
        f"keep most: {advice}."
    )


def many_removed(qc: pd.DataFrame, limits: Limits) -> str:
    """Say which limits removed how many cells, and limits that would keep most."""
    removed, advice = _removed_and_advice(qc, limits)
    gone = int((~qc["kept"]).sum())
    return f"{MANY_GONE} {gone} of {len(qc)} cells: {removed}. Limits that keep most: {advice}."


def _passed(qc: pd.DataFrame, limits: Limits) -> dict[str, NDArray[np.bool_]]:
    genes, mito = qc["n_genes"].to_numpy(), qc["pct_mito"].to_numpy()
    least, most, share = (limits[name] for name in ("min_genes", "max_genes", "max_pct_mito"))
    return {
        "min_genes": genes > (-1 if least is None else least),
        "max_genes": genes < (np.inf if most is None else most),
        "max_pct_mito": mito < (np.inf if share is None else share),
    }


def _removed_and_advice(qc: pd.DataFrame, limits: Limits) -> tuple[str, str]:
    """List what each limit removes; for those too strict, limits that nineteen in twenty cells pass."""
    guilty = {name: int((~good).sum()) for name, good in _passed(qc, limits).items() if not good.all()}
    lenient = {
        "min_genes": max(0, int(np.quantile(qc["n_genes"], 1 - KEPT_BY_ADVICE)) - 1),
        "max_genes": int(np.quantile(qc["n_genes"], KEPT_BY_ADVICE)) + 1,
        "max_pct_mito": min(100, int(np.quantile(qc["pct_mito"], KEPT_BY_ADVICE)) + 1),
    }
    removed = ", ".join(f"{name}={limits[name]:g} removes {number}" for name, number in guilty.items())
    strict = [name for name, number in guilty.items() if number > (1 - KEPT_BY_ADVICE) * len(qc)]
    return removed, as_typed(**{name: lenient[name] for name in strict or guilty})
