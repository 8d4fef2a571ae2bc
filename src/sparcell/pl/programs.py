"""Gene programs, drawn: in which cell types each is on, where on the map, by which genes, and what its latent does to them.

Suffixes: m cells on the map, p programs and their directions, s steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap

from sparcell.errors import InputError
from sparcell.pl.colors import FAINT, INK, SEQUENTIAL, ink_on, palette, ramp_colour
from sparcell.pl.maps import draw_groups, height_below, legend_below
from sparcell.pl.style import new_figure, point_size, square_limits, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sparcell.results.programs import Floats, ProgramResults, Traversal

N_DRAWN = 24
"""Figures of many panels draw so many programs, those that explain most."""
N_BARS = 10
COLUMNS = 4
FAR = 99
"""Colours end at this percentile of the cells in which a program is above 0."""
BARELY = 0.02
"""A program below this share of where colours end is drawn as off."""
RAMP = LinearSegmentedColormap.from_list("sparcell", SEQUENTIAL[2:])
BAR, BAR_OF_SET = "#9fc4da", "#2a6f9b"
UNSTABLE = "unstable"


def program_figures(found: ProgramResults) -> Iterator[tuple[str, Figure]]:
    """Yield every figure of a catalogue with its file name (no ending)."""
    if not len(found.programs):
        return
    if found.shares is not None:
        yield "program-labels", program_heatmap(found.shares, panel_titles(found))
    yield "program-maps", program_maps(found)
    if len(found.genes):
        yield "program-genes", program_genes(found)
    if found.traversals:
        yield "program-traversals", program_traversals(found)


def panel_titles(found: ProgramResults) -> list[str]:
    """Titles of the programs; of those that other seeds do not have, with a word about it."""
    stable = found.stable
    marks = [True] * len(found.programs) if stable is None else stable.tolist()
    return [
        title if kept else f"{title} ({UNSTABLE})" for title, kept in zip(found.titles, marks, strict=True)
    ]


@style()
def program_heatmap(shares: pd.DataFrame, titles: Sequence[str] | None = None) -> Figure:
    """Share of each label's cells in which a program is on: programs down, labels across, per cent written in.

    Parameters
    ----------
    shares
        `Programs.labels`: programs × labels, 0 to 1.
    titles
        What to call the programs; their names in `shares` when not given.
    """
    if shares.empty:
        raise InputError("there is no program or no label to draw: the table of shares is empty.")
    names = list(shares.index.astype(str)) if titles is None else list(titles)
    labels = [str(label) for label in shares.columns]
    left = 0.25 + 0.072 * max(map(len, names))
    above = 0.3 + 0.055 * max(map(len, labels))
    width, height = left + 0.5 * len(labels) + 0.5, above + 0.25 * len(names) + 0.15
    figure = new_figure(width, height)
    axes = figure.add_axes(
        (left / width, 0.15 / height, 0.5 * len(labels) / width, 0.25 * len(names) / height)
    )
    for y, row in enumerate(shares.to_numpy(dtype=float)):
        for x, share in enumerate(row):
            colour = ramp_colour(share)
            axes.fill([x, x + 1, x + 1, x], [y, y, y + 1, y + 1], color=colour, ec="white", lw=1)
            if share >= 0.005:
                axes.text(x + 0.5, y + 0.5, f"{100 * share:.0f}", ha="center", va="center", fontsize=7,
                          color=ink_on(colour))  # fmt: skip
    axes.set(xlim=(0, len(labels)), ylim=(len(names), 0))
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=45, ha="left", rotation_mode="anchor")
    axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=3)
    axes.spines[:].set_visible(False)
    figure.text(0.1 / width, 1 - 0.22 / height, "% of cells on", color=FAINT, fontsize=8, va="center")
    return figure


@style()
def program_map(xy_m2: Floats, amount_m: Floats, title: str = "") -> Figure:
    """Cells on a map, coloured by how far a program is on in them; grey where it is off.

    Parameters
    ----------
    xy_m2
        The map.
    amount_m
        Distance of the code from 0, (m,); 0 where the program is off.
    title
        Written above.
    """
    figure = new_figure(4.4, 4.6)
    _draw_amount(figure.add_axes((0.0, 0.0, 1.0, 4.4 / 4.6)), xy_m2, amount_m)
    figure.text(0.02, 0.975, title, fontsize=10.5, fontweight="bold", va="top")
    return figure


def _draw_amount(axes: Axes, xy_m2: Floats, amount_m: Floats, scale: float = 1.0) -> None:
    top = colour_end(amount_m)
    on_m = amount_m > BARELY * top
    size, off_m2 = point_size(len(xy_m2)) * scale, xy_m2[~on_m]
    axes.scatter(off_m2[:, 0], off_m2[:, 1], s=size, c="#e3e6ea", linewidths=0, rasterized=True)
    order = np.flatnonzero(on_m)[np.argsort(amount_m[on_m], kind="stable")]
    axes.scatter(xy_m2[order, 0], xy_m2[order, 1], s=size * 1.25, c=amount_m[order], cmap=RAMP, vmin=0, vmax=top,
                 linewidths=0, rasterized=True)  # fmt: skip
    square_limits(axes, xy_m2)


def colour_end(amount_m: Floats) -> float:
    """Where colours end: a high percentile of the cells above 0, so that one cell far out does not make all others pale."""
    above = amount_m[amount_m > 0]
    return float(np.percentile(above, FAR)) if len(above) else 1.0


@style()
def program_maps(found: ProgramResults) -> Figure:
    """The map once for each of the first programs, after the cells by label where there are any."""
    labels, xy_m2 = found.map.labels, found.map.xy_m2
    n_maps, first = min(len(found.programs), N_DRAWN), int(labels is not None)
    n_rows, panel, head = -(-(n_maps + first) // COLUMNS), 2.3, 0.24
    width = panel * COLUMNS
    below = 0.0 if labels is None else max(height_below(labels, width), 0.05)
    height = n_rows * (panel + head) + below
    figure = new_figure(width, height)
    titles = panel_titles(found)
    for place in range(n_maps + first):
        x, y = place % COLUMNS * panel, height - (place // COLUMNS + 1) * (panel + head)
        axes = figure.add_axes((x / width, y / height, panel / width, panel / height))
        if first and place == 0 and labels is not None:
            draw_groups(axes, xy_m2, labels, 0.45, named=len(labels.categories) <= 10, size=6)
            title = "labels"
        else:
            _draw_amount(axes, xy_m2, found.map.amount_mp[:, place - first], 0.45)
            title = titles[place - first]
        figure.text((x + 0.08) / width, (y + panel + 0.08) / height, _short(title, 34), fontsize=8, fontweight="bold",
                    va="center", color=_title_ink(title))  # fmt: skip
    if labels is not None and len(labels.categories) > 10:
        legend_below(figure, labels, width)
    return figure


def _title_ink(title: str) -> str:
    return FAINT if title.endswith(f"({UNSTABLE})") else INK


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


@style()
def program_genes(found: ProgramResults) -> Figure:
    """The first genes of the first programs as bars; those of the set that gave a program its name in a darker colour."""
    keys = found.programs["key"].tolist()[:N_DRAWN]
    n_rows, panel, height_of = -(-len(keys) // COLUMNS), 2.3, 2.05
    figure = new_figure(panel * COLUMNS, n_rows * height_of, layout="constrained")
    panels = figure.subplots(n_rows, COLUMNS, squeeze=False).ravel()
    for place, axes in enumerate(panels):
        if place >= len(keys):
            axes.set_axis_off()
            continue
        draw_bars(axes, found.first_genes(keys[place], N_BARS), genes_of_name(found, place))
        title = panel_titles(found)[place]
        axes.set_title(_short(title, 32), fontsize=8, fontweight="bold", color=_title_ink(title))
    for axes in panels[-COLUMNS:]:
        axes.set_xlabel("log2-fold change", fontsize=7.5)
    return figure


def genes_of_name(found: ProgramResults, place: int) -> set[str]:
    """Genes that a program shares with the set it is named after."""
    row = found.programs.iloc[place]
    own = found.enrichment[(found.enrichment["key"] == row["key"]) & (found.enrichment["set"] == row["name"])]
    return {gene for genes in own["genes"] for gene in genes}


def draw_bars(axes: Axes, genes: pd.DataFrame, marked: set[str]) -> None:
    """Effects of some genes as horizontal bars, the largest above."""
    names = genes["gene"].astype(str).tolist()
    colours = [BAR_OF_SET if name in marked else BAR for name in names]
    axes.barh(range(len(names)), genes["effect"], color=colours, height=0.72)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.tick_params(axis="y", length=0, pad=2)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_ylim(max(len(names), N_BARS) - 0.4, -0.6)


@style()
def program_traversals(found: ProgramResults) -> Figure:
    """Expected expression of each program's first genes while its latent goes from 0 to its 99th percentile."""
    keys = [key for key in found.programs["key"] if key in found.traversals][:N_DRAWN]
    n_rows = -(-len(keys) // COLUMNS)
    figure = new_figure(2.45 * COLUMNS, 1.85 * n_rows, layout="constrained")
    panels = figure.subplots(n_rows, COLUMNS, squeeze=False).ravel()
    places = {key: place for place, key in enumerate(found.programs["key"])}
    for place, axes in enumerate(panels):
        if place >= len(keys):
            axes.set_axis_off()
            continue
        draw_traversal(axes, found.traversals[keys[place]])
        title = panel_titles(found)[places[keys[place]]]
        axes.set_title(_short(title, 32), fontsize=8, fontweight="bold", color=_title_ink(title))
        if place % COLUMNS == 0:
            axes.set_ylabel("log(1 + x)", fontsize=7.5)
        if place >= len(keys) - COLUMNS:
            axes.set_xlabel("code", fontsize=7.5)
    return figure


def draw_traversal(axes: Axes, walk: Traversal) -> None:
    """One line a gene, its name at the end."""
    colours = palette(max(len(walk.genes), 1))
    end, ends = walk.amount_s[-1], walk.expected_sg[-1]
    for gene, colour in enumerate(colours[: len(walk.genes)]):
        axes.plot(walk.amount_s, walk.expected_sg[:, gene], color=colour, lw=1.2)
    span = max(float(np.ptp(walk.expected_sg)), 1e-6)
    for gene, y in zip(np.argsort(ends), _spread(np.sort(ends), 0.105 * span), strict=True):
        axes.text(
            end * 1.02, y, walk.genes[gene], fontsize=6, va="center", color=colours[gene], clip_on=False
        )
    axes.set_xlim(0, end * 1.45)
    axes.set_xticks([0, end], ["0", f"{end:.2g}"])
    axes.tick_params(labelsize=7)
    axes.spines["bottom"].set_bounds(0, end)


def _spread(sorted_y: Floats, gap: float) -> Floats:
    """Heights pushed apart to at least `gap`, their mean kept."""
    placed = np.array(sorted_y, dtype=np.float64)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    return np.asarray(placed - (placed.mean() - np.mean(sorted_y)) if len(placed) else placed)
