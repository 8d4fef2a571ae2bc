"""What users do by mistake, or in an order nobody planned: refused before any training, and no file of theirs is lost."""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import replace

import anndata
import numpy as np
import pytest

import sparcell as sp
from helpers import small
from helpers.shell import sparcell
from sparcell.config.experiments import StudyConfig
from sparcell.errors import InputError
from sparcell.study import pipeline as study_module
from sparcell.study import prepare

CONFIG = StudyConfig(n_top_genes=300, perplexity=20, models=("beta-vsc",), presets=("hvg",), seeds=1)
CHANGES = {"epochs": 1, "batch_size": 64, "encoder_widths": (32, 16)}
SHORT = ("--epochs", "1", "--batch-size", "64", "--encoder-widths", "32", "16")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    small.counts(200).write_h5ad(path)
    return path


@pytest.mark.parametrize("target", ["notes.txt/model", "encoded.h5ad"])
def test_a_place_for_the_model_is_checked_before_training(data, tmp_path, monkeypatch, capfd, target):
    (tmp_path / "notes.txt").write_text("mine")
    words = (
        "fit",
        data,
        "--model",
        "beta-vae",
        "--out",
        tmp_path / "encoded.h5ad",
        "--model-dir",
        tmp_path / target,
    )
    assert sparcell(*words, *SHORT, monkeypatch=monkeypatch) == 1
    assert capfd.readouterr().err.startswith("Error: ")
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_a_column_of_the_user_s_called_label_stays_as_it_is(data, tmp_path):
    adata = anndata.read_h5ad(data)
    adata.obs["label"] = ["patient 1", "patient 2"] * (adata.n_obs // 2)
    adata.obs["kind"] = ["a", "b", "c", "a"] * (adata.n_obs // 4)
    adata.write_h5ad(tmp_path / "mine.h5ad")
    config = replace(CONFIG, labels_key="kind")
    study_module.run(tmp_path / "mine.h5ad", tmp_path / "s", config, changes=CHANGES, silent=True)
    written = anndata.read_h5ad(tmp_path / "s" / "study.h5ad").obs
    assert (written["label"] == adata.obs.loc[written.index, "label"]).all()
    assert (written["sparcell_label"] == written["kind"]).all()


@pytest.mark.slow
def test_a_model_of_a_study_encodes_raw_counts_from_the_shell(data, tmp_path, monkeypatch):
    study_module.run(data, tmp_path / "s", CONFIG, changes=CHANGES, silent=True)
    model = tmp_path / "s" / "models" / "beta-vsc-hvg"
    assert (
        sparcell("embed", data, "--model-dir", model, "--out", tmp_path / "e.h5ad", monkeypatch=monkeypatch)
        == 0
    )
    studied, encoded = (
        anndata.read_h5ad(tmp_path / "s" / "study.h5ad"),
        anndata.read_h5ad(tmp_path / "e.h5ad"),
    )
    # totals are over all genes here, and over those seen in three cells there: hardly any count lies between
    latent = encoded[studied.obs_names].obsm["X_beta_vsc"]
    np.testing.assert_allclose(latent, studied.obsm["X_beta_vsc_hvg"], rtol=0.05, atol=0.01)


@pytest.mark.slow
def test_ctrl_c_while_the_report_is_written_says_what_is_saved(data, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module.write, "write", stop)
    with pytest.raises(KeyboardInterrupt, match=r"3 of 3 runs are saved .* --resume"):
        study_module.run(data, tmp_path / "s", CONFIG, changes=CHANGES, silent=True)


@pytest.mark.slow
def test_resuming_with_other_models_and_settings_says_so_and_leaves_no_stale_figure(data, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="sparcell")
    study_module.run(data, tmp_path / "s", CONFIG, changes=CHANGES, silent=True)
    (tmp_path / "s" / "figures" / "my-own.png").write_bytes(b"mine")
    other = StudyConfig(n_top_genes=300, perplexity=20, models=("beta-vsc",), presets=("counts",), seeds=1)
    study_module.run(data, tmp_path / "s", other, changes=CHANGES, resume=True, silent=True)
    names = {entry.name for entry in (tmp_path / "s" / "figures").iterdir()}
    assert {"map2d-beta-vsc-counts.png", "my-own.png"} <= names
    assert not {name for name in names if "hvg" in name}
    assert "recomput" not in caplog.text
    study_module.run(data, tmp_path / "s", other, changes=CHANGES | {"epochs": 2}, resume=True, silent=True)
    assert re.search(r"recomputing .*beta-vsc-counts-seed0\.npz", caplog.text)


@pytest.mark.slow
def test_a_study_of_other_data_is_not_resumed_and_stays_as_it_is(data, tmp_path):
    study_module.run(data, tmp_path / "s", CONFIG, changes=CHANGES, silent=True)
    before = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}
    anndata.read_h5ad(data)[::-1].copy().write_h5ad(tmp_path / "other.h5ad")
    with pytest.raises(InputError, match=r"study of other counts \(counts.h5ad\)"):
        study_module.run(tmp_path / "other.h5ad", tmp_path / "s", CONFIG, changes=CHANGES, resume=True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}


def test_the_folder_of_a_benchmark_is_refused_by_a_study(data, tmp_path):
    folder = tmp_path / "b"
    (folder / "runs").mkdir(parents=True)
    (folder / "runs" / "pca-seed0.npz").write_bytes(b"a run")
    (folder / "benchmark.h5ad").write_bytes(b"cells")
    with pytest.raises(InputError, match="b is not empty"):
        study_module.run(data, folder, CONFIG, changes=CHANGES, resume=True)
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "benchmark.h5ad",
        "pca-seed0.npz",
    ]


def test_a_study_that_is_refused_leaves_no_folder(data, tmp_path):
    with pytest.raises(InputError, match="no column"):
        study_module.run(data, tmp_path / "s", StudyConfig(labels_key="cell_typ"))
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("n_cells", [40, 60, 100, 150])
def test_variable_genes_are_found_in_few_cells(n_cells):
    adata = small.counts(n_cells)
    sp.pp.quality_control(adata)
    adata.layers["counts"] = adata.X.copy()
    sp.pp.variable_genes(adata, n_top_genes=500)
    assert adata.var["highly_variable"].sum() == 500
    assert {"LYZ", "S100A9"} <= set(adata.var_names[adata.var["highly_variable_rank"] < 50])


def test_a_setting_that_none_of_the_models_has_is_refused(data, tmp_path):
    with pytest.raises(InputError, match=r"no setting 'alhpa'.* did you mean 'alpha'"):
        study_module.run(data, tmp_path / "s", CONFIG, changes=CHANGES | {"alhpa": 0.1})
    only = StudyConfig(models=("autoencoder", "beta-vae"))
    with pytest.raises(InputError, match="autoencoder and beta-vae: no setting 'alpha'"):
        study_module.run(data, tmp_path / "s", only, changes={"alpha": 0.1})


def test_quiet_hides_warnings_too(data, tmp_path, monkeypatch, capfd):
    adata = anndata.read_h5ad(data)
    adata.var_names = [adata.var_names[0], adata.var_names[0], *adata.var_names[2:]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.write_h5ad(tmp_path / "twice.h5ad")
    words = ("fit", tmp_path / "twice.h5ad", "--model", "autoencoder", "--model-dir", tmp_path / "m", *SHORT)
    with warnings.catch_warnings():
        assert sparcell(*words, "--quiet", monkeypatch=monkeypatch) == 0
    assert capfd.readouterr() == ("", "")


def test_a_flavor_without_a_number_of_genes_would_have_no_effect(data, tmp_path, monkeypatch, capfd):
    words = ("fit", data, "--model", "beta-vae", "--flavor", "seurat_v3", "--model-dir", tmp_path / "m")
    assert sparcell(*words, monkeypatch=monkeypatch) == 1
    assert "--flavor needs a number of genes to choose; add --n-top-genes 2000" in capfd.readouterr().err


@pytest.mark.parametrize("place", ["umis", "raw"])
def test_counts_that_are_not_in_x_are_named_and_found(data, place):
    adata = anndata.read_h5ad(data)
    counts = adata.X.copy()
    if place == "raw":
        adata.raw = adata.copy()
    else:
        adata.layers[place] = counts
    adata.X = counts.log1p()
    said = rf"X holds no raw counts; {place} holds counts\. Set .* \(in a shell: --layer {place}\)\."
    with pytest.raises(InputError, match=said):
        prepare.use_counts_layer(adata, None)
    assert (counts != prepare.use_counts_layer(adata, place).X).nnz == 0


def test_other_counts_under_the_name_that_a_study_writes_are_refused(data, tmp_path):
    adata = anndata.read_h5ad(data)
    adata.layers["counts"] = adata.X * 2
    adata.write_h5ad(tmp_path / "two.h5ad")
    with pytest.raises(InputError, match=r"layers\['counts'\] exists and differs from X.* --layer counts"):
        prepare.prepare(tmp_path / "two.h5ad", CONFIG)
    assert prepare.use_counts_layer(adata, "counts").X.max() == adata.layers["counts"].max()


def test_without_counts_anywhere_the_message_names_the_study_s_own_option(data):
    adata = anndata.read_h5ad(data)
    adata.X = adata.X.log1p()
    with pytest.raises(InputError, match=r"X holds log-normalized .* \(in a shell: --layer counts\)"):
        prepare.use_counts_layer(adata, None)


def test_counts_in_a_layer_alone_are_used_and_asked_for(data, tmp_path, monkeypatch, capfd):
    adata = anndata.read_h5ad(data)
    adata.layers["umis"] = adata.X.copy()
    adata.X = None
    adata.write_h5ad(tmp_path / "layer.h5ad")
    with pytest.raises(InputError, match=r"X is empty; umis holds counts\..*--layer umis\)"):
        study_module.run(tmp_path / "layer.h5ad", tmp_path / "s", CONFIG)
    words = ("fit", tmp_path / "layer.h5ad", "--model", "autoencoder", *SHORT[:4])
    assert sparcell(*words, "--model-dir", tmp_path / "m", monkeypatch=monkeypatch) == 1
    assert "X is empty" in capfd.readouterr().err
    saved = ("--model-dir", tmp_path / "m", "--out", tmp_path / "c.h5ad")
    assert sparcell(*words, "--layer", "umis", *saved, monkeypatch=monkeypatch) == 0
    encoded = anndata.read_h5ad(tmp_path / "c.h5ad")
    assert encoded.X is None
    assert encoded.obsm["X_autoencoder"].shape[0] == 200


def test_one_cluster_is_an_error_in_words_of_the_shell(data, tmp_path):
    anndata.read_h5ad(data)[:6].copy().write_h5ad(tmp_path / "few.h5ad")
    with (
        pytest.warns(UserWarning, match="all are used"),
        pytest.raises(InputError, match=r"form one cluster.*--labels-key"),
    ):
        study_module.run(tmp_path / "few.h5ad", tmp_path / "s", CONFIG, changes={"batch_size": 2})
