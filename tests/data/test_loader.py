"""From a cell source to minibatches: order, values, batches and covariates.

Suffixes: n cells, g genes, b batches, c columns of further covariates.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from helpers.simulated import simulated_cells
from sparcell.config.data import DataConfig
from sparcell.data import loader, sampler
from sparcell.data.covariates import Covariates
from sparcell.data.loader import Loader
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
