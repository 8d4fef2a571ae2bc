"""From a cell source to minibatches: order, values, batches and covariates.

Suffixes: n cells, g genes, b batches, c columns of further covariates.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from helpers.simulated import simulated_cells
from sparcell.config.data import DataConfig
from sparcell.data import loader, sampler
from sparcell.data.covariates import Covariates, CovariateValues
from sparcell.data.loader import Loader
from sparcell.data.packed import PackedRows
from sparcell.data.schema import Schema
from sparcell.data.sources import InMemoryCells

CPU = torch.device("cpu")


def test_rows_come_in_the_order_asked_and_again_if_asked_twice():
    x_ng = sparse.csr_matrix(np.arange(12.0, dtype=np.float32).reshape(4, 3))
    cells = InMemoryCells(x_ng)
    assert len(cells) == 4
    np.testing.assert_array_equal(
        cells.rows(np.array([2, 0, 2])).matrix().toarray(), x_ng.toarray()[[2, 0, 2]]
    )


@pytest.mark.parametrize("density", [1.0, -1.0], ids=["sparse", "dense"])
def test_resident_and_streamed_minibatches_are_the_same(density, monkeypatch):
    adata = simulated_cells()
    cells = Schema.fit(adata, DataConfig(layer="lognorm")).cells(adata)
    obs = adata.obs.assign(type=adata.obs["type"].astype(str).mask(np.arange(300) == 7, "unseen"))
    values = Covariates.fit(adata.obs, "type", ["depth"]).read(obs, "average")
    monkeypatch.setattr(loader, "MAX_SPARSE_DENSITY", -1.0)
    resident = Loader(cells, values, 120, CPU)
    monkeypatch.setattr(loader, "MAX_SPARSE_DENSITY", density)
    streamed = Loader(cells, values, 120, CPU, max_resident_bytes=0)
    assert resident.resident is not None
    assert streamed.resident is None
    assert streamed.sparse == (density > 0)
    plan = sampler.epoch_batches(300, 64, 0, 1)
    for one, other, index in zip(resident.batches(plan), streamed.batches(plan), plan, strict=True):
        for name in (
            "x_ng",
            "library_size_n1",
            "batch_n",
            "batch_nb",
            "covariates_nc",
            "batch_proportions_b",
        ):
            assert torch.equal(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(one.batch_n.numpy(), values.batch_n[index])
        assert one.batch_n.dtype == torch.int64
        rows = np.vstack([np.eye(4), values.batch_proportions_b]).astype(np.float32)  # -1 is the last row
        np.testing.assert_array_equal(one.batch_nb.numpy(), rows[values.batch_n[index]])
        np.testing.assert_array_equal(one.covariates_nc.numpy(), values.covariates_nc[index])
        assert one.x_ng.dtype == torch.float32
        np.testing.assert_array_equal(one.x_ng.numpy(), adata.layers["lognorm"].toarray()[index])
        totals_n = adata.layers["lognorm"].toarray()[index].sum(axis=1, dtype=np.float64)
        np.testing.assert_allclose(one.library_size_n1.numpy()[:, 0], totals_n, rtol=1e-6)


def test_cells_are_kept_dense_up_to_the_limit():
    cells = InMemoryCells(sparse.csr_matrix(np.ones((10, 5), dtype=np.float32)))
    values = Covariates().average(10)
    assert Loader(cells, values, 5, CPU, max_resident_bytes=200).resident is not None
    assert Loader(cells, values, 5, CPU, max_resident_bytes=199).resident is None


@settings(max_examples=40, deadline=None)
@given(
    n_cells=st.integers(1, 70),
    batch_size=st.integers(1, 40),
    window=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_windows_for_a_gpu_have_the_minibatches_of_resident_cells(n_cells, batch_size, window, seed):
    """On the CPU here: with cells made dense side by side and cut on the device."""
    x_ng = sparse.random(n_cells, 6, density=0.4, format="csr", dtype=np.float32, random_state=seed)
    x_ng.data = np.ceil(9 * x_ng.data)
    donors_n = np.arange(n_cells) % 2
    values = CovariateValues(donors_n, np.zeros((n_cells, 0), np.float32), np.full(2, 0.5, np.float32))
    resident, windows = (Loader(InMemoryCells(x_ng), values, 6, CPU, max_resident_bytes=0) for _ in range(2))
    windows.by_windows, windows.sparse, windows.window_cells = True, False, window
    plan = sampler.epoch_batches(n_cells, batch_size, seed, 1)
    parts = list(windows.batches(plan))
    assert [len(part) for part in parts] == [len(index) for index in plan]
    for one, other in zip(resident.batches(plan), parts, strict=True):
        for name in ("x_ng", "library_size_n1", "batch_n", "batch_nb", "covariates_nc"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert list(windows.batches([])) == []


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_packed_cells_are_the_cells(dtype):
    """Among other rows, in another order, read-only, few of many, and without any value."""
    x_ng = sparse.random(50, 9, density=0.3, format="csr", dtype=np.float32, random_state=0)
    x_ng.indptr, x_ng.indices = x_ng.indptr.astype(dtype), x_ng.indices.astype(dtype)
    x_ng.data.flags.writeable = False
    for index in (np.arange(50), np.arange(50)[::-1], np.array([7, 3, 3]), np.arange(0)):
        packed = PackedRows.of(InMemoryCells(x_ng).rows(index))
        np.testing.assert_array_equal(packed.dense().numpy(), x_ng.toarray()[index])
        middle = packed.part(1, max(1, len(index) - 1))
        np.testing.assert_array_equal(middle.dense().numpy(), x_ng.toarray()[index[1:-1]])
    few = PackedRows.of(InMemoryCells(x_ng).rows(np.array([7, 3])))
    assert len(few.value_v) == few.n_values, "the other rows stay behind"
    empty = sparse.csr_matrix((3, 9), dtype=np.float32)
    np.testing.assert_array_equal(PackedRows.of(InMemoryCells(empty).rows(np.arange(3))).dense().numpy(), 0)
