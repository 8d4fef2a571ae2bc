"""Figure of gene programs between conditions: cell types × programs.

Suffixes: t cell types, p programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.errors import InputError
from sparcell.pl.colors import FAINT, INK, SIGNED
from sparcell.pl.style import new_figure, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MAX_FDR = 0.05
N_PROGRAMS = 24
"""Programs that the figure shows: those with the smallest p."""
MAX_TITLE = 34
"""Longest title of a program; a longer one ends in "…"."""
MIN_SCALE = 0.2
"""Smallest end of the color scale, in standard deviations, so that small differences look small."""


def effect_tables(
    table: pd.DataFrame, n_programs: int = N_PROGRAMS
) -> tuple[pd.DataFrame, pd.DataFrame, float]:
    """Return effects and adjusted p of `tl.program_conditions`, types × programs, and the end of the color scale.

    Programs are those with the smallest p, ordered by their mean effect. A program that was not compared in a type has no value there.
    """
    shown = table.drop_duplicates("program")["program"].head(n_programs)
    rows = table[table["program"].isin(shown)]
    effect_tp = rows.pivot(index="cell_type", columns="program", values="effect")
    p_tp = rows.pivot(index="cell_type", columns="program", values="p_adjusted")
    order = effect_tp.mean().sort_values(ascending=False, kind="stable").index
    largest = max(MIN_SCALE, float(np.nanmax(np.abs(effect_tp.to_numpy()))))
    return effect_tp[order], p_tp[order], largest


def shortened(title: str) -> str:
    """Return a title of at most `MAX_TITLE` characters."""
    return title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1]}…"


@style()
def program_conditions(table: pd.DataFrame, n_programs: int = N_PROGRAMS) -> Figure:
    """Return a heat map of the difference of each gene program between two conditions, cell types × programs.

    Colors are differences in standard deviations of the program's activity. A star marks an adjusted p below .05; a pair that was not
    compared is left white.

    Parameters
    ----------
    table
        Table of `tl.program_conditions`. A column name, if there is one, holds the titles of the programs.
    n_programs
        Most programs to show, those with the smallest p.

    Raises
    ------
    InputError
        If the table is empty.

    Examples
    --------
    ::

        table = sp.tl.program_conditions(adata, "condition", "donor", within="cell_type")
        sp.pl.program_conditions(table)
    """
    if table.empty:
        raise InputError(
            "the table is empty; expected at least one program that was compared in a cell type."
        )
    effects, p_values, largest = effect_tables(table, n_programs)
    titles = dict(zip(table["program"], table["name"] if "name" in table else table["program"], strict=True))
    names, columns = (
        [str(name) for name in effects.index],
        [shortened(str(titles[key])) for key in effects.columns],
    )
    left, above = 0.3 + 0.075 * max(map(len, names)), 0.3 + 0.042 * max(map(len, columns))
    across = 0.3 * len(columns)
    width, height = (
        left + across + max(0.3 + 0.042 * max(map(len, columns)), 1.6),
        above + 0.27 * len(names) + 0.6,
    )
    figure = new_figure(width, height)
    axes = figure.add_axes((left / width, 0.6 / height, across / width, 0.27 * len(names) / height))
    effect_tp = np.ma.masked_invalid(effects.to_numpy(dtype=np.float64))
    image = axes.pcolormesh(
        effect_tp, cmap=SIGNED, vmin=-largest, vmax=largest, edgecolors="white", linewidth=1
    )
    for row, column in np.argwhere(p_values.to_numpy() < MAX_FDR):
        axes.text(column + 0.5, row + 0.56, "*", ha="center", va="center", fontsize=11, color=INK)
    axes.set(ylim=(len(names), 0))
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.set_xticks(
        np.arange(len(columns)) + 0.5, columns, rotation=45, ha="left", rotation_mode="anchor", fontsize=7
    )
    axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=3)
    axes.spines[:].set_visible(False)
    scale = figure.add_axes((left / width, 0.34 / height, min(across, 1.8) / width, 0.09 / height))
    figure.colorbar(image, cax=scale, orientation="horizontal").outline.set_visible(False)
    scale.tick_params(length=0, labelsize=7)
    group, reference = table["group"].iloc[0], table["reference"].iloc[0]
    figure.text(
        (left + min(across, 1.8) + 0.15) / width, 0.38 / height, f"{group} minus {reference}, in SD; * FDR < {MAX_FDR}",
        color=FAINT, fontsize=7.5, va="center",
    )  # fmt: skip
    return figure
