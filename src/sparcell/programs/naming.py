"""Gene sets for a model's programs, and the names that they give."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sparcell.errors import InputError
from sparcell.tl import enrichment
from sparcell.tl.gene_sets import GeneSets, builtin_gene_sets, read_gmt
from sparcell.tl.program_enrichment import SET_COLUMNS, enrich_programs
from sparcell.tl.program_names import NAME_COLUMNS, name_programs

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
        return sets, f"the {len(sets)} built-in gene sets for human and mouse"
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
        enrichment.restrict_sets(sets, genes, 1)
    except InputError:
        if required:
            raise
        return False
    return True


def name_and_test(
    programs: Programs, sets: GeneSets | None, n_genes: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the summary with names, and the best gene sets of each program; without `sets` only labels name programs.

    `n_genes` is the number of first genes that are tested.
    """
    if sets is None:
        tests = pd.DataFrame({column: [] for column in SET_COLUMNS})
        names = name_programs(programs, builtin_gene_sets(), tests=tests)
    else:
        tests = enrich_programs(programs, sets, n_genes=n_genes)
        names = name_programs(programs, sets, n_genes=n_genes, tests=tests)
    keys = programs.effects.columns.to_numpy(dtype=object)
    named = {column: names[column].to_numpy() for column in NAME_COLUMNS}
    best = tests.groupby("key", sort=False).head(N_SETS).reset_index(drop=True)
    best.attrs = tests.attrs
    return programs.summary.assign(key=keys, **named), best
