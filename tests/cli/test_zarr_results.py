"""`--out FOLDER.zarr`: every command that writes cells writes the same into a zarr folder as into an .h5ad file."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import sparcell as sp
from helpers import small
from helpers.shell import sparcell

SHORT = "--epochs 1 --batch-size 64 --encoder-widths 8 --n-latent 2"
SLOTS = ("X", "obs", "var", "obsm", "varm", "obsp", "layers", "uns")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zarr")
    adata = small.counts(200)
    adata.obs["donor"] = pd.Categorical(["a", "b"] * 100)
    adata.obs["kind"] = pd.Categorical(["x", "y", "y", "z"] * 50)
    adata.obs["barcode"] = [f"ACGT-{number}" for number in range(200)]
    adata.write_h5ad(folder / "cells.h5ad")
    adata[:90].copy().write_h5ad(folder / "one.h5ad")
    adata[90:].copy().write_h5ad(folder / "two.h5ad")
    settings = {"epochs": 1, "batch_size": 64, "encoder_widths": (8,), "n_latent": 2}
    model = sp.BetaVSC(**settings).fit(adata, batch_key="donor", silent=True)
    model.fit_labels(adata, "kind")
    model.save(folder / "model")
    return folder


@pytest.fixture
def run(monkeypatch, folder):
    monkeypatch.chdir(folder)

    def typed(line):
        return sparcell(*line.split(), monkeypatch=monkeypatch)

    return typed


def assert_same(one, two, where=""):
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, two)
    elif hasattr(one, "keys"):
        assert sorted(one) == sorted(two), where
        for key in one:
            assert_same(one[key], two[key], f"{where}[{key!r}]")
    elif sparse.issparse(one):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one.toarray(), two.toarray())
    else:
        assert type(one) is type(two), where
        np.testing.assert_array_equal(one, two)


COMMANDS = [
    "embed cells.h5ad --with-x",
    "embed cells.h5ad --with-x --memory 1KB",
    "map cells.h5ad --memory 1KB",
]
COMMANDS += ["predict cells.h5ad", "predict cells.h5ad --memory 1KB"]
COMMANDS += ["denoise cells.h5ad", "denoise cells.h5ad --memory 1KB"]
COMMANDS += ["embed one.h5ad two.h5ad --with-x --memory 1KB", "denoise one.h5ad two.h5ad --memory 1KB"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_zarr_folder_holds_what_an_h5ad_file_holds(command, folder, tmp_path, run):
    for name in ("out.h5ad", "out.zarr"):
        assert run(f"{command} --model-dir model --out {tmp_path / name}") == 0
    one, two = ad.read_h5ad(tmp_path / "out.h5ad"), ad.io.read_zarr(tmp_path / "out.zarr")
    for slot in SLOTS:
        assert_same(getattr(one, slot), getattr(two, slot), slot)
    names = list(ad.read_h5ad(folder / "cells.h5ad").obs_names)
    assert list(two.obs_names) == names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5ad", "out.zarr"]


def test_a_result_is_an_input(tmp_path, run):
    embed = "--model-dir model --memory 1KB"
    assert run(f"embed cells.h5ad {embed} --with-x --out {tmp_path / 'one.zarr'}") == 0
    assert run(f"embed {tmp_path / 'one.zarr'} {embed} --with-x --out {tmp_path / 'two.zarr'}") == 0
    one, two = (ad.io.read_zarr(tmp_path / f"{name}.zarr") for name in ("one", "two"))
    for slot in ("X", "obs", "obsm"):
        assert_same(getattr(one, slot), getattr(two, slot), slot)


@pytest.mark.parametrize("memory", ["1KB", "4GB"])
def test_fit_writes_a_folder_and_replaces_only_its_own(memory, tmp_path, run, capfd):
    out = tmp_path / "out.zarr"
    fit = f"fit cells.h5ad --model autoencoder {SHORT} --memory {memory} --out {out}"
    assert run(fit) == 0
    first = ad.io.read_zarr(out).obsm["X_autoencoder"]
    assert run(fit) == 1
    assert "Add --overwrite" in capfd.readouterr().err
    assert run(f"{fit} --overwrite --seed 1") == 0
    second = ad.io.read_zarr(out).obsm["X_autoencoder"]
    assert (first != second).any()
    (out / "thesis.txt").write_text("work of weeks")
    assert run(f"{fit} --overwrite") == 1
    assert "out.zarr is a folder that sparcell did not write as a result" in capfd.readouterr().err
    np.testing.assert_array_equal(ad.io.read_zarr(out).obsm["X_autoencoder"], second)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.parametrize("command", ["embed", "map", "predict", "denoise"])
def test_a_folder_given_by_mistake_is_one_error_before_any_work(command, tmp_path, run, capfd):
    (tmp_path / "atlas.zarr").mkdir()
    (tmp_path / "atlas.zarr" / "notes.txt").write_text("work of weeks")
    words = f"{command} cells.h5ad --model-dir no-such-model --out {tmp_path / 'atlas.zarr'} --overwrite"
    assert run(words) == 1
    message = capfd.readouterr().err
    assert message.count("Error") == 1
    assert "atlas.zarr is a folder that sparcell did not write as a result" in message
    assert run(words.replace("atlas.zarr", "atlas.loom")) == 1
    assert "atlas.loom; expected a name that ends in .h5ad or .zarr" in capfd.readouterr().err
    assert (tmp_path / "atlas.zarr" / "notes.txt").read_text() == "work of weeks"


def test_the_input_is_never_the_output(tmp_path, run, capfd):
    embed = "--model-dir model --with-x --memory 1KB"
    assert run(f"embed cells.h5ad {embed} --out {tmp_path / 'one.zarr'}") == 0
    capfd.readouterr()
    assert run(f"embed {tmp_path / 'one.zarr'} {embed} --out {tmp_path / 'one.zarr'} --overwrite") == 1
    assert "--out is the input" in capfd.readouterr().err


def test_a_label_that_a_zarr_folder_cannot_name_stops_before_the_cells_are_read(
    folder, tmp_path, run, capsys
):
    adata = ad.read_h5ad(folder / "cells.h5ad")
    adata.obs["kind"] = pd.Categorical(["B", "CD4/CD8 T"] * 100)
    model = sp.load(folder / "model")
    model.fit_labels(adata, "kind")
    model.save(tmp_path / "model")
    line = f"predict {folder / 'cells.h5ad'} --model-dir {tmp_path / 'model'} --out {tmp_path}"
    assert run(f"{line}/out.zarr") == 1
    told = capsys.readouterr().err
    assert "CD4/CD8 T" in told
    assert ".h5ad" in told
    assert not (tmp_path / "out.zarr").exists()
    assert run(f"{line}/out.h5ad") == 0
