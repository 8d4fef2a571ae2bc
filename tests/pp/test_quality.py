"""Quality control against values computed by hand and against plain loops."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from helpers.three_groups import three_groups
from sparcell import pp
from sparcell.errors import InputError


@pytest.mark.filterwarnings("ignore:Quality control removed")
def test_quality_control_by_hand():
    x_ng = np.array(
        [  # g0 g1 g2 mt-a rare
            [1, 1, 1, 1, 0],  # 4 genes, 25 % mitochondrial
            [2, 1, 0, 0, 0],  # 2 genes
            [9, 9, 1, 1, 0],  # 4 genes, 5 %
            [1, 0, 0, 0, 5],  # 1 gene that stays
            [3, 1, 1, 0, 0],  # 3 genes
            [0, 0, 0, 0, 0],
        ]
    )
    adata = ad.AnnData(sparse.csr_matrix(x_ng, dtype=np.float32))
    adata.var_names = ["g0", "g1", "g2", "mt-a", "rare"]
    qc = pp.quality_control(adata, min_cells=2, min_genes=1, max_genes=4, max_pct_mito=None)
    assert qc["n_genes"].tolist() == [4, 2, 4, 1, 3, 0]
    assert qc["total_counts"].tolist() == [4, 3, 20, 1, 5, 0]
    assert qc["pct_mito"].tolist() == [25, 0, 5, 0, 0, 0]
    assert qc["kept"].tolist() == [False, True, False, False, True, False]
    assert adata.var_names.tolist() == ["g0", "g1", "g2", "mt-a"]
    np.testing.assert_array_equal(adata.X.toarray(), x_ng[[1, 4], :4])


@pytest.mark.filterwarnings("ignore:Quality control removed")
@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=2, max_size=8),
    min_cells=st.integers(0, 3),
    min_genes=st.integers(0, 3),
    max_genes=st.one_of(st.none(), st.integers(2, 6)),
    max_pct=st.one_of(st.none(), st.floats(1, 100)),
)
def test_quality_control_against_plain_loops(values, min_cells, min_genes, max_genes, max_pct):
    x_ng = np.array(values, dtype=np.float32)
    adata = ad.AnnData(sparse.csr_matrix(x_ng))
    adata.var_names = ["a", "b", "c", "MT-d", "Mt-e"]
    genes = [j for j in range(5) if sum(row[j] > 0 for row in values) >= min_cells]
    cells = []
    for i, row in enumerate(values):
        n_genes, total = sum(row[j] > 0 for j in genes), sum(row[j] for j in genes)
        pct_mito = 100 * sum(row[j] for j in genes if j >= 3) / total if total else 0
        few = n_genes > min_genes and (max_genes is None or n_genes < max_genes)
        if few and (max_pct is None or pct_mito < max_pct):
            cells.append(i)
    limits = {"min_cells": min_cells, "min_genes": min_genes, "max_genes": max_genes, "max_pct_mito": max_pct}
    if not genes or not cells:
        with pytest.raises(InputError, match=r"expected|Expected"):
            pp.quality_control(adata, **limits)
        np.testing.assert_array_equal(adata.X.toarray(), x_ng)
        return
    qc = pp.quality_control(adata, **limits)
    assert np.flatnonzero(qc["kept"]).tolist() == cells
    np.testing.assert_array_equal(adata.X.toarray(), x_ng[np.ix_(cells, genes)])


def test_nothing_left_says_which_limit_and_what_would_do():
    adata = three_groups()
    with pytest.raises(
        InputError,
        match=r"min_genes=200 removes 120.*keep most cells: min_genes=(\d+) \(in a shell: --min-genes \1\)",
    ) as caught:
        pp.quality_control(adata, max_pct_mito=None)
    assert adata.shape == (120, 60)
    advice = int(str(caught.value).split("min_genes=")[-1].split(" ")[0])
    assert pp.quality_control(adata, min_genes=advice, max_pct_mito=None)["kept"].mean() > 0.9


def test_many_cells_removed_is_a_warning():
    with pytest.warns(UserWarning, match=r"removed \d+ of 120 cells: max_pct_mito=2 removes"):
        pp.quality_control(three_groups(), min_genes=0, max_pct_mito=2)


def test_a_view_can_be_filtered():
    adata = three_groups()
    view = adata[:60]
    pp.quality_control(view, min_genes=0, max_pct_mito=None)
    assert view.n_obs == 60
    assert adata.n_obs == 120
