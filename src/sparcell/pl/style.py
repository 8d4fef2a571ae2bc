"""Style of all figures, and placement of names on a map."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager, patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sparcell.pl.colors import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sparcell.results.study import Floats

SMALL_GROUP = 0.09
"""A group smaller than this fraction of the map has its name above, so that the name does not cover the group. The size is twice that of
the middle half of its cells."""

PAGE_DPI = 96
"""Pixels of a notebook's page per inch of a figure."""

_FAMILIES = ("Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")


@contextmanager
def style() -> Iterator[None]:
    """Set fonts, lines and resolution inside the context; the settings of the caller are restored afterwards."""
    # Only installed families, because matplotlib logs a line for each missing one in each drawing.
    installed = set(font_manager.get_font_names())
    settings: dict[str, Any] = {
        "font.family": [family for family in _FAMILIES if family in installed] or ["sans-serif"],
        "font.size": 8.5,
        "text.color": INK,
        "text.parse_math": False,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.linewidth": 0.7,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.titlepad": 6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "savefig.dpi": 150,
        "figure.dpi": 150,
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # Letters that no installed font has are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


class NotebookFigure(Figure):
    """A figure that notebooks show. They show a plain Figure only after pyplot was imported, and its text otherwise."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the figure as PNG, with the width and height on the page in pixels, as IPython expects them."""
        buffer = BytesIO()
        with style():
            self.savefig(buffer, format="png")
        width, height = self.get_size_inches()
        return buffer.getvalue(), {"width": round(PAGE_DPI * width), "height": round(PAGE_DPI * height)}


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """Return a figure without a window and outside of pyplot; sizes in inches."""
    figure = NotebookFigure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def point_size(n: int) -> float:
    """Return the area of a marker on a map of n cells, in points squared."""
    return float(np.clip(250 / np.sqrt(max(n, 1)), 0.9, 28))


def square_limits(axes: Axes, xy_n2: Floats) -> None:
    """Set equal aspect and square limits around all points, without ticks and frame."""
    finite = xy_n2[np.isfinite(xy_n2).all(axis=1)]
    low, high = (finite.min(axis=0), finite.max(axis=0)) if len(finite) else (np.zeros(2), np.ones(2))
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-6) * 1.06
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    axes.set_aspect("equal")
    axes.set_axis_off()


def middles(xy_n2: Floats, codes_n: Floats, n_groups: int) -> Floats:
    """Return the position of each group's name: the cell nearest to the median of the group."""
    places = np.full((n_groups, 2), np.nan)
    for group in range(n_groups):
        members = xy_n2[codes_n == group]
        if len(members):
            median = np.median(members, axis=0)
            places[group] = members[np.argmin(((members - median) ** 2).sum(axis=1))]
    return places


def name_places(xy: Floats, codes_n: Floats, n_groups: int) -> Floats:
    """Return the position of each group's name, like `middles`; the name of a small group is above the group, not on it."""
    places = middles(xy, codes_n, n_groups)
    span = float((np.nanmax(xy, axis=0) - np.nanmin(xy, axis=0)).max()) if len(xy) else 1.0
    for group in range(n_groups):
        members = xy[(codes_n == group) & np.isfinite(xy).all(axis=1)]
        if not len(members):
            continue
        low, high = np.percentile(members, [25, 75], axis=0)  # a few cells far away do not make a group large
        if (high - low).max() < SMALL_GROUP / 2 * span:
            places[group] = np.median(members[:, 0]), high[1] + 0.04 * span
    return places


def write_names(axes: Axes, places: Floats, names: list[str], size: float = 8.0) -> None:
    """Write names at places in data units, moved apart until no two overlap."""
    figure = axes.get_figure(root=True)
    halo = [patheffects.withStroke(linewidth=2.4, foreground="white", alpha=0.92)]
    texts = [
        axes.text(
            x,
            y,
            name,
            ha="center",
            va="center",
            fontsize=size,
            fontweight="bold",
            path_effects=halo,
            zorder=5,
        )
        for (x, y), name in zip(places, names, strict=True)
        if np.isfinite(x)
    ]
    if not texts or figure is None:
        return
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in texts]
    centers = np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in boxes])
    sizes = np.array([[box.width + 4, box.height + 2] for box in boxes])
    window = axes.get_window_extent(renderer)
    room = np.array([[window.x0, window.y0], [window.x1, window.y1]])
    back = axes.transData.inverted()
    for text, place in zip(texts, back.transform(push_apart(centers, sizes, room)), strict=True):
        text.set_position(tuple(place))


def push_apart(centers: Floats, sizes: Floats, room: Floats, rounds: int = 400) -> Floats:
    """Return the centers of boxes after moving them apart until none overlap, within `room` (lower and upper corner)."""
    moved = np.array(centers, dtype=np.float64)
    if not len(moved):
        return moved
    nudge = 0.005 * float(sizes.mean())
    low = room[0] + sizes / 2
    high = np.maximum(room[1] - sizes / 2, low)
    moved = np.clip(moved, low, high)
    for _ in range(rounds):
        gap = moved[:, None] - moved[None]
        overlap = (sizes[:, None] + sizes[None]) / 2 - np.abs(gap)
        hit = (overlap > 0).all(axis=-1) & ~np.eye(len(moved), dtype=bool)
        if not hit.any():
            break
        # Move along the axis with the smaller overlap. Equal positions are ordered by index, so that equal boxes move apart too.
        axis = overlap.argmin(axis=-1)
        order = np.sign(np.arange(len(moved))[:, None] - np.arange(len(moved))[None])
        for dimension in (0, 1):
            way = np.sign(gap[..., dimension])
            way = np.where(way == 0, order, way)
            use = hit & (axis == dimension)
            moved[:, dimension] += np.where(use, way * (overlap[..., dimension] * 0.3 + nudge), 0).sum(axis=1)
        moved = np.clip(moved, low, high)
    return moved
