"""Figures of a benchmark: measures side by side, biology against mixing, readability, likelihood, cost, and maps by type and batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.pl.colors import FAINT, INK, ink_on, ramp_colour, row_styles
from sparcell.pl.maps import draw_groups, height_below, legend_below, legend_height
from sparcell.pl.style import new_figure, style
from sparcell.pl.tables import seconds_in_words, value_at
from sparcell.results.benchmark import (
    BIO,
    CLUSTERS,
    COST,
    GROUPS,
    LIKELIHOOD,
    MEASURES,
    MIXING,
    OVERALL,
    READABILITY,
    SPARSITY,
    measured,
    summary,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sparcell.results.benchmark import BenchmarkResults, Metric, MetricGroup
    from sparcell.results.study import Floats, MethodResult

TYPE_MATCHES = {
    "lms_smi": "LMS-SMI: one latent a type, by information",
    "lms_spn": "LMS-SPN: one latent a type, by neighbours",
}
"""Measures of readability that are drawn, with the titles of their axes."""

LEAST = 0.01
"""Seconds and MiB that a logarithmic axis shows at the least."""

IN_TENTHS = ("log_likelihood", "live", "on")
"""Measures that are written with one decimal."""

NARROWEST = 0.05
"""Least span of a column's colours: smaller differences shall not look large."""


def in_units(key: str, value: float) -> str:
    """Write one number of a measure as a person would."""
    if np.isnan(value):
        return "–"
    if key in {measure.key for measure in COST.measures}:
        return f"{value:,.0f} MiB" if key == "peak_mib" else seconds_in_words(value)
    return f"{value:,.1f}".replace("-", "−") if key in IN_TENTHS else f"{value:.3f}"


def written(numbers: pd.DataFrame, name: str, key: str) -> str:
    """Write the mean of a measure, with the sd where there are several seeds: "0.712 ± 0.010"; a dash where it does not apply."""
    mean, sd = value_at(numbers, name, key), value_at(numbers, name, f"{key}_sd")
    return in_units(key, mean) if np.isnan(sd) else f"{in_units(key, mean)} ± {in_units(key, sd)}"


def shade(numbers: pd.DataFrame, name: str, measure: Metric) -> str | None:
    """Colour of a number among those of its column: dark is good; None where there is nothing to compare, or neither end is good."""
    column, value = numbers[measure.key].dropna(), value_at(numbers, name, measure.key)
    if np.isnan(value) or len(column) < 2 or measure.higher is None:
        return None
    low, high = float(column.min()), float(column.max())
    group = next(group for group in GROUPS if measure in group.measures)
    span = max(high - low, NARROWEST if group.range01 else 1e-9)
    share = (value - low) / span if measure.higher else (high - value) / span
    return ramp_colour(0.75 * share)


def places_of_ten(values: Floats) -> list[float]:
    """Ticks of a logarithmic axis around some values: powers of ten, and twice and five times these where few would be seen."""
    known = values[np.isfinite(values) & (values > 0)]
    low, high = (np.floor(np.log10(known.min())), np.ceil(np.log10(known.max()))) if len(known) else (0, 1)
    steps = (1.0,) if high - low > 3 else (1.0, 2.0, 5.0)
    return [step * 10.0**power for power in range(int(low), int(high) + 1) for step in steps]


def best(numbers: pd.DataFrame, measure: Metric) -> str | None:
    """Name of the method with the best mean; None where fewer than two have the measure, or neither end is good."""
    column = numbers[measure.key].dropna()
    if len(column) < 2 or measure.higher is None:
        return None
    return str(column.idxmax() if measure.higher else column.idxmin())


@style()
def measure_table(standings: BenchmarkResults, groups: Sequence[MetricGroup]) -> Figure:
    """Means over seeds, methods × measures, the best of each column in bold; dark is good within a column.

    Parameters
    ----------
    standings
        What a benchmark found.
    groups
        Which measures, side by side.

    Returns
    -------
    matplotlib.figure.Figure
    """
    numbers, rows = summary(standings.scores), standings.rows
    columns = [(group, measure) for group in groups for measure in measured(standings.scores, group)]
    broad, tall = 0.74 * len(columns), 0.3 * len(rows)
    figure = new_figure(2.0 + broad, 0.85 + tall)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((1.9 / width, 0.1 / height, broad / width, tall / height))
    for y, row in enumerate(rows):
        axes.text(-0.08, y + 0.5, row.title, ha="right", va="center", fontsize=8.5)
        for x, (_, measure) in enumerate(columns):
            _number(axes, x, y, row, measure, numbers)
    x = 0
    for x, (_, measure) in enumerate(columns):
        axes.text(
            x + 0.5,
            -0.15,
            measure.title.replace(", ", ",\n").replace(" ", "\n", 1),
            ha="center",
            va="bottom",
            fontsize=7,
        )
    for group in groups:
        own = [place for place, (of, _) in enumerate(columns) if of is group]
        if own:
            axes.text(
                own[0] + 0.05, -1.2, group.title, ha="left", va="bottom", fontsize=8.5, fontweight="bold"
            )
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axes.set_axis_off()
    return figure


def _number(axes: Axes, x: int, y: int, row: MethodResult, measure: Metric, numbers: pd.DataFrame) -> None:
    value, colour = value_at(numbers, row.name, measure.key), shade(numbers, row.name, measure)
    if colour is not None:
        axes.fill([x, x + 1, x + 1, x], [y, y, y + 1, y + 1], color=colour, ec="white", lw=1.5)
    weight = "bold" if best(numbers, measure) == row.name else "normal"
    axes.text(
        x + 0.5, y + 0.5, in_units(measure.key, value).removesuffix(" MiB"), ha="center", va="center", fontsize=8,
        color=INK if colour is None else ink_on(colour), fontweight=weight,
    )  # fmt: skip


@style()
def trade_off(standings: BenchmarkResults) -> Figure:
    """Biology kept against batches mixed: a dot a method, a small one each of its seeds; up and right is better."""
    numbers, styles = summary(standings.scores), row_styles(standings.rows)
    figure = new_figure(5.4, 4.2, layout="constrained")
    axes = figure.add_subplot()
    for row in standings.rows:
        own = standings.scores[standings.scores["method"] == row.name]
        x, y = (value_at(numbers, row.name, key) for key in ("batch_correction", "bio_conservation"))
        axes.plot(
            own["batch_correction"],
            own["bio_conservation"],
            "o",
            ms=3,
            color=styles[row.name][0],
            mew=0,
            alpha=0.6,
        )
        axes.plot([x], [y], "o", ms=8, color=styles[row.name][0], mec="white", mew=0.8, label=row.title)
    axes.set(
        xlabel="batches mixed (mean of scIB's five measures)",
        ylabel="biology kept (mean of scIB's five measures)",
    )
    axes.legend(loc="best")
    return figure


@style()
def type_matches(standings: BenchmarkResults) -> Figure:
    """LMS of SMI and of SPN: a dot a method, a small one each of its seeds; further right is better."""
    return _dots(standings, list(TYPE_MATCHES), list(TYPE_MATCHES.values()))


@style()
def likelihoods(standings: BenchmarkResults) -> Figure:
    """Log-likelihood of held-out cells: a dot a method, a small one each of its seeds."""
    return _dots(standings, ["log_likelihood"], ["nats per held-out cell; further right is better"])


@style()
def costs(standings: BenchmarkResults) -> Figure:
    """Training time and peak memory, on logarithmic axes; further left is better."""
    titles = {"train_seconds": "seconds of training", "peak_mib": "MiB of memory"}
    there = [key for key in titles if standings.scores[key].notna().any()]
    return _dots(standings, there, [titles[key] for key in there], log=True)


def drawable(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores whose times and memory can stand on a logarithmic axis: what was too little to be measured becomes LEAST."""
    costs = [measure.key for measure in COST.measures]
    return scores.assign(**{key: scores[key].clip(lower=LEAST) for key in costs})


def _dots(
    standings: BenchmarkResults, keys: Sequence[str], titles: Sequence[str], *, log: bool = False
) -> Figure:
    scores = drawable(standings.scores)
    numbers, styles = summary(scores), row_styles(standings.rows)
    told = numbers[list(keys)].notna().any(axis=1)
    rows = [row for row in standings.rows if bool(told[row.name])]
    figure = new_figure(1.9 + 3.6 * len(keys), 0.9 + 0.32 * len(rows), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False, sharey=True)[0]
    for axes, key, title in zip(panels, keys, titles, strict=True):
        for y, row in enumerate(rows):
            own = scores.loc[scores["method"] == row.name, key].to_numpy(dtype=float)
            axes.plot(own, np.full(len(own), y), "o", ms=3.5, color=styles[row.name][0], mew=0, alpha=0.6)
            axes.plot(
                [value_at(numbers, row.name, key)],
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
            axes.set_xticks(places_of_ten(numbers[key].to_numpy()), minor=False)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
            axes.xaxis.set_minor_formatter(lambda *_: "")
            axes.set_xlim(limits)
    panels[0].set_yticks(range(len(rows)), [row.title for row in rows])
    return figure


@style()
def type_and_batch(row: MethodResult, labels: pd.Categorical, batches: pd.Categorical | None) -> Figure:
    """The 2-D map of a method, coloured by cell type and, beside it, by batch."""
    groups = [(labels, "cell types"), *([] if batches is None else [(batches, "batches")])]
    width = 4.6
    below = max(height_below(labels, width), 0.0 if batches is None else legend_height(batches, width))
    figure = new_figure(width * len(groups), 4.9 + below)
    share = below / figure.get_figheight()
    for place, (which, title) in enumerate(groups):
        axes = figure.add_axes((place / len(groups) + 0.01, share + 0.01, 0.98 / len(groups), 0.92 - share))
        axes.set_title(f"{row.title}: {title}")
        draw_groups(axes, row.tsne2d_n2, which, named=which is labels)
    if height_below(labels, width):
        legend_below(figure, labels, width)
    if batches is not None:
        legend_below(figure, batches, width, right=True)
    return figure


def standing_figures(standings: BenchmarkResults) -> Iterator[tuple[str, Figure]]:
    """Yield every figure of a benchmark with its file name (no ending), one at a time to spare memory."""
    scores = standings.scores
    tables = {"scib": (OVERALL, BIO, MIXING), "clusters": (CLUSTERS,), "readability": (READABILITY, SPARSITY)}
    for name, groups in tables.items():
        if any(measured(scores, group) for group in groups):
            yield name, measure_table(standings, groups)
    if scores[[MEASURES["bio_conservation"].key, MEASURES["batch_correction"].key]].notna().all(axis=1).any():
        yield "trade-off", trade_off(standings)
    if measured(scores, READABILITY):
        yield "one-latent-a-type", type_matches(standings)
    if measured(scores, LIKELIHOOD):
        yield "likelihood", likelihoods(standings)
    yield "cost", costs(standings)
    for row in standings.rows:
        yield f"map-{row.name}", type_and_batch(row, standings.labels, standings.batches)
