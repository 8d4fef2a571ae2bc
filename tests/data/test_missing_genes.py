"""New data that lack genes of a model, or name them in another way: zeros up to a limit, or an error that says what to type."""

from __future__ import annotations

import logging

import pandas as pd
import pytest

from sparcell.data.missing_genes import check_missing_genes
from sparcell.errors import InputError

GENES = [f"GENE{i}" for i in range(100)]


def check(names, rule="error", genes=GENES, **columns):
    var = pd.DataFrame(columns, index=names)
    missing = [gene for gene in genes if gene not in var.index]
    check_missing_genes(missing, len(genes), var, rule)


def test_few_missing_genes_may_count_as_0_and_their_number_is_said(caplog):
    with pytest.raises(InputError, match=r"missing_genes='zero'\) \(in a shell: --missing-genes zero\)"):
        check(GENES[10:])
    with caplog.at_level(logging.INFO, "sparcell"):
        check(GENES[10:], "zero")
    assert "10 of the model's 100 genes are not in the data and count as 0" in caplog.text


def test_many_missing_genes_are_refused():
    with pytest.raises(InputError, match="at most 20% may be missing, and here it is 30%"):
        check(GENES[30:], "zero")


@pytest.mark.parametrize("rule", ["error", "zero"])
@pytest.mark.parametrize(
    ("names", "columns", "remedy"),
    [
        (
            [f"ENSG{i:011d}" for i in range(100)],
            {"symbol": GENES},
            r"in the column 'symbol'.*--gene-symbols symbol",
        ),
        ([f"ENSG{i:011d}" for i in range(100)], {}, "named by Ensembl IDs and the model by symbols"),
        ([f"{gene}.{i}" for i, gene in enumerate(GENES)], {}, r"without the version.*str.replace"),
        ([gene.capitalize() for gene in GENES], {}, r"upper and lower case.*str.upper\(\)"),
    ],
)
def test_the_error_says_which_names_fit(names, columns, remedy, rule):
    with pytest.raises(InputError, match=remedy):
        check(names, rule, **columns)


def test_an_unknown_rule_is_refused():
    with pytest.raises(InputError, match="missing_genes is 'none'; expected one of error, zero"):
        check(GENES[1:], "none")
