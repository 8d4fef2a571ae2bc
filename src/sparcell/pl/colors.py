"""Colors of cell types, clusters, methods and scales, the same in all figures and reports."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from sparcell.pl.tables import contingency, match_clusters

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.results.study import Floats, Ints, MethodResult

MISSING = "#c4c8ce"
INK = "#1d2733"
FAINT = "#616c77"
"""Secondary text: contrast with white above 4.5."""
GENERATED, PATH = "#1f5f8b", "#cc3311"
"""Generated cells, and the interpolation between two cells."""
KEPT, REMOVED = "#5d9bbf", "#c2553a"
"""Cells that quality control kept and removed."""
MAX_TEXT_SHADE = 0.52
"""Part of the sequential scale behind text, so that dark text is readable on all of it."""

# Paul Tol's and Okabe-Ito's hues, ordered so that neighbors in the list differ in lightness as well as in hue.
_FIRST = (
    "#4477aa", "#ee7733", "#228833", "#aa3377", "#66ccee", "#ccbb44",
    "#cc3311", "#332288", "#44bb99", "#ee99aa", "#885522", "#777777",
)  # fmt: skip
_ROWS = ("#4477aa", "#cc6622", "#228833", "#aa3377", "#bba030", "#555f6b")
SEQUENTIAL = ("#f6f9fb", "#d4e4ee", "#9fc4da", "#5d9bbf", "#2a6f9b", "#124a70")
"""Blue color scale of heat maps, light to dark."""
SIGNED = "RdBu_r"
"""Color scale of differences: blue below 0, red above."""


def _oklab(rgb: Floats) -> Floats:
    """Convert sRGB in 0 … 1 to OKLab, where Euclidean distance approximates perceived distance (Ottosson 2020)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_lms = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
    to_lab = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])
    return np.asarray(np.cbrt(linear @ to_lms.T) @ to_lab.T)


def _rgb(colors: Sequence[str]) -> Floats:
    return np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors])


@cache
def palette(n: int) -> tuple[str, ...]:
    """Return colors of n cell types: twelve fixed ones, then each the most distant from all before."""
    if n <= len(_FIRST):
        return _FIRST[:n]
    levels = np.linspace(0.05, 0.95, 13)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(grid)
    # Not too pale for a white background, not too dark, and not too gray, which marks missing labels.
    usable = (lab[:, 0] > 0.38) & (lab[:, 0] < 0.86) & (np.hypot(lab[:, 1], lab[:, 2]) > 0.06)
    grid, lab = grid[usable], lab[usable]
    chosen = list(_FIRST)
    taken = _oklab(_rgb([*_FIRST, MISSING, "#ffffff"]))
    distance = np.linalg.norm(lab[:, None] - taken[None], axis=-1).min(axis=1)
    while len(chosen) < n:
        best = int(distance.argmax())
        chosen.append("#" + "".join(f"{round(255 * part):02x}" for part in grid[best]))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=1))
        distance[best] = -1.0
    return tuple(chosen)


def cell_colors(labels: pd.Categorical) -> list[str]:
    """Return the color of each cell by its label; gray for cells without a label."""
    colors = (*palette(len(labels.categories)), MISSING)
    return [colors[code] for code in labels.codes]


def cluster_colors(labels: pd.Categorical, kmeans_n: Ints) -> list[str]:
    """Return the color of each cluster: that of its matched label, or else a shade of its most frequent label."""
    table_lc = contingency(labels, kmeans_n)
    colors = palette(len(labels.categories))
    n_shades: dict[int, int] = {}
    cluster_color = []
    for cluster, match in enumerate(match_clusters(table_lc)):
        label = int(match)
        if label < 0:
            if not table_lc[:, cluster].any():
                cluster_color.append(MISSING)
                continue
            label = int(table_lc[:, cluster].argmax())
            n_shades[label] = n_shades.get(label, 0) + 1
        cluster_color.append(_shade(colors[label], n_shades[label] if match < 0 else 0))
    return cluster_color


def _shade(color: str, number: int) -> str:
    """Return the color (number 0), or alternately lighter and darker shades (1, 2, …)."""
    if number == 0:
        return color
    towards = 1.0 if number % 2 else 0.0
    fraction = min(0.42 + 0.12 * ((number - 1) // 2), 0.75)
    mixed = _rgb([color])[0] * (1 - fraction) + towards * fraction
    return "#" + "".join(f"{round(255 * part):02x}" for part in mixed)


def row_styles(rows: Sequence[MethodResult]) -> dict[str, tuple[str, int]]:
    """Return for each row name the color of its model and the index of its preset (0, 1, …)."""
    models = list(dict.fromkeys(row.model or row.name for row in rows))
    kinds = list(dict.fromkeys(row.preset for row in rows))
    return {
        row.name: (_ROWS[models.index(row.model or row.name) % len(_ROWS)], kinds.index(row.preset))
        for row in rows
    }


def ramp_color(fraction: float) -> str:
    """Return the color at a position between 0 and 1 of the sequential scale; positions outside are clipped."""
    place = min(max(fraction, 0.0), 1.0) * (len(SEQUENTIAL) - 1)
    lower = min(int(place), len(SEQUENTIAL) - 2)
    low, high = _rgb(SEQUENTIAL[lower : lower + 2])
    return "#" + "".join(f"{round(255 * part):02x}" for part in low + (high - low) * (place - lower))


def shade_behind_text(fraction: float) -> str:
    """Return the color of a cell of a table with a number in it: the light part of the sequential scale."""
    return ramp_color(MAX_TEXT_SHADE * min(max(fraction, 0.0), 1.0))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colors, 1 to 21 (WCAG 2.2, relative luminance)."""
    rgb = _rgb([one, other])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    low, high = sorted((linear @ np.array([0.2126, 0.7152, 0.0722])).tolist())
    return float((high + 0.05) / (low + 0.05))
