"""Counts and means that both the figures and the report read: nothing here draws.

Suffixes: n cells, l labels, c clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from sparcell.results.study import MEASURES, PRIMARY_SPACE, MethodResult

if TYPE_CHECKING:
    from sparcell.results.study import Ints


def contingency(labels: pd.Categorical, kmeans_n: Ints) -> Ints:
    """Cells of each label (rows, in the order of the categories) in each cluster; unlabelled cells are left out."""
    codes_n = np.asarray(labels.codes, dtype=np.int64)
    clusters_n = np.asarray(kmeans_n, dtype=np.int64)
    table_lc = np.zeros((len(labels.categories), int(clusters_n.max(initial=-1)) + 1), dtype=np.int64)
    known_n = codes_n >= 0
    np.add.at(table_lc, (codes_n[known_n], clusters_n[known_n]), 1)
    return table_lc


def match_clusters(table_lc: Ints) -> Ints:
    """Give each cluster the label it stands for, one label to one cluster; -1 where it stands for none.

    The pairing shares the most cells overall (Hungarian matching). A forced pair, in which the label makes up less
    than a quarter of the cluster, counts as none: fourteen platelets do not name 300 T cells.
    """
    match_c = np.full(table_lc.shape[1], -1, dtype=np.int64)
    label_rows, clusters = linear_sum_assignment(table_lc, maximize=True)
    shared = table_lc[label_rows, clusters]
    of_cluster = shared / np.maximum(table_lc.sum(axis=0)[clusters], 1)
    real = of_cluster >= 0.25
    match_c[clusters[real]] = label_rows[real]
    return match_c


def cluster_order(match_c: Ints) -> Ints:
    """Clusters in the order of the labels they are matched to, the unmatched last: puts a table on its diagonal."""
    last = int(match_c.max(initial=0)) + 1
    return np.argsort(np.where(match_c < 0, last, match_c), kind="stable")


def score_summary(scores: pd.DataFrame, space: str = PRIMARY_SPACE) -> pd.DataFrame:
    """Mean and sd over seeds of each measure, one line a model.

    Parameters
    ----------
    scores
        The table `Results.scores`.
    space
        "tsne2d" or "latent".

    Returns
    -------
    pandas.DataFrame
        Index model; columns `<measure>`, `<measure>_sd` (NaN with one seed) and n_seeds.
    """
    grouped = scores.loc[scores["space"] == space].groupby("model", sort=False)
    columns: dict[str, pd.Series] = {}
    for measure in MEASURES:
        columns[measure] = grouped[measure].mean()
        columns[f"{measure}_sd"] = grouped[measure].std(ddof=1)
    columns["n_seeds"] = grouped["seed"].nunique()
    return pd.DataFrame(columns)


def value_at(table: pd.DataFrame, name: str, column: str) -> float:
    """One number of a table of numbers."""
    value: Any = table.at[name, column]
    return float(value)


def colour_range(summary: pd.DataFrame) -> tuple[float, float]:
    """Tenths that enclose all means: a heat map over 0 … 1 would show near scores as one colour."""
    values = summary[list(MEASURES)].to_numpy(dtype=float)
    if not np.isfinite(values).any():
        return 0.0, 1.0
    low, high = float(np.floor(np.nanmin(values) * 10) / 10), float(np.ceil(np.nanmax(values) * 10) / 10)
    return low, max(high, low + 0.1)


def presets(rows: Sequence[MethodResult]) -> list[tuple[str, list[MethodResult]]]:
    """Group rows under their presets, both in order of first appearance, baselines last."""
    groups: dict[str, list[MethodResult]] = {}
    for row in rows:
        groups.setdefault(row.preset, []).append(row)
    return sorted(groups.items(), key=lambda item: all(row.model is None for row in item[1]))


def seconds_in_words(seconds: float) -> str:
    """Write a duration as a person would: "0.4 s", "42 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
