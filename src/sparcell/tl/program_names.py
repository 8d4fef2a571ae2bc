"""Names for gene programs: gene sets that agree with the genes of a program and with the cells in which it is on.

Suffixes: n cells, g genes, p programs and their directions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.errors import InputError
from sparcell.metrics.clustering import label_aucs
from sparcell.tl.enrichment import restrict_sets
from sparcell.tl.gene_sets import GeneSets, builtin_gene_sets
from sparcell.tl.program_enrichment import MIN_OVERLAP, enrich_programs, specific_effects
from sparcell.tl.programs import MIN_LABEL_ON

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.tl.programs import CellSample, Programs

MIN_EFFECT_SHARE = 0.1
"""The genes of a set must hold this share of a program's effects to name it."""
MIN_AUC, MIN_TYPE_AUC = 0.6, 0.75
"""The genes that a program shares with a set must tell cells in which the program is on from the other cells by this AUC. A cell type needs
more than a process, since the cells of other types must not express its genes."""
MAX_FRACTION_ON = 0.6
"""Without labels, a program that is on in more than this fraction of the cells is not named after a cell type."""
PARENT_COVERAGE, PARENT_PERCENTILE = 0.9, 10
"""A program that is on in this fraction of the cells of the wider type (T cell) is not named after the narrow one (Naive T cell). Cells of
the wider type express its genes at least as much as this percentile of the cells in which the program is on."""
SUBTYPE_COVERAGE, SUBTYPE_PERCENTILE = 0.8, 25
"""The same limits for a subtype whose p-value is above that of the wider type: the program must be off in many cells of the wider type."""
MIN_LABEL_SHARE, MIN_LISTED_SHARE, MAX_LABELS = 0.6, 0.05, 3
"""The labels that name a program hold the first share of its activity together, each of them the second, and they are at most three."""
N_TELLING = 10
"""Programs of the same name are told apart by a gene that is not among the first ten of the others."""
NAME_COLUMNS = (
    "name",
    "source",
    "set",
    "p_adjusted",
    "overlap",
    "set_size",
    "set_genes",
    "second_name",
    "second_p",
)
FROM_SET, FROM_LABEL = "gene set", "cell type"
UNNAMED = "unnamed"


def name_programs(
    programs: Programs,
    sets: GeneSets | None = None,
    *,
    n_genes: int = 25,
    max_p: float = 0.01,
    tests: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return a name for each program, or "unnamed" with its first genes where no name is certain.

    A gene set can name a program if it passes `enrich_programs` at `max_p` and its shared genes hold a tenth of the effects. The shared
    genes must also be expressed where the program is on: they tell these cells from the others with an AUC of at least 0.6, and 0.75 for a
    cell type. A program that is on in more than 60 % of the cells is not named after a cell type. A program that is on in nearly all cells
    of a wider type (T cell) gets the name of the wider type, not of its subtype. If a cell type and a process (such as MHC class II) pass,
    the process names the program where its p-value is below the square of that of the type.

    With labels (`Model.programs(adata, labels_key=…)`) the labels take the place of cell types from gene sets. The labels that name a
    program are those with the program on in half of their cells or more, if they are at most three and hold 60 % of its activity. Without
    such a label, "part of X" names a program that holds 60 % of its activity in the label X and is on in no other label more often.

    Programs with the same name get a label or a gene in parentheses.

    Parameters
    ----------
    programs
        The programs of a model, from `Model.programs`.
    sets
        Gene sets. Default: `builtin_gene_sets()`.
    n_genes
        Number of first genes of each program that are tested; 3 or more.
    max_p
        Largest adjusted p-value of a set that names a program, 0 to 1. At most this fraction of programs without meaning gets a name.
    tests
        Result of `enrich_programs` for the same programs, sets and n_genes, if it is there already.

    Returns
    -------
    One row per program, in the order of the summary. Columns:

    - name; source: "gene set", "cell type" for the labels of the data, "" for no name
    - set, p_adjusted, overlap, set_size, set_genes: the best set that passes, with the shared genes; "" if there is none
    - second_name, second_p: a further set with three genes that are not in the first; "" if there is none

    Raises
    ------
    InputError
        If `max_p` or `n_genes` is out of range, or no gene of the sets is among the model's genes.

    Examples
    --------
    ::

        programs = model.programs(adata, labels_key="cell_type")
        sp.tl.name_programs(programs)[["name", "set_genes"]]
    """
    if not 0 <= max_p <= 1:
        raise InputError(f"max_p={max_p}; expected a probability between 0 and 1, such as 0.01.")
    sets = builtin_gene_sets() if sets is None else sets
    tests = enrich_programs(programs, sets, n_genes=n_genes) if tests is None else tests
    tests = tests[(tests["p_adjusted"] <= max_p) & (tests["effect_share"] >= MIN_EFFECT_SHARE)]
    specific = specific_effects(programs.effects)
    where = _Where(programs, sets)
    keys = list(programs.effects.columns)
    rows = [_choose(where, position, tests[tests["key"] == key]) for position, key in enumerate(keys)]
    first_genes = [_first_genes(specific[key]) for key in keys]
    names = _distinct([row["name"] for row in rows], first_genes, [where.types(p) for p in range(len(keys))])
    for row, name, genes in zip(rows, names, first_genes, strict=True):
        row["name"] = name or f"{UNNAMED} ({', '.join(genes[:3])})"
    table = pd.DataFrame(rows, columns=list(NAME_COLUMNS), index=pd.Index(keys, name="program", dtype=object))
    return table.astype({"p_adjusted": float, "overlap": np.int64, "set_size": np.int64, "second_p": float})


def _choose(where: _Where, position: int, passed: pd.DataFrame) -> dict[str, Any]:
    """Return the columns of `name_programs` for one program; the name is "" if there is none."""
    types: list[pd.Series] = []
    processes: list[pd.Series] = []
    for _, row in passed.iterrows():
        group = types if where.sets.is_cell_type(row["set"]) else processes
        group.append(row)
    labels = where.label_name(position)
    processes = [row for row in processes if where.agrees(position, row, MIN_AUC)]
    evidence = types
    if not labels and where.fraction_on[position] > MAX_FRACTION_ON and where.label_fractions is None:
        evidence = []
    evidence = [row for row in evidence if where.agrees(position, row, MIN_TYPE_AUC)]
    rival = types if labels else evidence
    process = processes[0] if processes else None
    if process is not None and (not rival or rival[0]["p_adjusted"] > math.sqrt(process["p_adjusted"])):
        others = [*processes[1:], *evidence]
        return _row(str(process["set"]), FROM_SET, process, others)
    if labels:
        best = evidence[0] if evidence else process
        return _row(labels, FROM_LABEL, best, [row for row in processes if row is not best])
    if evidence:
        first = where.narrowest(position, evidence)
        name = where.parent_of_all(position, first["set"]) or first["set"]
        others = [row for row in evidence if row is not first and row["set"] != name]
        return _row(str(name), FROM_SET, first, [*processes, *others])
    return _row("", "", None, [])


def _row(name: str, source: str, first: pd.Series | None, others: Sequence[pd.Series]) -> dict[str, Any]:
    """Return the columns of `name_programs`; the second name has three genes or more that are not in the first set."""
    if first is None:
        return dict(zip(NAME_COLUMNS, (name, source, "", np.nan, 0, 0, (), "", np.nan), strict=True))
    shared = set(first["genes"])
    second = next(
        (row for row in others if row["set"] != name and len(set(row["genes"]) - shared) >= MIN_OVERLAP), None
    )
    return {
        "name": name,
        "source": source,
        "set": first["set"],
        "p_adjusted": first["p_adjusted"],
        "overlap": first["overlap"],
        "set_size": first["set_size"],
        "set_genes": first["genes"],
        "second_name": "" if second is None else second["set"],
        "second_p": np.nan if second is None else second["p_adjusted"],
    }


def _first_genes(specific_g: pd.Series) -> list[str]:
    first = specific_g[specific_g > 0].nlargest(N_TELLING)
    return [str(gene) for gene in first.index]


def _distinct(names: list[str], first_genes: list[list[str]], types: list[str]) -> list[str]:
    """Return the names; equal ones get a cell type in parentheses if the types differ, else a gene."""
    result = list(names)
    for name in {each for each in names if each and names.count(each) > 1}:
        same = [position for position, each in enumerate(names) if each == name]
        for position in same:
            type_name = types[position]
            others = [types[other] for other in same if other != position]
            if type_name and type_name not in others and type_name != name:
                result[position] = f"{name} ({type_name})"
                continue
            elsewhere = {gene for other in same if other != position for gene in first_genes[other]}
            genes = [gene for gene in first_genes[position] if gene not in elsewhere] or first_genes[position]
            result[position] = f"{name} ({genes[0]})"
    return result


@dataclass(frozen=True)
class _Where:
    """The cells in which programs are on, and whether gene sets agree with them."""

    programs: Programs
    sets: GeneSets

    @property
    def fraction_on(self) -> NDArray[np.float64]:
        return self.programs.summary["fraction_cells_on"].to_numpy(dtype=np.float64)

    @property
    def label_fractions(self) -> pd.DataFrame | None:
        return self.programs.label_fractions

    def types(self, position: int) -> str:
        """Return the labels in which a program is on; "" if there are none, too many, or its activity is mostly elsewhere."""
        fractions, shares = self.programs.label_fractions, self.programs.label_shares
        if fractions is None or shares is None:
            return ""
        on = fractions.iloc[position] >= MIN_LABEL_ON
        if shares.iloc[position][on].sum() < MIN_LABEL_SHARE:
            return ""
        listed = shares.iloc[position][on & (shares.iloc[position] >= MIN_LISTED_SHARE)]
        labels = listed.sort_values(ascending=False, kind="stable").index.tolist()
        first = self.programs.summary["label"].iloc[position]
        labels.sort(key=lambda label: label != first)
        return ", ".join(map(str, labels)) if len(labels) <= MAX_LABELS else ""

    def label_name(self, position: int) -> str:
        """Return the labels that name a program; "" if none do."""
        fractions, shares = self.programs.label_fractions, self.programs.label_shares
        if fractions is None or shares is None:
            return ""
        if (fractions.iloc[position] >= MIN_LABEL_ON).any():
            return self.types(position)
        label = shares.iloc[position].idxmax()
        most = fractions.iloc[position][label] >= fractions.iloc[position].max()
        return f"part of {label}" if most and shares.iloc[position].max() >= MIN_LABEL_SHARE else ""

    def agrees(self, position: int, row: pd.Series, min_auc: float) -> bool:
        """Return whether cells with the program on express the shared genes of a set more than the other cells."""
        cells = self.programs.cells
        if cells is None:
            return True
        on_n = cells.on_np[:, position]
        if on_n.all() or not on_n.any():
            return False
        score_n = self._score(cells, list(row["genes"]))
        return bool(label_aucs(score_n, on_n.astype(np.int64))[1] >= min_auc)

    def narrowest(self, position: int, types: list[pd.Series]) -> pd.Series:
        """Return the first cell type, or its only subtype that passes too, unless the program is on in all cells of the wider type."""
        subtypes = [row for row in types[1:] if types[0]["set"] in self.sets.parents(row["set"])]
        if len(subtypes) != 1:
            return types[0]
        covered = self.coverage(position, types[0]["set"], SUBTYPE_PERCENTILE)
        return subtypes[0] if covered is None or covered < SUBTYPE_COVERAGE else types[0]

    def parent_of_all(self, position: int, name: str) -> str:
        """Return the set of the wider type if the program is on in nearly all of its cells, else ""."""
        for parent in self.sets.parents(name):
            covered = self.coverage(position, parent, PARENT_PERCENTILE)
            if covered is not None and covered >= PARENT_COVERAGE:
                return parent
        return ""

    def coverage(self, position: int, name: str, percentile: int) -> float | None:
        """Return the fraction of the cells of a type in which a program is on; None if the cells or the type's genes are not there.

        Cells of the type express its genes at least as much as this percentile of the cells in which the program is on.
        """
        cells, genes = self.programs.cells, list(self.programs.effects.index)
        columns = restrict_sets(self.sets, genes, 1)
        is_set = columns.names == name
        if cells is None or not is_set.any():
            return None
        score_n = self._score(cells, [genes[g] for g in columns.member_sb[is_set].indices])
        on_n = cells.on_np[:, position]
        is_type_n = (score_n > 0) & (score_n >= np.percentile(score_n[on_n], percentile))
        return float(on_n[is_type_n].mean()) if is_type_n.any() else None

    def _score(self, cells: CellSample, genes: list[str]) -> NDArray[np.float64]:
        """Return the sum of some genes' expression in each cell, each gene divided by its standard deviation, (n,)."""
        columns = self.programs.effects.index.get_indexer(pd.Index(genes))
        x_ng = sparse.csc_matrix(cells.expression_ng[:, columns], dtype=np.float64)
        mean_g = np.asarray(x_ng.mean(axis=0)).ravel()
        variance_g = np.asarray(x_ng.multiply(x_ng).mean(axis=0)).ravel() - mean_g**2
        return np.asarray(x_ng @ (1 / np.sqrt(np.maximum(variance_g, 1e-12)))).ravel()
