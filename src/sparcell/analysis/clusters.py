"""Clusters of an analysis: their names, what speaks for each, and how firm their borders are.

Suffixes: n cells, s further runs of the clustering.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.errors import InputError
from sparcell.pp.communities import rank_markers
from sparcell.pp.markers import name_by_markers, read_markers
from sparcell.pp.slots import free_column
from sparcell.programs.naming import read_gene_sets
from sparcell.tl.cluster_names import cell_type_sets, name_clusters_by_sets, name_subtypes, unknown_name

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.config.analysis import AnalysisConfig

log = logging.getLogger("sparcell")

N_TOP_GENES = 10
"""Marker genes that the table of clusters lists."""
NAME_COLUMNS = ("cluster", "name", "set", "fdr", "genes", "second")


def name_clusters(
    adata: AnnData, cluster_n: pd.Series, markers: pd.DataFrame, config: AnalysisConfig
) -> tuple[pd.DataFrame, str]:
    """Return a table of names, one row per cluster, and where the names come from in words; `cluster_n` is a column of obs."""
    clusters = [str(name) for name in cluster_n.cat.categories]
    if config.markers is not None:
        table = read_markers(config.markers)
        scores, names = name_by_markers(adata.layers["lognorm"], adata.var_names, cluster_n, table)
        best = scores.idxmax(axis=1)
        rows = [
            (cluster, unknown_name(cluster), "", np.nan, (), "")
            if names[cluster] == f"cluster {cluster}"
            else (cluster, names[cluster], str(best[cluster]), np.nan, (), "")
            for cluster in clusters
        ]
        return pd.DataFrame(rows, columns=list(NAME_COLUMNS)), f"markers of {config.markers.name}"
    sets, source = read_gene_sets(config.gmt)
    sets = cell_type_sets(sets)
    try:
        named = name_clusters_by_sets(markers, sets, adata.var_names)
        named = name_subtypes(named, sets, adata.var_names, partial(_markers_among, adata, cluster_n))
    except InputError:
        if config.gmt:
            raise
        log.warning(
            "clusters have no names: none of the genes (%s, …) is in a built-in set. Pass --markers FILE or --gmt FILE.",
            ", ".join(adata.var_names[:3]),
        )
        named = pd.DataFrame(columns=list(NAME_COLUMNS))
    found = {row[0]: row for row in named[list(NAME_COLUMNS)].itertuples(index=False, name=None)}
    unnamed = {cluster: (cluster, unknown_name(cluster), "", 1.0, (), "") for cluster in clusters}
    return pd.DataFrame(
        [{**unnamed, **found}[cluster] for cluster in clusters], columns=list(NAME_COLUMNS)
    ), source


def _markers_among(adata: AnnData, cluster_n: pd.Series, clusters: list[str]) -> pd.DataFrame:
    """Return the markers of some clusters against each other."""
    return rank_markers(adata[cluster_n.isin(clusters).to_numpy()], str(cluster_n.name))


def cluster_table(
    adata: AnnData,
    codes_n: NDArray[np.integer],
    named: pd.DataFrame,
    markers: pd.DataFrame,
    other_clusters_sn: NDArray[np.integer],
    config: AnalysisConfig,
) -> pd.DataFrame:
    """Return what is known of each cluster: see `AnalysisResults.cluster_table`."""
    sizes = np.bincount(codes_n, minlength=len(named))
    table = named.rename(columns={"genes": "set_genes"})
    table["n_cells"], table["share"] = sizes, sizes / sizes.sum()
    top = markers[markers["log2_fold_change"] > 0].groupby("group", sort=False)["gene"]
    genes = {str(group): tuple(names.head(N_TOP_GENES)) for group, names in top}
    table["genes"] = [genes.get(cluster, ()) for cluster in table["cluster"]]
    table["stability"] = stability(codes_n, other_clusters_sn)
    for key, value, share in (
        (config.batch_key, "largest_batch", "batch_share"),
        (config.labels_key, "label", "label_share"),
    ):
        if key is not None:
            table[value], table[share] = most_frequent(adata.obs[key], codes_n, sizes)
    return table


def most_frequent(
    values: pd.Series, codes_n: NDArray[np.integer], sizes: NDArray[np.integer]
) -> tuple[list[str], list[float]]:
    """Return the most frequent value of each cluster and the share of all its cells that have it; "" and 0 if no cell has a value."""
    known_n = values.notna().to_numpy()
    counted = pd.crosstab(codes_n[known_n], values[known_n].astype(str).to_numpy())
    counted = counted.reindex(range(len(sizes)), fill_value=0)
    most = counted.max(axis=1).to_numpy()
    names = [str(name) if number else "" for name, number in zip(counted.idxmax(axis=1), most, strict=True)]
    return names, (most / sizes).tolist()


def stability(codes_n: NDArray[np.integer], others_sn: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return how well other runs find each cluster again, (c,): the mean over runs of the best Jaccard index with one of their clusters."""
    found = []
    for other_n in others_sn:
        shared = pd.crosstab(codes_n, other_n).to_numpy()
        union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
        found.append((shared / union).max(axis=1))
    return np.asarray(np.mean(found, axis=0))


def add_clusters(adata: AnnData, arrays: dict[str, NDArray[np.integer]]) -> None:
    """Write clusters to obs as categories "0" (the largest), "1", …; a column of the user with the same name stays."""
    for name, codes_n in arrays.items():
        names = [str(number) for number in range(int(codes_n.max()) + 1)]
        values = pd.Categorical.from_codes(codes_n.tolist(), categories=pd.Index(names))
        adata.obs[free_column(adata, name)] = values
