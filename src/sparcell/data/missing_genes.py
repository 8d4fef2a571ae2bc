"""Genes of a model that new data lack: allowed as 0 up to a limit, or an error that says which names would fit and what to type.

Suffixes: g genes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Literal, get_args

import pandas as pd

from sparcell.errors import InputError, format_settings

log = logging.getLogger("sparcell")

MissingGenes = Literal["error", "zero"]
"""What to do with genes of the model that the data lacks: raise an error, or take them as not expressed."""

MAX_MISSING_FRACTION = 0.2
"""With more of the model's genes missing, cells are no longer encoded where they belong, and zeros are refused."""

MIN_AGREEMENT = 0.5
"""Other names are proposed if they fit at least this fraction of the missing genes."""

VERSION = re.compile(r"\.\d+$")
ENSEMBL = re.compile(r"^ENS[A-Z]*G\d{6,}(\.\d+)?$")


def check_missing_genes(missing: list[str], n_genes: int, var: pd.DataFrame, rule: MissingGenes) -> None:
    """Raise InputError for missing genes, unless the rule is zero and they are few; then log their number.

    Parameters
    ----------
    missing
        Genes of the model that are not among the names of `var`; at least one.
    n_genes
        Number of the model's genes.
    var
        var of the data, indexed by gene name.
    rule
        See `MissingGenes`.
    """
    if rule not in get_args(MissingGenes):
        raise InputError(f"missing_genes is {rule!r}; expected one of {', '.join(get_args(MissingGenes))}.")
    share = len(missing) / n_genes
    found = (
        f"{len(missing)} of the model's {n_genes} genes are not in the data (such as {', '.join(missing[:3])}); the data has "
        f"{len(var)} genes such as {', '.join(map(str, var.index[:3]))}."
    )
    if rule == "zero" and share <= MAX_MISSING_FRACTION:
        log.info(
            "%d of the model's %d genes are not in the data and count as 0 (such as %s)",
            *(len(missing), n_genes, ", ".join(missing[:3])),
        )
        return
    remedy = _other_names(missing, var)
    if remedy:
        raise InputError(f"{found} {remedy}")
    if rule == "zero":
        raise InputError(
            f"{found} With missing_genes zero at most {MAX_MISSING_FRACTION:.0%} may be missing, and here it is {share:.0%}: "
            "pass data with more of the genes, or train a model on the genes that both have."
        )
    as_zero = (
        " To take them as not expressed: model.for_data(adata, missing_genes='zero') (in a shell: --missing-genes zero)."
        if share <= MAX_MISSING_FRACTION
        else ""
    )
    raise InputError(
        f"{found} Expected all of them, in any order: check that the gene names are of the same kind, and pass the data before genes "
        f"are filtered out.{as_zero}"
    )


def _other_names(missing: list[str], var: pd.DataFrame) -> str:
    """Return which other names fit the missing genes and how to use them; "" if none do."""
    names = var.index.astype(str)
    for column in var.columns:
        if _fits(missing, var[column].dropna().astype(str)):
            return (
                f"But they are in the column {column!r} of var: name the genes by it, adata.var_names = adata.var[{column!r}] "
                f"(in a shell: --gene-symbols {column})."
            )
    if _fits(missing, (VERSION.sub("", name) for name in names)):
        return (
            "But the names agree without the version behind the point (ENSG00000141510.18). "
            r"In Python: adata.var_names = adata.var_names.str.replace(r'\.\d+$', '', regex=True)."
        )
    if _fits((VERSION.sub("", gene) for gene in missing), (VERSION.sub("", name) for name in names)):
        return "But the names agree without the version behind the point (ENSG00000141510.18): give data with the versions of the model."
    for case in ("upper", "capitalize", "lower"):
        if _fits(missing, (getattr(name, case)() for name in names)):
            return (
                "But the names agree in upper and lower case alike (human genes are written CD3E, mouse genes Cd3e; a model of one species "
                f"seldom fits the other). In Python: adata.var_names = adata.var_names.str.{case}()."
            )
    if ENSEMBL.match(names[0]) and not ENSEMBL.match(missing[0]):
        return (
            "The data is named by Ensembl IDs and the model by symbols: put the symbols into a column of var, and name the genes by it "
            f"({format_settings(gene_symbols='COLUMN')})."
        )
    return ""


def _fits(missing: Iterable[str], names: Iterable[str]) -> bool:
    missing_names = set(missing)
    return len(missing_names & set(names)) >= MIN_AGREEMENT * len(missing_names)
