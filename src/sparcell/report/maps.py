"""Interactive maps of cells as plain data, which maps.js draws.

A map refers to what several maps share by name: "xy/beta-vae" is the entry "beta-vae" of the entry "xy" of the page's store.

Suffixes: n cells, m generated cells, s interpolation steps, g genes.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.pl.colors import GENERATED, MISSING, PATH, cluster_colors, palette
from sparcell.pl.style import name_places, push_apart
from sparcell.pl.tables import contingency
from sparcell.report.charts import rounded

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.results.expression import GeneExpression
    from sparcell.results.study import Floats, Ints, MethodResult

    CellMap = dict[str, Any]

MAX_CELLS = 6_000
"""Maximum number of cells on an interactive map. With more cells the page would be large, but not clearer."""
MAX_NAMES = 14
"""Maximum number of labels that are written on a map."""


def subset_of_cells(n: int) -> Ints:
    """Return the rows of the cells on the interactive maps: all, or a fixed random subset in increasing order."""
    if n <= MAX_CELLS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, MAX_CELLS, replace=False))


def subset_note(n: int) -> str:
    """Return a sentence on the subset of cells on the interactive maps; empty if they show all cells."""
    return f" The map shows a random subset of {MAX_CELLS:,} of {n:,} cells." if n > MAX_CELLS else ""


def axes_of(positions: Floats) -> list[list[float | None]]:
    """Return positions, one per row, as one list for each axis."""
    return [rounded(axis) for axis in np.asarray(positions).T]


def label_groups(labels: pd.Categorical) -> list[tuple[int, str, str]]:
    """Return code, name and color of each label, and of the missing label (-1) if there is one."""
    names = [str(name) for name in labels.categories]
    groups = [
        (code, name, color) for code, (name, color) in enumerate(zip(names, palette(len(names)), strict=True))
    ]
    return [*groups, (-1, "no label", MISSING)] if (labels.codes < 0).any() else groups


def shared_groups(labels: pd.Categorical) -> CellMap:
    """Return the groups of the cells on the maps by label: codes, names, colors; cells without a label are the last group."""
    groups = label_groups(labels)
    codes = np.asarray(labels.codes)[subset_of_cells(len(labels))]
    return {
        "codes": np.where(codes < 0, len(groups) - 1, codes).tolist(),
        "names": [name for _, name, _ in groups],
        "colors": [color for _, _, color in groups],
    }


def shared_positions(rows: Sequence[MethodResult]) -> dict[str, CellMap]:
    """Return the positions of the cells on the maps of all methods: entries "xy" and "xyz" of the page's store."""
    return {
        "xy": {row.name: axes_of(row.tsne2d_n2[subset_of_cells(len(row.tsne2d_n2))]) for row in rows},
        "xyz": {
            row.name: axes_of(row.tsne3d_n3[subset_of_cells(len(row.tsne3d_n3))])
            for row in rows
            if row.tsne3d_n3 is not None
        },
    }


def label_map(name: str, xy_n2: Floats, labels: pd.Categorical, groups: str = "groups/labels") -> CellMap:
    """Return the map `xy/<name>` colored by label, with the names on the map if there are few labels."""
    chart: CellMap = {"xy": f"xy/{name}", "groups": groups}
    if len(labels.categories) <= MAX_NAMES:
        names = [str(label) for label in labels.categories]
        places = _apart(name_places(xy_n2, np.asarray(labels.codes), len(names)), names, xy_n2)
        chart["names"] = [
            [*rounded(place), text]
            for place, text in zip(places, names, strict=True)
            if np.isfinite(place[0])
        ]
    return chart


def partition_map(row: MethodResult, labels: pd.Categorical) -> CellMap:
    """Return the 2-D map colored by cluster, with centroids; the name of a cluster tells its most frequent label."""
    clusters = np.asarray(row.kmeans_n)[subset_of_cells(len(labels))]
    table_lc = contingency(labels, row.kmeans_n)
    label_names = [str(name) for name in labels.categories]
    colors = cluster_colors(labels, row.kmeans_n)
    names = []
    for cluster in range(len(colors)):
        n_labeled = table_lc[:, cluster].sum() if table_lc.size else 0
        name = f"cluster {cluster}"
        if n_labeled:
            largest = int(table_lc[:, cluster].argmax())
            name += f": {table_lc[largest, cluster] / n_labeled:.0%} {label_names[largest]}"
        names.append(name)
    numbers = [str(cluster) for cluster in range(len(row.centroids_c2))]
    marks = [[*rounded(place), number] for place, number in zip(row.centroids_c2, numbers, strict=True)]
    groups = {"codes": clusters.tolist(), "names": names, "colors": colors}
    return {"xy": f"xy/{row.name}", "groups": groups, "marks": marks}


def space_map(row: MethodResult, labels: pd.Categorical) -> CellMap | None:
    """Return the 3-D map colored by label; None if the row has no 3-D map."""
    if row.tsne3d_n3 is None:
        return None
    chart: CellMap = {"xyz": f"xyz/{row.name}", "groups": "groups/labels"}
    if len(labels.categories) <= MAX_NAMES:
        codes, names = np.asarray(labels.codes), [str(label) for label in labels.categories]
        places = [np.median(row.tsne3d_n3[codes == code], axis=0) if (codes == code).any() else np.full(3, np.nan)
                  for code in range(len(names))]  # fmt: skip
        chart["names"] = [
            [*rounded(place), text]
            for place, text in zip(places, names, strict=True)
            if np.isfinite(place[0])
        ]
    return chart


def generated_map(row: MethodResult) -> CellMap | None:
    """Return the map of generated cells over the real cells, with the interpolation between two real cells; None without both."""
    if row.generated_m2 is None and row.interpolated_s2 is None:
        return None
    chart: CellMap = {"xy": f"xy/{row.name}"}
    if row.generated_m2 is not None:
        chart["dots"] = {"xy": axes_of(row.generated_m2), "color": GENERATED, "name": "generated cell"}
    if row.interpolated_s2 is not None and len(row.interpolated_s2):
        start, end = row.interpolated_labels or ("one cell", "another cell")
        chart["path"] = {"xy": axes_of(row.interpolated_s2), "color": PATH, "from": start, "to": end}
    return chart


def batch_map(row: MethodResult) -> CellMap:
    """Return the 2-D map colored by batch."""
    return {"xy": f"xy/{row.name}", "groups": "groups/batches"}


def gene_store(expression: GeneExpression | None, n_cells: int) -> CellMap:
    """Return the genes that can be shown on the maps: names, highest values, and the values as bytes (255 is the highest) in base64."""
    if expression is None:
        return {"names": [], "highest": [], "levels": [], "unit": ""}
    values_ng = expression.values_ng[subset_of_cells(n_cells)]
    highest_g = values_ng.max(axis=0, initial=0.0)
    levels_ng = np.round(255 * values_ng / np.where(highest_g > 0, highest_g, 1)).astype(np.uint8)
    return {
        "names": list(expression.genes),
        "highest": rounded(highest_g),
        "levels": [
            base64.b64encode(levels_ng[:, g].tobytes()).decode("ascii") for g in range(len(highest_g))
        ],
        "unit": expression.unit,
    }


def _apart(places: Floats, names: Sequence[str], xy_n2: Floats, panel: float = 330.0) -> Floats:
    """Return places at which names do not overlap in a panel of `panel` pixels, the width of a phone."""
    finite = np.isfinite(places[:, 0])
    low, high = np.nanmin(xy_n2, axis=0), np.nanmax(xy_n2, axis=0)
    pixel = max(float((high - low).max()), 1e-6) * 1.06 / panel
    sizes = np.array([[6.8 * len(name) + 6, 17.0] for name in names[: len(places)]]) * pixel
    moved = np.array(places)
    moved[finite] = push_apart(places[finite], sizes[finite], np.stack([low, high]))
    return moved
