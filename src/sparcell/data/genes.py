"""Which features of an AnnData are genes, and what the genes are called. These rules hold for files and for data in memory.

Suffixes: g genes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEATURE_TYPES = "feature_types"
"""Column of var with the type of each feature, as in files of 10x Genomics."""

EXPRESSION_TYPES = ("gene expression", "gex", "rna")
"""Feature types of genes, in lower case. GEX is what multi-omic data of the Open Problems project call them."""


def other_features(var: pd.DataFrame) -> pd.Series:
    """Return the types of the features that are not gene expression, by the feature's name.

    Empty if var has no column feature_types, or if no feature is gene expression: such data have other words for their types.
    """
    if FEATURE_TYPES not in var:
        return pd.Series(dtype=object)
    types = var[FEATURE_TYPES].astype(object)
    is_gene_g = types.map(str).str.strip().str.lower().isin(EXPRESSION_TYPES)
    return types[~is_gene_g] if is_gene_g.any() else types[:0]


def gene_mask(var: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which features are genes, (g,). All of them, unless `other_features` finds some."""
    if other_features(var).empty:
        return np.ones(len(var), dtype=bool)
    types = var[FEATURE_TYPES].astype(object).map(str).str.strip().str.lower()
    return np.asarray(types.isin(EXPRESSION_TYPES), dtype=bool)


def describe_other_features(var: pd.DataFrame) -> str:
    """Return the number of features that are not gene expression, with their types, as a sentence says it."""
    counts = other_features(var).map(str).value_counts()
    return f"{counts.sum()} features that are not gene expression are left out ({', '.join(f'{n} {kind}' for kind, n in counts.items())})"


def named_by(var: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return var with the names of a column; the former names are kept in gene_ids, unless var has such a column.

    A gene whose field is empty keeps its name. Raises InputError if the column does not exist or names no gene.
    """
    if column not in var:
        raise InputError(f"var has no column {column!r} with gene names; {did_you_mean(column, var.columns)}")
    symbols = var[column].astype(object)
    is_named_g = (symbols.notna() & symbols.map(str).str.strip().ne("")).to_numpy()
    if not is_named_g.any():
        raise InputError(f"var[{column!r}] is empty for all genes; expected a name for each.")
    renamed = var.copy()
    if "gene_ids" not in var:
        renamed["gene_ids"] = var.index.to_numpy()
    renamed.index = pd.Index(np.where(is_named_g, symbols.map(str), var.index.astype(str)), dtype=object)
    return renamed
