"""The data that every method gets: cells, genes, and the held-out cells."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd

import sparcell as sp
from helpers.benchmarks import CONFIG, N_CELLS, counts
from sparcell.benchmark import split
from sparcell.benchmark.methods import BATCH, HELD_OUT


def test_a_tenth_of_each_batch_is_held_out_the_same_each_time():
    batches = pd.Categorical(["a"] * 200 + ["b"] * 50 + ["c"])
    first, again = split.held_out(251, batches), split.held_out(251, batches)
    assert np.array_equal(first, again)
    assert [int(first[batches == name].sum()) for name in "abc"] == [20, 5, 0]
    assert split.held_out(251, None).sum() == 25


def test_every_method_gets_counts_of_the_chosen_genes_and_nothing_else(data):
    prepared = split.prepare(data, CONFIG)
    assert prepared.cells.shape == (N_CELLS, 60)
    assert set(prepared.cells.obs) == {BATCH, HELD_OUT}
    assert not prepared.cells.obsm
    full = anndata.read_h5ad(data)
    assert np.array_equal(prepared.cells.X.toarray(), full[:, prepared.cells.var_names].X.toarray())
    full.layers["counts"] = full.X
    sp.pp.variable_genes(full, n_top_genes=60, batch_key="batch")
    assert list(prepared.cells.var_names) == list(full.var_names[full.var["highly_variable"]])


def test_cells_without_counts_in_the_genes_are_dropped_and_counted(data, tmp_path):
    adata = counts()
    genes = split.prepare(data, CONFIG).cells.var_names
    x = adata.X.toarray()
    x[7] = 0
    x[7, ~adata.var_names.isin(genes)] = 1
    adata.X = x
    adata.write_h5ad(tmp_path / "holes.h5ad")
    prepared = split.prepare(tmp_path / "holes.h5ad", CONFIG)
    assert prepared.n_dropped == 1
    assert adata.obs_names[7] not in prepared.cells.obs_names
    assert len(prepared.labels) == prepared.cells.n_obs == N_CELLS - 1
