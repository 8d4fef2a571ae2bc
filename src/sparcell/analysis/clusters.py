"""Clusters of an analysis: their names, what speaks for each, and how firm their borders are.

Suffixes: n cells, s further runs of the clustering.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.errors import InputError
from sparcell.pp.markers import name_by_markers, read_markers
from sparcell.pp.slots import free_column
from sparcell.programs.naming import read_gene_sets
from sparcell.results.analysis import UNKNOWN
from sparcell.tl.cluster_names import cell_type_sets, name_clusters_by_sets

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
    """Return a table of names, one row per cluster, and where the names come from in words."""
    clusters = [str(name) for name in cluster_n.cat.categories]
    if config.markers is not None:
        table = read_markers(config.markers)
        scores, names = name_by_markers(adata.layers["lognorm"], adata.var_names, cluster_n, table)
        best = scores.idxmax(axis=1)
        rows = [
            (cluster, f"{UNKNOWN} {cluster}", "", np.nan, (), "")
            if names[cluster] == f"cluster {cluster}"
            else (cluster, names[cluster], str(best[cluster]), np.nan, (), "")
            for cluster in clusters
        ]
        return pd.DataFrame(rows, columns=list(NAME_COLUMNS)), f"markers of {config.markers.name}"
    sets, source = read_gene_sets(config.gmt)
    try:
        named = name_clusters_by_sets(markers, cell_type_sets(sets), adata.var_names)
    except InputError:
        if config.gmt:
            raise
        log.warning(
            "clusters have no names: none of the genes (%s, …) is in a built-in set. Pass --markers FILE or --gmt FILE.",
            ", ".join(adata.var_names[:3]),
        )
        named = pd.DataFrame(columns=list(NAME_COLUMNS))
    found = {row[0]: row for row in named[list(NAME_COLUMNS)].itertuples(index=False, name=None)}
    unnamed = {cluster: (cluster, f"{UNKNOWN} {cluster}", "", 1.0, (), "") for cluster in clusters}
    return pd.DataFrame(
        [{**unnamed, **found}[cluster] for cluster in clusters], columns=list(NAME_COLUMNS)
    ), source


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
            counted = pd.crosstab(codes_n, np.asarray(adata.obs[key].astype(str)))
            table[value] = counted.idxmax(axis=1).to_numpy()
            table[share] = (counted.max(axis=1) / counted.sum(axis=1)).to_numpy()
    return table


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
