"""Names of clusters from gene sets of cell types: the set that shares more of a cluster's marker genes than chance explains.

A first test names the wider type (T cell), a second one within it the subtype (naive T cell).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pandas as pd

from sparcell.results.analysis import UNKNOWN
from sparcell.tl.enrichment import TestedSets, restrict_sets, test_genes
from sparcell.tl.gene_sets import GeneSets

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

N_MARKERS = 50
"""Marker genes of a cluster, those with the largest lead, that are compared with the sets."""
MIN_SHARED = 3
"""Genes that a set must share with the markers of a cluster."""
MAX_FDR = 0.01
MIN_LOG2_FOLD_CHANGE = 0.5


def unknown_name(cluster: object) -> str:
    """Return the name of a cluster that no set fits. A number is that of the cluster only after the word cluster."""
    return f"{UNKNOWN} cluster {cluster}"


def cell_type_sets(sets: GeneSets) -> GeneSets:
    """Return the sets that are cell types; all sets of a collection that does not tell which are."""
    names = [name for name in sets.genes if sets.is_cell_type(name)]
    if not names:
        return sets
    return _subset(sets, names)


def _subset(sets: GeneSets, names: list[str]) -> GeneSets:
    """Return some sets of a collection with their descriptions."""
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
    One row per cluster: cluster; name (all different: the second cluster of a type is "B cell 2", and cluster 7 is "unknown cluster 7"
    where no set fits); set ("" where none fits); fdr; genes (shared markers, the strongest first); second (the next set that fits, is of
    another family and shares three other markers, or "").

    A number right after the name of a type counts the clusters with this name. The number of a cluster follows the word cluster.

    The test is hypergeometric. A set fits if it shares 3 of the 50 strongest markers at a false discovery rate of at most .01.

    Examples
    --------
    ::

        markers = sp.pp.rank_markers(adata, "cluster")
        sp.tl.name_clusters_by_sets(markers, sp.tl.builtin_gene_sets(), adata.var_names)
    """
    tested = restrict_sets(sets, background, MIN_SHARED)
    rows = []
    for cluster, group in markers.groupby("group", sort=False):
        fitting = _fitting_sets(group, tested, str(cluster))
        if fitting.empty:
            rows.append((str(cluster), "", 1.0, (), ""))
            continue
        first = fitting.iloc[0]
        kind = str(first["set"])
        family = _with_parents(kind, sets)
        others = [
            str(other)
            for other, shared in zip(fitting["set"][1:], fitting["genes"][1:], strict=True)
            if not _with_parents(str(other), sets) & family
            and len(set(shared) - set(first["genes"])) >= MIN_SHARED
        ]
        rows.append((str(cluster), kind, float(first["fdr"]), first["genes"], next(iter(others), "")))
    table = pd.DataFrame(rows, columns=["cluster", "set", "fdr", "genes", "second"])
    table.insert(1, "name", _names(table))
    return table


def name_subtypes(
    named: pd.DataFrame,
    sets: GeneSets,
    background: Collection[str],
    markers_among: Callable[[list[str]], pd.DataFrame],
) -> pd.DataFrame:
    """Replace names by those of subtypes where the clusters of one wider cell type differ from each other by genes of subtypes.

    Markers against all other cells name the wider type: monocytes differ from all other blood cells mostly by genes that all myeloid
    cells have. Markers against the other clusters of the same wider type show the subtype.

    Parameters
    ----------
    named
        Table of `name_clusters_by_sets`.
    sets, background
        The same as there. Only sets that are subtypes of another set can be new names.
    markers_among
        Takes names of clusters and returns the table of `pp.rank_markers` computed among the cells of these clusters alone.

    Returns
    -------
    The same table. Rows with a new name also have its set and fdr; their genes are those of the subtype, then those of the first name.
    A wider type with one cluster, and a cluster whose new markers fit no subtype, keep the first name. The test is that of
    `name_clusters_by_sets`, among the subtypes of the wider type.

    Examples
    --------
    ::

        def among(clusters):
            return sp.pp.rank_markers(adata[adata.obs["cluster"].isin(clusters)], "cluster")

        names = sp.tl.name_clusters_by_sets(markers, sets, adata.var_names)
        names = sp.tl.name_subtypes(names, sets, adata.var_names, among)
    """
    kind_of = dict(zip(named["cluster"], named["set"], strict=True))
    wider_of = {cluster: (*sets.parents(kind), kind)[0] for cluster, kind in kind_of.items() if kind}
    found: dict[str, pd.Series] = {}
    for wider in dict.fromkeys(wider_of.values()):
        members = [cluster for cluster in wider_of if wider_of[cluster] == wider]
        subtypes = [name for name in sets.genes if wider in sets.parents(name)]
        if len(members) < 2 or not subtypes:
            continue
        tested = restrict_sets(_subset(sets, subtypes), background, MIN_SHARED)
        for cluster, group in markers_among(members).groupby("group", sort=False):
            fitting = _fitting_sets(group, tested, str(cluster))
            if len(fitting):
                found[str(cluster)] = fitting.iloc[0]
    rows = []
    for row in named.to_dict("records"):
        subtype = found.get(row["cluster"])
        if subtype is not None:
            genes = tuple(dict.fromkeys((*subtype["genes"], *row["genes"])))
            row |= {"set": subtype["set"], "fdr": float(subtype["fdr"]), "genes": genes}
            if row["second"] and _with_parents(row["second"], sets) & _with_parents(row["set"], sets):
                row["second"] = ""
        rows.append(row)
    table = pd.DataFrame(rows, columns=named.columns)
    return table.assign(name=_names(table))


def _fitting_sets(markers: pd.DataFrame, tested: TestedSets, cluster: str) -> pd.DataFrame:
    """Return the sets that share markers of one cluster beyond chance, the best first."""
    strong = markers[
        (markers["p_adjusted"] <= MAX_FDR) & (markers["log2_fold_change"] >= MIN_LOG2_FOLD_CHANGE)
    ]
    genes = strong.sort_values("lead", ascending=False, kind="stable")["gene"].head(N_MARKERS).tolist()
    if not genes or not len(tested.names):
        return pd.DataFrame(columns=["set", "fdr", "genes"])
    table = test_genes(genes, f"the markers of cluster {cluster}", tested, MIN_SHARED)
    return table[table["fdr"] <= MAX_FDR]


def _with_parents(name: str, sets: GeneSets) -> set[str]:
    """Return a set and the wider ones that contain it."""
    return {name, *sets.parents(name)}


def _names(table: pd.DataFrame) -> list[str]:
    """Return the name of each cluster after its set; the second cluster of a type is "B cell 2"."""
    n_named, names = Counter[str](), []
    for cluster, kind in zip(table["cluster"], table["set"], strict=True):
        n_named[kind] += 1
        number = "" if n_named[kind] == 1 else f" {n_named[kind]}"
        names.append(f"{kind}{number}" if kind else unknown_name(cluster))
    return names
