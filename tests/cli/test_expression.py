"""The commands differential-expression, denoise and criticize: what they write, and what they refuse."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from helpers.shell import sparcell
from helpers.simulated import simulated_cells


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of cells and a saved model."""
    path = tmp_path_factory.mktemp("expression")
    adata = simulated_cells()
    adata.write_h5ad(path / "cells.h5ad")
    sp.BetaVSC(epochs=3, n_latent=4, encoder_widths=(16,), decoder_widths=(16,)).fit(adata, silent=True).save(
        path / "vsc"
    )
    return path


def test_the_table_is_that_of_the_model(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "differences"
    words = ("--groupby", "type", "--group1", "type 0", "--out", out)
    arguments = ("differential-expression", folder / "cells.h5ad", "--model-dir", folder / "vsc", *words)
    assert sparcell(*arguments, monkeypatch=monkeypatch) == 0
    table = pd.read_csv(out / "differential_expression.csv")
    expected = sp.load(folder / "vsc").differential_expression(
        ad.read_h5ad(folder / "cells.h5ad"), "type", "type 0"
    )
    assert list(table["names"]) == list(expected["names"])
    np.testing.assert_allclose(table["logfoldchanges"], expected["logfoldchanges"], atol=1e-4)
    assert "type 0 against rest" in capsys.readouterr().out
    assert sparcell(*arguments, monkeypatch=monkeypatch) == 1
    assert sparcell(*arguments, "--overwrite", monkeypatch=monkeypatch) == 0


def test_a_wrong_column_is_named_and_nothing_is_left_behind(folder, tmp_path, monkeypatch, capsys):
    words = ("--groupby", "tpye", "--out", tmp_path / "differences")
    code = sparcell(
        *("differential-expression", folder / "cells.h5ad", "--model-dir", folder / "vsc", *words),
        monkeypatch=monkeypatch,
    )
    assert code == 1
    assert "did you mean 'type'" in capsys.readouterr().err


def test_the_layer_is_that_of_the_model_also_from_a_file_that_stays_on_disk(folder, tmp_path, monkeypatch):
    arguments = ("denoise", folder / "cells.h5ad", "--model-dir", folder / "vsc", "--library-size", "1000")
    expected = sp.load(folder / "vsc").denoise(
        ad.read_h5ad(folder / "cells.h5ad"), library_size=1000, copy=True
    )
    for number, memory in enumerate(("4GB", "1KB")):
        out = tmp_path / f"{number}.h5ad"
        assert sparcell(*arguments, "--memory", memory, "--out", out, monkeypatch=monkeypatch) == 0
        denoised = ad.read_h5ad(out)
        np.testing.assert_allclose(denoised.layers["denoised"], expected.layers["denoised"], rtol=1e-6)
        assert list(denoised.obs["type"]) == list(expected.obs["type"])
    assert sparcell(*arguments, "--out", out, monkeypatch=monkeypatch) == 1
    assert sparcell(*arguments, "--out", out, "--overwrite", monkeypatch=monkeypatch) == 0


def test_the_checks_are_those_of_the_model(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "fit"
    arguments = ("criticize", folder / "cells.h5ad", "--model-dir", folder / "vsc", "--out", out)
    assert sparcell(*arguments, "--n-cells", "0", monkeypatch=monkeypatch) == 0
    expected = sp.load(folder / "vsc").criticize(ad.read_h5ad(folder / "cells.h5ad"), n_cells=None)
    table = pd.read_csv(out / "genes.csv", keep_default_na=False)
    assert list(table["gene"]) == list(expected.genes["gene"])
    assert list(table["finding"]) == list(expected.genes["finding"])
    np.testing.assert_allclose(table["misfit"], expected.genes["misfit"], atol=1e-5)
    assert {entry.name for entry in out.iterdir()} >= {"genes.csv", "overall.csv", "fit.png"}
    assert expected.verdict[0] in capsys.readouterr().out
    arguments = (*arguments, "--n-cells", "0", "--memory", "1KB", "--overwrite")
    assert sparcell(*arguments, monkeypatch=monkeypatch) == 0
    on_disk = pd.read_csv(out / "genes.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(on_disk, table)


def test_unknown_batches_stop_differential_expression_unless_they_are_allowed(
    folder, tmp_path, monkeypatch, capsys
):
    adata = simulated_cells()
    adata.obs["donor"] = ["a", "b"] * (adata.n_obs // 2)
    settings = {"epochs": 1, "n_latent": 4, "encode_covariates": True}
    sp.BetaVSC(**settings).fit(adata, batch_key="donor", silent=True).save(tmp_path / "vsc")
    adata.obs["donor"] = ["c", "d"] * (adata.n_obs // 2)
    adata.write_h5ad(tmp_path / "new.h5ad")
    words = ("--groupby", "type", "--group1", "type 0", "--out", tmp_path / "out", "--quiet")
    arguments = ("differential-expression", tmp_path / "new.h5ad", "--model-dir", tmp_path / "vsc", *words)
    assert sparcell(*arguments, monkeypatch=monkeypatch) == 1
    assert "--unseen average" in capsys.readouterr().err
    assert sparcell(*arguments, "--unseen", "average", monkeypatch=monkeypatch) == 0
