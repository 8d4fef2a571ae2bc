"""Writing and printing of results: tables, figures, AnnData, provenance.

Suffixes: n cells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell import io
from sparcell.io import files

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from sparcell.results.study import MethodResult


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write each table as `<name>.csv` into the folder."""
    for name, table in tables.items():
        files.write_text(folder / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))


def remove_stale(folder: Path, patterns: Iterable[str], written: Iterable[Path]) -> None:
    """Remove files of an earlier run with other rows: those that match a pattern and were not written now."""
    current = set(written)
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path not in current:
                path.unlink()


def write_record(adata: AnnData, path: Path, provenance: Mapping[str, object]) -> None:
    """Write the AnnData to `path`, and the provenance beside it as provenance.json."""
    io.write_h5ad(adata, path)
    files.write_text(path.parent / "provenance.json", json.dumps(provenance, indent=1, default=str) + "\n")


def annotated(
    adata: AnnData, labels: pd.Categorical, rows: Sequence[MethodResult], *, uns_key: str
) -> AnnData:
    """Return a copy of the cells with the labels and the arrays of all methods.

    Parameters
    ----------
    adata
        The n cells.
    labels
        Label of each cell.
    rows
        The methods; `<row>` below is the name of one with underscores, such as beta_vae_hvg.
    uns_key
        Key of uns for titles and settings.

    Returns
    -------
    AnnData with ``obs["label"]`` (``obs["sparcell_label"]`` if the data has other values in ``obs["label"]``), ``obs["kmeans_<row>"]``,
    ``obsm["X_<row>"]``, ``obsm["tsne2d_<row>"]``, where available ``obsm["tsne3d_<row>"]`` and ``obsm["<row>_inclusion"]``, and
    ``uns[uns_key]`` with titles and settings as JSON.
    """
    copy = adata.copy()
    names = [str(label) for label in labels]
    present = copy.obs["label"].astype(str).tolist() if "label" in copy.obs else names
    copy.obs["label" if present == names else "sparcell_label"] = labels
    for row in rows:
        key = row.name.replace("-", "_")
        copy.obs[f"kmeans_{key}"] = pd.Categorical(row.kmeans_n.astype(str))
        arrays = {
            f"X_{key}": row.latent_nk,
            f"tsne2d_{key}": row.tsne2d_n2,
            f"tsne3d_{key}": row.tsne3d_n3,
            f"{key}_inclusion": row.inclusion_nk,
        }
        copy.obsm.update({name: np.asarray(array) for name, array in arrays.items() if array is not None})
    settings = {row.name: {"title": row.title, "settings": row.settings} for row in rows}
    copy.uns[uns_key] = json.dumps(settings, default=str)
    return copy


def print_table(title: str, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print a table to the terminal: the first column holds names, the others hold numbers.

    No number is cut. A table wider than the terminal (80 columns in a log) is printed in parts, each with the column of names.
    """
    from rich.console import Console
    from rich.table import Table

    console, rows = Console(), [list(line) for line in lines]
    for part, places in enumerate(table_parts(columns, rows, console.width)):
        table = Table(title=title + ", continued" * bool(part), title_justify="left")
        table.add_column(columns[0], max_width=NAME_WIDTH, overflow="fold")
        for place in places:
            table.add_column(columns[place], justify="right", no_wrap=True)
        for row in rows:
            table.add_row(row[0], *(row[place] for place in places))
        console.print(table)


NAME_WIDTH = 28
"""Longer names in the first column of a table are broken into lines."""


def table_parts(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Return which columns of numbers each part of a table holds, so that no part is wider than `width` characters.

    Examples
    --------
    >>> from sparcell.experiments.writing import table_parts
    >>> table_parts(["method", "total", "bio"], [["beta-vsc", "0.712 ± 0.010", "0.650 ± 0.010"]], 40)
    [[1], [2]]
    """
    from rich.cells import cell_len

    widths = [max(cell_len(row[place]) for row in [columns, *rows]) + 3 for place in range(len(columns))]
    names = min(widths[0], NAME_WIDTH + 3) + 1
    parts: list[list[int]] = []
    used = width
    for place in range(1, len(columns)):
        if used + widths[place] > width or not parts:
            parts.append([])
            used = names
        parts[-1].append(place)
        used += widths[place]
    return parts or [[]]


def print_line(text: str) -> None:
    """Print one line of plain text to the terminal; long lines are not broken."""
    from rich.console import Console

    Console().print(text, markup=False, highlight=False, soft_wrap=True)
