"""Clusters and cell types: clusters that no genes tell apart share a name. Clusters with two populations, and types with many clusters,
are named.

Suffixes: n cells, c clusters.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from sparcell.analysis.doubts import listed_clusters
from sparcell.report.text import join_words
from sparcell.results.analysis import Doubt
from sparcell.tl.separating_genes import GroupExpression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.config.analysis import AnalysisConfig

MIN_GENES = 5
"""Two clusters differ if at least this many genes tell them apart, whichever side has more of each."""
MIN_AUC, MIN_LOG2_FOLD = 0.75, 1.0
"""A gene tells two clusters apart with at least this AUC and this log2 fold change."""
MIN_STRONG_AUC = 0.8
"""A gene is strong enough for two populations in one cluster with at least this AUC. Clusters chose the cells, so the rule is stricter."""
MIN_PART = 20
"""Cells of a part that can be a population."""
MANY_CLUSTERS = 4
"""A cell type with at least this many clusters is a reason to ask for a lower resolution."""
N_GENES = 2
"""Genes in the name of a cell type, if several cell types have the same name."""


def separate(
    adata: AnnData, codes_n: NDArray[np.integer], named: pd.DataFrame
) -> tuple[pd.DataFrame, tuple[Doubt, ...]]:
    """Return the table of names with those of cell types, and the doubt about clusters with different names and no different genes.

    Clusters of one type that hardly any gene tells apart get the name of the type. If several groups of such clusters are left, names have
    a number and the genes that a group has more of: "Myeloid cell 2 (FCGR3A, MS4A7)". The number counts the groups; that of a cluster
    always follows the word cluster. The column title is different for each cluster: "T cell [cluster 3]".
    """
    expression = GroupExpression.of(adata.layers["lognorm"], adata.var_names, codes_n)
    differ_cc = differing_clusters(expression, len(named))
    names = named["name"].tolist()
    for kind in dict.fromkeys(named["set"]):
        members = np.flatnonzero(named["set"] == kind)
        if kind:
            for member, name in zip(members, _names(str(kind), members, differ_cc, expression), strict=True):
                names[member] = name
    table = named.assign(name=names)
    repeated = table["name"].duplicated(keep=False)
    table["title"] = table["name"].where(~repeated, table["name"] + " [cluster " + table["cluster"] + "]")
    return table, tuple(_similar(table, differ_cc))


def differing_clusters(expression: GroupExpression, n_clusters: int) -> NDArray[np.bool_]:
    """Return which clusters at least `MIN_GENES` genes tell apart, (c, c)."""
    differ_cc = np.zeros((n_clusters, n_clusters), dtype=np.bool_)
    for one in range(n_clusters):
        for other in range(one):
            differ_cc[one, other] = differ_cc[other, one] = expression.are_separate(
                one, other, n_genes=MIN_GENES, min_auc=MIN_AUC, min_log2_fold=MIN_LOG2_FOLD
            )
    return differ_cc


def groups_of(differ_cc: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Return groups of clusters in which no two differ, numbered from 0 in the order of the clusters (complete linkage)."""
    if len(differ_cc) == 1:
        return np.zeros(1, dtype=np.int64)
    tree = linkage(squareform(differ_cc.astype(float), checks=False), "complete")
    return np.asarray(pd.factorize(fcluster(tree, 0.5, criterion="distance"))[0])


def _names(
    kind: str, members: NDArray[np.intp], differ_cc: NDArray[np.bool_], expression: GroupExpression
) -> list[str]:
    """Return the name of each cluster of a type."""
    group_c = groups_of(differ_cc[np.ix_(members, members)])
    if group_c.max() == 0:
        return [kind] * len(members)
    group_of = dict(zip(members.tolist(), group_c.tolist(), strict=True))
    code_n = np.array([group_of.get(int(code), -1) for code in expression.code_n])
    names = []
    for group in range(int(group_c.max()) + 1):
        against_rest_n = np.where(code_n < 0, -1, np.where(code_n == group, 0, 1))
        genes = expression.regrouped(against_rest_n).separating_genes(
            0, 1, min_auc=MIN_AUC, min_log2_fold=MIN_LOG2_FOLD
        )
        more = genes[genes["log2_fold_change"] > 0].sort_values("lead", ascending=False, kind="stable")
        higher = more["gene"].head(N_GENES).tolist()
        names.append(f"{kind} {group + 1}" + (f" ({', '.join(higher)})" if higher else ""))
    return [names[group] for group in group_c]


def _similar(table: pd.DataFrame, differ_cc: NDArray[np.bool_]) -> Iterator[Doubt]:
    """Yield the doubt about clusters that have different names although hardly any gene tells them apart."""
    names = table["name"].tolist()
    pairs = {
        tuple(sorted((names[one], names[other])))
        for one, other in np.argwhere(~differ_cc & np.triu(np.ones_like(differ_cc), 1).astype(bool))
        if names[one] != names[other]
    }
    if pairs:
        listed = "; ".join(" and ".join(pair) for pair in sorted(pairs)[:6]) + (
            "; …" if len(pairs) > 6 else ""
        )
        yield Doubt(
            f"{len(pairs)} pair{'s' * (len(pairs) != 1)} of cell types that hardly any gene tells apart.",
            f"{listed}. Fewer than {MIN_GENES} genes separate two of their clusters (AUC ≥ {MIN_AUC}, log2 fold change ≥ "
            f"{MIN_LOG2_FOLD:.0f}). They can be one type or states of one type; many weak genes can still differ.",
        )


def about_splits(
    adata: AnnData,
    codes_n: NDArray[np.integer],
    finer_n: NDArray[np.integer],
    table: pd.DataFrame,
    config: AnalysisConfig,
) -> Iterator[Doubt]:
    """Yield the doubt about clusters that may hold two populations: parts at the next resolution that strong markers tell apart."""
    expression = GroupExpression.of(adata.layers["lognorm"], adata.var_names, codes_n)
    found = {
        code: words
        for code in range(len(table))
        if (words := split_of(expression, code, finer_n)) is not None
    }
    if found:
        rows = table.iloc[list(found)]
        words = "; ".join(
            f"{title}: {text}" for title, text in zip(rows["title"].head(6), found.values(), strict=False)
        )
        yield Doubt(
            f"{listed_clusters(rows)} that may hold two populations.",
            f"{words}. At resolution {2 * config.resolution:g} such a part is a cluster of its own, and {MIN_GENES} or more genes tell it "
            f"from the others (AUC ≥ {MIN_STRONG_AUC}, log2 fold change ≥ {MIN_LOG2_FOLD:.0f}). Try --resolution "
            f"{2 * config.resolution:g} --resume.",
        )


def about_many_clusters(
    codes_n: NDArray[np.integer],
    coarser_n: NDArray[np.integer],
    table: pd.DataFrame,
    config: AnalysisConfig,
) -> Iterator[Doubt]:
    """Yield the doubt about cell types with many clusters, with the lower resolution that merges some of them."""
    counted = Counter(str(kind) for kind in table["set"] if kind)
    many = {kind: number for kind, number in counted.most_common() if number >= MANY_CLUSTERS}
    if not many:
        return
    lower = config.resolution / 2
    set_n = table["set"].to_numpy()[codes_n]
    n_coarser = Counter(pd.crosstab(coarser_n, set_n).idxmax(axis=1))
    words = "; ".join(
        f"{kind}: {number} clusters, {n_coarser[kind] or 'none of its own'} at resolution {lower:g}"
        for kind, number in many.items()
    )
    types = "one cell type" if len(many) == 1 else f"{len(many)} cell types"
    tried = lower if any(n_coarser[kind] < number for kind, number in many.items()) else lower / 2
    yield Doubt(
        f"{sum(many.values())} of {len(table)} clusters belong to {types} ({', '.join(many)}).",
        f"{words}. They can be states of one type, or more clusters than you need. A lower resolution merges neighbors: try "
        f"--resolution {tried:g} --resume, which trains nothing.",
    )


def split_of(expression: GroupExpression, code: int, finer_n: NDArray[np.integer]) -> str | None:
    """Return in words which part of a cluster strong markers separate from its other cells; None if there is no such part."""
    own_n = expression.code_n == code
    parts, sizes = np.unique(finer_n[own_n], return_counts=True)
    best: tuple[int, str] | None = None
    for part, size in zip(parts, sizes, strict=True):
        if size < MIN_PART or own_n.sum() - size < MIN_PART or size > own_n.sum() / 2:
            continue
        is_part_n = own_n & (finer_n == part)
        against_rest_n = np.where(own_n, np.where(is_part_n, 0, 1), -1)
        genes = expression.regrouped(against_rest_n).separating_genes(
            0, 1, min_auc=MIN_STRONG_AUC, min_log2_fold=MIN_LOG2_FOLD
        )
        if len(genes) >= MIN_GENES and (best is None or len(genes) > best[0]):
            genes = genes.sort_values("lead", ascending=False, kind="stable")
            more = genes.loc[genes["log2_fold_change"] > 0, "gene"].head(4).tolist()
            less = genes.loc[genes["log2_fold_change"] < 0, "gene"].head(4).tolist()
            sides = [
                f"{word} {join_words(names)}" for word, names in (("more", more), ("less", less)) if names
            ]
            best = (len(genes), f"{size:,} of {int(own_n.sum()):,} cells have {' and '.join(sides)}")
    return None if best is None else best[1]
