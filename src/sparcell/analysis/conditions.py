"""Genes and gene programs that differ between two conditions within each cell type.

Suffixes: n cells.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pandas as pd

from sparcell.errors import InputError
from sparcell.results.analysis import Doubt
from sparcell.results.stored_programs import StoredPrograms
from sparcell.tl.program_conditions import compare_activity
from sparcell.tl.sample_comparisons import sample_table, untestable_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

    from sparcell.config.analysis import AnalysisConfig
    from sparcell.models.fitted import Model
    from sparcell.results.programs import ProgramResults

log = logging.getLogger("sparcell")

MIN_CELLS = 10
"""Cells of each condition that a cell type needs to be compared."""


def condition_pair(adata: AnnData, config: AnalysisConfig) -> tuple[str, str] | None:
    """Return the two conditions to compare, in alphabetical order; None without conditions or with more than two."""
    if config.condition_key is None:
        return None
    names = sorted(adata.obs[config.condition_key].astype(str).unique())
    return (names[0], names[1]) if len(names) == 2 else None


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
    names = condition_pair(adata, config)
    if names is None:
        return None, (
            Doubt(
                "Genes were not compared between conditions.",
                f"obs column {config.condition_key} holds {condition_n.nunique()} conditions; this report compares two. "
                "Use sparcell differential-expression for more.",
            ),
        )
    tables, reasons = [], []
    for kind in type_n.cat.categories:
        own_n = (type_n == kind).to_numpy()
        if condition_n[own_n].value_counts().reindex(list(names), fill_value=0).min() < MIN_CELLS:
            continue
        cells = adata[own_n].copy()
        # The condition as text; other columns, such as the batch, stay.
        cells.obs[config.condition_key] = condition_n[own_n]
        try:
            table = model.differential_expression(cells, config.condition_key, names[1], names[0])
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


def program_changes(
    adata: AnnData, type_n: pd.Series, programs: ProgramResults, model: Model, config: AnalysisConfig
) -> tuple[pd.DataFrame | None, tuple[Doubt, ...]]:
    """Return the activity of gene programs between two conditions over samples, and what speaks against the comparison.

    Returns
    -------
    The table of `tl.program_conditions` with the name of each program in the column name; None if nothing can be compared.
    """
    pair = condition_pair(adata, config)
    if pair is None or config.condition_key is None:
        return None, ()
    what = "Gene programs were not compared between conditions."
    if config.batch_key is None or config.batch_key == config.condition_key:
        return None, (
            Doubt(
                what,
                "The comparison needs samples (donors): expected a column with two or more samples of each condition. Name it with "
                "--batch-key.",
            ),
        )
    batch_n, condition_n = (
        adata.obs[key].astype(str).to_numpy(dtype=object) for key in (config.batch_key, config.condition_key)
    )
    name_n, samples = sample_table(batch_n, condition_n)
    reason = untestable_reason(samples, pair)
    if reason:
        return None, (Doubt(what, f"{config.condition_key} {reason}"),)
    latents = model.latent_representation(adata)
    stored = StoredPrograms(programs.programs, programs.genes, latents.mean_nk, latents.inclusion_nk)
    activity = pd.DataFrame(stored.activity_np, index=adata.obs_names, columns=stored.names)
    table = compare_activity(activity, type_n.astype(str).to_numpy(dtype=object), name_n, samples, pair)
    if table.empty:
        return None, (Doubt(what, "No cell type has enough cells in two samples of each condition."),)
    title_of = dict(zip(stored.names, programs.titles, strict=True))
    table.insert(2, "name", table["program"].map(title_of))
    return table, tuple(nested_design(samples, pair, config))


def nested_design(samples: pd.DataFrame, pair: tuple[str, str], config: AnalysisConfig) -> Iterator[Doubt]:
    """Yield the doubt that batches are confounded with conditions: no batch holds both."""
    batches = [set(samples.loc[samples["condition"] == name, "batch"]) for name in pair]
    if not batches[0] & batches[1]:
        yield Doubt(
            "Conditions are confounded with batches.",
            f"Each batch in {config.batch_key} has one condition. The model removes what differs between batches, and with that part of "
            "what differs between conditions. Programs that differ over samples do differ; others can be missed.",
        )
