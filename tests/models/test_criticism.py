"""Criticism of models of which is known how they fail, and of data that lack what the model has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from helpers.simulated import COUNTS, two_batches
from sparcell.errors import InputError
from sparcell.io.stored import StoredCells
from sparcell.models import criticism as module


@pytest.fixture(scope="module")
def cells():
    return two_batches(500)


def fit(cells, likelihood):
    settings = {name: value for name, value in COUNTS.items() if name != "n_prior_components"}
    return sp.BetaVAE(**settings, likelihood=likelihood).fit(cells, batch_key="batch", silent=True)


@pytest.fixture(scope="module")
def model(cells):
    return fit(cells, "nb")


def test_counts_with_overdispersion_do_not_fit_a_poisson_model(cells, model):
    """The counts are negative binomial with inverse dispersion 5: a Poisson model has too little variance."""
    right, wrong = (m.criticize(cells.copy(), n_cells=None) for m in (model, fit(cells, "poisson")))
    high = wrong.genes["mean_observed"] > 3
    assert wrong.genes.loc[high, "coverage_90"].mean() < 0.85
    assert (wrong.genes.loc[high, "finding"] != "").mean() > 0.5
    assert (
        wrong.misfits["finding"].mode().item()
        == "more values far from the expected ones than there should be"
    )
    assert len(right.misfits) < len(wrong.misfits) / 4
    assert right.overall.set_index("check").loc["coverage_90", "observed"] == pytest.approx(0.9, abs=0.03)


def test_a_gene_that_changed_since_is_named(cells, model):
    changed = cells.copy()
    counts_ng = changed.X.toarray()
    counts_ng[:, 5] = np.random.default_rng(0).poisson(30, len(counts_ng))
    changed.X = type(changed.X)(counts_ng)
    criticism = model.criticize(changed, n_cells=None)
    assert criticism.worst(1)["gene"].item() == "gene5"
    assert "gene5" in criticism.verdict[-1]
    assert "gene5" in repr(criticism)
    assert "gene5" in criticism._repr_html_()


def test_batches_are_those_of_the_cells(cells, model):
    table = model.criticize(cells.copy(), n_cells=None).batches.set_index("batch")
    assert table["n_cells"].to_dict() == cells.obs["batch"].value_counts().to_dict()
    for name, of_batch in cells.obs.groupby("batch", observed=True):
        zeros = (cells[of_batch.index].X.toarray() == 0).mean()
        assert table.loc[name, "zeros_observed"] == pytest.approx(zeros)
    one = cells[cells.obs["batch"] == "a"].copy()
    assert model.criticize(one).batches is None


def test_cells_on_disk_and_paths_give_the_same_tables(cells, model, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    expected = model.criticize(cells.copy(), n_cells=200).genes
    stored = StoredCells(tmp_path / "cells.h5ad", obs_keys=["batch"])
    pd.testing.assert_frame_equal(model.criticize(stored, n_cells=200).genes, expected)
    assert "beta_vae_criticism" in stored.uns
    pd.testing.assert_frame_equal(model.criticize(tmp_path / "cells.h5ad", n_cells=200).genes, expected)
    pd.testing.assert_frame_equal(sp.tl.criticize(cells.copy(), model, n_cells=200).genes, expected)


def test_blocks_hold_few_values(cells, model, monkeypatch):
    """With smaller blocks the draws differ, and what was observed stays."""
    sizes = []
    add = module.CheckSums.add
    monkeypatch.setattr(
        module.CheckSums, "add", lambda sums, x_ng, *rest: sizes.append(len(x_ng)) or add(sums, x_ng, *rest)
    )
    monkeypatch.setattr(module, "MAX_VALUES", 60 * cells.n_vars)
    genes = model.criticize(cells.copy(), n_cells=None).genes.set_index("gene")
    assert max(sizes) == 60
    assert sum(sizes) == cells.n_obs
    expected = np.asarray(cells.X.todense()).mean(axis=0)
    np.testing.assert_allclose(genes.loc[cells.var_names, "mean_observed"], expected)


def test_genes_that_the_data_lack_are_left_out(cells, model):
    fewer = cells[:, 5:].copy()
    criticism = model.for_data(fewer, missing_genes="zero").criticize(fewer)
    assert set(criticism.genes["gene"]) == set(fewer.var_names)


@pytest.mark.parametrize("keywords", [{"n_cells": 0}, {"n_samples": 0}, {"n_samples": 1.5}])
def test_numbers_below_one_are_refused(cells, model, keywords):
    with pytest.raises(InputError, match=next(iter(keywords))):
        model.criticize(cells.copy(), **keywords)
