"""Log2 ratios of groups of cells with their standard errors, beside repeated simulation; the form that scanpy reads."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from sparcell.tl.group_comparisons import Comparison
from sparcell.tl.log_fold_changes import CellBlock, ComparisonSums, scanpy_results, share_beyond_chance

N_CELLS, DISPERSION = 120, 0.5
MEAN_2G = np.array([[0.02, 0.2, 0.002], [0.01, 0.2, 0.004]])
"""Fractions of three genes in the group and in the reference."""


@pytest.fixture(scope="module")
def comparison():
    in_group_m = np.arange(N_CELLS) < 50
    return Comparison("a", "b", None, np.arange(N_CELLS), in_group_m, np.arange(N_CELLS) % 2)


def sums_of(comparison, rng, batch_effect=1.0):
    """Draw negative-binomial counts and add the cells in blocks of 50."""
    depth_n = rng.integers(500, 3000, N_CELLS)
    fraction_ng = np.where(comparison.in_group_m[:, None], *MEAN_2G[:, None])
    fraction_ng = fraction_ng * np.where(comparison.batch_m == 1, batch_effect, 1)[:, None]
    rate_ng = fraction_ng * rng.gamma(1 / DISPERSION, DISPERSION, fraction_ng.shape)
    observed_ng = sparse.csr_matrix(rng.poisson(rate_ng * depth_n[:, None]) / depth_n[:, None])
    sums = ComparisonSums(comparison, 1 / depth_n, fraction_ng.shape[1], seed=0)
    for start in range(0, N_CELLS, 50):
        cells = slice(start, start + 50)
        sums.add(CellBlock(start, observed_ng[cells], fraction_ng[cells].astype(np.float32)))
    return sums


@pytest.fixture(scope="module")
def repeats(comparison):
    return [sums_of(comparison, np.random.default_rng(seed)) for seed in range(300)]


def test_log2_ratios_and_their_standard_errors_are_those_of_repeated_draws(repeats):
    lfc_rg = np.array([sums.log2_fold(sums.mean_2g) for sums in repeats])
    np.testing.assert_allclose(lfc_rg.mean(axis=0), np.log2(MEAN_2G[0] / MEAN_2G[1]), atol=0.03)
    se_g = np.mean([sums.standard_error() for sums in repeats], axis=0)
    np.testing.assert_allclose(se_g, lfc_rg.std(axis=0), rtol=0.12)


def test_the_dispersion_is_that_of_the_simulation(repeats):
    dispersion_g = np.mean([sums.dispersion() for sums in repeats], axis=0)
    np.testing.assert_allclose(dispersion_g, DISPERSION, rtol=0.15)


def test_a_difference_between_batches_is_neither_signal_nor_noise(comparison):
    plain, shifted = (sums_of(comparison, np.random.default_rng(1), effect) for effect in (1.0, 0.2))
    np.testing.assert_allclose(shifted.log2_fold(shifted.mean_2g), plain.log2_fold(plain.mean_2g), atol=0.5)
    np.testing.assert_allclose(shifted.dispersion(), plain.dispersion(), rtol=0.4)


def test_means_are_those_of_the_weights(comparison):
    rng = np.random.default_rng(2)
    sums = sums_of(comparison, rng)
    decoded = sums.decoded_rg[:2]
    np.testing.assert_allclose(decoded, MEAN_2G, rtol=1e-5)
    assert (sums.expressing_2g <= 1 + 1e-6).all()


def test_the_share_beyond_chance_by_hand():
    assert share_beyond_chance(np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]])) == pytest.approx(0.75)
    assert share_beyond_chance(np.array([[0.5, 0.0], [1.0, 0.0]])) == 0
    assert share_beyond_chance(np.zeros((3, 2))) == 0


def test_scanpy_reads_the_result_also_from_a_file(repeats, tmp_path):
    table = repeats[0].table(["g1", "g2", "g3"], 0.25)
    adata = ad.AnnData(np.ones((2, 3), np.float32), var=pd.DataFrame(index=["g1", "g2", "g3"]))
    adata.uns["de"] = scanpy_results(table, {"groupby": "type", "reference": "b"})
    adata.write_h5ad(tmp_path / "a.h5ad")
    for cells in (adata, ad.read_h5ad(tmp_path / "a.h5ad")):
        read = sc.get.rank_genes_groups_df(cells, "a", key="de")
        assert list(read["names"]) == list(table["names"])
        np.testing.assert_allclose(read["logfoldchanges"], table["logfoldchanges"], rtol=1e-6)
        np.testing.assert_allclose(read["pvals_adj"], table["fdr"])
    assert table["names"].iloc[0] == "g1"  # the one that rises, beside one that falls
    assert table["names"].iloc[-1] == "g3"
