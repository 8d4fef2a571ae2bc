"""From AnnData to batches: which cells, in which order, in which units.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import dataclasses
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from helpers.planted import planted
from sparcell.config.data import DataConfig
from sparcell.data import loader, sampler
from sparcell.data.covariates import Covariates
from sparcell.data.loader import Loader
from sparcell.data.schema import SCALE_LIMIT, Schema
from sparcell.data.sources import InMemoryCells
from sparcell.errors import InputError

CPU = torch.device("cpu")


def learn(adata, **data):
    return Schema.learn(adata, DataConfig(**data))


@settings(max_examples=60, deadline=None)
@given(
    n_cells=st.integers(1, 300),
    batch_size=st.integers(1, 310),
    seed=st.integers(0, 2**40),
    epoch=st.integers(1, 500),
)
def test_a_plan_holds_every_cell_once_in_batches_of_the_asked_size(n_cells, batch_size, seed, epoch):
    plan = sampler.plan(n_cells, batch_size, seed, epoch)
    assert sorted(np.concatenate(plan)) == list(range(n_cells))
    assert all(len(index) == batch_size for index in plan[:-1])
    assert 1 <= len(plan[-1]) <= batch_size


def test_a_plan_is_a_pure_function_of_its_arguments():
    np.random.seed(0)  # noqa: NPY002 - the global generator must not matter
    first = np.concatenate(sampler.plan(100, 30, 1, 1))
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(first, np.concatenate(sampler.plan(100, 30, 1, 1)))
    for other in (sampler.plan(100, 30, 2, 1), sampler.plan(100, 30, 1, 2)):
        assert not np.array_equal(first, np.concatenate(other))


def test_plans_of_many_epochs_are_different_and_even():
    """Over 2,000 epochs each cell stands first about equally often: chi-squared of 10 cells below its 99.99 % point."""
    first = np.array([sampler.plan(10, 4, 0, epoch)[0][0] for epoch in range(1, 2001)])
    counts = np.bincount(first, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 33.7


def test_in_order_is_the_order_of_the_data():
    batches = sampler.sequential_batches(10, 4)
    assert [list(index) for index in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_rows_come_in_the_order_asked_and_again_if_asked_twice():
    x_ng = sparse.csr_matrix(np.arange(12.0, dtype=np.float32).reshape(4, 3))
    rows = InMemoryCells(x_ng)
    assert len(rows) == 4
    np.testing.assert_array_equal(
        rows.rows(np.array([2, 0, 2])).matrix().toarray(), x_ng.toarray()[[2, 0, 2]]
    )


@pytest.mark.parametrize("share", [1.0, -1.0], ids=["sparse", "dense"])
def test_resident_and_streamed_batches_are_the_same(share, monkeypatch):
    adata = planted()
    rows = learn(adata, layer="lognorm").rows(adata)
    known = Covariates.learn(adata.obs, "type", ["depth"]).read(adata.obs)
    monkeypatch.setattr(loader, "SPARSE_SHARE", -1.0)
    resident = Loader(rows, known, 120, CPU)
    monkeypatch.setattr(loader, "SPARSE_SHARE", share)
    streamed = Loader(rows, known, 120, CPU, dense_limit=0)
    assert resident.resident is not None
    assert streamed.resident is None
    assert streamed.sparse == (share > 0)
    plan = sampler.plan(300, 64, 0, 1)
    for one, other, index in zip(resident.batches(plan), streamed.batches(plan), plan, strict=True):
        for name in ("x_ng", "size_n1", "batch_nb", "covariates_nc"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(one.batch_nb.numpy(), known.batch_nb[index])
        np.testing.assert_array_equal(one.covariates_nc.numpy(), known.covariates_nc[index])
        assert one.x_ng.dtype == torch.float32
        np.testing.assert_array_equal(one.x_ng.numpy(), adata.layers["lognorm"].toarray()[index])


def test_cells_are_held_dense_up_to_the_limit_only():
    rows = InMemoryCells(sparse.csr_matrix(np.ones((10, 5), dtype=np.float32)))
    known = Covariates().average(10)
    assert Loader(rows, known, 5, CPU, dense_limit=200).resident is not None
    assert Loader(rows, known, 5, CPU, dense_limit=199).resident is None


def by_hand():
    """Two cells with totals 4 and 8."""
    adata = ad.AnnData(
        sparse.csr_matrix(np.array([[1, 3, 0], [0, 2, 6]], dtype=np.float32)),
        obs=pd.DataFrame(index=["a", "b"]),
        var=pd.DataFrame({"use": [True, False, True]}, index=["x", "y", "z"]),
    )
    expected = np.log1p([[2500, 7500, 0], [0, 2500, 7500]])
    return adata, expected


def test_counts_are_normalised_as_by_hand():
    adata, expected = by_hand()
    schema = learn(adata)
    assert schema == Schema(("x", "y", "z"), None, counts=False, log_normalize=True)
    np.testing.assert_allclose(schema.matrix(adata).toarray(), expected, rtol=1e-6)


def test_a_cell_s_total_is_over_all_genes_also_those_not_chosen():
    adata, expected = by_hand()
    schema = learn(adata, genes_key="use")
    assert schema.genes == ("x", "z")
    np.testing.assert_allclose(schema.matrix(adata).toarray(), expected[:, [0, 2]], rtol=1e-6)


def test_counts_are_normalised_as_by_scanpy():
    adata = planted()
    theirs = ad.AnnData(adata.X.copy())
    sc.pp.normalize_total(theirs, target_sum=1e4)
    sc.pp.log1p(theirs)
    np.testing.assert_allclose(learn(adata).matrix(adata).toarray(), theirs.X.toarray(), rtol=1e-5)


def test_log_normalised_values_pass_unchanged():
    adata = planted()
    schema = learn(adata, layer="lognorm")
    assert not schema.log_normalize
    np.testing.assert_array_equal(schema.matrix(adata).toarray(), adata.layers["lognorm"].toarray())


def test_integer_counts_are_no_different():
    adata = planted()
    whole = adata.copy()
    whole.X = adata.X.astype(np.int64)
    np.testing.assert_array_equal(learn(whole).matrix(whole).toarray(), learn(adata).matrix(adata).toarray())


def test_scaling_is_numpy_s():
    adata = planted()
    schema = learn(adata, layer="lognorm", scale=True)
    x_ng = adata.layers["lognorm"].toarray().astype(np.float64)
    np.testing.assert_allclose(schema.mean, x_ng.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(schema.sd, x_ng.std(axis=0, ddof=1), rtol=1e-5)
    z_ng = (x_ng - x_ng.mean(axis=0)) / x_ng.std(axis=0, ddof=1)
    np.testing.assert_allclose(schema.matrix(adata).toarray(), np.clip(z_ng, -10, 10), atol=1e-4)


def test_scaling_is_exact_for_a_gene_that_hardly_varies():
    """Mean 6, sd .001: squares in single precision would leave nothing of the difference."""
    rng = np.random.default_rng(0)
    x_ng = np.stack(
        [6 + 0.001 * rng.normal(size=5000), rng.gamma(2.0, size=5000), np.full(5000, 5.3)], axis=1
    )
    adata = ad.AnnData(x_ng.astype(np.float32))
    schema = learn(adata, scale=True)
    np.testing.assert_allclose(schema.sd[:2], adata.X.astype(np.float64).std(axis=0, ddof=1)[:2], rtol=1e-3)
    assert np.abs(schema.matrix(adata).toarray()[:, 2]).max() < 1e-3


def test_z_scores_are_cut_where_seurat_cuts_them():
    x_ng = np.zeros((1000, 2), dtype=np.float32)
    x_ng[0, 0], x_ng[:, 1] = 5.5, np.linspace(0.1, 2, 1000)
    adata = ad.AnnData(x_ng)
    z_ng = learn(adata, scale=True).matrix(adata).toarray()
    assert z_ng.max() == SCALE_LIMIT == 10


def test_unscaled_undoes_scaled():
    adata = planted()
    schema = learn(adata, layer="lognorm", scale=True)
    x_ng = adata.layers["lognorm"].toarray()
    np.testing.assert_allclose(schema.inverse_zscore(schema.scaled(x_ng)), x_ng, atol=1e-5)
    plain = learn(adata, layer="lognorm")
    np.testing.assert_array_equal(plain.inverse_zscore(plain.scaled(x_ng)), x_ng)


def test_new_cells_are_scaled_with_the_constants_of_the_first():
    adata, other = planted(), planted(seed=9)
    schema = learn(adata, layer="lognorm", scale=True)
    z_ng = (other.layers["lognorm"].toarray() - np.array(schema.mean)) / np.array(schema.sd)
    np.testing.assert_allclose(schema.matrix(other).toarray(), np.clip(z_ng, -10, 10), atol=1e-5)


def test_columns_follow_the_model_s_genes_not_the_data_s():
    adata = planted()
    schema = learn(adata, layer="lognorm")
    order = np.random.default_rng(0).permutation(adata.n_vars)
    np.testing.assert_array_equal(
        schema.matrix(adata[:, order].copy()).toarray(), schema.matrix(adata).toarray()
    )
    sequential_batches, again = schema.matrix(adata), schema.matrix(adata[:, order].copy())
    np.testing.assert_array_equal(
        again.indices, sequential_batches.indices
    )  # the kernels rely on a cell's genes being in order


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"batch_key": "type", "covariates": ("depth", "batch")},
        {"layer": "lognorm", "scale": True},
        {"genes": "marked", "scale": True},
    ],
)
def test_a_schema_survives_json(data):
    adata = planted()
    adata.obs["batch"] = np.where(np.arange(adata.n_obs) % 3 == 0, "a", "b")
    schema = learn(adata, **data)
    read = json.loads(json.dumps(dataclasses.asdict(schema)))
    read = {name: tuple(value) if isinstance(value, list) else value for name, value in read.items()}
    again = Schema(**{**read, "covariates": Covariates.from_json(read["covariates"])})
    assert again == schema


def test_counts_are_taken_for_counts_unless_told_otherwise():
    adata = planted()
    assert learn(adata).log_normalize
    assert not learn(adata, layer="lognorm").log_normalize
    with pytest.raises(InputError, match="holds counts"):
        learn(adata, log_normalize=False)
    with pytest.raises(InputError, match="expected counts"):
        learn(adata, layer="lognorm", log_normalize=True)
