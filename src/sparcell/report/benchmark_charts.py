"""Interactive charts of a benchmark, as plain plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sparcell.pl.benchmark import clip_costs, format_metric, log_ticks, share_range
from sparcell.pl.colors import row_styles
from sparcell.pl.tables import value_at
from sparcell.report.charts import AXIS, layout, list_axis, plain, rounded, wrapped
from sparcell.results.benchmark import METRICS, summary

if TYPE_CHECKING:
    from sparcell.report.charts import Chart
    from sparcell.results.benchmark import BenchmarkResults


def trade_off(results: BenchmarkResults) -> Chart:
    """Return bio conservation against batch correction: a large dot for each method, small dots for its seeds."""
    means, styles = summary(results.scores), row_styles(results.rows)
    data: list[Chart] = []
    for row in results.rows:
        seeds = results.scores[results.scores["method"] == row.name]
        x, y = (value_at(means, row.name, key) for key in ("batch_correction", "bio_conservation"))
        if np.isnan(x) or np.isnan(y):
            continue
        common = {"type": "scatter", "name": plain(row.title), "legendgroup": row.name}
        color = styles[row.name][0]
        data.append(common | {
            "mode": "markers", "x": [x], "y": [y], "marker": {"color": color, "size": 14, "line": {"color": "#ffffff", "width": 1}},
            "hovertemplate": f"{plain(row.title)}: batch correction %{{x:.3f}}, bio conservation %{{y:.3f}}<extra></extra>",
        })  # fmt: skip
        data.append(common | {
            "mode": "markers", "showlegend": False, "x": rounded(seeds["batch_correction"].to_numpy(), 4),
            "y": rounded(seeds["bio_conservation"].to_numpy(), 4), "marker": {"color": color, "size": 5, "opacity": 0.6},
            "hovertemplate": f"{plain(row.title)}, one seed: batch correction %{{x:.3f}}, bio conservation %{{y:.3f}}<extra></extra>",
        })  # fmt: skip
    x_range, y_range = (
        share_range(results.scores[key].to_numpy(dtype=float))
        for key in ("batch_correction", "bio_conservation")
    )
    x_axis = AXIS | {"title": {"text": "batch correction", "standoff": 4}, "range": list(x_range)}
    y_axis = AXIS | {"title": {"text": "bio conservation", "standoff": 4}, "range": list(y_range)}
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 12}}
    return {
        "data": data,
        "layout": layout(
            height=440, showlegend=True, dragmode=False, xaxis=x_axis, yaxis=y_axis, legend=legend
        ),
    }


def dots(results: BenchmarkResults, key: str, title: str, *, log: bool = False) -> Chart:
    """Return one metric as dots: a large dot for each method, small dots for its seeds."""
    scores = clip_costs(results.scores)
    means, styles = summary(scores), row_styles(results.rows)
    rows = [row for row in results.rows if not np.isnan(value_at(means, row.name, key))]
    places, values = list(range(len(rows))), [value_at(means, row.name, key) for row in rows]
    seeds = [scores.loc[scores["method"] == row.name, key].to_numpy(float) for row in rows]
    large: Chart = {
        "type": "scatter", "mode": "markers+text", "x": values, "y": places, "hoverinfo": "skip", "cliponaxis": False,
        "marker": {"color": [styles[row.name][0] for row in rows], "size": 13, "line": {"color": "#ffffff", "width": 1}},
        "text": [format_metric(key, mean) for mean in values], "textposition": "top center", "textfont": {"size": 11},
    }  # fmt: skip
    small: Chart = {
        "type": "scatter", "mode": "markers", "x": [float(v) for s in seeds for v in s],
        "y": [place for place, s in zip(places, seeds, strict=True) for _ in s],
        "marker": {"color": [styles[row.name][0] for row, s in zip(rows, seeds, strict=True) for _ in s], "size": 5, "opacity": 0.6},
        "hovertemplate": f"one seed: %{{x:,.4~g}}<extra>{plain(METRICS[key].title)}</extra>",
    }  # fmt: skip
    x_axis = AXIS | {"title": {"text": title, "standoff": 4}} | _window(seeds, log=log)
    y_axis = list_axis(
        places, [wrapped(row.title) for row in rows], range=[len(rows) - 0.4, -0.8], automargin=True
    )
    return {
        "data": [small, large],
        "layout": layout(height=110 + 44 * len(rows), dragmode=False, xaxis=x_axis, yaxis=y_axis),
    }


def _window(seeds: Sequence[np.ndarray], *, log: bool) -> Chart:
    """Return the range of an axis, with room at both ends for text."""
    values = np.concatenate(list(seeds))
    values = np.log10(values) if log else values
    low, high = float(values.min()), float(values.max())
    pad = 0.12 * (high - low) or 0.5
    ticks: Chart = {}
    if log:
        tick_values = log_ticks(np.concatenate(list(seeds)))
        texts = [f"{value:,g}" for value in tick_values]
        ticks = {"type": "log", "tickvals": tick_values, "ticktext": texts}
    return {"range": [low - pad, high + pad], **ticks}
