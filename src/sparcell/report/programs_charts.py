"""Interactive charts of gene programs, as plain plotly figures.

Suffixes: m cells on the map, p programs and their directions, s steps of a traversal, c labels, o other seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.pl.colors import INK, SEQUENTIAL, palette
from sparcell.pl.programs import BAR, BAR_OF_SET, MIN_COLOR_FRACTION, color_limit, naming_genes
from sparcell.report.study_charts import (
    AXIS,
    label_map,
    layout,
    list_axis,
    map_layout,
    plain,
    point_size,
    rounded,
)
from sparcell.results.study import MethodResult

if TYPE_CHECKING:
    from sparcell.report.study_charts import Chart
    from sparcell.results.programs import ProgramResults

N_BARS = 20
OFF = "#e3e6ea"
MAX_NARROW_TITLE = 14
"""Longest title on a narrow screen, in letters."""
_RAMP = [[step / (len(SEQUENTIAL) - 3), color] for step, color in enumerate(SEQUENTIAL[2:])]
_FRACTION_RAMP = [[step / (len(SEQUENTIAL) - 1), color] for step, color in enumerate(SEQUENTIAL)]


def labels(results: ProgramResults) -> Chart:
    """Return the map colored by label, with names at the groups."""
    xy_m2 = results.embedding.xy_m2
    if results.embedding.labels is None:
        return cells(results)
    empty = np.zeros(0, dtype=np.int64)
    row = MethodResult("", "", None, "", {}, xy_m2[:0], xy_m2, empty, xy_m2[:0])
    return label_map(row, results.embedding.labels)


def cells(results: ProgramResults) -> Chart:
    """Return the map with all cells in grey: the layer under each program."""
    xy_m2 = results.embedding.xy_m2
    cloud: Chart = {
        "type": "scattergl", "mode": "markers", "x": rounded(xy_m2[:, 0]), "y": rounded(xy_m2[:, 1]), "hoverinfo": "skip",
        "marker": {"color": OFF, "size": point_size(len(xy_m2)), "line": {"width": 0}},
    }  # fmt: skip
    return {"data": [cloud], "layout": map_layout(xy_m2, [])}


def program_map(results: ProgramResults, position: int) -> Chart:
    """Return the cells in which a program is on; the page draws them over `cells`, which it stores once for all programs."""
    activity_m, xy_m2 = results.embedding.activity_mp[:, position], results.embedding.xy_m2
    color_max = color_limit(activity_m)
    on_m = np.flatnonzero(activity_m > MIN_COLOR_FRACTION * color_max)
    on_m = on_m[np.argsort(activity_m[on_m], kind="stable")]
    cloud: Chart = {
        "type": "scattergl", "mode": "markers", "x": rounded(xy_m2[on_m, 0]), "y": rounded(xy_m2[on_m, 1]),
        "marker": {"color": rounded(activity_m[on_m]), "colorscale": _RAMP, "cmin": 0, "cmax": round(color_max, 3),
                   "size": point_size(len(xy_m2)) + 0.6, "line": {"width": 0},
                   "colorbar": {"thickness": 8, "len": 0.34, "x": 0.99, "xanchor": "right", "y": 0.02, "yanchor": "bottom", "nticks": 4,
                                "outlinewidth": 0, "tickfont": {"size": 10}}},
        "hovertemplate": "activity %{marker.color}<extra></extra>",
    }  # fmt: skip
    return {"under": "cells", "data": [cloud], "layout": map_layout(xy_m2, [])}


def bars(results: ProgramResults, position: int) -> Chart:
    """Return bars of the effects on a program's top genes; genes of the set that names the program are darker."""
    table = results.top_genes(results.programs["key"].iloc[position], N_BARS)
    names, highlighted = table["gene"].astype(str).tolist(), naming_genes(results, position)
    ticks = list(range(len(names)))
    digits = 1 if results.counts else 2
    hover_texts = [
        f"<b>{plain(name)}</b><br>effect {effect:.2f}<br>expected {on:.{digits}f}, with the latent at 0 {off:.{digits}f}"
        for name, effect, on, off in zip(
            names, table["effect"], table["mean_on"], table["mean_off"], strict=True
        )
    ]
    bar: Chart = {
        "type": "bar", "orientation": "h", "x": rounded(table["effect"].to_numpy(), 3), "y": ticks, "text": hover_texts,
        "textposition": "none", "marker": {"color": [BAR_OF_SET if name in highlighted else BAR for name in names]},
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    x_axis = AXIS | {"title": {"text": "log2 fold change", "standoff": 4}}
    y_axis = list_axis(
        ticks,
        [plain(name) for name in names],
        range=[len(names) - 0.4, -0.6],
        automargin=True,
        tickfont={"size": 11},
    )
    height = 70 + 19 * max(len(names), 4)
    return {
        "data": [bar],
        "layout": layout(height=height, xaxis=x_axis, yaxis=y_axis, bargap=0.22, dragmode=False),
    }


def traversal(results: ProgramResults, position: int) -> Chart:
    """Return the expected expression of a program's top genes while its latent goes from 0 upward (or downward)."""
    program = results.programs.iloc[position]
    path = results.traversals[program["key"]]
    sign = -1 if program["direction"] == "-" else 1
    colors = palette(max(len(path.genes), 1))
    x = [round(sign * float(value), 3) for value in path.distance_s]
    data: list[Chart] = [
        {
            "type": "scatter", "mode": "lines", "name": plain(gene), "x": x, "y": rounded(path.expected_sg[:, column], 3),
            "line": {"color": colors[column], "width": 2}, "hovertemplate": "%{y:.2f} at %{x:.2f}<extra>" + plain(gene) + "</extra>",
        }
        for column, gene in enumerate(path.genes)
    ]  # fmt: skip
    unit = "log(1 + counts per 10,000)" if results.counts else "log-normalized expression"
    frame = layout(
        height=330, dragmode=False, showlegend=True, xaxis=AXIS | {"title": {"text": "latent", "standoff": 4}},
        yaxis=AXIS | {"title": {"text": unit, "standoff": 6}}, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return {"data": data, "layout": frame}


def label_fractions(results: ProgramResults, titles: list[str]) -> Chart:
    """Return a heat map of the percentage of each label's cells in which each program is on."""
    if results.label_fractions is None:
        return {"data": [], "layout": layout()}
    fraction_pc = results.label_fractions.to_numpy(dtype=float)
    names = [plain(label) for label in results.label_fractions.columns]
    y, few_labels = list(range(len(titles))), len(names) <= 20
    heat: Chart = {
        "type": "heatmap", "z": [rounded(line, 3) for line in fraction_pc], "x": names, "y": y, "zmin": 0, "zmax": 1,
        "colorscale": _FRACTION_RAMP,
        "text": [[f"{100 * value:.0f}" if value >= 0.045 and few_labels else "" for value in line] for line in fraction_pc],
        "texttemplate": "%{text}", "textfont": {"size": 10}, "showscale": False, "xgap": 1, "ygap": 1,
        "customdata": [[plain(title)] * len(names) for title in titles],
        "hovertemplate": "%{customdata}: on in %{z:.1%} of %{x}<extra></extra>",
    }  # fmt: skip
    tick_angle = -45 if len(names) > 4 else 0
    x_axis = list_axis(automargin=True, side="top", tickangle=tick_angle) | {"type": "category"}
    y_axis = list_axis(
        y, [plain(title) for title in titles], autorange="reversed", automargin=True, tickfont={"size": 11}
    )
    frame = layout(height=130 + 21 * len(titles), xaxis=x_axis, yaxis=y_axis, dragmode=False)
    return {"data": [heat], "layout": frame, "narrow": _narrow(titles)}


def matches(results: ProgramResults, titles: list[str]) -> Chart:
    """Return the match of each program in each other seed as a dot, with the limit as a dotted line."""
    if results.matches is None:
        return {"data": [], "layout": layout()}
    stable = results.programs["stable"].tolist()
    match_po = results.matches.to_numpy(dtype=float)
    y = [position for position, line in enumerate(match_po) for _ in line]
    hover_texts = [f"{plain(title)}, {plain(seed)}" for title in titles for seed in results.matches.columns]
    dots: Chart = {
        "type": "scatter", "mode": "markers", "x": rounded(match_po.ravel(), 3), "y": y, "text": hover_texts,
        "marker": {"size": 8, "opacity": 0.75, "color": [BAR_OF_SET if stable[position] else "#c4c8ce" for position in y]},
        "hovertemplate": "%{text}: %{x:.2f}<extra></extra>",
    }  # fmt: skip
    line = {"type": "line", "x0": results.min_match, "x1": results.min_match, "yref": "paper", "y0": 0, "y1": 1,
            "line": {"color": INK, "width": 1, "dash": "dot"}}  # fmt: skip
    x_axis = AXIS | {
        "title": {"text": "correlation of gene effects with the matched program", "standoff": 4},
        "range": [-0.05, 1.03],
    }
    y_axis = list_axis(list(range(len(titles))), [plain(title) for title in titles], range=[len(titles) - 0.4, -0.6], automargin=True,
                       tickfont={"size": 11})  # fmt: skip
    frame = layout(height=80 + 21 * len(titles), xaxis=x_axis, yaxis=y_axis, shapes=[line], dragmode=False)
    return {"data": [dots], "layout": frame, "narrow": _narrow(titles)}


def _narrow(titles: list[str]) -> Chart:
    """Return the changes of the layout on a narrow screen: shortened titles."""
    short = [
        title if len(title) <= MAX_NARROW_TITLE else f"{title[: MAX_NARROW_TITLE - 1]}…" for title in titles
    ]
    return {"yaxis": {"ticktext": [plain(title) for title in short]}}
