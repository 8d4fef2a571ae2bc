"""The study end to end on some hundred real cells: what it writes, that it repeats itself, stops and goes on."""

from __future__ import annotations

import json
import re

import anndata
import numpy as np
import pandas as pd
import pytest

from helpers import small
import sparcell as sp
from sparcell.study import write
from sparcell.study import prepare
from sparcell.study import pipeline as study_module
from sparcell.config.experiments import StudyConfig
from sparcell.errors import InputError
from sparcell.models import MODELS
from sparcell.results.study import MEASURES
from sparcell.experiments.runs import Run

CONFIG = StudyConfig(n_top_genes=300, perplexity=20)
CHANGES = {"epochs": 3, "encoder_widths": (32, 16), "batch_size": 128}
ROWS = [f"{model}{suffix}" for suffix in ("", "-hvg") for model in MODELS] + ["pca-6", "pca-10"]
ONE = StudyConfig(n_top_genes=300, perplexity=20, models=("beta-vsc",), presets=("hvg",))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    small.counts().write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def out(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study_module.run(data, folder, CONFIG, changes=CHANGES, silent=True, command="sparcell study counts.h5ad")
    return folder


def live_rows(out):
    """Rows with spikes of which a latent lives, by the codes in the AnnData."""
    obsm = anndata.read_h5ad(out / "study.h5ad").obsm
    keys = [key.removesuffix("_gamma") for key in obsm if key.endswith("_gamma")]
    return [key.replace("_", "-") for key in keys if (obsm[f"X_{key}"].var(axis=0) > 0.01).any()]


def test_the_report_leads_to_a_page_of_programs_for_each_row_with_spikes(out):
    page = (out / "report.html").read_text(encoding="utf-8")
    rows = live_rows(out)
    assert rows, "a model of these settings has live latents"
    assert re.findall(r'href="(programs_[^"]+)"', page) == [f"programs_{name}.html" for name in rows]
    for name in rows:
        told = (out / f"programs_{name}.html").read_text(encoding="utf-8")
        assert "The map is that of the report" in told
        model = sp.load(out / "models" / name)
        codes = model.codes(anndata.read_h5ad(out / "study.h5ad"))
        assert f"{codes.active_k.sum()} of at most {codes.mean_nk.shape[1]} latents are live" in told.replace(
            "\xa0", " "
        )


def test_it_writes_every_file_and_leaves_no_other(out):
    assert {entry.name for entry in out.iterdir()} == {
        *("report.html", "scores.csv", "times.csv", "history.csv", "provenance.json", "study.h5ad"),
        *("figures", "models", "runs"),
        *(f"programs_{name}.html" for name in live_rows(out)),
    }
    assert {entry.name for entry in (out / "models").iterdir()} == set(ROWS[:6])
    assert all(png.read_bytes().startswith(b"\x89PNG") for png in (out / "figures").iterdir())


def test_tables_hold_every_model_seed_and_space(out):
    scores = pd.read_csv(out / "scores.csv")
    assert list(scores) == ["model", "seed", "space", *MEASURES]
    assert list(scores["model"].unique()) == ROWS
    assert (scores.groupby("model")["space"].apply(sorted).map(tuple) == ("latent", "tsne2d")).all()
    assert scores[list(MEASURES)].map(np.isfinite).all(axis=None)
    times = pd.read_csv(out / "times.csv")
    assert list(times) == ["model", "seed", "epochs", "train_seconds"]
    assert (times["epochs"] == 3).all()
    assert (times["train_seconds"] > 0).all()
    history = pd.read_csv(out / "history.csv")
    assert list(history) == ["model", "seed", "epoch", "loss", "nll", "kl"]
    assert (history.groupby("model").size() == 3).all()


def test_the_scores_are_those_of_the_partitions_in_the_anndata(out):
    adata = anndata.read_h5ad(out / "study.h5ad")
    scores = pd.read_csv(out / "scores.csv").set_index(["model", "space"])
    for row in ROWS:
        key = row.replace("-", "_")
        found = sp.metrics.clustering_scores(adata.obs["label"], adata.obs[f"kmeans_{key}"])
        assert found["nmi"] == pytest.approx(scores.loc[(row, "tsne2d"), "nmi"])
        assert adata.obsm[f"tsne2d_{key}"].shape == (adata.n_obs, 2)
    gamma = adata.obsm["beta_vsc_gamma"]
    assert gamma.min() >= 0
    assert gamma.max() <= 1
    assert adata.obs["kmeans_beta_vae"].nunique() == adata.obs["label"].nunique()


def test_a_saved_model_gives_the_study_s_codes_from_raw_counts(out, data):
    adata = anndata.read_h5ad(out / "study.h5ad")
    for row in ("beta-vsc", "autoencoder-hvg"):
        model = sp.load(out / "models" / row)
        assert np.array_equal(model.transform(adata), adata.obsm[f"X_{row.replace('-', '_')}"])


def test_provenance_tells_how_it_was_made(out):
    record = json.loads((out / "provenance.json").read_text())
    assert record["command"] == "sparcell study counts.h5ad"
    assert record["seeds"] == [0]
    assert record["versions"]["sparcell"] == sp.__version__
    assert len(record["input"]["sha256"]) == 64
    assert record["machine"]["cores"] >= 1


def test_the_same_seed_gives_the_same_scores_and_codes(out, data, tmp_path):
    again = study_module.run(data, tmp_path / "again", ONE, changes=CHANGES, silent=True)
    first = pd.read_csv(out / "scores.csv", float_precision="round_trip")
    columns = ["space", *MEASURES]
    assert again.scores[again.scores["model"] == "beta-vsc-hvg"][columns].to_numpy().tolist() == (
        first[first["model"] == "beta-vsc-hvg"][columns].to_numpy().tolist()
    )
    adata = anndata.read_h5ad(out / "study.h5ad")
    assert np.array_equal(again.rows[0].latent_nk, adata.obsm["X_beta_vsc_hvg"])


def test_a_stopped_study_says_what_is_saved_and_goes_on(data, tmp_path, monkeypatch):
    original = study_module.runs.baseline

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module.runs, "baseline", stop)
    with pytest.raises(KeyboardInterrupt, match=r"1 of 3 runs are saved .* --resume"):
        study_module.run(data, tmp_path / "s", ONE, changes=CHANGES, silent=True)
    assert [entry.name for entry in (tmp_path / "s" / "runs").iterdir()] == ["beta-vsc-hvg-seed0.npz"]
    monkeypatch.setattr(study_module.runs, "baseline", original)
    trained = []
    monkeypatch.setattr(study_module.runs, "trained", lambda *a, **k: trained.append(a))
    results = study_module.run(data, tmp_path / "s", ONE, changes=CHANGES, resume=True, silent=True)
    assert not trained
    assert [row.name for row in results.rows] == ["beta-vsc-hvg", "pca-6", "pca-10"]


def test_other_settings_are_not_taken_from_an_earlier_study(data, tmp_path):
    for epochs in (1, 2):
        results = study_module.run(
            data, tmp_path / "s", ONE, changes=CHANGES | {"epochs": epochs}, resume=True, silent=True
        )
        assert results.times["epochs"].tolist() == [epochs]


def test_a_folder_with_other_things_is_refused_and_kept(data, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(InputError, match="not empty"):
            study_module.run(data, tmp_path, ONE, resume=resume, silent=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_several_seeds_and_partial_labels(data, tmp_path):
    adata = anndata.read_h5ad(data)
    labels = pd.Series(["a", "b"] * (adata.n_obs // 2), index=adata.obs_names, name="type").iloc[:300]
    labels.to_csv(tmp_path / "labels.csv", index_label="barcode")
    config = StudyConfig(
        n_top_genes=300,
        perplexity=20,
        models=("autoencoder",),
        presets=("hvg",),
        seeds=2,
        labels=tmp_path / "labels.csv",
    )
    with pytest.warns(UserWarning, match="120 of 420 cells have no label"):
        results = study_module.run(data, tmp_path / "s", config, changes=CHANGES, silent=True)
    assert sorted(results.scores["seed"].unique()) == [0, 1]
    assert pd.isna(results.labels).sum() > 0
    assert not results.labels_from_pca


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        (StudyConfig(models=("beta-vea",)), {}, "beta-vae"),
        (StudyConfig(presets=("sead",)), {}, "seed"),
        (StudyConfig(labels_key="cell_typ"), {}, "no column"),
        (ONE, {"batch_size": 5000}, "fewer than a batch"),
        (ONE, {"n_latent": 0}, "n_latent"),
        (
            StudyConfig(max_genes=300),
            {},
            r"max_genes=300 removes .* --max-genes \d+\)\. Expected to keep at least 50%",
        ),
        (StudyConfig(min_genes=3000, max_genes=0), {}, r"min_genes=3000 removes 419, .* --min-genes \d+\)\."),
    ],
)
def test_what_cannot_work_is_refused_before_training(data, tmp_path, monkeypatch, config, changes, said):
    monkeypatch.setattr(study_module.runs, "trained", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(InputError, match=said):
        study_module.run(data, tmp_path / "s", config, changes=changes, silent=True)
    assert not (tmp_path / "s" / "runs").exists()


def test_a_batch_of_too_many_cells_is_told_before_clustering(data, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.pp, "cell_types", lambda *a, **k: pytest.fail("clustered"))
    with pytest.raises(InputError, match=r"fewer than a batch \(5000\).*--batch-size 4\d\d"):
        study_module.run(data, tmp_path / "s", ONE, changes={"batch_size": 5000}, silent=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "cuda:77"}, "device is 'cuda:77'"),
        ({"genes": "highly_varied"}, "no column 'highly_varied' in var"),
        ({"batch_key": "donor"}, "obs has no column 'donor'"),
        ({"covariates": ("age",)}, "obs has no column 'age'"),
        ({"layer": "umis"}, "no layer 'umis'"),
    ],
)
def test_what_the_models_need_is_looked_for_before_any_work(data, tmp_path, monkeypatch, changes, said):
    monkeypatch.setattr(prepare.pp, "quality_control", lambda *a, **k: pytest.fail("worked"))
    with pytest.raises(InputError, match=said):
        study_module.run(data, tmp_path / "s", ONE, changes=CHANGES | changes, silent=True)
    assert not (tmp_path / "s").exists()


def test_limits_of_genes_are_those_asked_for(data):
    prepared = prepare.prepare(data, StudyConfig(n_top_genes=300, min_genes=600, max_genes=1500))
    kept = prepared.qc["kept"]
    assert prepared.adata.n_obs == kept.sum()
    assert (prepared.qc["n_genes"][kept] > 600).all()
    assert (prepared.qc["n_genes"][kept] < 1500).all()
    assert write.provenance("", "", "", StudyConfig(min_genes=600), 1.0)["qc_limits"]["n_genes"] == (
        600,
        2500,
    )
    with pytest.raises(InputError, match="min_genes is 3000; expected at least 2 fewer than max_genes, 2500"):
        StudyConfig(min_genes=3000)


def test_many_cells_removed_are_told_once(data):
    with pytest.warns(
        UserWarning, match=r"Quality control removed \d+ of 420 cells: min_genes=742 removes"
    ) as told:
        prepare.prepare(data, StudyConfig(n_top_genes=300, min_genes=742))
    assert len([note for note in told if "Quality control" in str(note.message)]) == 1


def test_each_thing_is_said_once(data, tmp_path, caplog):
    config = StudyConfig(n_top_genes=300, perplexity=500, models=("beta-vsc",), presets=("hvg",))
    with caplog.at_level("INFO", logger="sparcell"):
        study_module.run(data, tmp_path / "s", config, changes=CHANGES, silent=True)
    for word in ("perplexity", "quality control"):
        assert len([line for line in caplog.messages if word in line]) == 1
    assert len(set(caplog.messages)) == len(caplog.messages)


def test_variable_genes_of_a_study_are_chosen_within_its_batches(data, tmp_path):
    adata = anndata.read_h5ad(data)
    adata.obs["donor"] = ["a", "b"] * (adata.n_obs // 2)
    adata.write_h5ad(tmp_path / "donors.h5ad")
    tasks = list(study_module.plan_tasks(ONE, {"batch_key": "donor"}))
    prepared = prepare.prepare(tmp_path / "donors.h5ad", ONE, [tasks[0].trained])
    assert prepared.adata.var["highly_variable_nbatches"].max() == 2
    plain = prepare.prepare(tmp_path / "donors.h5ad", ONE)
    pca = tasks[-1]  # the genes are those of its components too
    assert pca.fingerprint(prepared, ONE) != pca.fingerprint(plain, ONE)


@pytest.mark.parametrize("kept", [0, 10, 0.5])
def test_a_damaged_run_is_taken_for_none(tmp_path, kept):
    content = Run({"latent_nk": np.ones((50, 2))}).to_bytes("same")
    path = tmp_path / "run.npz"
    path.write_bytes(content)
    assert Run.from_file(path, "same") is not None
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    assert Run.from_file(path, "same") is None


def test_a_run_is_kept_when_the_training_after_it_is_stopped(data, tmp_path, monkeypatch):
    """It was being mapped beside that training."""
    config = StudyConfig(n_top_genes=300, perplexity=20, models=("autoencoder", "beta-vsc"), presets=("hvg",))
    original = study_module.runs.trained

    def stop(scene, row, **given):
        if row.model == "beta-vsc":
            raise KeyboardInterrupt
        return original(scene, row, **given)

    monkeypatch.setattr(study_module.runs, "trained", stop)
    with pytest.raises(KeyboardInterrupt, match="1 of 4 runs are saved"):
        study_module.run(data, tmp_path / "s", config, changes=CHANGES, silent=True)
    assert [entry.name for entry in (tmp_path / "s" / "runs").iterdir()] == ["autoencoder-hvg-seed0.npz"]
