"""Figures of a benchmark: tables of metrics, trade-off, single latents, likelihood, cost, and maps by type and batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.pl.colors import FAINT, INK, row_styles, shade_behind_text
from sparcell.pl.maps import draw_groups, legend_below, legend_height
from sparcell.pl.style import new_figure, style
from sparcell.pl.tables import format_seconds, value_at
from sparcell.results.benchmark import (
    BIO,
    CLUSTERS,
    COST,
    DISENTANGLEMENT,
    GROUPS,
    LIKELIHOOD,
    MIXING,
    OVERALL,
    SPARSITY,
    available_metrics,
    summary,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sparcell.results.benchmark import BenchmarkResults, Metric, MetricGroup
    from sparcell.results.study import Floats, MethodResult

SINGLE_LATENT_AXES = {
    "lms_smi": "LMS-SMI: one latent per type, by mutual information",
    "lms_spn": "LMS-SPN: one latent per type, by neighbors",
}
"""Metrics of single latents that are drawn → titles of their axes."""

MIN_COST = 0.01
"""Smallest number of seconds and MiB on a log axis."""

ONE_DECIMAL = ("log_likelihood", "n_active", "mean_included")
"""Metrics that are shown with one decimal."""

MIN_SPAN = 0.05
"""Smallest range of a column's color scale, so that small differences do not look large."""


def format_metric(key: str, value: float) -> str:
    """Return one number of a metric as text, with its unit; a dash for NaN."""
    if np.isnan(value):
        return "–"
    if key in {metric.key for metric in COST.metrics}:
        return f"{value:,.0f} MiB" if key == "peak_mib" else format_seconds(value)
    return f"{value:,.1f}".replace("-", "−") if key in ONE_DECIMAL else f"{value:.3f}"


def format_mean(means: pd.DataFrame, name: str, key: str) -> str:
    """Return the mean of a metric as text, with the sd if there are several seeds: "0.712 ± 0.010"; a dash for NaN.

    Examples
    --------
    ::

        from sparcell.results.benchmark import summary

        sp.pl.format_mean(summary(results.scores), "beta-vsc", "total")
    """
    mean, sd = value_at(means, name, key), value_at(means, name, f"{key}_sd")
    return (
        format_metric(key, mean) if np.isnan(sd) else f"{format_metric(key, mean)} ± {format_metric(key, sd)}"
    )


def shade(means: pd.DataFrame, name: str, metric: Metric) -> float | None:
    """Return how dark a number is within its column, 0 … 1, darker for better; None if there is no comparison or no better end."""
    column, value = means[metric.key].dropna(), value_at(means, name, metric.key)
    if np.isnan(value) or len(column) < 2 or metric.higher_is_better is None:
        return None
    low, high = float(column.min()), float(column.max())
    group = next(group for group in GROUPS if metric in group.metrics)
    span = max(high - low, MIN_SPAN if group.within_0_1 else 1e-9)
    return (value - low) / span if metric.higher_is_better else (high - value) / span


def log_ticks(values: Floats) -> list[float]:
    """Return ticks of a log axis: powers of ten, and 2 and 5 times these if the values span few powers."""
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (
        (np.floor(np.log10(positive.min())), np.ceil(np.log10(positive.max()))) if len(positive) else (0, 1)
    )
    steps = (1.0,) if high - low > 3 else (1.0, 2.0, 5.0)
    return [step * 10.0**power for power in range(int(low), int(high) + 1) for step in steps]


def share_range(values: Floats) -> tuple[float, float]:
    """Return an axis around scores between 0 and 1 that spans at least a tenth, so that a difference of .005 does not fill it."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    half = max(0.58 * (high - low), 0.06)
    middle = (low + high) / 2
    return round(middle - half, 4), round(middle + half, 4)


def best_method(means: pd.DataFrame, metric: Metric) -> str | None:
    """Return the name of the method with the best mean; None if fewer than two methods have the metric, or there is no better end."""
    column = means[metric.key].dropna()
    if len(column) < 2 or metric.higher_is_better is None:
        return None
    return str(column.idxmax() if metric.higher_is_better else column.idxmin())


@style()
def metric_table(results: BenchmarkResults, groups: Sequence[MetricGroup]) -> Figure:
    """Draw a table of means over seeds, methods × metrics; the best of each column is bold, and darker is better within a column.

    Parameters
    ----------
    results
        The results of a benchmark.
    groups
        The groups of metrics, side by side.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    ::

        from sparcell.results.benchmark import BIO, OVERALL

        sp.pl.metric_table(results, (OVERALL, BIO))
    """
    means, rows = summary(results.scores), results.rows
    shown = {
        metric: group for group in reversed(groups) for metric in available_metrics(results.scores, group)
    }
    columns = [
        (shown[metric], metric)
        for metric in dict.fromkeys(m for group in groups for m in group.metrics)
        if metric in shown
    ]
    broad, tall = 0.74 * len(columns), 0.3 * len(rows)
    figure = new_figure(2.0 + broad, 0.85 + tall)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((1.9 / width, 0.1 / height, broad / width, tall / height))
    for y, row in enumerate(rows):
        axes.text(-0.08, y + 0.5, row.title, ha="right", va="center", fontsize=8.5)
        for x, (_, metric) in enumerate(columns):
            _number(axes, x, y, row, metric, means)
    x = 0
    for x, (_, metric) in enumerate(columns):
        axes.text(
            x + 0.5,
            -0.15,
            metric.title.replace(", ", ",\n").replace(" ", "\n", 1),
            ha="center",
            va="bottom",
            fontsize=7,
        )
    for group in groups:
        places = [place for place, (of, _) in enumerate(columns) if of is group]
        if places:
            axes.text(
                places[0] + 0.05, -1.2, group.title, ha="left", va="bottom", fontsize=8.5, fontweight="bold"
            )
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axes.set_axis_off()
    return figure


def _number(axes: Axes, x: int, y: int, row: MethodResult, metric: Metric, means: pd.DataFrame) -> None:
    value, fraction = value_at(means, row.name, metric.key), shade(means, row.name, metric)
    if fraction is not None:
        corners = ([x, x + 1, x + 1, x], [y, y, y + 1, y + 1])
        axes.fill(*corners, color=shade_behind_text(fraction), ec="white", lw=1.5)
    weight = "bold" if best_method(means, metric) == row.name else "normal"
    axes.text(
        x + 0.5, y + 0.5, format_metric(metric.key, value).removesuffix(" MiB"), ha="center", va="center", fontsize=8,
        color=INK, fontweight=weight,
    )  # fmt: skip


@style()
def trade_off(results: BenchmarkResults) -> Figure:
    """Draw bio conservation against batch correction: a large dot for each method, small dots for its seeds.

    Examples
    --------
    ::

        results = sp.benchmark.run("counts.h5ad", "benchmark", sp.BenchmarkConfig(labels_key="cell_type"))
        sp.pl.trade_off(results)
    """
    means, styles = summary(results.scores), row_styles(results.rows)
    figure = new_figure(5.4, 4.2, layout="constrained")
    axes = figure.add_subplot()
    for row in results.rows:
        seeds = results.scores[results.scores["method"] == row.name]
        x, y = (value_at(means, row.name, key) for key in ("batch_correction", "bio_conservation"))
        axes.plot(
            seeds["batch_correction"],
            seeds["bio_conservation"],
            "o",
            ms=3,
            color=styles[row.name][0],
            mew=0,
            alpha=0.6,
        )
        axes.plot([x], [y], "o", ms=8, color=styles[row.name][0], mec="white", mew=0.8, label=row.title)
    axes.set(
        xlim=share_range(results.scores["batch_correction"].to_numpy(dtype=float)),
        ylim=share_range(results.scores["bio_conservation"].to_numpy(dtype=float)),
        xlabel="batch correction (mean of scIB's five metrics)",
        ylabel="bio conservation (mean of scIB's five metrics)",
    )
    axes.legend(loc="best")
    return figure


@style()
def single_latents(results: BenchmarkResults) -> Figure:
    """Draw LMS-SMI and LMS-SPN: a large dot for each method, small dots for its seeds."""
    return _dots(results, list(SINGLE_LATENT_AXES), list(SINGLE_LATENT_AXES.values()))


@style()
def likelihoods(results: BenchmarkResults) -> Figure:
    """Draw held-out log-likelihoods: a large dot for each method, small dots for its seeds.

    Examples
    --------
    ::

        results = sp.benchmark.run("counts.h5ad", "benchmark", sp.BenchmarkConfig(labels_key="cell_type"))
        sp.pl.likelihoods(results)
    """
    return _dots(results, ["log_likelihood"], ["nats per held-out cell; higher is better"])


@style()
def costs(results: BenchmarkResults) -> Figure:
    """Draw training time and peak memory on log axes; lower is better.

    Examples
    --------
    ::

        results = sp.benchmark.run("counts.h5ad", "benchmark", sp.BenchmarkConfig(labels_key="cell_type"))
        sp.pl.costs(results)
    """
    titles = {"train_seconds": "seconds of training", "peak_mib": "MiB of memory"}
    available = [key for key in titles if results.scores[key].notna().any()]
    return _dots(results, available, [titles[key] for key in available], log=True)


def clip_costs(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores with times and memory of at least MIN_COST, so that a log axis can show them."""
    costs = [metric.key for metric in COST.metrics]
    return scores.assign(**{key: scores[key].clip(lower=MIN_COST) for key in costs})


def _dots(
    results: BenchmarkResults, keys: Sequence[str], titles: Sequence[str], *, log: bool = False
) -> Figure:
    scores = clip_costs(results.scores)
    means, styles = summary(scores), row_styles(results.rows)
    has_metric = means[list(keys)].notna().any(axis=1)
    rows = [row for row in results.rows if bool(has_metric[row.name])]
    figure = new_figure(1.9 + 3.6 * len(keys), 0.9 + 0.32 * len(rows), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False, sharey=True)[0]
    for axes, key, title in zip(panels, keys, titles, strict=True):
        for y, row in enumerate(rows):
            seeds = scores.loc[scores["method"] == row.name, key].to_numpy(dtype=float)
            axes.plot(seeds, np.full(len(seeds), y), "o", ms=3.5, color=styles[row.name][0], mew=0, alpha=0.6)
            axes.plot(
                [value_at(means, row.name, key)],
                [y],
                "o",
                ms=7.5,
                color=styles[row.name][0],
                mec="white",
                mew=0.8,
            )
            axes.axhline(y, color=FAINT, lw=0.4, alpha=0.5, zorder=0)
        axes.set(xlabel=title, ylim=(len(rows) - 0.4, -0.6), **({"xscale": "log"} if log else {}))
        axes.tick_params(axis="y", length=0)
        if log:
            limits = axes.get_xlim()
            axes.set_xticks(log_ticks(means[key].to_numpy()), minor=False)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
            axes.xaxis.set_minor_formatter(lambda *_: "")
            axes.set_xlim(limits)
    panels[0].set_yticks(range(len(rows)), [row.title for row in rows])
    return figure


@style()
def type_and_batch(row: MethodResult, labels: pd.Categorical, batches: pd.Categorical | None) -> Figure:
    """Draw the 2-D map of a method, colored by cell type and, if there are batches, by batch.

    Examples
    --------
    ::

        sp.pl.type_and_batch(results.rows[0], results.labels, results.batches)
    """
    groups = [(labels, "cell types"), *([] if batches is None else [(batches, "batches")])]
    width = 4.6
    below = max(legend_height(labels, width), 0.0 if batches is None else legend_height(batches, width))
    figure = new_figure(width * len(groups), 4.9 + below)
    bottom = below / figure.get_figheight()
    for place, (groups_n, title) in enumerate(groups):
        axes = figure.add_axes((place / len(groups) + 0.01, bottom + 0.01, 0.98 / len(groups), 0.92 - bottom))
        axes.set_title(f"{row.title}: {title}")
        draw_groups(axes, row.tsne2d_n2, groups_n, named=groups_n is labels)
    legend_below(figure, labels, width)
    if batches is not None:
        legend_below(figure, batches, width, right=True)
    return figure


def benchmark_figures(results: BenchmarkResults) -> Iterator[tuple[str, Figure]]:
    """Yield all figures of a benchmark with their file names (no ending), one at a time to save memory.

    Examples
    --------
    ::

        for name, figure in sp.pl.benchmark_figures(results):
            figure.savefig(f"{name}.png")
    """
    scores = results.scores
    tables = {
        "scib": (OVERALL, BIO, MIXING),
        "clusters": (CLUSTERS,),
        "single-latents": (DISENTANGLEMENT, SPARSITY),
    }
    for name, groups in tables.items():
        if any(available_metrics(scores, group) for group in groups):
            yield name, metric_table(results, groups)
    if scores[["bio_conservation", "batch_correction"]].notna().all(axis=1).any():
        yield "trade-off", trade_off(results)
    if available_metrics(scores, DISENTANGLEMENT):
        yield "one-latent-per-type", single_latents(results)
    if available_metrics(scores, LIKELIHOOD):
        yield "likelihood", likelihoods(results)
    yield "cost", costs(results)
    for row in results.rows:
        yield f"map-{row.name}", type_and_batch(row, results.labels, results.batches)
