"""Interactive charts of gene programs, as plain plotly figures.

Suffixes: m cells on the map, p programs and their directions, s steps of a traversal, c labels, o other seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.pl.colors import INK, palette
from sparcell.pl.programs import BAR, BAR_OF_SET, MIN_COLOR_FRACTION, color_limit, naming_genes
from sparcell.report.charts import AXIS, layout, list_axis, plain, rounded

if TYPE_CHECKING:
    from sparcell.report.charts import Chart
    from sparcell.report.maps import CellMap
    from sparcell.results.programs import ProgramResults

N_BARS = 20
MAX_NARROW_TITLE = 14
"""Longest title on a narrow screen, in letters."""


def program_map(results: ProgramResults, position: int) -> CellMap:
    """Return the map colored by the activity of a program; only cells in which the program is on have a value."""
    activity_m = results.embedding.activity_mp[:, position]
    color_max = color_limit(activity_m)
    on_m = np.flatnonzero(activity_m > MIN_COLOR_FRACTION * color_max)
    values = {
        "at": on_m.tolist(),
        "of": rounded(activity_m[on_m]),
        "top": round(color_max, 3),
        "title": "activity",
    }
    return {"xy": "xy/map", "values": values}


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


def height_on(n_labels: int) -> int:
    """Return the height of the chart of the cells that are on, in pixels."""
    return 70 + 19 * max(n_labels, 4)


def cells_on(results: ProgramResults, position: int) -> Chart | None:
    """Return bars of the percentage of each label's cells in which a program is on, the largest first; None without labels."""
    if results.label_fractions is None:
        return None
    fractions = (
        results.label_fractions.iloc[position].astype(float).sort_values(ascending=False, kind="stable")
    )
    ticks = list(range(len(fractions)))
    bar: Chart = {
        "type": "bar", "orientation": "h", "x": rounded(100 * fractions.to_numpy(), 1), "y": ticks, "marker": {"color": BAR_OF_SET},
        "hovertemplate": "on in %{x}% of the cells<extra></extra>",
    }  # fmt: skip
    x_axis = AXIS | {"title": {"text": "% of cells on", "standoff": 4}, "range": [0, 102]}
    names = [plain(name) for name in fractions.index]
    y_axis = list_axis(ticks, names, range=[len(ticks) - 0.4, -0.6], automargin=True, tickfont={"size": 11})
    return {
        "data": [bar],
        "layout": layout(height=height_on(len(ticks)), xaxis=x_axis, yaxis=y_axis, bargap=0.22),
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
