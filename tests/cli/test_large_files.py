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
