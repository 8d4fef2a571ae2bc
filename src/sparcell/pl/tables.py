"""Counts and means for figures and reports, without any drawing.

Suffixes: n cells, l labels, c clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from sparcell.results.study import CLUSTERING_METRICS, PRIMARY_SPACE, MethodResult

if TYPE_CHECKING:
    from sparcell.results.study import Ints


def contingency(labels: pd.Categorical, kmeans_n: Ints) -> Ints:
    """Return the number of cells of each label (rows, in the order of the categories) in each cluster, without unlabeled cells."""
    codes_n = np.asarray(labels.codes, dtype=np.int64)
    clusters_n = np.asarray(kmeans_n, dtype=np.int64)
    table_lc = np.zeros((len(labels.categories), int(clusters_n.max(initial=-1)) + 1), dtype=np.int64)
    labeled_n = codes_n >= 0
    np.add.at(table_lc, (codes_n[labeled_n], clusters_n[labeled_n]), 1)
    return table_lc


def match_clusters(table_lc: Ints) -> Ints:
    """Return the matched label of each cluster, one to one; -1 for a cluster without a match.

    The matching maximizes the number of cells that matched labels and clusters share (Hungarian algorithm). A pair is no match if the
    label makes up less than a quarter of the cluster: 14 platelets do not name a cluster of 300 T cells.
    """
    match_c = np.full(table_lc.shape[1], -1, dtype=np.int64)
    label_rows, clusters = linear_sum_assignment(table_lc, maximize=True)
    n_shared = table_lc[label_rows, clusters]
    fraction = n_shared / np.maximum(table_lc.sum(axis=0)[clusters], 1)
    matched = fraction >= 0.25
    match_c[clusters[matched]] = label_rows[matched]
    return match_c


def cluster_order(match_c: Ints) -> Ints:
    """Return clusters in the order of their matched labels, unmatched ones last; a table in this order has its matches on the diagonal."""
    last = int(match_c.max(initial=0)) + 1
    return np.argsort(np.where(match_c < 0, last, match_c), kind="stable")


def score_summary(scores: pd.DataFrame, space: str = PRIMARY_SPACE) -> pd.DataFrame:
    """Return mean and sd over seeds of each metric, one line for each model.

    Parameters
    ----------
    scores
        The table `StudyResults.scores`.
    space
        "tsne2d" or "latent".

    Returns
    -------
    pandas.DataFrame
        Index model; columns `<metric>`, `<metric>_sd` (NaN with one seed) and n_seeds.
    """
    grouped = scores.loc[scores["space"] == space].groupby("model", sort=False)
    columns: dict[str, pd.Series] = {}
    for metric in CLUSTERING_METRICS:
        columns[metric] = grouped[metric].mean()
        columns[f"{metric}_sd"] = grouped[metric].std(ddof=1)
    columns["n_seeds"] = grouped["seed"].nunique()
    return pd.DataFrame(columns)


def value_at(table: pd.DataFrame, name: str, column: str) -> float:
    """Return one number of a table as a float."""
    value: Any = table.at[name, column]
    return float(value)


def color_range(summary: pd.DataFrame) -> tuple[float, float]:
    """Return tenths that enclose all means, as limits of a color scale; over 0 … 1 similar scores would have one color."""
    values = summary[list(CLUSTERING_METRICS)].to_numpy(dtype=float)
    if not np.isfinite(values).any():
        return 0.0, 1.0
    low, high = float(np.floor(np.nanmin(values) * 10) / 10), float(np.ceil(np.nanmax(values) * 10) / 10)
    return low, max(high, low + 0.1)


def presets(rows: Sequence[MethodResult]) -> list[tuple[str, list[MethodResult]]]:
    """Return rows grouped by preset, both in order of first appearance, with baselines last."""
    groups: dict[str, list[MethodResult]] = {}
    for row in rows:
        groups.setdefault(row.preset, []).append(row)
    return sorted(groups.items(), key=lambda item: all(row.model is None for row in item[1]))


def format_seconds(seconds: float) -> str:
    """Return a duration as text: "0.4 s", "42 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
