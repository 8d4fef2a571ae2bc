"""Commands on counts in raw, on data that lack genes, and on a batch that the model has not seen: what works, and what the error says."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from helpers import small
from helpers.shell import sparcell
from sparcell import pp

WORDS = ("--model", "beta-vae", "--epochs", "1", "--batch-size", "64", "--encoder-widths", "8", "--quiet")
N_VARIABLE = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with counts.h5ad, and raw.h5ad, where raw holds all counts, and X log-normalized values of a part of the genes."""
    path = tmp_path_factory.mktemp("inputs")
    counts = small.counts(200)
    counts = counts[:, np.asarray(counts.X.sum(axis=0)).ravel() > 4].copy()
    counts.obs["lane"] = np.arange(200) % 2
    counts.write_h5ad(path / "counts.h5ad")
    counts[:, 20:].copy().write_h5ad(path / "lacks.h5ad")
    shown = counts[:, counts.n_vars // 2 :].copy()
    pp.lognormalize(shown)
    shown.X, shown.raw = shown.layers.pop("lognorm"), counts
    shown.write_h5ad(path / "raw.h5ad")
    return path


def test_fit_and_embed_counts_of_raw(folder, tmp_path, monkeypatch, capfd):
    words = (*WORDS, "--n-top-genes", N_VARIABLE, "--model-dir", tmp_path / "m")
    assert sparcell("fit", folder / "raw.h5ad", *words, monkeypatch=monkeypatch) == 1
    assert "which raw holds: layer='raw' (in a shell: --layer raw)" in capfd.readouterr().err
    words += ("--out", tmp_path / "o.h5ad", "--layer", "raw")
    assert sparcell("fit", folder / "raw.h5ad", *words, monkeypatch=monkeypatch) == 0
    fitted = ad.read_h5ad(tmp_path / "o.h5ad")
    assert fitted.raw.var["highly_variable"].sum() == N_VARIABLE
    words = ("--model-dir", tmp_path / "m", "--out", tmp_path / "e.h5ad", "--layer", "raw", "--quiet")
    assert sparcell("embed", folder / "raw.h5ad", *words, monkeypatch=monkeypatch) == 0
    embedded = ad.read_h5ad(tmp_path / "e.h5ad")
    np.testing.assert_array_equal(embedded.obsm["X_beta_vae"], fitted.obsm["X_beta_vae"])


def test_embed_data_that_lack_genes_or_have_another_batch(folder, tmp_path, monkeypatch, capfd, caplog):
    words = (*WORDS, "--batch-key", "lane", "--encode-covariates", "--model-dir", tmp_path / "m")
    assert sparcell("fit", folder / "counts.h5ad", *words, monkeypatch=monkeypatch) == 0
    words = ("--model-dir", tmp_path / "m", "--out", tmp_path / "e.h5ad")
    assert sparcell("embed", folder / "lacks.h5ad", *words, monkeypatch=monkeypatch) == 1
    assert "(in a shell: --missing-genes zero)" in capfd.readouterr().err
    caplog.set_level("INFO", "sparcell")
    words += ("--missing-genes", "zero")
    assert sparcell("embed", folder / "lacks.h5ad", *words, monkeypatch=monkeypatch) == 0
    assert "20 of the model's" in caplog.text
    other = ad.read_h5ad(folder / "counts.h5ad")
    other.obs["lane"] = 7.0
    other.write_h5ad(tmp_path / "other.h5ad")
    words = ("--model-dir", tmp_path / "m", "--out", tmp_path / "f.h5ad")
    assert sparcell("embed", tmp_path / "other.h5ad", *words, monkeypatch=monkeypatch) == 1
    assert "holds '7' in 200 cell(s)" in (error := capfd.readouterr().err)
    assert "(in a shell: --unseen average)" in error
