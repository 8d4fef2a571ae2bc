"""Figures of the gene programs that an AnnData holds: maps of all programs, and one program with its genes.

Suffixes: n cells, p programs and their directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.errors import InputError
from sparcell.pl.maps import map_of
from sparcell.pl.programs import END_OF_EACH, draw_activity, draw_bars, draw_color_bar, end_of_colors
from sparcell.pl.style import new_figure, style
from sparcell.results.stored_programs import stored_programs

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure


COLUMNS, PANEL, HEAD, GAP, FOOT = 4, 2.2, 0.42, 0.3, 0.62
ACTIVITY = "activity: distance of a latent from 0"


@style()
def programs(
    adata: AnnData, key: str = "beta_vsc", *, basis: str | None = None, n_programs: int = 12
) -> Figure:
    """Draw maps of the cells, one for each gene program, colored by how far the program is on; gray where it is off.

    Parameters
    ----------
    adata
        Data with the programs and latents of a model, written by `Model.embed` and `Model.programs` or by `sp.tl.beta_vsc`, and a map.
    key
        Stem of the model's keys: the model's name, or the `key_added` of `embed` and `programs`.
    basis
        The map in obsm, such as "umap" or "X_umap". Default: the first that is there of X_umap and X_tsne.
    n_programs
        Number of programs, those that explain most first.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If programs, latents or map are missing; the message says what to run.

    Examples
    --------
    ::

        sp.tl.beta_vsc(adata, layer="counts")
        sc.pp.neighbors(adata, use_rep="X_beta_vsc")
        sc.tl.umap(adata)
        sp.pl.programs(adata)
    """
    stored, (map_n2, map_name) = stored_programs(adata, key), map_of(adata, basis)
    names, activity_np = stored.names[:n_programs], stored.activity_np
    if not names:
        raise InputError(
            f"uns['{key}_programs'] holds no program; no latent of the model is active and on in these cells."
        )
    n_rows, n_columns = -(-len(names) // COLUMNS), min(COLUMNS, len(names))
    width, height = (PANEL + GAP) * n_columns, (PANEL + HEAD) * n_rows + FOOT
    figure = new_figure(width, height)
    for place, name in enumerate(names):
        x, y = place % COLUMNS * (PANEL + GAP), height - (place // COLUMNS + 1) * (PANEL + HEAD)
        axes = figure.add_axes((x / width, y / height, PANEL / width, PANEL / height))
        draw_activity(axes, map_n2, activity_np[:, place], 0.45)
        top = ", ".join(str(stored.summary["genes"].iloc[place]).split(", ")[:3])
        figure.text(
            (x + 0.08) / width, (y + PANEL + 0.24) / height, name, fontsize=8, fontweight="bold", va="center"
        )
        figure.text((x + 0.08) / width, (y + PANEL + 0.08) / height, top, fontsize=7, va="center")
    draw_color_bar(figure, 0.08, 0.36, END_OF_EACH)
    figure.text(0.08 / width, 0.07 / height, f"map: {map_name}; {ACTIVITY}", fontsize=6.5)
    return figure


@style()
def program(
    adata: AnnData, name: str, *, key: str | None = None, basis: str | None = None, n_genes: int = 15
) -> Figure:
    """Draw one gene program: the cells it is on in, on a map, and its effects on its top genes.

    Parameters
    ----------
    adata, basis
        As for `programs`.
    name
        Name of the program: "beta_vsc_3", or with a direction "beta_vsc_3+". Without a direction the one that explains more is drawn.
    key
        Stem of the model's keys. Default: `name` without its number.
    n_genes
        Number of genes.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        As `programs`, and if there is no such program.

    Examples
    --------
    ::

        sp.pl.program(adata, "beta_vsc_3")
    """
    stored = stored_programs(adata, name.rpartition("_")[0] or name if key is None else key)
    place = stored.positions(name)[0]
    map_n2, map_name = map_of(adata, basis)
    row, title = stored.summary.iloc[place], stored.names[place]
    width, height, foot = 7.4, 4.6, 0.42
    figure = new_figure(width, height)
    cells = figure.add_axes((0.0, foot / height, 4.0 / width, 3.6 / height))
    draw_activity(cells, map_n2, stored.activity_np[:, place])
    draw_color_bar(figure, 0.15, 0.2, end_of_colors(stored.activity_np[:, place]))
    bars = figure.add_axes((4.9 / width, 0.6 / height, 2.3 / width, 3.4 / height))
    draw_bars(bars, stored.top_genes(title, n_genes), set())
    bars.set_xlabel("log2 fold change", fontsize=7.5)
    figure.text(0.02, 1 - 0.19 / height, title, fontsize=10.5, fontweight="bold", va="center")
    explained = row["fraction_explained"]
    share = "" if np.isnan(explained) else f", explains {100 * explained:.1f} %"
    text = f"on in {100 * row['fraction_cells_on']:.0f} % of the cells{share}; map: {map_name}; {ACTIVITY}"
    figure.text(0.02, 1 - 0.43 / height, text, fontsize=7.5, va="center")
    return figure
