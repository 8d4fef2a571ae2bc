"""Genes that separate groups of cells, beside scikit-learn's AUC."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score

from sparcell.tl import separating_genes
from sparcell.tl.separating_genes import GroupExpression


@pytest.fixture(scope="module")
def expression():
    """Return three groups: genes 0 to 5 are higher in group 0, gene 6 in group 1, genes 7 to 9 differ little; the rest is noise."""
    rng = np.random.default_rng(0)
    code_n = np.repeat([0, 1, 2, -1], [120, 80, 60, 20])
    rate_ng = np.full((len(code_n), 40), 0.8)
    rate_ng[np.ix_(code_n == 0, range(6))] *= 6
    rate_ng[code_n == 1, 6] *= 6
    rate_ng[np.ix_(code_n == 0, range(7, 10))] *= 1.3
    x_ng = sparse.csr_matrix(np.log1p(rng.poisson(rate_ng)).astype(np.float32))
    return GroupExpression.of(x_ng, pd.Index([f"g{number}" for number in range(40)]), code_n)


def test_genes_aucs_and_fold_changes_are_those_of_a_plain_loop(expression):
    found = expression.separating_genes(0, 1, min_auc=0.75, min_log2_fold=1.0)
    assert set(found["gene"]) == {f"g{number}" for number in range(7)}
    assert found["auc"].is_monotonic_decreasing
    x_ng, code_n = expression.x_ng.toarray(), expression.code_n
    pair_n = (code_n == 0) | (code_n == 1)
    for row in found.itertuples():
        value_n = x_ng[pair_n, int(row.gene[1:])]
        auc = roc_auc_score(code_n[pair_n] == 0, value_n)
        assert row.auc == pytest.approx(max(auc, 1 - auc))
        mean_0, mean_1 = (np.expm1(x_ng[code_n == code, int(row.gene[1:])]).mean() for code in (0, 1))
        assert row.log2_fold_change == pytest.approx(np.log2((mean_0 + 0.01) / (mean_1 + 0.01)), rel=1e-5)
        assert (row.log2_fold_change > 0) == (row.gene != "g6")


def test_the_bound_leaves_out_no_gene(expression, monkeypatch):
    """All genes above a low limit are found, although most are ruled out before they are ranked."""
    monkeypatch.setattr(separating_genes, "N_STANDARD_ERRORS", 0.0)
    found = expression.separating_genes(0, 1, min_auc=0.55, min_log2_fold=0.05)
    x_ng, code_n = expression.x_ng.toarray(), expression.code_n
    pair_n = (code_n == 0) | (code_n == 1)
    auc_g = np.array([roc_auc_score(code_n[pair_n] == 0, x_ng[pair_n, gene]) for gene in range(40)])
    assert {f"g{gene}" for gene in np.flatnonzero(np.maximum(auc_g, 1 - auc_g) >= 0.6)} <= set(found["gene"])


def test_groups_are_separate_if_enough_genes_say_so(expression):
    rule = {"min_auc": 0.75, "min_log2_fold": 1.0}
    assert expression.are_separate(0, 1, n_genes=7, **rule)
    assert not expression.are_separate(0, 1, n_genes=8, **rule)
    assert not expression.are_separate(1, 2, n_genes=2, **rule)


def test_few_cells_separate_by_chance_and_are_not_called():
    """Twelve cells of the same population have genes with a high AUC, but none beyond chance."""
    rng = np.random.default_rng(1)
    x_ng = sparse.csr_matrix(np.log1p(rng.poisson(0.5, (100, 4000))).astype(np.float32))
    groups = GroupExpression.of(x_ng, pd.Index(map(str, range(4000))), np.repeat([0, 1], [12, 88]))
    aucs = [roc_auc_score(groups.code_n == 0, x_ng[:, [gene]].toarray().ravel()) for gene in range(300)]
    assert max(aucs) > 0.7
    assert groups.separating_genes(0, 1, min_auc=0.7, min_log2_fold=0.5).empty


def test_other_groups_of_the_same_cells_and_few_ranked_cells(expression, monkeypatch):
    against_rest = expression.regrouped(np.where(expression.code_n == 0, 0, 1))
    found = against_rest.separating_genes(0, 1, min_auc=0.75, min_log2_fold=1.0)
    assert set(found["gene"]) == {f"g{number}" for number in range(6)}
    monkeypatch.setattr(separating_genes, "MAX_CELLS", 50)
    fewer = against_rest.separating_genes(0, 1, min_auc=0.75, min_log2_fold=1.0)
    assert set(fewer["gene"]) == set(found["gene"])
