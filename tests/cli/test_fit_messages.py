"""What fit says: the data, the model, hints, and results of the user's that would be replaced."""

from __future__ import annotations

import logging

import anndata
import numpy as np
import pytest

from helpers import small
from helpers.shell import sparcell

SHORT = ("--epochs", "1", "--batch-size", "64", "--encoder-widths", "8", "--n-latent", "2")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    adata = small.counts(200)
    adata.obs["donor"] = ["a", "b"] * 100
    adata.obs["cell_type"] = ["x", "x", "y", "z"] * 50
    adata.var["highly_variable"] = np.arange(adata.n_vars) < 70
    adata.obsm["X_autoencoder"] = np.ones((200, 3))
    adata.uns["autoencoder_programs"] = {"summary": "old"}
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture
def said(caplog, capfd):
    """Return a function that gives all that was said."""
    caplog.set_level(logging.INFO, logger="sparcell")
    return lambda: "\n".join([*caplog.messages, capfd.readouterr().err])


def fit(data, tmp_path, monkeypatch, *words, model="autoencoder"):
    common = ("fit", data, "--model", model, "--out", tmp_path / "o.h5ad", *SHORT)
    assert sparcell(*common, *words, monkeypatch=monkeypatch) == 0
    return anndata.read_h5ad(tmp_path / "o.h5ad")


def test_fit_says_what_it_found_and_what_came_out(data, tmp_path, monkeypatch, said):
    adata = fit(data, tmp_path, monkeypatch, "--n-top-genes", "300", "--batch-key", "donor")
    text = said()
    assert (
        f"200 cells × {adata.n_vars:,} genes; X holds raw counts; 300 genes used; likelihood nb; batch: donor (2 values)"
        in text
    )
    assert "Autoencoder, seed 0: epoch 1/1" in text
    assert "nats per cell" in text
    assert "1 epochs; 2 of 2 latents active; " in text
    assert "looks like a batch" not in text


def test_counts_that_are_normalized_and_a_batch_that_is_not_used_are_said(data, tmp_path, monkeypatch, said):
    fit(data, tmp_path, monkeypatch, "--preset", "programs", model="beta-vsc")
    text = said()
    assert (
        "X holds raw counts, which are log-normalized for the model; all genes used; likelihood gaussian; no batch"
        in text
    )
    assert (
        text.count("obs['donor'] looks like a batch (2 values: 'a', 'b') and is not used. --batch-key donor")
        == 1
    )


def test_columns_of_the_user_stay_and_older_results_are_named(data, tmp_path, monkeypatch, said):
    before = anndata.read_h5ad(data)
    after = fit(data, tmp_path, monkeypatch, "--n-top-genes", "300")
    text = said()
    assert (
        "var['highly_variable'] of the data stays as it is: the genes chosen now are in var['sparcell_highly_variable']"
        in text
    )
    assert (after.var["highly_variable"] == before.var["highly_variable"]).all()
    assert after.var["sparcell_highly_variable"].sum() == 300
    assert (after.var["sparcell_highly_variable_rank"] < 300).sum() == 300
    assert (
        "older obsm['X_autoencoder'], uns['autoencoder_programs']; the output holds the new results only"
        in text
    )
    assert after.obsm["X_autoencoder"].shape == (200, 2)
    assert "autoencoder_programs" not in after.uns


def test_threads_are_those_that_were_asked_for(data, tmp_path, monkeypatch, said):
    import torch

    before = torch.get_num_threads()
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # and restored afterwards
    seen = []
    monkeypatch.setattr("sparcell.cli.fitting.log_data", lambda *_: seen.append(torch.get_num_threads()))
    try:
        fit(data, tmp_path, monkeypatch, "--threads", "1")
        assert seen == [1]
    finally:
        torch.set_num_threads(before)
