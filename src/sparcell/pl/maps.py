"""Maps of cells: labels and clusters, the 3-D map, and generated cells.

Suffixes: n cells, c clusters, m generated cells, s interpolation steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from sparcell.errors import InputError, did_you_mean
from sparcell.pl.colors import FAINT, GENERATED, INK, MISSING, PATH, cell_colors, cluster_colors, palette
from sparcell.pl.style import name_places, new_figure, point_size, square_limits, style, write_names

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sparcell.results.study import Floats, Ints, MethodResult

MAPS = ("X_umap", "X_tsne")
"""Maps that are looked for, in order."""
MAX_NAMES = 14
"""Maximum number of labels that are written on a map; more labels are in a legend."""


def _shuffled(n: int) -> Ints:
    # A fixed random order, so that no type covers the others.
    return np.random.default_rng(0).permutation(n)


def _scatter(axes: Axes, xy_n2: Floats, colors: Sequence[str], scale: float = 1.0) -> None:
    order = _shuffled(len(xy_n2))
    axes.scatter(
        xy_n2[order, 0],
        xy_n2[order, 1],
        c=[colors[i] for i in order],
        s=point_size(len(xy_n2)) * scale,
        linewidths=0,
        alpha=0.85,
        rasterized=True,
    )
    square_limits(axes, xy_n2)


def _legend_handles(labels: pd.Categorical) -> list[Line2D]:
    names = [str(name) for name in labels.categories]
    entries = list(zip(names, palette(len(names)), strict=True))
    if (labels.codes < 0).any():
        entries.append(("no label", MISSING))
    return [
        Line2D([], [], marker="o", ls="", ms=5, mew=0, color=color, label=name) for name, color in entries
    ]


def _layer_handles(generated_m2: Floats | None, walk_s2: Floats | None) -> list[Line2D]:
    """Return the legend of a map of generated cells: what is drawn on it."""
    dot: dict[str, Any] = {"marker": "o", "ls": "", "ms": 5, "mew": 0}
    handles = [Line2D([], [], color=MISSING, label="real cell", **dot)]
    if generated_m2 is not None:
        handles.append(Line2D([], [], color=GENERATED, label="generated cell", **dot))
    if walk_s2 is not None and len(walk_s2):
        handles.append(Line2D([], [], color=PATH, lw=1.3, ls="--", marker="o", ms=3, label="interpolation"))
    return handles


def draw_groups(
    axes: Axes,
    xy_n2: Floats,
    labels: pd.Categorical,
    scale: float = 1.0,
    *,
    named: bool = True,
    size: float = 8.0,
) -> None:
    """Draw a map colored by label, with the names on the map if there are few labels."""
    _scatter(axes, xy_n2, cell_colors(labels), scale)
    if named and len(labels.categories) <= MAX_NAMES:
        names, codes = [str(name) for name in labels.categories], np.asarray(labels.codes)
        write_names(axes, name_places(xy_n2, codes, len(names)), names, size)


def _draw_partition(
    axes: Axes,
    xy_n2: Floats,
    labels: pd.Categorical,
    kmeans_n: Ints,
    centroids_c2: Floats,
    scale: float = 1.0,
) -> None:
    colors = cluster_colors(labels, kmeans_n)
    _scatter(axes, xy_n2, [colors[cluster] for cluster in kmeans_n], scale)
    x_c, y_c = centroids_c2[:, 0], centroids_c2[:, 1]
    axes.scatter(x_c, y_c, marker="X", s=52, c=INK, edgecolors="white", linewidths=0.9, zorder=4)
    span = axes.get_xlim()[1] - axes.get_xlim()[0]
    beside = np.column_stack([x_c + 0.03 * span, y_c + 0.022 * span])
    write_names(axes, beside, [str(cluster) for cluster in range(len(centroids_c2))], size=7.5)


def legend_below(figure: Figure, labels: pd.Categorical, width: float, *, right: bool = False) -> None:
    """Draw the legend of the labels below the panels."""
    columns = max(1, int(width // 1.7))
    place, anchor = ("lower right", (0.98, 0.005)) if right else ("lower left", (0.02, 0.005))
    figure.legend(handles=_legend_handles(labels), loc=place, bbox_to_anchor=anchor, ncols=columns,
                  handletextpad=0.2, columnspacing=1.0, labelspacing=0.35)  # fmt: skip


def legend_height(labels: pd.Categorical, width: float) -> float:
    """Return the height of a legend below the panels, in inches."""
    n_entries = len(labels.categories) + bool((labels.codes < 0).any())
    return 0.19 * -(-n_entries // max(1, int(width // 1.7))) + 0.15


def height_below(labels: pd.Categorical, width: float) -> float:
    """Return the height of the legend below the panels, in inches; 0 if the names are on the map."""
    return 0.0 if len(labels.categories) <= MAX_NAMES else legend_height(labels, width)


@style()
def label_maps(
    adata: AnnData,
    columns: str | Sequence[str],
    *,
    basis: str | None = None,
    legend: str | Sequence[str] = (),
) -> Figure:
    """Draw a map of the cells, once for each column of obs, colored by its values.

    Parameters
    ----------
    adata
        Data with a map in obsm.
    columns
        Columns of obs: one name, or several for panels side by side. Values are taken as labels; cells without one are gray.
    basis
        The map in obsm, such as "umap" or "X_umap". Default: the first that is there of X_umap and X_tsne.
    legend
        Columns whose labels are in a legend below the map, not on the map. Best for labels that are mixed, such as donors. Columns of
        more than 14 labels always have a legend.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a column or the map is missing; the message says what to type.

    Examples
    --------
    ::

        adata.obsm["X_tsne"] = sp.tl.tsne(adata.obsm["X_beta_vsc"])
        sp.pl.label_maps(adata, ["cell_type", "donor"], legend="donor")
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    for name in names:
        if name not in adata.obs:
            raise InputError(f"obs has no column {name!r}; {did_you_mean(name, adata.obs.columns)}")
    map_n2, panel = map_of(adata, basis)[0], 4.6
    labels = {name: as_labels(adata.obs[name]) for name in names}
    in_legend = {name for name in names if name in legend or len(labels[name].categories) > MAX_NAMES}
    below = max((legend_height(labels[name], panel) for name in in_legend), default=0.0)
    width, height = panel * len(names), panel + 0.3 + below
    figure = new_figure(width, height)
    for place, name in enumerate(names):
        left = place / len(names)
        axes = figure.add_axes((left, below / height, 1 / len(names), panel / height))
        axes.set_title(name, x=0.03)
        draw_groups(axes, map_n2, labels[name], named=name not in in_legend)
        if name in in_legend:
            figure.legend(handles=_legend_handles(labels[name]), loc="lower left", bbox_to_anchor=(left + 0.01, 0.005),
                          ncols=max(1, int(panel // 1.7)), handletextpad=0.2, labelspacing=0.35)  # fmt: skip
    return figure


def as_labels(column: pd.Series) -> pd.Categorical:
    """Return a column of obs as labels: those of a categorical column that have cells, and all other values as text."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return pd.Categorical(column.cat.remove_unused_categories())
    return pd.Categorical(column.astype(str).where(column.notna()))


@style()
def paired_map(
    xy_n2: Floats, labels: pd.Categorical, kmeans_n: Ints, centroids_c2: Floats, title: str = ""
) -> Figure:
    """Draw labels beside k-means clusters on the same map, with the centroids.

    Parameters
    ----------
    xy_n2
        The 2-D map.
    labels
        Label of each cell; cells without a label are gray.
    kmeans_n
        Cluster of each cell, 0 … c-1; a cluster has the color of its matched label.
    centroids_c2
        Centroids of the clusters on the map.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    ::

        row = results.rows[0]
        sp.pl.paired_map(row.tsne2d_n2, results.labels, row.kmeans_n, row.centroids_c2, row.title)
    """
    below = height_below(labels, 9.2)
    height = 4.6 + 0.42 + below
    figure = new_figure(9.2, height)
    panels = [figure.add_axes((left, below / height, 0.5, 4.6 / height)) for left in (0.0, 0.5)]
    for axes, heading in zip(panels, ("labels", f"k-means, {len(centroids_c2)} clusters"), strict=True):
        axes.set_title(heading, x=0.03, color=FAINT, fontsize=8.5, y=0.985, pad=0)
    draw_groups(panels[0], xy_n2, labels)
    _draw_partition(panels[1], xy_n2, labels, kmeans_n, centroids_c2)
    figure.text(0.015, 1 - 0.12 / height, title, fontsize=11.5, fontweight="bold", va="top")
    if below:
        legend_below(figure, labels, 9.2)
    return figure


@style()
def overview(rows: Sequence[MethodResult], labels: pd.Categorical) -> Figure:
    """Draw labels (above) and k-means clusters (below) of all methods of one preset, one column for each method.

    Examples
    --------
    ::

        sp.pl.overview(results.rows, results.labels)
    """
    n_rows, panel = len(rows), 3.3
    width = panel * n_rows
    below = legend_height(labels, width)
    height = 2 * panel + 0.45 + below
    figure = new_figure(width, height)
    for column, row in enumerate(rows):
        left = column / n_rows
        top = figure.add_axes((left, (below + panel) / height, 1 / n_rows, panel / height))
        bottom = figure.add_axes((left, below / height, 1 / n_rows, panel / height))
        draw_groups(top, row.tsne2d_n2, labels, 0.6, size=6.5)
        _draw_partition(bottom, row.tsne2d_n2, labels, row.kmeans_n, row.centroids_c2, 0.6)
        figure.text(left + 0.012, 1 - 0.12 / height, row.title, fontsize=10.5, fontweight="bold", va="top")
        if column == 0:
            top.set_title("labels", x=0.04, color=FAINT, fontsize=8.5, y=0.96, pad=0)
            bottom.set_title("k-means", x=0.04, color=FAINT, fontsize=8.5, y=0.96, pad=0)
    legend_below(figure, labels, width)
    return figure


@style()
def map_3d(xyz_n3: Floats, labels: pd.Categorical, title: str = "") -> Figure:
    """Draw the 3-D map from one side, colored by label.

    Examples
    --------
    ::

        row = results.rows[0]
        sp.pl.map_3d(row.tsne3d_n3, results.labels, row.title)
    """
    figure = new_figure(6.6, 4.7)
    # matplotlib's type hints have no 3-D axes for `add_axes`.
    axes: Any = figure.add_axes((0.0, 0.0, 0.7, 0.92), projection="3d")
    order = _shuffled(len(xyz_n3))
    colors = cell_colors(labels)
    x, y, z = xyz_n3[order].T
    axes.scatter(x, y, z, c=[colors[i] for i in order], s=point_size(len(xyz_n3)) * 0.8, linewidths=0,
                 alpha=0.85, rasterized=True)  # fmt: skip
    low, high = xyz_n3.min(axis=0), xyz_n3.max(axis=0)
    half = float((high - low).max()) / 2 or 1.0
    for number, (axis, center) in enumerate(
        zip((axes.xaxis, axes.yaxis, axes.zaxis), (low + high) / 2, strict=True), 1
    ):
        axis.set_pane_color((0.97, 0.975, 0.98, 1.0))
        axis.line.set_color("#d5dae0")
        axis.set_ticks([])
        axis.set_label_text(f"t-SNE {number}", fontsize=8)
        axis.labelpad = -14
        axis.set_view_interval(center - half, center + half, ignore=True)
    axes.set_box_aspect((1, 1, 1), zoom=1.12)
    axes.view_init(elev=22, azim=-58)
    handles = _legend_handles(labels)
    figure.legend(handles=handles, loc="center left", bbox_to_anchor=(0.7, 0.48), handletextpad=0.2,
                  ncols=-(-len(handles) // 26), fontsize=8 if len(handles) <= 26 else 5.5)  # fmt: skip
    figure.text(0.02, 0.975, title, fontsize=11.5, fontweight="bold", va="top")
    return figure


@style()
def generated_map(
    xy_n2: Floats,
    labels: pd.Categorical,
    generated_m2: Floats | None,
    walk_s2: Floats | None = None,
    walk_labels: tuple[str, str] | None = None,
    title: str = "",
) -> Figure:
    """Draw real cells beside generated cells on one map, with the interpolation between two real cells.

    Examples
    --------
    ::

        results = sp.study.run("counts.h5ad", "study")
        row = results.rows[0]
        sp.pl.generated_map(row.tsne2d_n2, results.labels, row.generated_m2, None, None, row.title)
    """
    parts = [part for part in (xy_n2, generated_m2, walk_s2) if part is not None]
    below = height_below(labels, 9.2)
    height = 4.6 + 0.42 + below
    figure = new_figure(9.2, height)
    real, new = (figure.add_axes((left, below / height, 0.5, 4.6 / height)) for left in (0.0, 0.5))
    for axes in (real, new):
        square_limits(axes, np.concatenate(parts))
    limits = {"xlim": real.get_xlim(), "ylim": real.get_ylim()}
    draw_groups(real, xy_n2, labels)
    _scatter(new, xy_n2, [MISSING] * len(xy_n2), 0.8)
    heading = "interpolation between two cells"
    if generated_m2 is not None:
        heading = f"{len(generated_m2):,} generated cells over the real ones (gray)"
        new.scatter(
            generated_m2[:, 0],
            generated_m2[:, 1],
            s=point_size(len(generated_m2)),
            c=GENERATED,
            linewidths=0,
            alpha=0.75,
            rasterized=True,
        )
    for axes in (real, new):
        axes.set(**limits)
    if walk_s2 is not None and len(walk_s2):
        new.plot(*walk_s2.T, "-", color="white", lw=3.2, zorder=4)
        new.plot(*walk_s2.T, "--o", color=PATH, lw=1.3, ms=3, zorder=5)
        if walk_labels is not None:
            ends = walk_s2[[0, -1]]
            outward = ends - ends.mean(axis=0)
            outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
            ends = ends + 0.045 * (new.get_xlim()[1] - new.get_xlim()[0]) * outward
            write_names(new, ends, [f"from {walk_labels[0]}", f"to {walk_labels[1]}"], size=7.5)
    new.legend(
        handles=_layer_handles(generated_m2, walk_s2),
        loc="upper right",
        bbox_to_anchor=(0.98, 0.985),
        handletextpad=0.4,
    )
    real.set_title(f"{len(xy_n2):,} real cells", x=0.03, color=FAINT, fontsize=8.5, y=0.985, pad=0)
    new.set_title(heading, x=0.03, color=FAINT, fontsize=8.5, y=0.985, pad=0)
    figure.text(0.015, 1 - 0.12 / height, title, fontsize=11.5, fontweight="bold", va="top")
    if below:
        legend_below(figure, labels, 9.2)
    return figure


def map_of(adata: AnnData, basis: str | None) -> tuple[Floats, str]:
    """Return a two-dimensional map of the cells and its key in obsm."""
    names = [str(name) for name in adata.obsm]
    if basis is None:
        found = [name for name in MAPS if name in names]
        remedy = "write one with sc.tl.umap(adata), or name another with basis="
    else:
        found = [name for name in (basis, f"X_{basis}") if name in names]
        remedy = did_you_mean(basis, names)
    if not found:
        missing = " or ".join(
            f"obsm[{name!r}]" for name in (MAPS if basis is None else (f"X_{basis.removeprefix('X_')}",))
        )
        raise InputError(f"no map of the cells in {missing}; {remedy}")
    return np.asarray(adata.obsm[found[0]])[:, :2], found[0]
