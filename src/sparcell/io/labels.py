"""Cell labels from a file or a column of obs, matched to cells by name and checked.

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

from sparcell.errors import InputError, MissingLabelsWarning, did_you_mean
from sparcell.io.files import existing_path
from sparcell.io.stored import StoredCells
from sparcell.io.tables import read_strings
from sparcell.results.analysis import UNKNOWN

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger("sparcell")

NAME_COLUMNS = {"barcode", "barcodes", "cell", "cells", "cell_id", "cellid", "cell_barcode", "cell_name"}
"""Names, in lower case, of a column that holds cell names."""

MIN_CELLS_FOR_IDENTITY = 10
"""From this number of cells on, a different label for each cell is an error."""


def read_labels(path: str | Path, key: str | None = None) -> pd.Series:
    """Return cell labels read from a CSV or TSV file, which may be compressed (.gz).

    Parameters
    ----------
    path
        A table with a header. Cell names are in a column called barcode, cell or similar, otherwise in the first
        column. Empty fields and NA are missing labels.
    key
        Name of the column of labels. Default: the first column that does not hold cell names.

    Returns
    -------
    Labels as strings, indexed by cell name; the name of the series is that of the column. Repeated rows are
    dropped.

    Raises
    ------
    InputError
        If the file or the column does not exist, the file is not a table, or a cell has two different labels.

    Examples
    --------
    >>> labels = sp.io.read_labels("labels.csv", "cell_type")
    >>> adata.obs["cell_type"] = sp.io.align_labels(labels, adata.obs_names, "labels.csv")
    """
    where = existing_path(path, "a CSV or TSV file with cell names and labels")
    frame = read_strings(where)
    columns = [str(column) for column in frame.columns]
    if len(columns) < 2:
        raise InputError(
            f"{where} has {len(columns)} column; expected a column of cell names and a column of labels, "
            "with a header such as barcode,cell_type."
        )
    names_at = next((i for i, column in enumerate(columns) if column.strip().lower() in NAME_COLUMNS), 0)
    choices = [column for i, column in enumerate(columns) if i != names_at]
    if key is None:
        key = choices[0]
        log.info(
            "%s: labels are read from column %r, cell names from column %r", where, key, columns[names_at]
        )
    elif key not in choices:
        raise InputError(f"{where} has no label column {key!r}: {did_you_mean(key, choices)}")
    frame = frame[frame.iloc[:, names_at].notna()]
    position = next(i for i, column in enumerate(columns) if column == key and i != names_at)
    labels = pd.Series(
        frame.iloc[:, position].to_numpy(dtype=object),
        index=pd.Index(frame.iloc[:, names_at].astype(str).to_numpy(), name="barcode", dtype=object),
        name=key,
    )
    labels = labels[~pd.DataFrame({"cell": labels.index, "label": labels.to_numpy()}).duplicated().to_numpy()]
    repeated = labels.index[labels.index.duplicated()]
    if len(repeated):
        raise InputError(
            f"{where} has different labels for {len(repeated.unique())} cell(s), the first {repeated[0]!r} with "
            f"{' and '.join(map(repr, labels[[repeated[0]]].tolist()[:2]))}; expected one label for each cell."
        )
    return labels


def align_labels(labels: pd.Series, cell_names: Sequence[str] | pd.Index, where: str) -> pd.Categorical:
    """Return labels in the order of the cells, matched by name.

    Parameters
    ----------
    labels
        Labels, indexed by unique cell names, as from `read_labels`.
    cell_names
        Names of the cells, length n, as in `adata.obs_names`.
    where
        Name of the labels in messages, such as the file name.

    Returns
    -------
    Categorical of length n, strings, in natural order ("cluster 9" before "cluster 10"). Cells without a label are
    missing, and a `UserWarning` gives their number.

    Raises
    ------
    InputError
        If no cell has a label, there are fewer than two labels, or each cell has a different label.

    Examples
    --------
    >>> labels = sp.io.read_labels("labels.csv")
    >>> adata.obs["cell_type"] = sp.io.align_labels(labels, adata.obs_names, "labels.csv")
    """
    cells = pd.Index([str(name) for name in cell_names], dtype=object)
    labeled = pd.Index([str(name) for name in labels.index], dtype=object)
    if labeled.has_duplicates:
        repeated = labeled[labeled.duplicated()][0]
        raise InputError(f"{where} names cell {repeated!r} twice; expected one label for each cell.")
    if not cells.isin(labeled).any():
        raise InputError(_no_match(labeled, cells, where))
    return _categorical(pd.Series(labels.to_numpy(), index=labeled).reindex(cells), where)


def labels_from_obs(adata: AnnData, key: str, *, warn_missing: bool = True) -> pd.Categorical:
    """Return a column of obs as labels, checked as by `align_labels`.

    Parameters
    ----------
    adata
        n cells.
    key
        Name of the column.
    warn_missing
        Warn of missing values. False: the caller says what happens to such cells.

    Returns
    -------
    Categorical of length n, strings. A categorical column keeps the order of its categories; unused categories are
    dropped. Missing values stay missing, and a `UserWarning` gives their number unless `warn_missing` is false.

    Raises
    ------
    InputError
        If the column does not exist, has fewer than two labels, or has a different label for each cell.

    Examples
    --------
    >>> labels = sp.io.labels_from_obs(adata, "cell_type")
    """
    if key not in adata.obs:
        raise InputError(f"obs has no column {key!r}: {did_you_mean(key, adata.obs)}")
    return _categorical(adata.obs[key], f"obs[{key!r}]", warn_missing=warn_missing)


def usable_labels(adata: AnnData | StoredCells, labels_key: str) -> pd.Categorical:
    """Return a column of labels; what is missing, empty or "unknown" is missing. Raise InputError if the rest says nothing.

    Examples
    --------
    ::

        labels = usable_labels(adata, "cell_type")
    """
    if isinstance(adata, StoredCells):
        adata.read_obs([labels_key])
    labels = labels_from_obs(adata, labels_key, warn_missing=False)
    usable = labels.set_categories([name for name in labels.categories if name.lower() not in ("", UNKNOWN)])
    if len(usable.categories) >= 2 and usable.value_counts().max() < 2:
        raise InputError(
            f"each of the {len(usable.categories)} labels of obs[{labels_key!r}] has one cell; expected several cells of a label."
        )
    if len(usable.categories) < 2:
        raise InputError(
            f"obs[{labels_key!r}] holds fewer than two labels besides missing and {UNKNOWN!r}; expected two or more."
        )
    return usable


def _categorical(values: pd.Series, where: str, *, warn_missing: bool = True) -> pd.Categorical:
    code_n, present = pd.factorize(values)  # -1 is missing
    text = [_as_text(value) for value in present]
    distinct, n_cells, n_missing = set(text), len(code_n), int((code_n < 0).sum())
    if len(distinct) < 2:
        what = f"only one label ({next(iter(distinct))!r})" if distinct else "no label"
        raise InputError(f"{where} holds {what} for {n_cells} cells; expected at least two different labels.")
    if len(distinct) == n_cells - n_missing >= MIN_CELLS_FOR_IDENTITY:
        raise InputError(
            f"{where} holds a different label for each of {len(distinct)} cells ({min(distinct)!r}, …); expected "
            "cell types, each of several cells: name another column."
        )
    if n_missing and warn_missing:
        message = f"{where}: {n_missing} of {n_cells} cells have no label; scores leave these cells out."
        warnings.warn(message, MissingLabelsWarning, stacklevel=3)
    order = sorted(distinct, key=_natural_order)
    if isinstance(values.dtype, pd.CategoricalDtype):
        order = [label for label in map(_as_text, values.dtype.categories) if label in distinct]
    categories = pd.Index(order)
    number = categories.get_indexer(pd.Index(text))
    return pd.Categorical.from_codes(np.append(number, -1)[code_n].tolist(), categories=categories)


def _as_text(value: object) -> str:
    """Return the label as text, 3.0 as "3", because pandas reads whole numbers with a missing value as floats."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _natural_order(label: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts "cluster 10" after "cluster 9"."""
    parts = re.split(r"(\d+)", label)
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts]


def _no_match(labeled: pd.Index, cells: pd.Index, where: str) -> str:
    def without_suffix(name: str) -> str:
        return re.sub(r"[-.]\d+$", "", name)

    message = (
        f"{where} has a label for none of the {len(cells)} cells: cells in the labels are called "
        f"{', '.join(map(repr, labeled[:2])) or 'nothing'}, cells in the data {', '.join(map(repr, cells[:2]))}; "
        "expected the same names in both"
    )
    if {without_suffix(name) for name in labeled} & {without_suffix(name) for name in cells}:
        return message + ": without the suffixes ('-1' or '.1') the names agree, so use the same suffixes."
    return message + "."
