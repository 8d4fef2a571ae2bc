"""Figures of an analysis: maps by cluster and by columns of obs, markers, quality control."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from sparcell.pl.charts import qc_histograms, qc_limits
from sparcell.pl.colors import FAINT
from sparcell.pl.conditions import program_conditions
from sparcell.pl.criticism import model_fit
from sparcell.pl.maps import draw_groups, height_below, legend_below
from sparcell.pl.style import new_figure, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

    from sparcell.results.analysis import AnalysisResults, Floats

DOT_AREA = 70
"""Area of a dot of markers, in points squared, if all cells of a type have the gene."""
MIN_WIDTH = 4.5
"""Width of a panel in inches from which on both scales stand side by side."""
PALEST = -0.15
"""Value of the white end of the scale of shades, so that a dot of expression 0 is not white."""


def analysis_figures(results: AnalysisResults) -> Iterator[tuple[str, Figure]]:
    """Yield all figures of an analysis with their file names (no ending).

    Examples
    --------
    ::

        for name, figure in sp.pl.analysis_figures(results):
            figure.savefig(f"{name}.png")
    """
    columns = {"Cell types": results.cell_types, **results.columns}
    for heading, labels in columns.items():
        name = heading.lower().replace(" ", "-")
        yield f"umap-{name}", two_maps(results.umap_n2, results.tsne_n2, labels, heading)
    yield "markers", marker_dots(results)
    if results.program_changes is not None:
        yield "program_changes", program_conditions(results.program_changes)
    if results.criticism is not None:
        yield "fit", model_fit(results.criticism)
    if not results.qc.empty:
        yield "qc", qc_histograms(results.qc, qc_limits(results))


@style()
def two_maps(umap_n2: Floats, tsne_n2: Floats, labels: pd.Categorical, title: str = "") -> Figure:
    """Draw a UMAP beside a t-SNE, both colored by label.

    Examples
    --------
    ::

        sp.pl.two_maps(results.umap_n2, results.tsne_n2, results.cell_types)
    """
    below = height_below(labels, 9.2)
    height = 4.6 + 0.42 + below
    figure = new_figure(9.2, height)
    for left, heading, xy_n2 in ((0.0, "UMAP", umap_n2), (0.5, "t-SNE", tsne_n2)):
        axes = figure.add_axes((left, below / height, 0.5, 4.6 / height))
        axes.set_title(heading, x=0.03, color=FAINT, fontsize=8.5, y=0.985, pad=0)
        draw_groups(axes, xy_n2, labels)
    figure.text(0.015, 1 - 0.12 / height, title, fontsize=11.5, fontweight="bold", va="top")
    if below:
        legend_below(figure, labels, 9.2)
    return figure


def _dot_scales(figure: Figure, axes: Axes, dots: PathCollection, width: float) -> None:
    """Draw below the dots what their areas and their shades mean; `width` is that of the panel in inches."""
    bar_width = min(1.5, width)
    bar = figure.colorbar(
        dots,
        ax=axes,
        location="bottom",
        shrink=bar_width / width,
        anchor=(0.0, 1.0),
        aspect=16 * bar_width / 1.5,
        pad=0.02,
    )
    bar.ax.set_xlim(0, 1)
    bar.set_ticks([0, 1], labels=["0", "highest of a cell type"])
    bar.ax.tick_params(length=0, labelsize=7)
    bar.outline.set_visible(False)
    bar.ax.set_title("mean expression of the gene", fontsize=7, pad=3, fontweight="normal")
    shares = (0.25, 0.5, 1.0)
    handles = [
        Line2D(
            [], [], marker="o", ls="", mew=0, color=FAINT, ms=(DOT_AREA * share) ** 0.5, label=f"{share:.0%}"
        )
        for share in shares
    ]
    place = "lower right" if width > MIN_WIDTH else "outside lower right"  # beside the bar if there is room
    legend = figure.legend(handles=handles, loc=place, ncols=3, title="cells with the gene", fontsize=7)
    legend.get_title().set_fontsize(7)


@style()
def marker_dots(results: AnalysisResults) -> Figure:
    """Draw the markers of the clusters: the size of a dot is the share of cells with the gene, its shade the mean expression.

    Examples
    --------
    ::

        sp.pl.marker_dots(results)
    """
    expression = results.expression
    names = [str(name) for name in results.cell_types.categories]
    genes = [] if expression is None else [gene for _, gene in expression.markers]
    across = 0.24 * max(len(genes), 6)
    figure = new_figure(2.2 + across, 2.1 + 0.26 * len(names), layout="constrained")
    axes = figure.subplots()
    if expression is not None and genes:
        column = [expression.genes.index(gene) for gene in genes]
        codes_n = np.asarray(results.cell_types.codes)
        values = [expression.values_ng[codes_n == code][:, column] for code in range(len(names))]
        mean_lg = np.array([part.mean(axis=0) for part in values])
        share_lg = np.array([(part > 0).mean(axis=0) for part in values])
        shade_lg = mean_lg / np.maximum(mean_lg.max(axis=0), 1e-9)
        line, gene = np.indices(mean_lg.shape)
        dots = axes.scatter(
            gene, line, s=DOT_AREA * share_lg, c=shade_lg, cmap="Blues", vmin=PALEST, vmax=1, linewidths=0
        )
        _dot_scales(figure, axes, dots, across)
    axes.set_xticks(range(len(genes)), genes, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    return figure
