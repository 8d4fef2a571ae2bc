"""Cell labels: read from a file or a column of obs, matched to cells by name, and checked.

Suffixes: n cells.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.errors import InputError, did_you_mean
from sparcell.io.files import existing_path
from sparcell.io.tables import read_strings

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger("sparcell")

NAME_COLUMNS = {"barcode", "barcodes", "cell", "cells", "cell_id", "cellid", "cell_barcode", "cell_name"}
"""Headers (in lower case) of a column that names cells."""

MIN_CELLS_FOR_IDENTITY = 10
"""From this many cells on, a label for each cell of its own is taken for a mistake."""


def read_labels(path: str | Path, key: str | None = None) -> pd.Series:
    """Read cell labels from a CSV or TSV file (also .gz).

    Parameters
    ----------
    path
        A table with a header. Cell names stand in the column called barcode, cell or the like, else in the
        first one. Empty fields and NA are missing labels.
    key
        The column of labels; None: the first that does not name cells.

    Returns
    -------
    Labels as strings, indexed by cell name, named by the column. A cell named twice alike counts once.

    Raises
    ------
    InputError
        If there is no such file or column, it is not a table, or a cell has two different labels.
    """
    where = existing_path(path, "a CSV or TSV file with cell names and labels")
    frame = read_strings(where)
    columns = [str(column) for column in frame.columns]
    if len(columns) < 2:
        raise InputError(
            f"{where} has {len(columns)} column; expected cell names in one and labels in another, "
            "with a header: barcode,cell_type."
        )
    naming = next((i for i, column in enumerate(columns) if column.strip().lower() in NAME_COLUMNS), 0)
    choices = [column for i, column in enumerate(columns) if i != naming]
    if key is None:
        key = choices[0]
        log.info("%s: labels from column %r, cell names from column %r", where, key, columns[naming])
    elif key not in choices:
        raise InputError(f"{where} has no label column {key!r}: {did_you_mean(key, choices)}")
    frame = frame[frame.iloc[:, naming].notna()]
    position = next(i for i, column in enumerate(columns) if column == key and i != naming)
    labels = pd.Series(
        frame.iloc[:, position].to_numpy(dtype=object),
        index=pd.Index(frame.iloc[:, naming].astype(str).to_numpy(), name="barcode", dtype=object),
        name=key,
    )
    labels = labels[~pd.DataFrame({"cell": labels.index, "label": labels.to_numpy()}).duplicated().to_numpy()]
    repeated = labels.index[labels.index.duplicated()]
    if len(repeated):
        raise InputError(
            f"{where} labels {len(repeated.unique())} cell(s) in more than one way, first {repeated[0]!r} as "
            f"{' and '.join(map(repr, labels[[repeated[0]]].tolist()[:2]))}; expected one label a cell."
        )
    return labels


def align_labels(labels: pd.Series, cell_names: Sequence[str] | pd.Index, where: str) -> pd.Categorical:
    """Bring labels into the order of the cells, by name.

    Parameters
    ----------
    labels
        Indexed by cell name, each once, as from `read_labels`.
    cell_names
        Length n.
    where
        How the user calls the labels: a file name.

    Returns
    -------
    Length n, strings. Cells without a label are missing, with a `UserWarning` that says how many.

    Raises
    ------
    InputError
        If no name is on both sides (an example of each is shown), or there is but one label.
    """
    cells = pd.Index([str(name) for name in cell_names], dtype=object)
    own = pd.Index([str(name) for name in labels.index], dtype=object)
    if own.has_duplicates:
        raise InputError(f"{where} names cell {own[own.duplicated()][0]!r} twice; expected one label a cell.")
    if not cells.isin(own).any():
        raise InputError(_no_match(own, cells, where))
    return _categorical(pd.Series(labels.to_numpy(), index=own).reindex(cells), where)


def labels_from_obs(adata: AnnData, key: str) -> pd.Categorical:
    """Give a column of obs as labels, by the rules of `align_labels`.

    Returns
    -------
    Length n, strings; the order of the categories is that of the column where it has one.

    Raises
    ------
    InputError
        If there is no such column, no label in it, one only, or a different one for each cell.
    """
    if key not in adata.obs:
        raise InputError(f"obs has no column {key!r}: {did_you_mean(key, adata.obs)}")
    return _categorical(adata.obs[key], f"obs[{key!r}]")


def _categorical(values: pd.Series, where: str) -> pd.Categorical:
    missing_n = values.isna().to_numpy()
    text = [None if gone else _as_text(value) for value, gone in zip(values, missing_n, strict=True)]
    found = {label for label in text if label is not None}
    n_cells, n_missing = len(text), int(missing_n.sum())
    if len(found) < 2:
        what = f"one label only ({next(iter(found))!r})" if found else "no label"
        raise InputError(
            f"{where} holds {what} for {n_cells} cells; expected two labels or more to compare with."
        )
    if len(found) == n_cells - n_missing >= MIN_CELLS_FOR_IDENTITY:
        raise InputError(
            f"{where} holds a different label for each of {len(found)} cells ({min(found)!r}, …); expected "
            "cell types that several cells share: name another column."
        )
    if n_missing:
        message = f"{where}: {n_missing} of {n_cells} cells have no label; they count in no score."
        warnings.warn(message, UserWarning, stacklevel=3)
    order = sorted(found, key=_natural)
    if isinstance(values.dtype, pd.CategoricalDtype):
        order = [label for label in map(_as_text, values.dtype.categories) if label in found]
    return pd.Categorical(text, categories=order)


def _as_text(value: object) -> str:
    """Write 3.0 as "3": a missing value among whole numbers makes pandas read them all as floats."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _natural(label: str) -> list[tuple[int, int, str]]:
    """Sort "cluster 10" behind "cluster 9"."""
    parts = re.split(r"(\d+)", label)
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts]


def _no_match(own: pd.Index, cells: pd.Index, where: str) -> str:
    def bare(name: str) -> str:
        return re.sub(r"[-.]\d+$", "", name)

    message = (
        f"{where} labels none of the {len(cells)} cells: it names {', '.join(map(repr, own[:2])) or 'none'}, "
        f"the data name {', '.join(map(repr, cells[:2]))}; expected the same names on both sides"
    )
    if {bare(name) for name in own} & {bare(name) for name in cells}:
        return message + ": they agree without their endings ('-1' or '.1'), so write these alike."
    return message + "."
