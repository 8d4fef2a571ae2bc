"""Names of clusters from gene sets of cell types: the set that shares more of a cluster's marker genes than chance explains."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pandas as pd

from sparcell.results.analysis import UNKNOWN
from sparcell.tl.enrichment import restrict_sets, test_genes
from sparcell.tl.gene_sets import GeneSets

if TYPE_CHECKING:
    from collections.abc import Collection

N_MARKERS = 50
"""Marker genes of a cluster, those with the largest lead, that are compared with the sets."""
MIN_SHARED = 3
"""Genes that a set must share with the markers of a cluster."""
MAX_FDR = 0.01
MIN_LOG2_FOLD_CHANGE = 0.5


def cell_type_sets(sets: GeneSets) -> GeneSets:
    """Return the sets that are cell types; all sets of a collection that does not tell which are."""
    names = [name for name in sets.genes if sets.is_cell_type(name)]
    if not names:
        return sets
    return GeneSets(
        {name: sets.genes[name] for name in names}, {name: sets.descriptions[name] for name in names}
    )


def name_clusters_by_sets(markers: pd.DataFrame, sets: GeneSets, background: Collection[str]) -> pd.DataFrame:
    """Name each cluster after the gene set that shares most of its marker genes.

    Parameters
    ----------
    markers
        Table of `pp.rank_markers`, whose groups are the clusters.
    sets
        Gene sets; the built-in cell types are `cell_type_sets(builtin_gene_sets())`.
    background
        All genes of the data.

    Returns
    -------
    One row per cluster: cluster; name (all different: a second cluster of a type is "B cell 2", and cluster 7 is "unknown 7" where no set
    fits); set ("" where none fits); fdr; genes (shared markers, the strongest first); second (the next set that fits, is of another
    family and shares three other markers, or "").

    The test is hypergeometric. A set fits if it shares 3 of the 50 strongest markers at a false discovery rate of at most .01.

    Examples
    --------
    ::

        markers = sp.pp.rank_markers(adata, "cluster")
        sp.tl.name_clusters_by_sets(markers, sp.tl.builtin_gene_sets(), adata.var_names)
    """
    tested = restrict_sets(sets, background, MIN_SHARED)
    rows, n_named = [], Counter[str]()
    for cluster, group in markers.groupby("group", sort=False):
        strong = group[(group["p_adjusted"] <= MAX_FDR) & (group["log2_fold_change"] >= MIN_LOG2_FOLD_CHANGE)]
        genes = strong.sort_values("lead", ascending=False, kind="stable")["gene"].head(N_MARKERS).tolist()
        fitting = pd.DataFrame(columns=["set", "fdr", "genes"])
        if genes and len(tested.names):
            table = test_genes(genes, f"the markers of cluster {cluster}", tested, MIN_SHARED)
            fitting = table[table["fdr"] <= MAX_FDR]
        if fitting.empty:
            rows.append((str(cluster), f"{UNKNOWN} {cluster}", "", 1.0, (), ""))
            continue
        first = fitting.iloc[0]
        kind = str(first["set"])
        n_named[kind] += 1
        name = kind if n_named[kind] == 1 else f"{kind} {n_named[kind]}"
        family = {kind, sets.parent(kind)}
        others = [
            str(other)
            for other, shared in zip(fitting["set"][1:], fitting["genes"][1:], strict=True)
            if not {other, sets.parent(other)} & family - {""}
            and len(set(shared) - set(first["genes"])) >= MIN_SHARED
        ]
        rows.append((str(cluster), name, kind, float(first["fdr"]), first["genes"], next(iter(others), "")))
    return pd.DataFrame(rows, columns=["cluster", "name", "set", "fdr", "genes", "second"])
