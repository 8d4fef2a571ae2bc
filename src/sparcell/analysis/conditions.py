"""Genes that differ between two conditions within each cell type.

Suffixes: n cells.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pandas as pd

from sparcell.errors import InputError
from sparcell.results.analysis import Doubt

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.config.analysis import AnalysisConfig
    from sparcell.models.fitted import Model

log = logging.getLogger("sparcell")

MIN_CELLS = 10
"""Cells of each condition that a cell type needs to be compared."""


def gene_changes(
    adata: AnnData, type_n: pd.Series, config: AnalysisConfig, model: Model
) -> tuple[pd.DataFrame | None, tuple[Doubt, ...]]:
    """Return the genes of all cell types with their log2 fold changes, and what speaks against the comparison.

    Returns
    -------
    The tables of `Model.differential_expression`, the second condition in alphabetical order against the first, with the cell type in
    the column within. None without conditions, with more than two, or if no cell type can be compared.
    """
    if config.condition_key is None:
        return None, ()
    condition_n = adata.obs[config.condition_key].astype(str)
    names = sorted(condition_n.unique())
    if len(names) != 2:
        return None, (
            Doubt(
                "Genes were not compared between conditions.",
                f"obs column {config.condition_key} holds {len(names)} conditions; this report compares two. "
                "Use sparcell differential-expression for more.",
            ),
        )
    tables, reasons = [], []
    for kind in type_n.cat.categories:
        own_n = (type_n == kind).to_numpy()
        if condition_n[own_n].value_counts().reindex(names, fill_value=0).min() < MIN_CELLS:
            continue
        cells = adata[own_n].copy()
        cells.obs["condition"] = condition_n[own_n]
        try:
            table = model.differential_expression(cells, "condition", names[1], names[0])
        except InputError as error:
            reasons.append(str(error))
            continue
        table = table[table["names"].isin(adata.var_names)].assign(within=str(kind))
        tables.append(table)
    doubts = (
        (Doubt(f"Genes of {len(reasons)} cell types were not compared between conditions.", reasons[0]),)
        if reasons
        else ()
    )
    return (pd.concat(tables, ignore_index=True) if tables else None), doubts
