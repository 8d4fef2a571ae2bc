"""Figures of gene programs: cell types in which each is on, cells on a map, effects on genes, and traversals.

Suffixes: m cells on the map, p programs and their directions, s steps of a traversal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap

from sparcell.errors import InputError
from sparcell.pl.colors import FAINT, INK, SEQUENTIAL, palette, shade_behind_text
from sparcell.pl.maps import draw_groups, legend_below, legend_height
from sparcell.pl.style import new_figure, point_size, square_limits, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sparcell.results.programs import Floats, ProgramResults, Traversal

MAX_PANELS = 24
"""Largest number of programs in a figure with one panel per program; those that explain most are drawn."""
N_BARS = 10
COLUMNS = 4
MAX_NAMES_IN_PANEL = 10
"""Largest number of labels whose names are written on a small map; more labels are in a legend."""
COLOR_PERCENTILE = 99
"""Colors end at this percentile of the activity, over the cells with an activity above 0."""
MIN_COLOR_FRACTION = 0.02
"""A program with an activity below this fraction of the color range is drawn as off."""
END_OF_EACH = f"{COLOR_PERCENTILE}th percentile"
"""Text at the end of the color bar of several maps, each with a scale of its own."""
COLOR_BAR = "color bar"
"""Label of the axes of a color bar."""
RAMP = LinearSegmentedColormap.from_list("sparcell", SEQUENTIAL[2:])
BAR, BAR_OF_SET = "#9fc4da", "#2a6f9b"
UNSTABLE = "unstable"
STRAIGHT = 1e-3
"""A traversal with second differences below this fraction of its range is a straight line."""
MIN_NOTED = 0.2
"""A second label is noted beside the first if the program is on in this fraction of its cells."""
ORDER_NOTE = "Numbers are those of the latents. Programs are in the order of what they explain."


def program_figures(results: ProgramResults) -> Iterator[tuple[str, Figure]]:
    """Yield all figures of the gene programs of a model with their file names (no ending).

    Examples
    --------
    ::

        for name, figure in sp.pl.program_figures(results):
            figure.savefig(f"{name}.png")
    """
    if not len(results.programs):
        return
    if results.label_fractions is not None:
        yield "program-labels", program_heatmap(results.label_fractions, panel_titles(results))
    yield "program-maps", program_maps(results)
    if len(results.genes):
        yield "program-genes", program_genes(results)
    if bent_traversals(results):
        yield "program-traversals", program_traversals(results)


def bent_traversals(results: ProgramResults) -> list[str]:
    """Return the keys of the programs whose traversals are no straight lines.

    An additive decoder of log-normalized expression has straight lines only, whose slopes are the effects that the bars show.
    """
    bent = []
    for key, traversal in results.traversals.items():
        curvature = np.abs(np.diff(traversal.expected_sg, n=2, axis=0)).max(initial=0.0)
        if curvature > STRAIGHT * max(float(np.ptp(traversal.expected_sg)), 1e-9):
            bent.append(key)
    return bent


def where_on(results: ProgramResults, position: int, n: int = 2) -> str:
    """Return in which part of the cells a program is on, and the labels with the largest parts: "on in 25%: B 100%, DC 19%"."""
    text = f"on in {results.programs['fraction_cells_on'].iloc[position]:.0%}"
    if results.label_fractions is None:
        return f"{text} of cells"
    largest = results.label_fractions.iloc[position].astype(float).nlargest(n)
    largest = largest[(largest >= MIN_NOTED) | (largest == largest.max())]
    return f"{text}: {', '.join(f'{_shorten(str(label), 14)} {part:.0%}' for label, part in largest.items())}"


def panel_titles(results: ProgramResults) -> list[str]:
    """Return the titles of the programs; a program that other seeds do not reproduce is marked "(unstable)"."""
    stable = results.stable
    is_stable = [True] * len(results.programs) if stable is None else stable.tolist()
    return [
        title if mark else f"{title} ({UNSTABLE})"
        for title, mark in zip(results.titles, is_stable, strict=True)
    ]


@style()
def program_heatmap(label_fractions: pd.DataFrame, titles: Sequence[str] | None = None) -> Figure:
    """Return a heat map of the percentage of each label's cells in which a program is on, programs × labels.

    Parameters
    ----------
    label_fractions
        `Programs.label_fractions`: programs × labels, 0 to 1.
    titles
        Titles of the programs. Default: the index of `label_fractions`.

    Raises
    ------
    InputError
        If there is no program or no label.

    Examples
    --------
    ::

        programs = model.programs(adata, labels_key="cell_type")
        sp.pl.program_heatmap(programs.label_fractions)
    """
    if label_fractions.empty:
        raise InputError(
            "the table of label fractions is empty; expected at least one program and one label."
        )
    names = list(label_fractions.index.astype(str)) if titles is None else list(titles)
    labels = [str(label) for label in label_fractions.columns]
    left = 0.25 + 0.072 * max(map(len, names))
    above = 0.3 + 0.055 * max(map(len, labels))
    width, height = left + 0.5 * len(labels) + 0.5, above + 0.25 * len(names) + 0.15
    figure = new_figure(width, height)
    axes = figure.add_axes(
        (left / width, 0.15 / height, 0.5 * len(labels) / width, 0.25 * len(names) / height)
    )
    for y, row in enumerate(label_fractions.to_numpy(dtype=float)):
        for x, fraction in enumerate(row):
            color = shade_behind_text(fraction)
            axes.fill([x, x + 1, x + 1, x], [y, y, y + 1, y + 1], color=color, ec="white", lw=1)
            if fraction >= 0.005:
                axes.text(
                    x + 0.5, y + 0.5, f"{100 * fraction:.0f}", ha="center", va="center", fontsize=7, color=INK
                )
    axes.set(xlim=(0, len(labels)), ylim=(len(names), 0))
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=45, ha="left", rotation_mode="anchor")
    axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=3)
    axes.spines[:].set_visible(False)
    figure.text(0.1 / width, 1 - 0.22 / height, "% of cells on", color=FAINT, fontsize=8, va="center")
    return figure


@style()
def program_map(xy_m2: Floats, activity_m: Floats, title: str = "") -> Figure:
    """Return a map of cells colored by the activity of a program; gray where the program is off.

    Parameters
    ----------
    xy_m2
        Positions on the map, (m, 2).
    activity_m
        Distance of the latent from 0, (m,); 0 where the program is off.
    title
        Title of the figure.

    Examples
    --------
    ::

        z_nk = model.transform(adata)
        sp.pl.program_map(adata.obsm["X_umap"], z_nk[:, 2].clip(min=0), "beta_vsc_3+")
    """
    panel, foot, head = 4.4, 0.42, 0.2
    height = panel + foot + head
    figure = new_figure(panel, height)
    draw_activity(figure.add_axes((0.0, foot / height, 1.0, panel / height)), xy_m2, activity_m)
    draw_color_bar(figure, panel - 1.65, 0.2, end_of_colors(activity_m))
    figure.text(0.02, 1 - 0.115 / height, title, fontsize=10.5, fontweight="bold", va="top")
    return figure


def draw_activity(axes: Axes, xy_m2: Floats, activity_m: Floats, scale: float = 1.0) -> None:
    """Draw cells on a map, colored by the activity of a program; gray where it is off."""
    color_max = color_limit(activity_m)
    on_m = activity_m > MIN_COLOR_FRACTION * color_max
    size, off_m2 = point_size(len(xy_m2)) * scale, xy_m2[~on_m]
    axes.scatter(off_m2[:, 0], off_m2[:, 1], s=size, c="#e3e6ea", linewidths=0, rasterized=True)
    order = np.flatnonzero(on_m)[np.argsort(activity_m[on_m], kind="stable")]
    axes.scatter(xy_m2[order, 0], xy_m2[order, 1], s=size * 1.25, c=activity_m[order], cmap=RAMP, vmin=0,
                 vmax=color_max, linewidths=0, rasterized=True)  # fmt: skip
    square_limits(axes, xy_m2)


def color_limit(activity_m: Floats) -> float:
    """Return the activity at which colors end: a high percentile, so that one outlying cell does not make all others pale."""
    above = activity_m[activity_m > 0]
    return float(np.percentile(above, COLOR_PERCENTILE)) if len(above) else 1.0


def end_of_colors(activity_m: Floats) -> str:
    """Return the activity at which colors end as text: "2.3", or "2.3 or more" if single cells lie above."""
    limit = color_limit(activity_m)
    return f"{limit:.2g}{' or more' if (activity_m > limit).any() else ''}"


@style()
def program_maps(results: ProgramResults) -> Figure:
    """Return maps colored by the activity of each program; with labels the first map shows the labels.

    Parameters
    ----------
    results
        Results of `sp.programs.run` or `sp.programs.collect`. At most 24 programs are drawn, those that explain most.

    Examples
    --------
    ::

        sp.pl.program_maps(sp.programs.collect(model, adata))
    """
    labels, xy_m2 = results.embedding.labels, results.embedding.xy_m2
    n_maps, first = min(len(results.programs), MAX_PANELS), int(labels is not None)
    n_rows, panel, head = -(-(n_maps + first) // COLUMNS), 2.3, 0.24
    width = panel * COLUMNS
    has_legend = labels is not None and len(labels.categories) > MAX_NAMES_IN_PANEL
    foot = 0.5
    below = foot + (legend_height(labels, width) if labels is not None and has_legend else 0.0)
    height = n_rows * (panel + head) + below
    figure = new_figure(width, height)
    titles = panel_titles(results)
    for position in range(n_maps + first):
        x, y = position % COLUMNS * panel, height - (position // COLUMNS + 1) * (panel + head)
        axes = figure.add_axes((x / width, y / height, panel / width, panel / height))
        if first and position == 0 and labels is not None:
            draw_groups(axes, xy_m2, labels, 0.45, named=not has_legend, size=6)
            title = "labels"
        else:
            draw_activity(axes, xy_m2, results.embedding.activity_mp[:, position - first], 0.45)
            title = titles[position - first]
        figure.text((x + 0.08) / width, (y + panel + 0.08) / height, _shorten(title, 34), fontsize=8, fontweight="bold",
                    va="center", color=_title_ink(title))  # fmt: skip
    if labels is not None and has_legend:
        legend_below(figure, labels, width)
    draw_color_bar(figure, width - 2.1, below - 0.28, END_OF_EACH)
    note = f"Map: {results.embedding.source}. {ORDER_NOTE}"
    figure.text(0.08 / width, (below - 0.23) / height, note, color=FAINT, fontsize=7.5, va="center")
    return figure


def draw_color_bar(figure: Figure, left: float, bottom: float, end: str) -> None:
    """Draw the color scale of the activity; place in inches, and the text at its end."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, bottom / height, 1.5 / width, 0.09 / height), label=COLOR_BAR)
    axes.imshow(np.linspace(0, 1, 128)[None], cmap=RAMP, aspect="auto")
    axes.set_axis_off()
    for x, text, align in ((0.0, "0", "left"), (1.0, end, "right")):
        axes.text(x, -0.6, text, transform=axes.transAxes, fontsize=7, va="top", ha=align, color=INK)
    axes.text(0.0, 1.4, "activity; gray: off", transform=axes.transAxes, fontsize=7, va="bottom", color=INK)


def _title_ink(title: str) -> str:
    return FAINT if title.endswith(f"({UNSTABLE})") else INK


def _shorten(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


@style()
def program_genes(results: ProgramResults) -> Figure:
    """Return bars of the effects on each program's top genes; genes of the set that names the program are darker.

    Parameters
    ----------
    results
        As for `program_maps`.

    Examples
    --------
    ::

        sp.pl.program_genes(sp.programs.collect(model, adata))
    """
    keys = results.programs["key"].tolist()[:MAX_PANELS]
    figure, panels = _titled_panels(results, keys, 2.4, 2.2)
    for position, (key, axes) in enumerate(zip(keys, panels, strict=True)):
        draw_bars(axes, results.top_genes(key, N_BARS), naming_genes(results, position))
        if position // COLUMNS == (len(keys) - 1) // COLUMNS:
            axes.set_xlabel("log2 fold change", fontsize=7.5)
    return figure


def _titled_panels(
    results: ProgramResults, keys: Sequence[str], panel_width: float, panel_height: float
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a grid of panels, and one panel with a title for each program in `keys`."""
    n_rows = -(-len(keys) // COLUMNS)
    figure = new_figure(panel_width * COLUMNS, panel_height * n_rows, layout="constrained")
    grid = figure.subplots(n_rows, COLUMNS, squeeze=False).ravel()
    for axes in grid[len(keys) :]:
        axes.set_axis_off()
    panels = list(grid[: len(keys)])
    title_of = dict(zip(results.programs["key"], panel_titles(results), strict=True))
    places = {key: position for position, key in enumerate(results.programs["key"])}
    for key, axes in zip(keys, panels, strict=True):
        title = title_of[key]
        axes.set_title(_shorten(title, 32), fontsize=8, fontweight="bold", color=_title_ink(title), pad=14)
        note = axes.text(
            0,
            1.02,
            where_on(results, places[key]),
            transform=axes.transAxes,
            fontsize=6.5,
            color=FAINT,
            va="bottom",
        )
        note.set_in_layout(False)  # a long note would make the panels narrow
    return figure, panels


def naming_genes(results: ProgramResults, position: int) -> set[str]:
    """Return the genes that a program shares with the set that names it."""
    program, enrichment = results.programs.iloc[position], results.enrichment
    rows = enrichment[(enrichment["key"] == program["key"]) & (enrichment["set"] == program["set"])]
    return {gene for genes in rows["genes"] for gene in genes}


def draw_bars(axes: Axes, genes: pd.DataFrame, highlighted: set[str]) -> None:
    """Draw effects on genes as horizontal bars, the largest at the top."""
    names = genes["gene"].astype(str).tolist()
    colors = [BAR_OF_SET if name in highlighted else BAR for name in names]
    axes.barh(range(len(names)), genes["effect"], color=colors, height=0.72)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.tick_params(axis="y", length=0, pad=2)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_ylim(max(len(names), N_BARS) - 0.4, -0.6)


@style()
def program_traversals(results: ProgramResults) -> Figure:
    """Return the expected expression of each program's top genes while its latent goes from 0 to its 99th percentile.

    Parameters
    ----------
    results
        As for `program_maps`.

    Examples
    --------
    ::

        sp.pl.program_traversals(sp.programs.collect(model, adata))
    """
    keys = [key for key in results.programs["key"] if key in results.traversals][:MAX_PANELS]
    bent = set(bent_traversals(results))
    keys = [key for key in keys if key in bent] or keys  # straight lines only repeat the bars
    figure, panels = _titled_panels(results, keys, 2.45, 1.85)
    for position, (key, axes) in enumerate(zip(keys, panels, strict=True)):
        draw_traversal(axes, results.traversals[key])
        if position % COLUMNS == 0:
            axes.set_ylabel("log(1 + x)", fontsize=7.5)
        if position >= len(keys) - COLUMNS:
            axes.set_xlabel("latent", fontsize=7.5)
    return figure


def draw_traversal(axes: Axes, traversal: Traversal) -> None:
    """Draw one line per gene, with the gene's name at its end."""
    colors = palette(max(len(traversal.genes), 1))
    end, last_g = traversal.distance_s[-1], traversal.expected_sg[-1]
    for gene, color in enumerate(colors[: len(traversal.genes)]):
        axes.plot(traversal.distance_s, traversal.expected_sg[:, gene], color=color, lw=1.2)
    span = max(float(np.ptp(traversal.expected_sg)), 1e-6)
    heights = _spread(np.sort(last_g), 0.105 * span)
    for gene, y in zip(np.argsort(last_g), heights, strict=True):
        axes.text(
            end * 1.02, y, traversal.genes[gene], fontsize=6, va="center", color=colors[gene], clip_on=False
        )
    axes.set_ylim(
        top=max(axes.get_ylim()[1], float(heights.max(initial=0.0)) + 0.06 * span)
    )  # names stay below the title
    axes.set_xlim(0, end * 1.45)
    axes.set_xticks([0, end], ["0", f"{end:.2g}"])
    axes.tick_params(labelsize=7)
    axes.spines["bottom"].set_bounds(0, end)


def _spread(sorted_y: Floats, gap: float) -> Floats:
    """Return heights at least `gap` apart, with the same mean."""
    spread = np.array(sorted_y, dtype=np.float64)
    for i in range(1, len(spread)):
        spread[i] = max(spread[i], spread[i - 1] + gap)
    return np.asarray(spread - (spread.mean() - np.mean(sorted_y)) if len(spread) else spread)
