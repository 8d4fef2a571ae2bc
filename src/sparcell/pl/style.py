"""The look all figures share, and how text finds room on a map."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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

_FAMILIES = ("Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")


@contextmanager
def style() -> Iterator[None]:
    """Set fonts, lines and resolution for as long as the context lasts; the caller's settings return after it."""
    # Only families that exist: matplotlib logs a line for each missing one, each time it draws.
    there = set(font_manager.get_font_names())
    settings: dict[str, Any] = {
        "font.family": [family for family in _FAMILIES if family in there] or ["sans-serif"],
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
        # A label in a script that no installed font covers is drawn with boxes: no reason to stop a study.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """Make a figure (inches) that belongs to no window and no global list."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def point_size(n: int) -> float:
    """Area of one marker on a map of `n` cells: legible for sixty, not a blot for fifty thousand."""
    return float(np.clip(250 / np.sqrt(max(n, 1)), 0.9, 28))


def square_limits(axes: Axes, xy_n2: Floats) -> None:
    """Equal aspect in a square box around all points, without ticks or frame."""
    finite = xy_n2[np.isfinite(xy_n2).all(axis=1)]
    low, high = (finite.min(axis=0), finite.max(axis=0)) if len(finite) else (np.zeros(2), np.ones(2))
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-6) * 1.06
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    axes.set_aspect("equal")
    axes.set_axis_off()


def middles(xy_n2: Floats, codes_n: Floats, n_groups: int) -> Floats:
    """Where to write each group's name: its cell nearest to its median, so that the name stands on the group."""
    places = np.full((n_groups, 2), np.nan)
    for group in range(n_groups):
        own = xy_n2[codes_n == group]
        if len(own):
            median = np.median(own, axis=0)
            places[group] = own[np.argmin(((own - median) ** 2).sum(axis=1))]
    return places


def write_names(axes: Axes, places: Floats, names: list[str], size: float = 8.0) -> None:
    """Write names at places in data units, pushed apart until none overlaps another."""
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
    centres = np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in boxes])
    sizes = np.array([[box.width + 4, box.height + 2] for box in boxes])
    window = axes.get_window_extent(renderer)
    room = np.array([[window.x0, window.y0], [window.x1, window.y1]])
    back = axes.transData.inverted()
    for text, place in zip(texts, back.transform(push_apart(centres, sizes, room)), strict=True):
        text.set_position(tuple(place))


def push_apart(centres: Floats, sizes: Floats, room: Floats, rounds: int = 400) -> Floats:
    """Move boxes by the least that ends their overlaps, keeping them within `room` (lower and upper corner)."""
    moved = np.array(centres, dtype=np.float64)
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
        # The shorter way out; ties in place are broken by order, or two equal boxes would never part.
        axis = overlap.argmin(axis=-1)
        order = np.sign(np.arange(len(moved))[:, None] - np.arange(len(moved))[None])
        for dimension in (0, 1):
            way = np.sign(gap[..., dimension])
            way = np.where(way == 0, order, way)
            use = hit & (axis == dimension)
            moved[:, dimension] += np.where(use, way * (overlap[..., dimension] * 0.3 + nudge), 0).sum(axis=1)
        moved = np.clip(moved, low, high)
    return moved
