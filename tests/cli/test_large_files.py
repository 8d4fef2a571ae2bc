"""`fit` and `embed` of a file whose matrix stays on disk, as a user types them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import sparcell as sp
from helpers.shell import sparcell

FIT = "--model beta-vsc --epochs 2 --batch-size 64 --n-latent 4 --memory 1KB"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "cells.h5ad"
    adata = sp.datasets.pbmc3k()[:400].copy()
    adata.obs["donor"] = ["a", "b"] * 200
    adata[:, np.asarray(adata.X.sum(axis=0)).ravel() > 100].copy().write_h5ad(path)
    return path


@pytest.fixture
def run(monkeypatch):
    def typed(line):
        return sparcell(*line.split(), monkeypatch=monkeypatch)

    return typed


def test_fit_writes_all_but_the_matrix(path, tmp_path, run, caplog):
    caplog.set_level("INFO", logger="sparcell")
    assert run(f"fit {path} {FIT} --n-top-genes 100 --batch-key donor --out {tmp_path / 'out.h5ad'}") == 0
    assert "variable genes are chosen on 400 of 400 cells" in caplog.text
    written, source = ad.read_h5ad(tmp_path / "out.h5ad"), ad.read_h5ad(path)
    assert written.X is None
    assert list(written.obs_names) == list(source.obs_names)
    assert int(written.var["highly_variable"].sum()) == 100
    assert written.obsm["X_beta_vsc"].shape == (400, 4)


def test_embed_encodes_as_in_memory_and_copies_the_matrix_if_asked(path, tmp_path, run):
    model = tmp_path / "model"
    assert run(f"fit {path} {FIT} --model-dir {model}") == 0
    for name, options in (("disk", "--memory 1KB --with-x"), ("memory", "")):
        assert run(f"embed {path} --model-dir {model} --out {tmp_path / name}.h5ad {options}") == 0
    disk, memory = (ad.read_h5ad(tmp_path / f"{name}.h5ad") for name in ("disk", "memory"))
    np.testing.assert_array_equal(disk.obsm["X_beta_vsc"], memory.obsm["X_beta_vsc"])
    np.testing.assert_array_equal(disk.X.toarray(), memory.X.toarray())


def test_a_wrong_size_is_one_message(path, tmp_path, run, capsys):
    assert run(f"fit {path} --model beta-vsc --memory much --out {tmp_path / 'o.h5ad'}") == 1
    assert "memory is 'much'; expected a size above 0, such as 4GB" in capsys.readouterr().err


@pytest.fixture(scope="module")
def donors(tmp_path_factory):
    folder, adata = tmp_path_factory.mktemp("donors"), sp.datasets.pbmc3k()[:400].copy()
    adata = adata[:, np.asarray(adata.X.sum(axis=0)).ravel() > 100].copy()
    adata[:200].copy().write_h5ad(folder / "one.h5ad")
    adata[200:, ::-1].copy().write_h5ad(folder / "two.h5ad")
    return folder / "one.h5ad", folder / "two.h5ad"


@pytest.mark.parametrize("memory", ["1KB", "4GB"])
def test_several_files_are_fitted_and_embedded_as_one(donors, tmp_path, run, memory):
    one, two = donors
    fit = FIT.replace("1KB", memory)
    model, out = tmp_path / "model", tmp_path / "out.h5ad"
    assert run(f"fit {one} {two} {fit} --batch-key file --model-dir {model} --out {out}") == 0
    written = ad.read_h5ad(out)
    assert written.obs["file"].value_counts().to_dict() == {"one": 200, "two": 200}
    assert sp.load(model).schema.covariates.batch.names == ("one", "two")
    assert (
        run(f"embed {one} {two} --model-dir {model} --memory {memory} --out {tmp_path / 'again.h5ad'}") == 0
    )
    np.testing.assert_array_equal(
        ad.read_h5ad(tmp_path / "again.h5ad").obsm["X_beta_vsc"], written.obsm["X_beta_vsc"]
    )
    np.testing.assert_array_equal(sp.load(model).transform([one, two]), written.obsm["X_beta_vsc"])


def test_several_files_without_a_batch_key_offer_the_file(donors, tmp_path, run, caplog):
    caplog.set_level("INFO", logger="sparcell")
    for memory in ("1KB", "4GB"):
        caplog.clear()
        fit = FIT.replace("1KB", memory)
        assert run(f"fit {donors[0]} {donors[1]} {fit} --model-dir {tmp_path / memory}") == 0
        assert "--batch-key file removes its effect" in caplog.text


def test_no_input_of_several_is_overwritten(donors, tmp_path, run, capsys):
    assert run(f"fit {donors[0]} {donors[1]} {FIT} --out {donors[1]}") == 1
    assert "--out is the input" in capsys.readouterr().err
