"""Simulated programs and branches: depths, activities, effects, noise and batches are those asked for; thinned counts are binomial.

Suffixes: n cells, g genes, p programs, b batches.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import gamma, kstest, spearmanr, uniform
from sklearn.linear_model import PoissonRegressor

from sparcell import datasets
from sparcell.data.validation import check_matrix, infer_matrix_kind
from sparcell.datasets.simulate import BLOCK_CELLS
from sparcell.errors import InputError


@pytest.fixture(scope="module")
def simulated():
    return datasets.simulate_programs()


def test_simulated_counts_have_the_depths_and_means_of_pbmc3k(simulated):
    check_matrix(simulated.X, "X", allow_empty_cells=False)
    assert isinstance(simulated.X, sparse.csr_matrix)
    assert simulated.X.dtype == np.float32
    assert infer_matrix_kind(simulated.X) == "counts"
    assert simulated.shape == (2700, 2000)
    counts_ng = datasets.pbmc3k().X.toarray().astype(np.float64)
    mean_g = counts_ng.mean(axis=0)
    top_g = np.argsort(-mean_g, kind="stable")[:2000]
    real_n, simulated_n = counts_ng[:, top_g].sum(axis=1), np.asarray(simulated.X.sum(axis=1)).ravel()
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.quantile(simulated_n, level) == pytest.approx(np.quantile(real_n, level), rel=0.05)
    simulated_mean_g = np.asarray(simulated.X.mean(axis=0)).ravel()
    assert spearmanr(mean_g[top_g], simulated_mean_g).statistic > 0.85
    assert (simulated.X != 0).mean() == pytest.approx((counts_ng[:, top_g] != 0).mean(), abs=0.05)


def test_simulated_programs_are_on_as_often_and_as_much_as_asked():
    adata = datasets.simulate_programs(n_programs=5, n_cells=4000, n_genes=100, fraction_on=0.1)
    activity_np = adata.obsm["activity"]
    assert activity_np.shape == (4000, 5)
    on_np = activity_np > 0
    assert (activity_np[~on_np] == 0).all()
    assert on_np.mean(axis=0) == pytest.approx(np.full(5, 0.1), abs=4 * np.sqrt(0.09 / 4000))
    assert kstest(activity_np[on_np], gamma(4, scale=1 / 4).cdf).pvalue > 0.001
    assert np.corrcoef(on_np.T)[np.triu_indices(5, 1)] == pytest.approx(np.zeros(10), abs=0.08)
    assert (datasets.simulate_programs(n_programs=2, n_cells=50, fraction_on=1).obsm["activity"] > 0).all()


def test_simulated_effects_are_sparse_and_overlap(simulated):
    effect_gp = simulated.varm["effects"]
    assert effect_gp.shape == (2000, 12)
    assert (effect_gp[:100] == 0).all()  # the most expressed genes are in no program
    assert ((effect_gp > 0).sum(axis=0) == 100).all()
    positive = effect_gp[effect_gp > 0]
    assert (positive.min() >= 0.5) & (positive.max() <= 1.5)
    assert positive.mean() == pytest.approx(1, abs=0.05)
    assert 0 < ((effect_gp > 0).sum(axis=1) > 1).mean() < 0.2


def test_genes_of_a_program_respond_by_the_simulated_fold():
    """Poisson regression of the counts on the activities recovers the effects."""
    adata = datasets.simulate_programs(n_programs=2, n_cells=6000, n_genes=400, seed=3)
    effect_gp, activity_np = adata.varm["effects"], adata.obsm["activity"].astype(float)
    # All other genes of a cell lose the same factor, which the genes of no program measure.
    rest_g = (effect_gp == 0).all(axis=1)
    offset_n = np.asarray(adata.X[:, np.flatnonzero(rest_g)].sum(axis=1)).ravel()
    for g in np.flatnonzero((effect_gp > 0).any(axis=1))[:6]:
        relative_n = adata.X[:, [g]].toarray().ravel() / offset_n
        fit = PoissonRegressor(alpha=0, max_iter=1000).fit(
            activity_np, relative_n / relative_n.mean(), offset_n
        )
        assert fit.coef_ == pytest.approx(effect_gp[g], abs=0.12)


def test_simulated_noise_is_negative_binomial():
    """Cells that differ in depth only have the variance mu + mu² / theta."""
    adata = datasets.simulate_programs(n_programs=1, n_cells=8000, n_genes=50, fraction_on=1e-9, seed=1)
    assert (adata.obsm["activity"] == 0).all()
    x_ng = adata.X.toarray().astype(np.float64)
    mu_ng = x_ng.sum(axis=1, keepdims=True) * x_ng.sum(axis=0) / x_ng.sum()
    extra_g = ((x_ng - mu_ng) ** 2 - mu_ng).sum(axis=0) / (mu_ng**2).sum(axis=0)
    rare = x_ng.sum(axis=0) < 0.03 * x_ng.sum()  # a dominant gene changes the totals
    assert np.corrcoef(np.log(extra_g[rare]), -np.log(adata.var["theta"][rare]))[0, 1] > 0.9
    assert np.median(extra_g[rare] * adata.var["theta"][rare]) == pytest.approx(1, abs=0.15)


def test_simulated_batches_shift_genes_and_change_nothing_else(simulated):
    adata = datasets.simulate_programs(n_batches=3)
    assert "batch" not in simulated.obs
    assert "batch_effects" not in simulated.varm
    assert adata.obs["batch"].cat.categories.tolist() == ["1", "2", "3"]
    assert adata.obs["batch"].value_counts().min() > 800
    np.testing.assert_array_equal(adata.obsm["activity"], simulated.obsm["activity"])
    np.testing.assert_array_equal(adata.varm["effects"], simulated.varm["effects"])
    shift_gb = adata.varm["batch_effects"]
    assert shift_gb.std() == pytest.approx(0.3, abs=0.02)
    mean_bg = np.array([adata.X[(adata.obs["batch"] == name).to_numpy()].mean(axis=0).A1 for name in "123"])
    observed_g, simulated_g = np.log(mean_bg[0] / mean_bg[1]), shift_gb[:, 0] - shift_gb[:, 1]
    assert np.corrcoef(observed_g, simulated_g)[0, 1] > 0.8
    assert np.corrcoef(observed_g[:300], simulated_g[:300])[0, 1] > 0.97


def test_simulated_data_follow_the_seed_and_can_be_saved(tmp_path):
    small = {"n_programs": 3, "n_genes": 60, "n_cells": 80, "n_batches": 2}
    one, again, other = (datasets.simulate_programs(**small, seed=seed) for seed in (5, 5, 6))
    assert (one.X != again.X).nnz == 0
    assert (one.obs["batch"] == again.obs["batch"]).all()
    np.testing.assert_array_equal(one.varm["effects"], again.varm["effects"])
    assert (one.X != other.X).nnz > 0
    assert "3 programs" in one.uns["source"]
    assert "seed 5" in one.uns["source"]
    one.write_h5ad(tmp_path / "simulated.h5ad")
    longer = datasets.simulate_programs(n_genes=20, n_cells=BLOCK_CELLS + 3)
    assert longer.n_obs == len(set(longer.obs_names)) == BLOCK_CELLS + 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_programs": 0}, "n_programs is 0; expected 1 or more"),
        ({"n_cells": 0}, "n_cells is 0; expected 1 or more"),
        ({"n_batches": -1}, "n_batches is -1; expected 1 or more"),
        ({"fraction_on": 0}, "fraction_on is 0; expected a probability above 0"),
        ({"fraction_on": 25}, "fraction_on is 25; expected a probability"),
        ({"n_genes": 50_000}, "n_genes is 50000; expected a number from 20.*to 16634"),
        ({"n_genes": 5}, "n_genes is 5; expected"),
    ],
)
def test_numbers_out_of_range_raise(wrong, message):
    with pytest.raises(InputError, match=message):
        datasets.simulate_programs(**wrong)


@pytest.fixture(scope="module")
def branches():
    return datasets.simulate_branches(n_fates=3, n_genes=400, n_cells=3000)


def test_branches_form_a_tree_with_as_many_fates_as_asked(branches):
    assert branches.obs["branch"].cat.categories.tolist() == ["1", "11", "111", "112", "12"]
    assert branches.obs["branch"].value_counts().min() > 500
    for n_fates in (2, 4, 7):
        names = datasets.simulate_branches(n_fates, n_genes=20, n_cells=5).obs["branch"].cat.categories
        assert len(names) == 2 * n_fates - 1
        fates = [name for name in names if f"{name}1" not in names]
        assert len(fates) == n_fates
        assert max(map(len, fates)) - min(map(len, fates)) <= 1
        assert all(name[:-1] in names for name in names if name != "1")


def test_the_program_of_a_branch_rises_and_that_of_the_branch_before_falls(branches):
    activity_np, branch_n = branches.obsm["activity"], branches.obs["branch"].to_numpy()
    names = branches.obs["branch"].cat.categories.tolist()
    position_n = branches.obs["pseudotime"].to_numpy() - [len(name) - 1 for name in branch_n]
    assert kstest(position_n, uniform.cdf).pvalue > 0.001
    for name in names:
        cells = branch_n == name
        expected_np = np.zeros((cells.sum(), len(names)))
        expected_np[:, names.index(name)] = 1 - np.cos(np.pi * position_n[cells])
        if name != "1":
            expected_np[:, names.index(name[:-1])] = 1 + np.cos(np.pi * position_n[cells])
        np.testing.assert_allclose(activity_np[cells], expected_np, atol=1e-5)


def test_counts_along_a_branch_follow_the_activities(branches):
    """The genes of no other program rise by about exp(activity × effect), whatever the depth of the cell."""
    effect_gp, activity_np = branches.varm["effects"], branches.obsm["activity"]
    rest_g = (effect_gp == 0).all(axis=1)
    rest_n = np.asarray(branches.X[:, np.flatnonzero(rest_g)].sum(axis=1)).ravel()
    for p, effect_g in enumerate(effect_gp.T):
        only_g = (effect_g > 0) & ((effect_gp > 0).sum(axis=1) == 1)
        count_n = np.asarray(branches.X[:, np.flatnonzero(only_g)].sum(axis=1)).ravel()
        off_n, high_n = activity_np[:, p] == 0, activity_np[:, p] > 1.8
        fold = (count_n[high_n].sum() / rest_n[high_n].sum()) / (count_n[off_n].sum() / rest_n[off_n].sum())
        assert 4 < fold < 12  # exp(2 × 1) = 7.4 on average


def test_branches_follow_the_seed_and_can_be_saved(tmp_path):
    one, again, other = (
        datasets.simulate_branches(3, n_genes=60, n_cells=80, seed=seed) for seed in (5, 5, 6)
    )
    assert (one.X != again.X).nnz == 0
    assert (one.X != other.X).nnz > 0
    assert "3 fates, 5 branches, seed 5" in one.uns["source"]
    one.write_h5ad(tmp_path / "branches.h5ad")


def test_thinned_counts_are_binomial_and_the_input_is_unchanged(simulated):
    before = simulated.X.copy()
    shallow = datasets.thin_counts(simulated, 0.25, seed=1)
    assert (before != simulated.X).nnz == 0
    assert (before < shallow.X).nnz == 0
    assert not shallow.layers
    assert shallow.X.dtype == np.float32
    assert (shallow.X.data > 0).all()
    np.testing.assert_array_equal(shallow.obsm["activity"], simulated.obsm["activity"])
    for count in (1, 8):
        kept = np.asarray(shallow.X[before == count]).ravel()
        n = len(kept)
        assert kept.mean() == pytest.approx(count * 0.25, abs=4 * np.sqrt(count * 0.1875 / n))
        assert kept.var() == pytest.approx(count * 0.1875, rel=8 / np.sqrt(n) + 0.02)
    assert (datasets.thin_counts(simulated, 0.25, seed=1).X != shallow.X).nnz == 0
    assert (before != datasets.thin_counts(simulated, 1).X).nnz == 0


def test_thinning_refuses_what_is_no_count(simulated):
    with pytest.raises(InputError, match="fraction is 25; expected a probability"):
        datasets.thin_counts(simulated, 25)
    normalized = simulated[:5].copy()
    normalized.X.data[0] = 0.5
    with pytest.raises(InputError, match="X holds values that are no counts"):
        datasets.thin_counts(normalized, 0.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_fates": 1}, "n_fates is 1; expected 2 or more"),
        ({"n_cells": 0}, "n_cells is 0; expected 1 or more"),
        ({"n_genes": 5}, "n_genes is 5; expected"),
    ],
)
def test_branches_out_of_range_raise(wrong, message):
    with pytest.raises(InputError, match=message):
        datasets.simulate_branches(**wrong)
