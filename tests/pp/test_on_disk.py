"""Quality control and variable genes of cells that stay on disk, or that Dask holds: scanpy in memory is the oracle."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import sparcell as sp
from sparcell.errors import InputError
from sparcell.io import matrix_files
from sparcell.io.stored import StoredCells

MODEL = {"epochs": 1, "batch_size": 64, "n_latent": 3, "encoder_widths": (8,), "decoder_widths": (8,)}


@pytest.fixture(scope="module")
def cells():
    adata = sp.datasets.pbmc3k()[:600, ::5].copy()
    adata.var_names = [
        "MT-" + name if number % 50 == 0 else name for number, name in enumerate(adata.var_names)
    ]
    adata.obs["donor"] = pd.Categorical(np.where(np.arange(600) % 3 == 0, "a", "b"))
    return adata


@pytest.fixture
def path(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(matrix_files, "BLOCK_VALUES", 5000)
    cells.write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    return tmp_path / "cells.h5ad"


def as_kind(kind, path):
    if kind == "file":
        return StoredCells(path)
    adata = ad.read_h5ad(path)
    if kind == "dask":
        adata.X = pytest.importorskip("dask.array").from_array(adata.X, chunks=(130, -1))
    return adata


@pytest.mark.parametrize("kind", ["file", "dask", "memory"])
def test_metrics_are_those_of_scanpy(kind, cells, path):
    oracle = cells.copy()
    oracle.var["mito"] = oracle.var_names.str.startswith("MT-")
    sc.pp.calculate_qc_metrics(oracle, qc_vars=["mito"], percent_top=None, inplace=True)
    found = sp.pp.quality_metrics(as_kind(kind, path))
    for ours, theirs in (
        ("n_genes", "n_genes_by_counts"),
        ("total_counts", "total_counts"),
        ("pct_mito", "pct_counts_mito"),
    ):
        np.testing.assert_allclose(found.cells[ours], oracle.obs[theirs], rtol=1e-5)
    np.testing.assert_array_equal(found.genes["n_cells"], oracle.var["n_cells_by_counts"])
    np.testing.assert_array_equal(found.genes["total_counts"], oracle.var["total_counts"])
    assert list(found.genes.index) == list(cells.var_names)


@pytest.mark.filterwarnings("ignore:Quality control removed")
@pytest.mark.parametrize("kind", ["file", "dask"])
@pytest.mark.parametrize("limits", [{}, {"min_genes": 100, "max_pct_mito": 4.0, "min_cells": 10}])
def test_quality_control_keeps_the_cells_and_genes_that_it_keeps_in_memory(kind, limits, cells, path):
    in_memory, other = cells.copy(), as_kind(kind, path)
    before = path.read_bytes()
    expected, found = sp.pp.quality_control(in_memory, **limits), sp.pp.quality_control(other, **limits)
    for column in ("n_genes", "total_counts", "pct_mito", "kept"):
        np.testing.assert_array_equal(found[column], expected[column])
    assert found.attrs["limits"] == expected.attrs["limits"]
    assert (other.n_obs, other.n_vars) == in_memory.shape
    assert list(other.var_names) == list(in_memory.var_names)
    assert list(other.obs_names) == list(in_memory.obs_names)
    x_ng = other.rows.read(0, other.n_obs) if kind == "file" else other.X.compute()
    np.testing.assert_array_equal(x_ng.toarray(), in_memory.X.toarray())
    assert path.read_bytes() == before


def test_models_see_the_kept_cells_only(cells, path, tmp_path):
    stored, in_memory = StoredCells(path, obs_keys=["donor"]), cells.copy()
    for data in (stored, in_memory):
        sp.pp.quality_control(data, min_genes=120, max_genes=0, max_pct_mito=100)
    assert stored.n_obs == in_memory.n_obs < 600
    model = sp.BetaVSC(**MODEL).fit(stored, batch_key="donor", silent=True)
    assert model.n_cells == in_memory.n_obs
    np.testing.assert_array_equal(model.transform(stored), model.transform(in_memory))
    model.embed(stored)
    stored.obs["n_genes"] = 1
    for with_x in (False, True):
        stored.write(tmp_path / "out.h5ad", with_x=with_x)
        written = ad.read_h5ad(tmp_path / "out.h5ad")
        assert list(written.obs_names) == list(in_memory.obs_names)
        assert list(written.var_names) == list(in_memory.var_names)
        assert list(written.obs["donor"]) == list(in_memory.obs["donor"])
        assert (written.obs["n_genes"] == 1).all()
        np.testing.assert_array_equal(written.obsm["X_beta_vsc"], model.transform(in_memory))
    np.testing.assert_array_equal(written.X.toarray(), in_memory.X.toarray())


@pytest.mark.parametrize("batch_key", [None, "donor"])
@pytest.mark.parametrize("kind", ["file", "dask"])
def test_variable_genes_of_a_small_file_are_those_in_memory(kind, batch_key, cells, path):
    other, in_memory = as_kind(kind, path), cells.copy()
    for data in (other, in_memory):
        sp.pp.variable_genes(data, n_top_genes=200, batch_key=batch_key)
    pd.testing.assert_frame_equal(other.var, in_memory.var, check_like=True)


def test_variable_genes_of_a_large_file_are_chosen_on_a_sample(path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="sparcell")
    stored, sample = StoredCells(path), StoredCells(path)[::2]
    monkeypatch.setattr(StoredCells, "sample", lambda cells: cells[::2])
    sp.pp.variable_genes(stored, n_top_genes=200)
    sp.pp.variable_genes(sample, n_top_genes=200)
    assert "variable genes are chosen on 300 of 600 cells" in caplog.text
    np.testing.assert_array_equal(stored.var["highly_variable"], sample.var["highly_variable"])


def test_steps_that_need_memory_say_so(path):
    with pytest.raises(InputError, match=r"stay on disk .* expected some of them, cells.sample\(\)"):
        sp.pp.lognormalize(StoredCells(path))


def test_values_that_are_no_counts_are_refused(cells, path):
    halves = cells.copy()
    halves.X = halves.X * 0.5
    halves.write_h5ad(path)
    with pytest.raises(InputError, match="expected counts"):
        sp.pp.quality_control(StoredCells(path))
