"""The data sets come whole, offline, as counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import gamma, kstest, spearmanr
from sklearn.linear_model import PoissonRegressor

from sparcell import datasets
from sparcell.data.validation import check_matrix, infer_matrix_kind
from sparcell.errors import InputError
from sparcell.pp.markers import pbmc_markers

SEURAT_TYPES = [
    "Naive CD4 T",
    "CD14+ Mono",
    "Memory CD4 T",
    "B",
    "CD8 T",
    "FCGR3A+ Mono",
    "NK",
    "DC",
    "Platelet",
]


def test_pbmc3k_is_raw_and_whole():
    adata = datasets.pbmc3k()
    assert adata.shape == (2700, 32738)
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert infer_matrix_kind(adata.X) == "counts"
    assert int(adata.X.sum(dtype=np.float64)) == 6390631  # as 10x Genomics counted
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique
    assert "CC BY 4.0" in (Path(datasets.__file__).parent / "data" / "README.md").read_text()


def test_pbmc68k_counts_reproduce_the_values_they_came_from():
    import scanpy as sc

    adata = datasets.pbmc68k_reduced()
    check_matrix(adata.X, "X", allow_empty_cells=False)
    assert adata.shape == (700, 765)
    assert infer_matrix_kind(adata.X) == "counts"
    assert adata.obs["cell_type"].nunique() == 10
    shipped = sc.datasets.pbmc68k_reduced()
    assert (adata.obs["cell_type"].astype(str) == shipped.obs["bulk_labels"].astype(str)).all()
    again = np.log1p(adata.X.toarray() / adata.obs["n_counts"].to_numpy()[:, None] * 1e4)
    # scanpy's values are rounded to three digits.
    assert np.abs(again - shipped.raw.X.toarray()).max() < 0.002


def test_marker_table_names_the_nine_types_of_the_tutorial():
    table = pbmc_markers()
    assert list(dict.fromkeys(table["cell_type"])) == SEURAT_TYPES
    assert table.groupby("cell_type").size().min() >= 3
    known = table["gene"].isin(datasets.pbmc3k().var_names)
    assert known.mean() > 0.9
    assert pd.unique(table["gene"]).size == len(table)  # no gene stands for two types


# ---------------------------------------------------------------------------------------------- planted programs


@pytest.fixture(scope="module")
def planted():
    return datasets.simulate_programs()


def test_planted_counts_have_the_depths_and_means_of_pbmc3k(planted):
    check_matrix(planted.X, "X", allow_empty_cells=False)
    assert isinstance(planted.X, sparse.csr_matrix)
    assert planted.X.dtype == np.float32
    assert infer_matrix_kind(planted.X) == "counts"
    assert planted.shape == (2700, 2000)
    counts_ng = datasets.pbmc3k().X.toarray().astype(np.float64)
    mean_g = counts_ng.mean(axis=0)
    best_g = np.argsort(-mean_g, kind="stable")[:2000]
    real_n, made_n = counts_ng[:, best_g].sum(axis=1), np.asarray(planted.X.sum(axis=1)).ravel()
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.quantile(made_n, share) == pytest.approx(np.quantile(real_n, share), rel=0.05)
    made_g = np.asarray(planted.X.mean(axis=0)).ravel()
    assert spearmanr(mean_g[best_g], made_g).statistic > 0.85
    assert (planted.X != 0).mean() == pytest.approx((counts_ng[:, best_g] != 0).mean(), abs=0.05)


def test_planted_programs_are_on_as_often_and_as_much_as_asked():
    adata = datasets.simulate_programs(n_programs=5, n_cells=4000, n_genes=100, share_on=0.1)
    amount_np = adata.obsm["activity"]
    assert amount_np.shape == (4000, 5)
    on_np = amount_np > 0
    assert (amount_np[~on_np] == 0).all()
    assert on_np.mean(axis=0) == pytest.approx(np.full(5, 0.1), abs=4 * np.sqrt(0.09 / 4000))
    assert kstest(amount_np[on_np], gamma(4, scale=1 / 4).cdf).pvalue > 0.001
    assert np.corrcoef(on_np.T)[np.triu_indices(5, 1)] == pytest.approx(np.zeros(10), abs=0.08)
    assert (datasets.simulate_programs(n_programs=2, n_cells=50, share_on=1).obsm["activity"] > 0).all()


def test_planted_effects_are_sparse_and_overlap(planted):
    effect_gp = planted.varm["effects"]
    assert effect_gp.shape == (2000, 12)
    assert (effect_gp[:100] == 0).all()  # the most expressed genes are in no program
    assert ((effect_gp > 0).sum(axis=0) == 100).all()
    given = effect_gp[effect_gp > 0]
    assert (given.min() >= 0.5) & (given.max() <= 1.5)
    assert given.mean() == pytest.approx(1, abs=0.05)
    assert 0 < ((effect_gp > 0).sum(axis=1) > 1).mean() < 0.2


def test_a_programs_genes_respond_by_the_planted_fold():
    """Poisson regression of the counts on the amounts gives the effects back: an independent way to them."""
    adata = datasets.simulate_programs(n_programs=2, n_cells=6000, n_genes=400, seed=3)
    effect_gp, amount_np = adata.varm["effects"], adata.obsm["activity"].astype(float)
    # What a cell's other genes lose is the same for all: the genes of no program measure it.
    rest_g = (effect_gp == 0).all(axis=1)
    offset_n = np.asarray(adata.X[:, np.flatnonzero(rest_g)].sum(axis=1)).ravel()
    for g in np.flatnonzero((effect_gp > 0).any(axis=1))[:6]:
        share_n = adata.X[:, [g]].toarray().ravel() / offset_n
        fit = PoissonRegressor(alpha=0, max_iter=1000).fit(amount_np, share_n / share_n.mean(), offset_n)
        assert fit.coef_ == pytest.approx(effect_gp[g], abs=0.12)


def test_planted_noise_is_negative_binomial():
    """Of many cells alike but for depth, the variance is mu + mu² / theta."""
    adata = datasets.simulate_programs(n_programs=1, n_cells=8000, n_genes=50, share_on=1e-9, seed=1)
    assert (adata.obsm["activity"] == 0).all()
    x_ng = adata.X.toarray().astype(np.float64)
    mu_ng = x_ng.sum(axis=1, keepdims=True) * x_ng.sum(axis=0) / x_ng.sum()
    extra_g = ((x_ng - mu_ng) ** 2 - mu_ng).sum(axis=0) / (mu_ng**2).sum(axis=0)
    rare = x_ng.sum(axis=0) < 0.03 * x_ng.sum()  # the totals follow the draws of a gene that dominates
    assert np.corrcoef(np.log(extra_g[rare]), -np.log(adata.var["theta"][rare]))[0, 1] > 0.9
    assert np.median(extra_g[rare] * adata.var["theta"][rare]) == pytest.approx(1, abs=0.15)


def test_planted_batches_shift_genes_and_change_nothing_else(planted):
    adata = datasets.simulate_programs(n_batches=3)
    assert "batch" not in planted.obs
    assert "batch_effects" not in planted.varm
    assert adata.obs["batch"].cat.categories.tolist() == ["1", "2", "3"]
    assert adata.obs["batch"].value_counts().min() > 800
    np.testing.assert_array_equal(adata.obsm["activity"], planted.obsm["activity"])
    np.testing.assert_array_equal(adata.varm["effects"], planted.varm["effects"])
    shift_gb = adata.varm["batch_effects"]
    assert shift_gb.std() == pytest.approx(0.3, abs=0.02)
    mean_bg = np.array([adata.X[(adata.obs["batch"] == name).to_numpy()].mean(axis=0).A1 for name in "123"])
    seen_g, planted_g = np.log(mean_bg[0] / mean_bg[1]), shift_gb[:, 0] - shift_gb[:, 1]
    assert np.corrcoef(seen_g, planted_g)[0, 1] > 0.8
    assert np.corrcoef(seen_g[:300], planted_g[:300])[0, 1] > 0.97


def test_planted_data_follow_the_seed_and_can_be_saved(tmp_path):
    small = {"n_programs": 3, "n_genes": 60, "n_cells": 80, "n_batches": 2}
    one, again, other = (datasets.simulate_programs(**small, seed=seed) for seed in (5, 5, 6))
    assert (one.X != again.X).nnz == 0
    assert (one.obs["batch"] == again.obs["batch"]).all()
    np.testing.assert_array_equal(one.varm["effects"], again.varm["effects"])
    assert (one.X != other.X).nnz > 0
    assert "3 programs" in one.uns["source"]
    assert "seed 5" in one.uns["source"]
    one.write_h5ad(tmp_path / "planted.h5ad")
    longer = datasets.simulate_programs(n_genes=20, n_cells=datasets.BLOCK_CELLS + 3)
    assert longer.n_obs == len(set(longer.obs_names)) == datasets.BLOCK_CELLS + 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_programs": 0}, "n_programs is 0; expected 1 or more"),
        ({"n_cells": 0}, "n_cells is 0; expected 1 or more"),
        ({"n_batches": -1}, "n_batches is -1; expected 1 or more"),
        ({"share_on": 0}, "share_on is 0; expected a probability above 0"),
        ({"share_on": 25}, "share_on is 25; expected a probability"),
        ({"n_genes": 50_000}, "n_genes is 50000; expected a number from 20.*to 16634"),
        ({"n_genes": 5}, "n_genes is 5; expected"),
    ],
)
def test_planted_numbers_out_of_range(wrong, message):
    with pytest.raises(InputError, match=message):
        datasets.simulate_programs(**wrong)
