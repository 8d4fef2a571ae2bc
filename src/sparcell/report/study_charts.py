"""Interactive charts of a study's training, as plain plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.pl.charts import QC_TITLES, qc_bins
from sparcell.pl.colors import FAINT, INK, KEPT, REMOVED, row_styles
from sparcell.pl.tables import format_seconds, presets
from sparcell.report.charts import AXIS, layout, list_axis, plain, wrapped
from sparcell.report.study_text import short_titles

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.report.charts import Chart
    from sparcell.results.study import Floats, StudyResults


def loss_curves(results: StudyResults, preset: str, term: str) -> Chart | None:
    """Return one loss term over epochs for the rows of one preset: a line for each seed, colored by model."""
    styles = row_styles(results.rows)
    titles = short_titles([row for row in results.rows if row.preset == preset and row.model is not None])
    data: list[Chart] = []
    shown: list[Floats] = []
    for row in results.rows:
        history = results.history.query("model == @row.name") if len(results.history) else results.history
        if row.preset != preset or not len(history) or (term == "kl" and not history["kl"].fillna(0).any()):
            continue
        for number, (seed, curve) in enumerate(history.groupby("seed")):
            values = curve[term].to_numpy(dtype=float)
            shown.append(values[max(1, len(values) // 50) :] if len(values) > 2 else values)
            data.append({
                "type": "scatter", "mode": "lines" if len(curve) > 1 else "markers", "name": plain(titles.get(row.name, row.title)),
                "legendgroup": row.name, "showlegend": number == 0, "x": [int(e) for e in curve["epoch"]],
                "y": [float(f"{v:.5g}") if np.isfinite(v) else None for v in values],
                "line": {"color": styles[row.name][0], "width": 1.4}, "marker": {"color": styles[row.name][0]},
                "hovertemplate": f"{plain(row.title)}, seed {seed}, epoch %{{x}}: %{{y}}<extra></extra>",
            })  # fmt: skip
    if not data:
        return None
    return {"data": data, "layout": _curve_layout(np.concatenate(shown), "loss" if term == "loss" else "KL")}


def _curve_layout(values: Floats, title: str) -> Chart:
    # The frame leaves out the first epochs, whose losses are so high that later changes would not be visible.
    y = AXIS | {"title": {"text": f"{title}, nats per cell", "standoff": 4}, "fixedrange": False}
    values = values[np.isfinite(values)]
    if len(values) and values.max() > values.min():
        pad = 0.05 * float(values.max() - values.min())
        y["range"] = [float(values.min()) - pad, float(values.max()) + pad]
    x = {
        "title": {"text": "epoch", "standoff": 4},
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
        "linecolor": FAINT,
    }
    return layout(height=300, showlegend=True, xaxis=x, yaxis=y,
                   legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 11}})  # fmt: skip


def training_times(results: StudyResults) -> Chart | None:
    """Return mean training times as bars, with seeds as dots."""
    timed = set(results.times["model"]) if len(results.times) else set()
    rows = [row for _, group in presets(results.rows) for row in group if row.name in timed]
    if not rows:
        return None
    styles = row_styles(results.rows)
    places = list(range(len(rows)))
    seconds = [
        results.times.loc[results.times["model"] == row.name, "train_seconds"].to_numpy(float) for row in rows
    ]
    bars: Chart = {
        "type": "bar", "orientation": "h", "y": places, "x": [round(float(s.mean()), 2) for s in seconds],
        "marker": {"color": [styles[row.name][0] for row in rows]}, "hoverinfo": "skip",
    }  # fmt: skip
    dots: Chart = {
        "type": "scatter", "mode": "markers", "hovertemplate": "one seed: %{x:,.1f} s<extra></extra>",
        "y": [place for place, s in zip(places, seconds, strict=True) for _ in s],
        "x": [round(float(v), 2) for s in seconds for v in s],
        "marker": {"color": INK, "size": 5, "line": {"color": "#ffffff", "width": 0.8}},
    }  # fmt: skip
    longest = max(float(s.max()) for s in seconds)
    texts: Chart = {
        "type": "scatter", "mode": "text", "hoverinfo": "skip", "y": places, "x": [float(s.max()) for s in seconds],
        "text": [f"\u2002{format_seconds(float(s.mean()))}" for s in seconds], "textposition": "middle right",
        "cliponaxis": False,
    }  # fmt: skip
    x = AXIS | {"title": {"text": "seconds of training", "standoff": 4}, "range": [0, 1.18 * longest or 1.0]}
    y = list_axis(places, [wrapped(row.title) for row in rows], autorange="reversed", automargin=True)
    frame = layout(height=80 + 38 * len(rows), bargap=0.35, dragmode=False, xaxis=x, yaxis=y)
    narrow = {"xaxis": {"range": [0, 1.45 * longest or 1.0]}}
    return {"data": [bars, dots, texts], "layout": frame, "narrow": narrow}


def qc_histogram(
    qc: pd.DataFrame, name: str, limits: tuple[float | None, float | None] | None = None
) -> Chart:
    """Return histograms of one column of quality control for kept and removed cells, with the limits as dashed lines."""
    values, kept = qc[name].to_numpy(dtype=float), qc["kept"].to_numpy(dtype=bool)
    edges = qc_bins(values)
    middles = [float(f"{middle:.4g}") for middle in (edges[:-1] + edges[1:]) / 2]
    data: list[Chart] = []
    for mask, word, color in ((kept, "kept", KEPT), (~kept, "removed", REMOVED)):
        counts = np.histogram(values[mask], bins=edges)[0]
        data.append({
            "type": "bar", "name": word, "x": middles, "y": [int(count) or None for count in counts], "width": float(edges[1] - edges[0]),
            "marker": {"color": color, "line": {"width": 0}}, "hovertemplate": f"%{{y:,}} cells {word} at %{{x:,}}<extra></extra>",
        })  # fmt: skip
    lines = [
        {"type": "line", "x0": limit, "x1": limit, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": INK, "width": 1, "dash": "dash"}}
        for limit in limits or ()
        if limit is not None
    ]  # fmt: skip
    x = AXIS | {"title": {"text": QC_TITLES[name], "standoff": 4}, "showgrid": False, "nticks": 5}
    y = AXIS | {"title": {"text": "cells, log scale", "standoff": 4}, "type": "log", "dtick": 1}
    return {
        "data": data,
        "layout": layout(height=260, barmode="overlay", bargap=0, xaxis=x, yaxis=y, shapes=lines),
    }
