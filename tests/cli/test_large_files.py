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


@pytest.mark.parametrize("command", ["study {} --out {}", "benchmark {} --labels-key donor --out {}"])
def test_comparisons_of_too_many_cells_are_one_error_before_any_work(command, path, tmp_path, run, capsys):
    assert run(command.format(path, tmp_path / "out") + " --memory 1MB") == 1
    assert "Compare fewer cells, drawn at random: n_cells=" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").glob("*.html"))


def test_a_study_of_some_cells_says_so(path, tmp_path, run):
    out = tmp_path / "out"
    study = f"study {path} --out {out} --n-cells 300 --models beta-vae --presets hvg --epochs 2 --seeds 1 --min-genes 0 --n-top-genes 500"
    assert run(f"{study} --labels-key donor --max-genes 0 --max-pct-mito 100 --batch-size 64") == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "This page is about 300 of 400 cells, drawn at random from all over the input." in page
    assert ad.read_h5ad(out / "study.h5ad").n_obs == 300


@pytest.mark.parametrize("memory", ["1KB", "4GB"])
def test_a_dry_run_of_fit_measures_and_writes_nothing(memory, path, tmp_path, run, capsys):
    fit = f"fit {path} --model beta-vsc --n-latent 4 --batch-key donor --n-top-genes 100 --memory {memory}"
    assert run(f"{fit} --dry-run --model-dir {tmp_path / 'model'} --out {tmp_path / 'out.h5ad'}") == 0
    text = capsys.readouterr().out
    assert (
        "400 cells × 1,002 genes; X holds raw counts (of the cells measured); 100 genes used; batch: donor (2 values)"
        in text
    )
    assert ("windows" in text) == ("speed: reading" in text) == (memory == "1KB")
    assert "epochs at most" in text
    assert text.endswith("dry run: nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_embed_measures_and_writes_nothing(path, tmp_path, run, capsys):
    assert run(f"fit {path} {FIT} --model-dir {tmp_path / 'model'}") == 0
    capsys.readouterr()
    embed = (
        f"embed {path} --model-dir {tmp_path / 'model'} --out {tmp_path / 'out.h5ad'} --memory 1KB --dry-run"
    )
    assert run(embed) == 0
    assert "speed: reading" in capsys.readouterr().out
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


def test_a_budget_that_cannot_be_kept_is_one_error(path, tmp_path, run, capsys, monkeypatch):
    monkeypatch.setattr("sparcell.data.budget.MIN_BUDGET", 1000)
    assert run(f"fit {path} {FIT} --model-dir {tmp_path / 'model'}") == 1
    assert "and training from this file takes at least" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


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
