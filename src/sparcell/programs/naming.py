"""Gene sets for a model's programs, and the names that they give."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.errors import InputError
from sparcell.tl import enrichment
from sparcell.tl.gene_sets import GeneSets, builtin_gene_sets, read_gmt

if TYPE_CHECKING:
    from sparcell.tl.programs import Programs

N_SETS = 8
"""Gene sets shown for each program."""


def read_gene_sets(paths: Iterable[Path]) -> tuple[GeneSets, str]:
    """Return the gene sets of some files, or the built-in sets without files, and their origin as the page shows it.

    If two files have a set of the same name, the second set gets the name of its file in parentheses.
    """
    files = list(paths)
    if not files:
        sets = builtin_gene_sets()
        return sets, f"the {len(sets)} built-in sets for human blood and pancreas"
    genes: dict[str, tuple[str, ...]] = {}
    descriptions: dict[str, str] = {}
    for path in files:
        sets = read_gmt(path)
        for name, members in sets.genes.items():
            key = name if name not in genes else f"{name} ({Path(path).stem})"
            genes[key], descriptions[key] = members, sets.descriptions[name]
    file_names = ", ".join(Path(path).name for path in files)
    return GeneSets(genes, descriptions), f"{len(genes):,} sets of {file_names}"


def has_model_genes(sets: GeneSets, genes: tuple[str, ...], *, required: bool) -> bool:
    """Return whether any gene of the sets is among the model's genes; raise InputError if not and `required`."""
    try:
        enrichment.name_programs({}, sets, genes)
    except InputError:
        if required:
            raise
        return False
    return True


def name_and_enrich(
    programs: Programs, sets: GeneSets | None, genes: tuple[str, ...], n_genes: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the summary with names, and the best gene sets of each program; without `sets` no program has a name.

    `genes` are the model's genes, `n_genes` is the number of top genes that are tested.
    """
    keys = programs.effects.columns
    summary = programs.summary.assign(key=keys.to_numpy(dtype=object))
    columns = ["key", *enrichment.COLUMNS]
    no_sets = pd.DataFrame({column: [] for column in columns})
    if sets is None:
        return summary.assign(name="", fdr=np.nan, second_name="", second_fdr=np.nan), no_sets
    ranked = programs.ranked_genes
    names = enrichment.name_programs(ranked, sets, genes, n_genes=n_genes).loc[list(keys)]
    tables = [
        enrichment.enrich(listed[:n_genes], sets, genes).head(N_SETS).assign(key=key)
        for key, listed in ranked.items()
        if listed
    ]
    tables = [table for table in tables if len(table)]
    enriched = pd.concat(tables, ignore_index=True)[columns] if tables else no_sets
    name_columns = ("name", "fdr", "second_name", "second_fdr")
    return summary.assign(**{column: names[column].to_numpy() for column in name_columns}), enriched
