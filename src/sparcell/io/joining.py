"""Rules by which several files become one set of cells, in memory or on disk: genes by name, columns of obs, names of cells and files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Sequence
from functools import reduce
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.data.covariates import category_names
from sparcell.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger("sparcell")

FILE = "file"
"""Column of obs that says which file a cell is from."""
MIN_COMMON_FRACTION = 0.5
"""Files that share a smaller fraction of their genes probably name genes differently."""


def file_labels(paths: Sequence[Path]) -> list[str]:
    """Return a short name for each file: its name without suffix, after as many folders as tell the files apart.

    Raises InputError if a file is given twice.
    """
    resolved = [path.resolve() for path in paths]
    repeated = [path for number, path in enumerate(paths) if resolved[number] in resolved[:number]]
    if repeated:
        raise InputError(f"{repeated[0]} is given twice; expected each file once.")
    named = [path.with_suffix("") for path in resolved]
    if len(set(named)) < len(paths):  # a.h5ad beside a.zarr
        named = resolved
    for n_parts in count(1):
        labels = ["/".join(path.parts[-n_parts:]) for path in named]
        if len(set(labels)) == len(labels):
            return labels
    raise AssertionError  # the paths differ


def common_genes(genes: Sequence[pd.Index], labels: Sequence[str]) -> pd.Index:
    """Return the names of the genes that all files have, in the order of the first file, and log how many others are left out.

    Raises
    ------
    InputError
        If a name occurs more than once in a file, or if a file shares less than half of its genes with the others.
    """
    for names, label in zip(genes, labels, strict=True):
        if not names.is_unique:
            repeated = names[names.duplicated()][0]
            raise InputError(
                f"{label} has more than one gene named {repeated!r}; expected unique names, by which genes of several files are matched."
            )
    common = reduce(lambda found, names: found[found.isin(names)], genes)
    fewest = min(range(len(genes)), key=lambda number: len(genes[number]))
    if len(common) < MIN_COMMON_FRACTION * len(genes[fewest]):
        raise InputError(
            f"only {len(common):,} of the {len(genes[fewest]):,} genes of {labels[fewest]} are in all {len(genes)} files, such as "
            f"{', '.join(f'{names[0]!r} in {label}' for names, label in zip(genes, labels, strict=True) if len(names))}; expected the same "
            "genes by the same names. If a column of var has the names, add --gene-symbols COLUMN (Python: gene_symbols='COLUMN')."
        )
    lost = {
        label: len(names) - len(common)
        for names, label in zip(genes, labels, strict=True)
        if len(names) > len(common)
    }
    if lost:
        parts = ", ".join(f"{n:,} of {label}" for label, n in lost.items())
        log.info("%s genes are in all %s files; genes left out: %s", f"{len(common):,}", len(genes), parts)
    return common


def positions(genes: pd.Index, common: pd.Index) -> NDArray[np.int64]:
    """Return the number of each gene of a file among the common genes, (number of genes,); -1 for others."""
    return np.asarray(common.get_indexer(genes), dtype=np.int64)


def join_var(tables: Sequence[pd.DataFrame], common: pd.Index) -> pd.DataFrame:
    """Return the columns of var that all files have with the same values, (number of common genes, …)."""
    first, *others = [table.loc[common] for table in tables]
    same = [
        column
        for column in first.columns
        if all(column in other and first[column].equals(other[column]) for other in others)
    ]
    return first[same].copy()


def join_obs(tables: Sequence[pd.DataFrame], labels: Sequence[str], name: str | None = None) -> pd.DataFrame:
    """Return the columns of obs that all files have, and the file of each cell as the last column, with numbered cells.

    `name` is the name of that column. Default: see `file_column`.

    Categories are joined. Columns that hold text in one file and numbers in another become text.
    """
    columns = [column for column in tables[0].columns if all(column in table for table in tables)]
    all_columns = {str(column) for table in tables for column in table.columns}
    lost = all_columns - set(map(str, columns))
    if lost:
        log.info("columns of obs that some files lack are left out: %s", ", ".join(sorted(lost)))
    lengths = [len(table) for table in tables]
    obs = pd.DataFrame(
        {column: _joined([table[column] for table in tables]) for column in columns},
        index=pd.RangeIndex(sum(lengths)),
    )
    number_n = np.repeat(np.arange(len(labels)), lengths)
    obs[name or file_column(all_columns)] = pd.Categorical.from_codes(number_n, pd.Index(labels))  # type: ignore[arg-type]
    return obs


def file_column(columns: Collection[str]) -> str:
    """Return the name of the column with the file of each cell: one that no file has yet."""
    return f"sparcell_{FILE}" if FILE in columns else FILE


def _joined(columns: Sequence[pd.Series]) -> pd.Series:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns without values, whose type will one day count
        kinds = {
            column.cat.categories.dtype if isinstance(column.dtype, pd.CategoricalDtype) else None
            for column in columns
        }
        if len(kinds) == 1 and None not in kinds:
            values = pd.api.types.union_categoricals(list(columns), ignore_order=True)
            return pd.Series(values)
        plain = [
            column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column
            for column in columns
        ]
        joined = pd.concat(plain, ignore_index=True)
        if joined.dtype == object:
            texts = [category_names(column).where(column.notna()) for column in plain]
            joined = pd.concat(texts, ignore_index=True)
    return pd.Series(joined)


def unique_cell_names(names: Sequence[pd.Index], labels: Sequence[str]) -> pd.Index:
    """Return the names of all cells, followed by the file's name if a name occurs in two files."""
    joined = pd.Index(np.concatenate([np.asarray(part, dtype=object) for part in names]), dtype=object)
    if joined.is_unique:
        return joined
    log.info(
        "files share names of cells: each name is followed by that of its file, such as %s-%s",
        names[0][0],
        labels[0],
    )
    return pd.Index(
        [f"{name}-{label}" for part, label in zip(names, labels, strict=True) for name in part], dtype=object
    )
