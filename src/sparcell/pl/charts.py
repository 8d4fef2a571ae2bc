"""Figures of scores, losses, training times and quality control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.errors import InputError
from sparcell.pl.colors import FAINT, INK, KEPT, REMOVED, row_styles, shade_behind_text
from sparcell.pl.style import new_figure, style
from sparcell.pl.tables import color_range, format_seconds, presets, score_summary, value_at
from sparcell.results.study import CLUSTERING_METRICS, PRIMARY_SPACE, MethodResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sparcell.results.analysis import AnalysisResults
    from sparcell.results.study import Floats, StudyResults

QC_TITLES = {
    "n_genes": "genes in a cell",
    "total_counts": "counts in a cell",
    "pct_mito": "% mitochondrial counts",
}


def _groups(rows: Sequence[MethodResult], table: pd.DataFrame) -> list[tuple[str, list[MethodResult]]]:
    available = set(table["model"]) if len(table) else set()
    groups = [(preset, [row for row in group if row.name in available]) for preset, group in presets(rows)]
    return [(preset, group) for preset, group in groups if group]


@style()
def score_heatmap(scores: pd.DataFrame, rows: Sequence[MethodResult], space: str = PRIMARY_SPACE) -> Figure:
    """Draw mean scores over seeds as a heat map, rows × four metrics, with mean and sd as text; the best of each group is bold.

    Parameters
    ----------
    scores
        The table `StudyResults.scores`.
    rows
        The rows in order; they are grouped by preset.
    space
        "tsne2d" or "latent".

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    ::

        sp.pl.score_heatmap(results.scores, results.rows)
    """
    summary = score_summary(scores, space)
    groups = _groups(rows, scores)
    n_lines = sum(len(group) for _, group in groups)
    figure = new_figure(7.4, 0.9 + 0.34 * n_lines + 0.3 * len(groups))
    axes = figure.add_axes((0.36, 0.03, 0.62, 0.97 - 0.5 / figure.get_figheight()))
    limits = color_range(summary)
    y = 0.0
    for preset, group in groups:
        axes.text(
            -0.04, y + 0.42, preset, ha="right", va="center", color=FAINT, fontsize=8.5, fontweight="bold"
        )
        y += 0.8
        best = (
            {}
            if len(group) < 2
            else {m: summary[m].reindex([row.name for row in group]).max() for m in CLUSTERING_METRICS}
        )
        for row in group:
            _heat_line(axes, y, row, summary, best, limits)
            y += 1.0
    axes.set(xlim=(0, len(CLUSTERING_METRICS)), ylim=(y, 0))
    axes.set_xticks(np.arange(len(CLUSTERING_METRICS)) + 0.5, [_metric_title(m) for m in CLUSTERING_METRICS])
    axes.set_yticks([])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure


def _metric_title(name: str) -> str:
    return name.upper() if len(name) == 3 else name


def _heat_line(
    axes: Axes,
    y: float,
    row: MethodResult,
    summary: pd.DataFrame,
    best: Mapping[str, float],
    limits: tuple[float, float],
) -> None:
    axes.text(-0.04, y + 0.5, row.title, ha="right", va="center", fontsize=8.5)
    for column, metric in enumerate(CLUSTERING_METRICS):
        mean, sd = (value_at(summary, row.name, key) for key in (metric, f"{metric}_sd"))
        color = shade_behind_text((mean - limits[0]) / (limits[1] - limits[0]))
        axes.fill(
            [column, column + 1, column + 1, column], [y, y, y + 1, y + 1], color=color, ec="white", lw=1.5
        )
        text = f"{mean:.3f}" if np.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"
        weight = "bold" if mean == best.get(metric) else "normal"
        axes.text(column + 0.5, y + 0.5, text, ha="center", va="center", color=INK, fontweight=weight)


@style()
def loss_curves(history: pd.DataFrame, rows: Sequence[MethodResult]) -> Figure:
    """Draw loss and KL over epochs: one column for each preset, because losses have different scales, and one line for each seed.

    Examples
    --------
    ::

        results = sp.study.run("counts.h5ad", "study")
        sp.pl.loss_curves(results.history, results.rows)
    """
    groups = _groups(rows, history)
    if not groups:
        raise InputError(
            "there are no loss curves to draw; expected a history with at least one of the rows."
        )
    styles = row_styles(rows)
    figure = new_figure(max(4.6, 3.7 * len(groups)), 5.2, layout="constrained")
    panels = figure.subplots(2, len(groups), squeeze=False)
    for column, (preset, group) in enumerate(groups):
        for line, term in enumerate(("loss", "kl")):
            axes = panels[line, column]
            for row in group:
                curves = history[history["model"] == row.name]
                if term == "kl" and not curves["kl"].fillna(0).any():
                    continue  # an autoencoder has no KL
                for number, (_, curve) in enumerate(curves.groupby("seed")):
                    axes.plot(curve["epoch"], curve[term], color=styles[row.name][0], lw=1.1, alpha=0.9,
                              label=row.title if number == 0 else None)  # fmt: skip
            _skip_first_epochs(axes, history[history["model"].isin([row.name for row in group])], term)
            axes.set_ylabel("loss, nats per cell" if term == "loss" else "KL, nats per cell")
        panels[0, column].set_title(f"preset {preset}")
        panels[0, column].legend()
        panels[1, column].set_xlabel("epoch")
    return figure


def _skip_first_epochs(axes: Axes, curves: pd.DataFrame, term: str) -> None:
    """Leave the first epochs out of the frame; their losses are so high that later changes would not be visible."""
    first = curves["epoch"].min() + 0.02 * (curves["epoch"].max() - curves["epoch"].min())
    values = curves.loc[curves["epoch"] >= first, term].dropna()
    if len(values) and values.max() > values.min():
        pad = 0.05 * (values.max() - values.min())
        axes.set_ylim(values.min() - pad, values.max() + pad)


@style()
def training_times(times: pd.DataFrame, rows: Sequence[MethodResult]) -> Figure:
    """Draw mean training times as bars, and seeds as dots.

    Examples
    --------
    ::

        sp.pl.training_times(results.times, results.rows)
    """
    timed = [row for _, group in _groups(rows, times) for row in group]
    styles = row_styles(rows)
    figure = new_figure(6.4, 0.75 + 0.36 * max(len(timed), 1), layout="constrained")
    axes = figure.add_subplot()
    longest = float(times["train_seconds"].max()) if len(times) else 1.0
    for y, row in enumerate(timed):
        seconds = times.loc[times["model"] == row.name, "train_seconds"].to_numpy(dtype=float)
        axes.barh(
            y,
            seconds.mean(),
            height=0.62,
            color=styles[row.name][0],
        )
        if len(seconds) > 1:
            axes.plot(seconds, np.full(len(seconds), y), "o", ms=3.2, color=INK, mec="white", mew=0.5)
        axes.text(seconds.max() + 0.015 * longest, y, format_seconds(seconds.mean()), va="center", fontsize=8)
    axes.set_yticks(range(len(timed)), [row.title for row in timed])
    axes.set(xlabel="seconds of training", xlim=(0, 1.15 * longest), ylim=(len(timed) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    return figure


def qc_bins(values: Floats) -> Floats:
    """Return the edges of 60 bins over the finite values."""
    return np.histogram_bin_edges(values[np.isfinite(values)], bins=60)


@style()
def qc_histograms(
    qc: pd.DataFrame, limits: Mapping[str, tuple[float | None, float | None]] | None = None
) -> Figure:
    """Draw histograms of genes, counts and percentage of mitochondrial counts for kept and removed cells, with the limits.

    Parameters
    ----------
    qc
        The table `StudyResults.qc`: n_genes, total_counts, pct_mito, kept.
    limits
        Column → (lower, upper), each a number or None; drawn as dashed lines.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    ::

        sp.pl.qc_histograms(results.qc, sp.pl.qc_limits(results))
    """
    columns = [name for name in QC_TITLES if name in qc.columns]
    if qc.empty or not columns:
        raise InputError("there is no quality control to draw; expected a table with at least one cell.")
    kept = qc["kept"].to_numpy(dtype=bool)
    figure = new_figure(3.05 * len(columns), 2.7, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        values = qc[name].to_numpy(dtype=float)
        bins = qc_bins(values)
        # Histograms overlap and are not stacked, because heights in a stack have no meaning on a log axis.
        for mask, word, color, alpha in (
            (kept, "kept", KEPT, 0.85),
            (~kept, "removed", REMOVED, 1.0),
        ):
            label = f"{word} ({mask.sum():,})"
            axes.hist(values[mask], bins=bins, histtype="stepfilled", color=color, alpha=alpha, label=label)
        for limit in (limits or {}).get(name, ()):
            if limit is not None:
                axes.axvline(limit, color=INK, lw=0.9, ls=(0, (3, 2)))
        axes.set(xlabel=QC_TITLES[name], yscale="symlog")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.9g}")
    figure.axes[0].set_ylabel("cells (log scale above 1)")
    figure.axes[-1].legend(loc="upper right")
    return figure


def qc_limits(results: StudyResults | AnalysisResults) -> dict[str, tuple[float | None, float | None]]:
    """Return the limits of quality control from `provenance["qc_limits"]`: column → (lower, upper); empty if there are none.

    Examples
    --------
    ::

        sp.pl.qc_limits(results)
    """
    limits = results.provenance.get("qc_limits")
    if not isinstance(limits, dict):
        return {}
    return {str(name): (pair[0], pair[1]) for name, pair in limits.items()}
