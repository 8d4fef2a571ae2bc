"""The commands map and predict: what they write, keep and refuse."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import sparcell as sp
from helpers.shell import sparcell
from helpers.simulated import simulated_cells
from sparcell.cli import dry_run
from sparcell.data.sampler import subsample

FIT = ("--model", "beta-vae", "--epochs", "2", "--batch-size", "64", "--encoder-widths", "8", "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells")
    for name, seed, batch in (("reference", 0, "a"), ("query", 1, "b")):
        adata = simulated_cells(200, n_genes=80, seed=seed)
        adata.obs["donor"] = batch
        adata.write_h5ad(path / f"{name}.h5ad")
    return path


@pytest.fixture
def model_dir(folder, tmp_path, monkeypatch):
    words = (*FIT, "--batch-key", "donor", "--model-dir", tmp_path / "m")
    assert sparcell("fit", folder / "reference.h5ad", *words, monkeypatch=monkeypatch) == 0
    return tmp_path / "m"


def test_map_writes_latents_and_the_model_of_all_batches(folder, model_dir, tmp_path, monkeypatch):
    words = ("--model-dir", model_dir, "--out", tmp_path / "q.h5ad", "--mapped-model-dir", tmp_path / "n")
    assert sparcell("map", folder / "query.h5ad", *words, "--quiet", monkeypatch=monkeypatch) == 0
    mapped = sp.load(tmp_path / "n")
    assert mapped.schema.covariates.batch.names == ("a", "b")
    query, reference = (sp.io.read(folder / f"{name}.h5ad") for name in ("query", "reference"))
    np.testing.assert_array_equal(
        ad.read_h5ad(tmp_path / "q.h5ad").obsm["X_beta_vae"], mapped.transform(query)
    )
    np.testing.assert_array_equal(mapped.transform(reference), sp.load(model_dir).transform(reference))
    words = ("--model-dir", model_dir, "--out", tmp_path / "r.h5ad", "--mapped-model-dir", model_dir)
    assert sparcell("map", folder / "query.h5ad", *words, "--overwrite", monkeypatch=monkeypatch) == 1


def test_a_model_that_was_trained_with_labels_predicts_without_a_reference(
    folder, tmp_path, monkeypatch, caplog
):
    words = [word for word in FIT if word != "--quiet"]
    words += ["--batch-key", "donor", "--labels-key", "type", "--model-dir", tmp_path / "m"]
    assert sparcell("fit", folder / "reference.h5ad", *words, monkeypatch=monkeypatch) == 0
    assert "labels: type (4 values, 0% of cells without)" in caplog.text
    assert "4 labels learned from 200 of 200 cells by obs['type']" in caplog.text
    words = ("--model-dir", tmp_path / "m", "--unseen", "average", "--out", tmp_path / "p.h5ad", "--quiet")
    assert sparcell("predict", folder / "query.h5ad", *words, monkeypatch=monkeypatch) == 0
    assert ad.read_h5ad(tmp_path / "p.h5ad").obsm["type_probabilities"].shape == (200, 4)


def test_a_dry_run_of_few_labels_needs_none_among_the_cells_that_it_measures(
    folder, tmp_path, monkeypatch, capfd
):
    adata = sp.io.read(folder / "reference.h5ad")
    measured = subsample(200, 64, 0)
    adata.obs["few"] = None
    adata.obs.iloc[np.setdiff1d(np.arange(200), measured)[:4], -1] = ["B", "B", "T", "T"]
    adata.write_h5ad(tmp_path / "few.h5ad")
    monkeypatch.setattr(dry_run, "N_CELLS", 10)  # a minibatch is more
    words = (*FIT, "--labels-key", "few", "--model-dir", tmp_path / "m", "--dry-run")
    assert sparcell("fit", tmp_path / "few.h5ad", *words, monkeypatch=monkeypatch) == 0
    assert sparcell("fit", tmp_path / "few.h5ad", *words[:-1], monkeypatch=monkeypatch) == 0
    wrong = (*FIT, "--labels-key", "fewer", "--model-dir", tmp_path / "n", "--dry-run")
    assert sparcell("fit", tmp_path / "few.h5ad", *wrong, monkeypatch=monkeypatch) == 1
    assert "did you mean 'few'" in capfd.readouterr().err


def test_a_weight_of_labels_needs_labels(folder, tmp_path, monkeypatch, capfd):
    words = (*FIT, "--label-weight", "3", "--model-dir", tmp_path / "m")
    assert sparcell("fit", folder / "reference.h5ad", *words, monkeypatch=monkeypatch) == 1
    assert "add --labels-key COLUMN" in capfd.readouterr().err


def test_predict_learns_once_and_keeps_the_labels(folder, model_dir, tmp_path, monkeypatch, capfd):
    words = ("--model-dir", model_dir, "--unseen", "average", "--out", tmp_path / "p.h5ad")
    assert sparcell("predict", folder / "query.h5ad", *words, monkeypatch=monkeypatch) == 1
    assert "add --reference FILE.h5ad --labels-key COLUMN" in capfd.readouterr().err
    learn = ("--reference", folder / "reference.h5ad", "--labels-key", "type")
    assert sparcell("predict", folder / "query.h5ad", *words, *learn[:2], monkeypatch=monkeypatch) == 1
    assert "labels" in capfd.readouterr().err
    assert sparcell("predict", folder / "query.h5ad", *words, *learn, monkeypatch=monkeypatch) == 0
    first = ad.read_h5ad(tmp_path / "p.h5ad")
    assert first.obsm["type_probabilities"].shape == (200, 4)
    again = (*words, "--overwrite", "--quiet")
    assert sparcell("predict", folder / "query.h5ad", *again, monkeypatch=monkeypatch) == 0
    second = ad.read_h5ad(tmp_path / "p.h5ad")
    assert second.obs["type_probability"].tolist() == first.obs["type_probability"].tolist()


def test_labels_of_a_large_file_are_those_of_the_same_cells_in_memory(
    folder, model_dir, tmp_path, monkeypatch
):
    learn = (
        "--reference",
        folder / "reference.h5ad",
        "--labels-key",
        "type",
        "--unseen",
        "average",
        "--quiet",
    )
    inputs = (folder / "query.h5ad", folder / "reference.h5ad")
    for name, words in (("disk", ("--memory", "1KB")), ("memory", ())):
        out = ("--model-dir", model_dir, "--out", tmp_path / f"{name}.h5ad")
        assert sparcell("predict", *inputs, *out, *learn, *words, monkeypatch=monkeypatch) == 0
    disk, memory = (ad.read_h5ad(tmp_path / f"{name}.h5ad") for name in ("disk", "memory"))
    assert disk.X is None
    assert (
        disk.obs["type_predicted"].astype(str).tolist() == memory.obs["type_predicted"].astype(str).tolist()
    )
    assert disk.obs_names.tolist() == memory.obs_names.tolist()
    np.testing.assert_array_equal(disk.obsm["type_probabilities"], memory.obsm["type_probabilities"])


def test_an_edited_card_stops_predict_before_labels_are_learned(
    folder, model_dir, tmp_path, monkeypatch, capfd
):
    with (model_dir / "README.md").open("a", encoding="utf-8") as card:
        card.write("My notes.\n")
    monkeypatch.setattr(
        "sparcell.models.labelling.LabelClassifier.fit", lambda *_, **__: pytest.fail("learned")
    )
    words = ("--model-dir", model_dir, "--out", tmp_path / "p.h5ad", "--labels-key", "type")
    words = (*words, "--reference", folder / "reference.h5ad")
    assert sparcell("predict", folder / "query.h5ad", *words, monkeypatch=monkeypatch) == 1
    assert "was edited" in capfd.readouterr().err


def test_a_model_without_batches_stops_map_before_cells_are_read(folder, tmp_path, monkeypatch, capfd):
    words = (*FIT, "--model-dir", tmp_path / "m")
    assert sparcell("fit", folder / "reference.h5ad", *words, monkeypatch=monkeypatch) == 0
    monkeypatch.setattr("sparcell.io.stored.read_whole", lambda *_: pytest.fail("read"))
    words = ("--model-dir", tmp_path / "m", "--out", tmp_path / "q.h5ad")
    assert sparcell("map", folder / "query.h5ad", *words, monkeypatch=monkeypatch) == 1
    assert "fitted without batch_key" in capfd.readouterr().err
