"""Interactive charts as plain plotly figures: dicts that become JSON, built without importing plotly.

Suffixes: n cells, l labels, c clusters.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.pl.colors import (
    FAINT,
    INK,
    MISSING,
    SEQUENTIAL,
    cluster_colors,
    ink_on,
    palette,
    ramp_color,
    row_styles,
)
from sparcell.pl.style import middles, push_apart
from sparcell.pl.tables import (
    cluster_order,
    color_range,
    contingency,
    format_seconds,
    match_clusters,
    presets,
    score_summary,
    value_at,
)
from sparcell.report.study_text import METRIC_TITLES, short_titles
from sparcell.results.study import CLUSTERING_METRICS, PRIMARY_SPACE, MethodResult, StudyResults

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.results.study import Floats, Ints

    Chart = dict[str, Any]

MAX_CELLS = 6_000
"""Maximum number of cells on an interactive map. With more cells the page would be large, but not clearer."""

AXIS: Chart = {"automargin": True, "gridcolor": "#e8ecf0", "zeroline": False, "fixedrange": True}
"""A numeric axis without zoom."""
MAX_NAMES = 14
"""Maximum number of labels that are written on a map."""
_FONT = {
    "family": "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif",
    "size": 12,
    "color": INK,
}
_HOVER = {"bgcolor": "#ffffff", "bordercolor": "#c9d1d9", "font": {"color": INK, "size": 12}}
_RAMP = [[place / (len(SEQUENTIAL) - 1), color] for place, color in enumerate(SEQUENTIAL)]
_DASHES = ("solid", "dash", "dot", "dashdot")


def plain(text: object) -> str:
    """Return a name as plain text for plotly, which would render HTML and TeX between dollar signs."""
    return html.escape(str(text), quote=False).replace("$", "&#36;")


def subset_of_cells(n: int) -> Ints:
    """Return the rows of the cells on the interactive maps: all, or a fixed random subset in increasing order."""
    if n <= MAX_CELLS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, MAX_CELLS, replace=False))


def subset_note(n: int) -> str:
    """Return a sentence on the subset of cells on the interactive maps; empty if they show all cells."""
    return f" The map shows a random subset of {MAX_CELLS:,} of {n:,} cells." if n > MAX_CELLS else ""


def layout(**more: object) -> Chart:
    """Return the layout that all charts share, updated with the entries of one chart."""
    base: Chart = {
        "font": _FONT,
        "hoverlabel": _HOVER,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "dragmode": "pan",
    }
    return base | more


def list_axis(
    places: Sequence[int] | None = None, names: Sequence[str] | None = None, **more: object
) -> Chart:
    """Return an axis of names, without lines and without zoom."""
    axis: Chart = {"fixedrange": True, "showgrid": False, "zeroline": False, "showline": False,
                   "ticks": "outside", "ticklen": 6, "tickcolor": "rgba(0,0,0,0)"}  # fmt: skip
    if places is not None:
        axis |= {"tickvals": list(places), "ticktext": list(names or [])}
    return axis | more


def rounded(values: Floats, decimals: int = 2) -> list[float | None]:
    """Return rounded numbers for JSON; None for NaN and infinity."""
    return [None if not np.isfinite(value) else round(float(value), decimals) for value in values]


def map_layout(xy_n2: Floats, names: Sequence[Chart]) -> Chart:
    """Return the layout of a map: a square window around all cells, without axes."""
    low, high = np.nanmin(xy_n2, axis=0), np.nanmax(xy_n2, axis=0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-6) * 1.06
    ranges = [[round(float(m - half), 2), round(float(m + half), 2)] for m in middle]
    x, y = ({"visible": False, "range": window, "fixedrange": False} for window in ranges)
    return layout(xaxis=x, yaxis=y | {"scaleanchor": "x"}, annotations=list(names))


def _name_on_map(place: Floats, text: str, size: int = 12, shift: int = 0) -> Chart:
    return {
        "x": round(float(place[0]), 2), "y": round(float(place[1]), 2), "text": f"<b>{plain(text)}</b>", "showarrow": False,
        "xshift": shift, "yshift": shift, "bgcolor": "rgba(255,255,255,.78)", "borderpad": 1,
        "font": {"size": size, "color": INK},
    }  # fmt: skip


def point_size(n: int) -> float:
    """Return the diameter of a marker on a map of n cells, in pixels."""
    return round(float(np.clip(175 / np.sqrt(max(n, 1)), 2.4, 9)), 1)


def _cloud(xy_n2: Floats, name: str, color: str, n_all: int, hover: object = None) -> Chart:
    trace: Chart = {
        "type": "scattergl", "mode": "markers", "name": plain(name), "x": rounded(xy_n2[:, 0]), "y": rounded(xy_n2[:, 1]),
        "marker": {"color": color, "size": point_size(n_all), "opacity": 0.85, "line": {"width": 0}},
        "hovertemplate": "%{text}<extra></extra>" if hover is not None else f"{plain(name)}<extra></extra>",
    }  # fmt: skip
    if hover is not None:
        trace["text"] = hover
    return trace


def _apart(places: Floats, names: Sequence[str], xy_n2: Floats, panel: float = 430.0) -> Floats:
    """Return places at which names do not overlap in a panel of `panel` pixels."""
    finite = np.isfinite(places[:, 0])
    low, high = np.nanmin(xy_n2, axis=0), np.nanmax(xy_n2, axis=0)
    pixel = max(float((high - low).max()), 1e-6) * 1.06 / panel
    sizes = np.array([[6.8 * len(name) + 6, 17.0] for name in names[: len(places)]]) * pixel
    moved = np.array(places)
    moved[finite] = push_apart(places[finite], sizes[finite], np.stack([low, high]))
    return moved


def label_groups(labels: pd.Categorical) -> list[tuple[int, str, str]]:
    """Return code, name and color of each label, and of the missing label (-1) if there is one."""
    names = [str(name) for name in labels.categories]
    groups = [
        (code, name, color) for code, (name, color) in enumerate(zip(names, palette(len(names)), strict=True))
    ]
    return [*groups, (-1, "no label", MISSING)] if (labels.codes < 0).any() else groups


def label_map(row: MethodResult, labels: pd.Categorical) -> Chart:
    """Return the 2-D map colored by label, with the names on the map if there are few labels."""
    cells = subset_of_cells(len(labels))
    xy, codes = row.tsne2d_n2[cells], np.asarray(labels.codes)[cells]
    groups = label_groups(labels)
    data = [_cloud(xy[codes == code], name, color, len(cells)) for code, name, color in groups]
    names: list[Chart] = []
    if len(labels.categories) <= MAX_NAMES:
        places = _apart(
            middles(xy, codes, len(labels.categories)), [name for _, name, _ in groups], row.tsne2d_n2
        )
        names = [_name_on_map(place, groups[i][1]) for i, place in enumerate(places) if np.isfinite(place[0])]
    return {"data": data, "layout": map_layout(row.tsne2d_n2, names)}


def partition_map(row: MethodResult, labels: pd.Categorical) -> Chart:
    """Return the 2-D map colored by cluster, with centroids; the hover text names the most frequent label of a cluster."""
    cells = subset_of_cells(len(labels))
    xy, clusters = row.tsne2d_n2[cells], np.asarray(row.kmeans_n)[cells]
    table_lc = contingency(labels, row.kmeans_n)
    label_names = [str(name) for name in labels.categories]
    data = []
    for cluster, color in enumerate(cluster_colors(labels, row.kmeans_n)):
        hover = plain(f"cluster {cluster}")
        largest = int(table_lc[:, cluster].argmax()) if table_lc.size else 0
        if table_lc[:, cluster].any():
            fraction = table_lc[largest, cluster] / table_lc[:, cluster].sum()
            hover = f"cluster {cluster}: {fraction:.0%} {plain(label_names[largest])}"
        trace = _cloud(xy[clusters == cluster], f"cluster {cluster}", color, len(cells))
        data.append(trace | {"hovertemplate": f"{hover}<extra></extra>"})
    data.append({
        "type": "scattergl", "mode": "markers", "name": "centroids", "x": rounded(row.centroids_c2[:, 0]),
        "y": rounded(row.centroids_c2[:, 1]), "hoverinfo": "skip",
        "marker": {"symbol": "x", "size": 9, "color": INK, "line": {"color": "#ffffff", "width": 1.2}},
    })  # fmt: skip
    names = [str(cluster) for cluster in range(len(row.centroids_c2))]
    places = _apart(row.centroids_c2, names, row.tsne2d_n2)
    numbers = [_name_on_map(place, name, 11, 12) for place, name in zip(places, names, strict=True)]
    return {"data": data, "layout": map_layout(row.tsne2d_n2, numbers)}


def space_map(row: MethodResult, labels: pd.Categorical) -> Chart | None:
    """Return the 3-D map with one trace for each label; None if the row has no 3-D map."""
    if row.tsne3d_n3 is None:
        return None
    cells = subset_of_cells(len(labels))
    xyz, codes = row.tsne3d_n3[cells], np.asarray(labels.codes)[cells]
    data = []
    for code, name, color in label_groups(labels):
        members = xyz[codes == code]
        data.append({
            "type": "scatter3d", "mode": "markers", "name": plain(name),
            "x": rounded(members[:, 0]), "y": rounded(members[:, 1]), "z": rounded(members[:, 2]),
            "marker": {"color": color, "size": round(point_size(len(cells)) * 0.8, 1), "opacity": 0.9, "line": {"width": 0}},
            "hovertemplate": f"{plain(name)}<extra></extra>",
        })  # fmt: skip
    axis = {"title": {"text": ""}, "showticklabels": False, "ticks": "", "showspikes": False, "gridcolor": "#dfe5ea",
            "zeroline": False, "backgroundcolor": "#f7f9fb", "showbackground": True}  # fmt: skip
    axes_3d = {"xaxis": axis, "yaxis": axis, "zaxis": axis, "aspectmode": "cube", "dragmode": "orbit",
             "camera": {"eye": {"x": 1.28, "y": 1.28, "z": 0.75}, "center": {"x": 0, "y": 0, "z": -0.07}}}  # fmt: skip
    return {"data": data, "layout": layout(scene=axes_3d, dragmode="orbit")}


def generated_map(row: MethodResult, labels: pd.Categorical) -> Chart | None:
    """Return the map of generated cells over the real cells (gray), with the interpolation between two real cells."""
    if row.generated_m2 is None and row.interpolated_s2 is None:
        return None
    cells = subset_of_cells(len(labels))
    parts = [row.tsne2d_n2]
    data = [_cloud(row.tsne2d_n2[cells], "real cell", MISSING, len(cells))]
    names: list[Chart] = []
    if row.generated_m2 is not None:
        parts.append(row.generated_m2)
        generated = _cloud(row.generated_m2, "generated cell", "#1f5f8b", len(row.generated_m2))
        generated["marker"] |= {"size": 5, "opacity": 0.75}
        data.append(generated)
    if row.interpolated_s2 is not None and len(row.interpolated_s2):
        walk = row.interpolated_s2
        parts.append(walk)
        data.append({
            "type": "scattergl", "mode": "lines+markers", "name": "interpolation", "x": rounded(walk[:, 0]), "y": rounded(walk[:, 1]),
            "line": {"color": "#cc3311", "width": 2}, "marker": {"size": 6, "color": "#cc3311"},
            "text": [f"step {step} of {len(walk)}" for step in range(1, len(walk) + 1)],
            "hovertemplate": "%{text}<extra></extra>",
        })  # fmt: skip
        if row.interpolated_labels is not None:
            start, end = row.interpolated_labels
            names = [
                _name_on_map(walk[0], f"from {start}", 11, 14),
                _name_on_map(walk[-1], f"to {end}", 11, 14),
            ]
    return {"data": data, "layout": map_layout(np.concatenate(parts), names)}


def confusion(row: MethodResult, labels: pd.Categorical) -> Chart:
    """Return the fraction of each label in each cluster, with clusters sorted by their matched labels."""
    table_lc = contingency(labels, row.kmeans_n)
    order = cluster_order(match_clusters(table_lc))
    fraction = table_lc[:, order] / np.maximum(table_lc.sum(axis=1), 1)[:, None]
    names = [plain(name) for name in labels.categories]
    y = list(range(len(names)))
    few = len(names) <= 20
    texts = [[f"{100 * value:.0f}" if value >= 0.045 and few else "" for value in line] for line in fraction]
    counts = [[f"{table_lc[i, c]:,} of {table_lc[i].sum():,} cells" for c in order] for i in y]
    heat: Chart = {
        "type": "heatmap", "z": [rounded(line, 3) for line in fraction], "x": [str(c) for c in order], "y": y,
        "text": texts, "texttemplate": "%{text}", "textfont": {"size": 11}, "customdata": counts, "zmin": 0, "zmax": 1,
        "colorscale": _RAMP, "showscale": False, "xgap": 2, "ygap": 2,
        "hovertemplate": "%{customdata} in cluster %{x}<extra></extra>",
    }  # fmt: skip
    x = list_axis(automargin=True, title={"text": "k-means cluster", "standoff": 6}) | {"type": "category"}
    size = 12 if few else 9
    y_axis = list_axis(y, names, autorange="reversed", automargin=True, tickfont={"size": size})
    frame = layout(height=90 + (30 if few else 17) * len(names), xaxis=x, yaxis=y_axis, dragmode=False)
    return {"data": [heat], "layout": frame}


def score_heatmap(results: StudyResults, space: str = PRIMARY_SPACE) -> Chart:
    """Return the heat map of mean scores, rows × four metrics, with mean and sd as text."""
    summary = score_summary(results.scores, space)
    rows = [row for _, group in presets(results.rows) for row in group if row.name in summary.index]
    low, high = color_range(summary)
    annotations, z = [], []
    for line, row in enumerate(rows):
        z.append(rounded(np.array([value_at(summary, row.name, metric) for metric in CLUSTERING_METRICS]), 4))
        for column, metric in enumerate(CLUSTERING_METRICS):
            mean, sd = value_at(summary, row.name, metric), value_at(summary, row.name, f"{metric}_sd")
            spread = "" if np.isnan(sd) else f"<br><span style='font-size:.82em'>± {sd:.3f}</span>"
            color = ramp_color((mean - low) / (high - low))
            annotations.append({"x": column, "y": line, "text": f"{mean:.3f}{spread}", "showarrow": False,
                          "font": {"size": 12, "color": ink_on(color)}})  # fmt: skip
    columns, lines = list(range(len(CLUSTERING_METRICS))), list(range(len(rows)))
    heat: Chart = {
        "type": "heatmap", "z": z, "x": columns, "y": lines, "zmin": low, "zmax": high, "colorscale": _RAMP,
        "showscale": False, "xgap": 2, "ygap": 3, "hoverinfo": "skip",
    }  # fmt: skip
    x = list_axis(columns, [METRIC_TITLES[metric] for metric in CLUSTERING_METRICS], side="top", tickangle=0)
    y = list_axis(lines, [wrapped(row.title) for row in rows], autorange="reversed", automargin=True)
    margin = {"l": 8, "r": 8, "t": 40, "b": 8}
    frame = layout(
        height=60 + 42 * len(rows), xaxis=x, yaxis=y, annotations=annotations, dragmode=False, margin=margin
    )
    short = ["NMI", "ARI", "homo-<br>geneity", "complete-<br>ness"]
    return {"data": [heat], "layout": frame, "narrow": {"xaxis": {"ticktext": short}}}


def wrapped(title: str) -> str:
    """Return a title broken at its comma, which leaves room for the chart on a narrow screen."""
    return plain(title).replace(", ", ",<br>", 1)


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
    shades = [0.9 if styles[row.name][1] == 0 else 0.55 for row in rows]
    bars: Chart = {
        "type": "bar", "orientation": "h", "y": places, "x": [round(float(s.mean()), 2) for s in seconds],
        "marker": {"color": [styles[row.name][0] for row in rows], "opacity": shades}, "hoverinfo": "skip",
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
