"""Variable genes: simulated ones are chosen, flavors choose as in scanpy, and small batches are named in a warning."""

from __future__ import annotations

import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from scipy.stats import rankdata

from sparcell import pp
from sparcell.config.genes import FLAVORS
from sparcell.errors import InputError


def simulated(n_cells=600, n_genes=200, n_varying=30, seed=0):
    """Genes of any mean; the first `n_varying` differ between halves of the cells."""
    rng = np.random.default_rng(seed)
    rate_ng = np.tile(np.exp(rng.uniform(-2, 2, size=n_genes)), (n_cells, 1))
    rate_ng[: n_cells // 2, :n_varying] *= 4
    return from_counts(rng.poisson(rate_ng))


def from_counts(counts_ng):
    adata = ad.AnnData(sparse.csr_matrix(counts_ng, dtype=np.float32))
    adata.var_names = [f"g{i}" for i in range(adata.n_vars)]
    adata.layers["counts"] = adata.X.copy()
    return adata


def in_batches(*sizes, differing=range(30, 60)):
    """Simulated data in which other genes differ between batches only, sixfold."""
    rng = np.random.default_rng(1)
    n_cells = sum(sizes)
    batch_n = np.repeat([f"b{i}" for i in range(len(sizes))], sizes)
    rate_ng = np.tile(np.exp(rng.uniform(-2, 2, size=200)), (n_cells, 1))
    rate_ng[rng.random(n_cells) < 0.5, :30] *= 4
    for i in range(len(sizes)):
        rate_ng[np.ix_(batch_n == f"b{i}", differing)] *= 6.0 ** (i % 2)
    adata = from_counts(rng.poisson(rate_ng))
    adata.obs["batch"] = pd.Categorical(batch_n)
    return adata


def chosen(adata):
    return adata.var["highly_variable"].to_numpy()


@pytest.mark.parametrize("flavor", FLAVORS)
def test_simulated_variable_genes_are_chosen(flavor):
    adata = simulated()
    pp.variable_genes(adata, n_top_genes=30, flavor=flavor)
    least = 0.6 if flavor == "pearson_residuals" else 0.8  # by chance: 0.15
    assert chosen(adata)[:30].mean() >= least
    assert chosen(adata).sum() == 30
    assert sorted(adata.var["highly_variable_rank"].dropna()) == list(range(30))
    assert "highly_variable_nbatches" not in adata.var


def test_a_flavor_that_does_not_exist():
    with pytest.raises(InputError, match="there is no flavor 'seurat_v2'; did you mean 'seurat_v3'"):
        pp.variable_genes(simulated(), flavor="seurat_v2")


def test_all_are_used_where_there_are_no_more():
    adata = simulated()
    adata.obs["batch"] = np.where(np.arange(600) % 2, "one", "two")
    with pytest.warns(UserWarning, match="n_top_genes is 500, but the data have 200 genes: all are marked"):
        pp.variable_genes(adata, n_top_genes=500, batch_key="batch")
    assert chosen(adata).all()
    assert (adata.var["highly_variable_nbatches"] == 2).all()
    with pytest.raises(InputError, match="n_top_genes is 0"):
        pp.variable_genes(adata, n_top_genes=0)


def test_what_differs_between_batches_only_is_not_chosen():
    adata = in_batches(300, 300)
    pp.variable_genes(adata, n_top_genes=30)
    assert chosen(adata)[30:60].sum() > 5  # without batches they look variable
    pp.variable_genes(adata, n_top_genes=30, batch_key="batch")
    assert chosen(adata).sum() == 30
    assert chosen(adata)[:30].mean() >= 0.8
    assert chosen(adata)[30:60].sum() <= 3


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper"])
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.asarray])
def test_seurat_s_flavors_choose_as_scanpy_s(form, flavor):
    adata = in_batches(250, 150, 200)
    counts_ng = adata.layers["counts"].toarray()
    adata.layers["counts"] = form(counts_ng)
    pp.variable_genes(adata, n_top_genes=40, batch_key="batch", flavor=flavor)
    adata.layers["counts"] = sparse.csr_matrix(counts_ng)  # scanpy takes no sparse arrays
    want = sc.pp.highly_variable_genes(
        adata, n_top_genes=40, layer="counts", flavor=flavor, batch_key="batch", inplace=False
    )
    for name in ("highly_variable", "highly_variable_rank", "highly_variable_nbatches"):
        np.testing.assert_array_equal(adata.var[name], want[name])
    assert np.issubdtype(adata.var["highly_variable_nbatches"].dtype, np.integer)


@pytest.mark.parametrize("flavor", ["seurat_v3_paper", "pearson_residuals"])
def test_votes_and_ranks_by_hand(flavor):
    adata = in_batches(250, 150, 200)
    pp.variable_genes(adata, n_top_genes=40, batch_key="batch", flavor=flavor)
    ranks = []
    for name in ("b0", "b1", "b2"):
        alone = adata[adata.obs["batch"] == name].copy()
        pp.variable_genes(alone, n_top_genes=40, flavor=flavor)
        ranks.append(alone.var["highly_variable_rank"].to_numpy())
    listed = ~np.isnan(ranks)
    np.testing.assert_array_equal(adata.var["highly_variable_nbatches"], listed.sum(axis=0))
    some = listed.any(axis=0)
    median_g = np.nanmedian(np.array(ranks)[:, some], axis=0)
    np.testing.assert_array_equal(adata.var["highly_variable_rank"].to_numpy()[some], median_g)
    score_g = rankdata(-listed.sum(axis=0)[some] * 1000 + median_g, method="ordinal")
    np.testing.assert_array_equal(chosen(adata)[some], score_g <= 40)


def test_pearson_residuals_choose_as_in_scanpy():
    adata = simulated()
    pp.variable_genes(adata, n_top_genes=40, flavor="pearson_residuals")
    want = sc.experimental.pp.highly_variable_genes(
        adata, n_top_genes=40, layer="counts", flavor="pearson_residuals", inplace=False
    )
    for name in ("highly_variable", "highly_variable_rank"):
        np.testing.assert_array_equal(adata.var[name], want[name])


def test_without_batches_seurat_s_flavors_are_the_same():
    adata = simulated()
    tables = []
    for flavor in ("protected", "seurat_v3", "seurat_v3_paper"):
        pp.variable_genes(adata, n_top_genes=40, flavor=flavor)
        tables.append(adata.var.copy())
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])


def with_a_type_in_one_donor(n_donors):
    """Genes 0 to 9 mark a type of 20 cells in the first donor; 50 others vary in every donor."""
    rng = np.random.default_rng(2)
    n_cells = 150 * n_donors
    rate_ng = np.tile(np.exp(rng.uniform(-1, 1, size=300)), (n_cells, 1))
    rate_ng[rng.random(n_cells) < 0.5, 200:250] *= 3
    rate_ng[:, :10] = 0.05
    rate_ng[:20, :10] = 4
    adata = from_counts(rng.poisson(rate_ng))
    adata.obs["donor"] = np.repeat([f"d{i}" for i in range(n_donors)], 150)
    return adata


@pytest.mark.parametrize("n_donors", [4, 8])
def test_flavor_protected_keeps_the_markers_of_a_type_in_one_donor(n_donors):
    adata = with_a_type_in_one_donor(n_donors)
    kept = {}
    for flavor in ("protected", "seurat_v3_paper"):
        pp.variable_genes(adata, n_top_genes=100, flavor=flavor, batch_key="donor")
        kept[flavor] = chosen(adata)[:10].sum()
        assert chosen(adata).sum() == 100
    assert kept["protected"] == 10
    assert kept["seurat_v3_paper"] <= 6


def test_protected_genes_are_at_most_half_of_the_genes():
    """Each donor has other genes of its own that vary; those of all donors still get half of the places."""
    rng = np.random.default_rng(3)
    donor_n = np.repeat(np.arange(12), 60)
    rate_ng = np.tile(np.exp(rng.uniform(-1, 1, size=400)), (720, 1))
    high_n = rng.random(720) < 0.5
    rate_ng[high_n, :40] *= 4
    for donor in range(12):
        of_donor = slice(100 + 20 * donor, 120 + 20 * donor)
        rate_ng[(donor_n == donor) & high_n, of_donor] *= 16
    adata = from_counts(rng.poisson(rate_ng))
    adata.obs["donor"] = donor_n
    pp.variable_genes(adata, n_top_genes=60, flavor="protected", batch_key="donor")
    assert chosen(adata)[:40].sum() >= 25


def test_the_order_of_cells_and_the_kind_of_column_do_not_matter():
    adata = in_batches(200, 200)
    pp.variable_genes(adata, n_top_genes=30, batch_key="batch")
    order = np.random.default_rng(0).permutation(400)
    other = adata[order].copy()
    other.obs["donor"] = (other.obs["batch"] == "b1").astype(int)
    pp.variable_genes(other, n_top_genes=30, batch_key="donor")
    assert (chosen(adata) == chosen(other)).all()


def test_one_batch_is_as_none(caplog):
    adata = simulated()
    adata.obs["batch"] = pd.Categorical(["all"] * 600, categories=["all", "gone"])
    pp.variable_genes(adata, n_top_genes=30)
    before = adata.var.copy()
    listed_g = before["highly_variable_rank"].notna()
    with caplog.at_level(logging.INFO, logger="sparcell"):
        pp.variable_genes(adata, n_top_genes=30, batch_key="batch")
    assert "one batch, 'all'" in caplog.text
    pd.testing.assert_frame_equal(adata.var[before.columns], before)
    assert (adata.var["highly_variable_nbatches"] == listed_g).all()
    pp.variable_genes(adata, n_top_genes=30)  # votes of an older call would not fit
    assert "highly_variable_nbatches" not in adata.var


def test_small_batches_have_no_vote_and_are_named():
    adata = in_batches(300, 200, 12, 29)
    with pytest.warns(
        UserWarning, match=r"2 of 4 batches.*'b2' \(12 cells\), 'b3' \(29 cells\)\. The other batches choose"
    ):
        pp.variable_genes(adata, n_top_genes=30, batch_key="batch")
    large = adata[:500].copy()
    pp.variable_genes(large, n_top_genes=30, batch_key="batch")
    pd.testing.assert_frame_equal(adata.var, large.var)


@pytest.mark.parametrize("empty", [0, 1])
def test_a_batch_without_a_loess_has_no_vote(empty):
    """No count at all, or the same in every cell: the compiled loess must not even be asked."""
    adata = in_batches(300, 200, 40)
    counts_ng = adata.layers["counts"].toarray()
    counts_ng[500:] = empty * np.arange(200)
    adata.layers["counts"] = sparse.csr_matrix(counts_ng)
    with pytest.warns(UserWarning, match=r"1 of 3 batches.*'b2' \(40 cells\)"):
        pp.variable_genes(adata, n_top_genes=30, batch_key="batch")
    assert adata.var["highly_variable_nbatches"].max() == 2
    with pytest.raises(InputError, match=r"cannot be fitted.*use all genes, n_top_genes=200"):
        pp.variable_genes(adata[500:].copy(), n_top_genes=30)


def test_too_few_cells_in_large_batches_is_an_error():
    adata = in_batches(*[20] * 8, 40)
    with pytest.raises(InputError, match=r"8 of 9 batches.*and 3 more; together 160 of 200 cells.*coarser"):
        pp.variable_genes(adata, n_top_genes=30, batch_key="batch")
    assert "highly_variable" not in adata.var


def test_a_column_that_is_not_there_or_has_gaps():
    adata = in_batches(100, 100)
    with pytest.raises(InputError, match="obs has no column 'batches': did you mean 'batch'"):
        pp.variable_genes(adata, batch_key="batches")
    adata.obs["batch"] = adata.obs["batch"].where(np.arange(200) >= 3)
    with pytest.raises(InputError, match=r"obs\['batch'\] is empty for 3 of 200 cells.*notna"):
        pp.variable_genes(adata, n_top_genes=30, batch_key="batch")


def test_counts_are_read_from_the_layer_if_it_exists_and_from_x_otherwise():
    adata = simulated()
    pp.variable_genes(adata, n_top_genes=30)
    in_x = simulated()
    del in_x.layers["counts"]
    pp.variable_genes(in_x, n_top_genes=30)
    pd.testing.assert_frame_equal(in_x.var, adata.var)
    in_layer = simulated()
    pp.lognormalize(in_layer, layer="counts")
    in_layer.X = in_layer.layers["lognorm"].copy()  # X holds log values, layers["counts"] the counts
    pp.variable_genes(in_layer, n_top_genes=30)
    pd.testing.assert_frame_equal(in_layer.var, adata.var)


def test_log_values_in_x_without_a_layer_of_counts_are_refused():
    adata = simulated()
    del adata.layers["counts"]
    pp.lognormalize(adata)
    adata.X = adata.layers["lognorm"].copy()
    message = (
        r"^X holds log-normalized values \(from 0 to .*\); expected counts \(whole numbers ≥ 0\): give the raw counts, which "
        r"neither X nor a layer nor raw holds: read the file that has them, or put them into X\.$"
    )
    with pytest.raises(InputError, match=message):
        pp.variable_genes(adata, n_top_genes=30)
    assert "highly_variable" not in adata.var


def test_x_and_layers_stay():
    adata = in_batches(100, 100)
    before = adata.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pp.variable_genes(adata, n_top_genes=30, batch_key="batch")
    assert (before.X != adata.X).nnz == 0
    assert (before.layers["counts"] != adata.layers["counts"]).nnz == 0
    assert not adata.uns
