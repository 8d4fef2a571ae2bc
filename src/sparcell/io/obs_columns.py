"""Columns of obs that look like cell types or batches, by name and content."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger("sparcell")

CELL_TYPE_NAMES = (
    ("celltype", "celltypes"),
    *(
        ("cellontologyclass",),
        ("annotation", "annotations", "cellannotation"),
        ("label", "labels", "celllabel"),
    ),
)
"""Names of columns of cell types, the clearest first, without case and punctuation; names in one group are equally clear."""

BATCH_NAMES = (
    *(
        "batch",
        "batchid",
        "donor",
        "donorid",
        "sample",
        "sampleid",
        "patient",
        "patientid",
        "individual",
        "subject",
    ),
    *(
        "origident",
        "library",
        "libraryid",
        "condition",
        "stim",
        "chemistry",
        "assay",
        "tech",
        "technology",
        "run",
        "lane",
        "file",
    ),
)
"""Names of columns of batches, in the order in which a hint names them, without case and punctuation."""

MAX_CELL_TYPES = 100
MAX_BATCHES = 100


def cell_type_columns(obs: pd.DataFrame) -> list[str]:
    """Return the columns that look like cell types: the clearest ones, or several that are equally clear and differ.

    A column counts by its name (`CELL_TYPE_NAMES`) if it holds text or categories, 2 to 100 of them. Of columns with the same groups of
    cells the first is returned.
    """
    for names in CELL_TYPE_NAMES:
        found = [column for column in _named(obs, names) if _is_grouping(obs[column], MAX_CELL_TYPES)]
        if found:
            return [
                column
                for number, column in enumerate(found)
                if not any(_same_groups(obs[column], obs[other]) for other in found[:number])
            ]
    return []


def batch_columns(obs: pd.DataFrame) -> list[str]:
    """Return the columns that look like batches: 2 to 100 groups, at most one for every two cells, and a name in `BATCH_NAMES`."""
    return [
        column
        for name in BATCH_NAMES
        for column in _named(obs, (name,))
        if _is_grouping(obs[column], min(MAX_BATCHES, len(obs) // 2), numbers=True)
    ]


def log_batch_hint(obs: pd.DataFrame, used: Iterable[str | None]) -> None:
    """Log one line for a column that looks like a batch, unless a column of batches is among the `used` ones."""
    batches = batch_columns(obs)
    if batches and not set(batches) & set(used):
        log.info(
            "obs[%r] looks like a batch (%s) and is not used. --batch-key %s removes its effect from the latents.",
            *(batches[0], describe(obs[batches[0]]), batches[0]),
        )


def log_cell_type_hint(obs: pd.DataFrame) -> None:
    """Log one line for a column that looks like cell types, which `--labels-key` would use."""
    types = cell_type_columns(obs)
    if types:
        log.info(
            "obs[%r] looks like cell types (%s) and is not used. --labels-key %s shows in which types a program is on.",
            *(types[0], describe(obs[types[0]]), types[0]),
        )


def describe(column: pd.Series) -> str:
    """Return the number of groups of a column, with the first two: "13 values: 'B', 'NK', …"."""
    values = [str(value) for value in pd.unique(column.dropna())]
    more = ", …" if len(values) > 2 else ""
    return f"{len(values)} values: {', '.join(map(repr, sorted(values)[:2]))}{more}"


def _named(obs: pd.DataFrame, names: Iterable[str]) -> list[str]:
    plain = {column: re.sub(r"[^a-z0-9]", "", str(column).lower()) for column in obs.columns}
    return [str(column) for name in names for column, text in plain.items() if text == name]


def _is_grouping(column: pd.Series, most: int, *, numbers: bool = False) -> bool:
    """Return whether a column holds 2 to `most` groups as text or categories, or as whole numbers if these count too."""
    kind = column.dtype
    is_text = isinstance(kind, pd.CategoricalDtype) or pd.api.types.is_string_dtype(column.dropna())
    is_whole = numbers and pd.api.types.is_integer_dtype(kind)
    return (is_text or is_whole) and 2 <= column.nunique() <= most


def _same_groups(first: pd.Series, second: pd.Series) -> bool:
    """Return whether two columns divide the cells into the same groups."""
    return bool(np.array_equal(pd.factorize(first)[0], pd.factorize(second)[0]))
