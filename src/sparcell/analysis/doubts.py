"""What in an analysis should be trusted less, found by simple rules that the report states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.io import obs_columns
from sparcell.results.analysis import UNKNOWN, Doubt
from sparcell.tl.misfits import does_not_fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from anndata import AnnData

    from sparcell.config.analysis import AnalysisConfig
    from sparcell.results.criticism import Criticism

MIN_CELLS = 20
"""A cluster with fewer cells may be an accident of the clustering."""
MIN_STABILITY = 0.6
"""Mean Jaccard index with other runs of the clustering, below which the border of a cluster is not firm."""
MAX_WEAK_GENES = 4
"""A name that rests on at most this many genes is weak: related types share some of their marker genes."""
MAX_BATCH_SHARE, MAX_EXPECTED_SHARE = 0.9, 0.7
"""A cluster is one of a single batch if this share of its cells is of that batch, while the batch has at most the second share of all."""
LOW_GENES, HIGH_MITO = 0.5, 1.5
"""A cluster has few genes if its median is below this fraction of all cells' median; mitochondrial percentage alike."""
HIGH_COUNTS = 1.4
"""Cells that stuck together have more counts: median over all cells' median."""
MIN_KEPT = 0.75


def find_doubts(
    adata: AnnData,
    cluster_n: pd.Series,
    table: pd.DataFrame,
    qc: pd.DataFrame,
    history: pd.DataFrame,
    config: AnalysisConfig,
) -> tuple[Doubt, ...]:
    """Return all doubts about an analysis, those about all cells first."""
    return (
        *about_all(adata, qc, history, config),
        *about_clusters(table, config),
        *about_quality(cluster_n, table, qc),
    )


def about_all(
    adata: AnnData, qc: pd.DataFrame, history: pd.DataFrame, config: AnalysisConfig
) -> Iterator[Doubt]:
    """Yield doubts about the data and the model as a whole."""
    if qc["kept"].mean() < MIN_KEPT:
        yield Doubt(
            "Quality control removed many cells.",
            f"{1 - qc['kept'].mean():.0%} of the cells are gone. Look at the histograms; other limits are set with --min-genes, "
            "--max-genes and --max-pct-mito.",
        )
    used = {config.batch_key, config.labels_key, config.condition_key}
    unused = [column for column in obs_columns.batch_columns(adata.obs) if column not in used]
    if config.batch_key is None and unused:
        yield Doubt(
            "Batches may be mixed up with biology.",
            f"obs column {unused[0]} looks like a batch. Without --batch-key {unused[0]} the model keeps differences between its values, "
            "and clusters can be batches.",
        )
    if config.batch_key is not None and config.batch_key == config.condition_key:
        yield Doubt(
            "Batch and condition are the same column.",
            "The model removes what differs between batches, and here that is what differs between conditions too.",
        )
    if len(history) > 1 and history["loss"].iloc[-1] < history["loss"].iloc[-min(6, len(history))] * 0.995:
        yield Doubt(
            "The model was still learning when training ended.",
            "The loss fell by more than half a percent in the last five epochs. Train longer with --epochs.",
        )


def about_fit(criticism: Criticism) -> Iterator[Doubt]:
    """Yield the doubt that the model does not describe the counts."""
    if does_not_fit(criticism.genes, criticism.overall):
        yield Doubt(
            "The model does not fit many genes.",
            f"{criticism.verdict[-1]} Latents, clusters and differences can miss what these genes say. Train longer with --epochs, or "
            "compare another likelihood.",
        )


def about_clusters(table: pd.DataFrame, config: AnalysisConfig) -> Iterator[Doubt]:
    """Yield doubts about names, sizes and borders of clusters."""
    unknown = table[table["name"].str.startswith(UNKNOWN)]
    if len(unknown):
        yield Doubt(
            f"{listed_clusters(unknown)} without a name.",
            "No set of cell types shares three of the strongest markers beyond chance. Read the markers, or give your own with --markers.",
        )
    weak = table[(table["set"] != "") & table["set_genes"].map(len).between(1, MAX_WEAK_GENES)]
    if len(weak):
        words = "; ".join(
            f"{title}: {', '.join(genes)}"
            for title, genes in zip(_titles(weak), weak["set_genes"], strict=True)
        )
        yield Doubt(
            f"{listed_clusters(weak)} with a weak name.",
            f"At most {MAX_WEAK_GENES} of the 50 strongest markers are in the gene set of the name. {words}. Related types share such "
            "genes, so read the other markers too.",
        )
    small = table[table["n_cells"] < MIN_CELLS]
    if len(small):
        yield Doubt(
            f"{listed_clusters(small)} with fewer than {MIN_CELLS} cells.",
            "So few cells can be doublets, debris or a true rare type. Check their genes.",
        )
    loose = table[table["stability"] < MIN_STABILITY]
    if len(loose):
        yield Doubt(
            f"{listed_clusters(loose)} with a border that is not firm.",
            "Other runs of the clustering cut these cells elsewhere. Treat them as parts of a continuum, or choose a lower --resolution.",
        )
    mixed = table[(table["second"] != "") & (table["second"] != table["set"])]
    if len(mixed):
        words = "; ".join(
            f"{title}: also {second}" for title, second in zip(_titles(mixed), mixed["second"], strict=True)
        )
        yield Doubt(
            f"{listed_clusters(mixed)} with markers of two cell types.",
            f"{words}. They can be a type between both, two types in one cluster, or doublets.",
        )
    if config.batch_key is not None:
        n_of_batch = table.groupby("largest_batch")["n_cells"].sum()
        expected = n_of_batch / table["n_cells"].sum()
        single = table[
            (table["batch_share"] >= MAX_BATCH_SHARE)
            & (table["largest_batch"].map(expected).fillna(0) <= MAX_EXPECTED_SHARE)
        ]
        if len(single):
            yield Doubt(
                f"{listed_clusters(single)} almost of one batch.",
                "A type that only one batch has looks like this, and so does a difference between batches that the model kept.",
            )


def about_quality(cluster_n: pd.Series, table: pd.DataFrame, qc: pd.DataFrame) -> Iterator[Doubt]:
    """Yield doubts about clusters of damaged cells and of doublets."""
    kept = qc.loc[cluster_n.index, ["n_genes", "total_counts", "pct_mito"]]
    medians = kept.groupby(np.asarray(cluster_n.astype(str))).median().loc[table["cluster"]]
    overall = kept.median()
    poor = (medians["n_genes"] < LOW_GENES * overall["n_genes"]).to_numpy()
    if overall["pct_mito"] > 0:
        poor |= (medians["pct_mito"] > max(HIGH_MITO * overall["pct_mito"], 5.0)).to_numpy()
    if poor.any():
        yield Doubt(
            f"{listed_clusters(table[poor])} of low quality.",
            "Few genes or many mitochondrial counts: dying cells or empty droplets can form clusters of their own. Some types, such as "
            "platelets and red cells, have few genes by nature.",
        )
    heavy = (medians["total_counts"] > HIGH_COUNTS * overall["total_counts"]).to_numpy()
    suspicious = heavy & (table["second"] != "").to_numpy()
    if suspicious.any():
        yield Doubt(
            f"{listed_clusters(table[suspicious])} that may be doublets.",
            "Markers of two types together with many counts. A doublet caller such as Scrublet tells more.",
        )


def listed_clusters(rows: pd.DataFrame) -> str:
    """Return "2 clusters (B cell, NK)"."""
    titles = _titles(rows)
    separator = "; " if titles.str.contains(",").any() else ", "
    names = separator.join(titles.head(6)) + (f"{separator}…" if len(rows) > 6 else "")
    return f"{len(rows)} cluster{'s' * (len(rows) != 1)} ({names})"


def _titles(rows: pd.DataFrame) -> pd.Series:
    """Return names that tell clusters of one name apart."""
    return rows["title"] if "title" in rows else rows["name"]
