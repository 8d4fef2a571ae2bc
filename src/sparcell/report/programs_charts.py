"""Interactive charts of gene programs, as plain plotly figures.

Suffixes: m cells on the map, p programs and their directions, s steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.pl.colors import INK, SEQUENTIAL, palette
from sparcell.pl.programs import BAR, BAR_OF_SET, BARELY, colour_end, genes_of_name
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
_RAMP = [[place / (len(SEQUENTIAL) - 3), colour] for place, colour in enumerate(SEQUENTIAL[2:])]
_SHARES = [[place / (len(SEQUENTIAL) - 1), colour] for place, colour in enumerate(SEQUENTIAL)]


def labels(found: ProgramResults) -> Chart:
    """The map coloured by label, names written at the groups."""
    xy_m2 = found.map.xy_m2
    if found.map.labels is None:
        return cells(found)
    nothing = np.zeros(0, dtype=np.int64)
    row = MethodResult("", "", None, "", {}, xy_m2[:0], xy_m2, nothing, xy_m2[:0])
    return label_map(row, found.map.labels)


def cells(found: ProgramResults) -> Chart:
    """All cells of the map in grey: what lies below every program."""
    xy_m2 = found.map.xy_m2
    cloud: Chart = {
        "type": "scattergl", "mode": "markers", "x": rounded(xy_m2[:, 0]), "y": rounded(xy_m2[:, 1]), "hoverinfo": "skip",
        "marker": {"color": OFF, "size": point_size(len(xy_m2)), "line": {"width": 0}},
    }  # fmt: skip
    return {"data": [cloud], "layout": map_layout(xy_m2, [])}


def program_map(found: ProgramResults, place: int) -> Chart:
    """The cells in which a program is on, over those of `cells`, which the page keeps once for all programs."""
    amount_m, xy_m2 = found.map.amount_mp[:, place], found.map.xy_m2
    top = colour_end(amount_m)
    on_m = np.flatnonzero(amount_m > BARELY * top)
    on_m = on_m[np.argsort(amount_m[on_m], kind="stable")]
    cloud: Chart = {
        "type": "scattergl", "mode": "markers", "x": rounded(xy_m2[on_m, 0]), "y": rounded(xy_m2[on_m, 1]),
        "marker": {"color": rounded(amount_m[on_m]), "colorscale": _RAMP, "cmin": 0, "cmax": round(top, 3),
                   "size": point_size(len(xy_m2)) + 0.6, "line": {"width": 0},
                   "colorbar": {"thickness": 8, "len": 0.34, "x": 0.99, "xanchor": "right", "y": 0.02, "yanchor": "bottom", "nticks": 4,
                                "outlinewidth": 0, "tickfont": {"size": 10}}},
        "hovertemplate": "code %{marker.color}<extra></extra>",
    }  # fmt: skip
    return {"under": "cells", "data": [cloud], "layout": map_layout(xy_m2, [])}


def bars(found: ProgramResults, place: int) -> Chart:
    """Effects on a program's first genes; those of the set that names it are darker."""
    table = found.first_genes(found.programs["key"].iloc[place], N_BARS)
    names, marked = table["gene"].astype(str).tolist(), genes_of_name(found, place)
    places = list(range(len(names)))
    digits = 1 if found.counts else 2
    told = [
        f"<b>{plain(name)}</b><br>effect {effect:.2f}<br>expected {on:.{digits}f}, without the program {off:.{digits}f}"
        for name, effect, on, off in zip(
            names, table["effect"], table["mean_on"], table["mean_off"], strict=True
        )
    ]
    bar: Chart = {
        "type": "bar", "orientation": "h", "x": rounded(table["effect"].to_numpy(), 3), "y": places, "text": told, "textposition": "none",
        "marker": {"color": [BAR_OF_SET if name in marked else BAR for name in names]}, "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    x = AXIS | {"title": {"text": "log2-fold change", "standoff": 4}}
    y = list_axis(
        places,
        [plain(name) for name in names],
        range=[len(names) - 0.4, -0.6],
        automargin=True,
        tickfont={"size": 11},
    )
    frame = layout(height=70 + 19 * max(len(names), 4), xaxis=x, yaxis=y, bargap=0.22, dragmode=False)
    return {"data": [bar], "layout": frame}


def traversal(found: ProgramResults, place: int) -> Chart:
    """Expected expression of a program's first genes while its latent goes from 0 upwards (or downwards)."""
    row = found.programs.iloc[place]
    walk = found.traversals[row["key"]]
    sign = -1 if row["direction"] == "-" else 1
    colours = palette(max(len(walk.genes), 1))
    x = [round(sign * float(value), 3) for value in walk.amount_s]
    data: list[Chart] = [
        {
            "type": "scatter", "mode": "lines", "name": plain(gene), "x": x, "y": rounded(walk.expected_sg[:, place_of], 3),
            "line": {"color": colours[place_of], "width": 2}, "hovertemplate": "%{y:.2f} at %{x:.2f}<extra>" + plain(gene) + "</extra>",
        }
        for place_of, gene in enumerate(walk.genes)
    ]  # fmt: skip
    unit = "log(1 + counts per 10,000)" if found.counts else "log-normalised expression"
    frame = layout(
        height=330, dragmode=False, showlegend=True, xaxis=AXIS | {"title": {"text": "code of the latent", "standoff": 4}},
        yaxis=AXIS | {"title": {"text": unit, "standoff": 6}}, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return {"data": data, "layout": frame}


def shares(found: ProgramResults, titles: list[str]) -> Chart:
    """Share of each label's cells in which each program is on."""
    if found.shares is None:
        return {"data": [], "layout": layout()}
    share_pc = found.shares.to_numpy(dtype=float)
    names = [plain(label) for label in found.shares.columns]
    y, few = list(range(len(titles))), len(names) <= 20
    heat: Chart = {
        "type": "heatmap", "z": [rounded(line, 3) for line in share_pc], "x": names, "y": y, "zmin": 0, "zmax": 1, "colorscale": _SHARES,
        "text": [[f"{100 * value:.0f}" if value >= 0.045 and few else "" for value in line] for line in share_pc],
        "texttemplate": "%{text}", "textfont": {"size": 10}, "showscale": False, "xgap": 1, "ygap": 1,
        "customdata": [[plain(title)] * len(names) for title in titles],
        "hovertemplate": "%{customdata}: on in %{z:.1%} of %{x}<extra></extra>",
    }  # fmt: skip
    x = list_axis(automargin=True, side="top", tickangle=-45 if len(names) > 4 else 0) | {"type": "category"}
    y_axis = list_axis(
        y, [plain(title) for title in titles], autorange="reversed", automargin=True, tickfont={"size": 11}
    )
    frame = layout(height=130 + 21 * len(titles), xaxis=x, yaxis=y_axis, dragmode=False)
    narrow = {
        "yaxis": {"ticktext": [plain(title if len(title) < 15 else title[:13] + "…") for title in titles]}
    }
    return {"data": [heat], "layout": frame, "narrow": narrow}


def matches(found: ProgramResults, titles: list[str]) -> Chart:
    """Match of each program in each other seed as a dot, the median as a line."""
    if found.matches is None:
        return {"data": [], "layout": layout()}
    stable = found.programs["stable"].tolist()
    match_po = found.matches.to_numpy(dtype=float)
    y = [place for place, line in enumerate(match_po) for _ in line]
    told = [f"{plain(title)}, {plain(seed)}" for title in titles for seed in found.matches.columns]
    dots: Chart = {
        "type": "scatter", "mode": "markers", "x": rounded(match_po.ravel(), 3), "y": y, "text": told,
        "marker": {"size": 8, "opacity": 0.75, "color": [BAR_OF_SET if stable[place] else "#c4c8ce" for place in y]},
        "hovertemplate": "%{text}: %{x:.2f}<extra></extra>",
    }  # fmt: skip
    line = {"type": "line", "x0": found.least_match, "x1": found.least_match, "yref": "paper", "y0": 0, "y1": 1,
            "line": {"color": INK, "width": 1, "dash": "dot"}}  # fmt: skip
    x = AXIS | {
        "title": {"text": "correlation of gene effects with the match", "standoff": 4},
        "range": [-0.05, 1.03],
    }
    y_axis = list_axis(list(range(len(titles))), [plain(title) for title in titles], range=[len(titles) - 0.4, -0.6], automargin=True,
                       tickfont={"size": 11})  # fmt: skip
    frame = layout(height=80 + 21 * len(titles), xaxis=x, yaxis=y_axis, shapes=[line], dragmode=False)
    narrow = {
        "yaxis": {"ticktext": [plain(title if len(title) < 15 else title[:13] + "…") for title in titles]}
    }
    return {"data": [dots], "layout": frame, "narrow": narrow}
