"""The files of a finished study on some hundred real cells."""

from __future__ import annotations

import json
import re

import anndata
import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from helpers.studies import CHANGES, ONE, ROWS, rows_with_programs
from sparcell.experiments import writing
from sparcell.results.study import CLUSTERING_METRICS
from sparcell.study import pipeline


def test_the_report_links_a_page_of_programs_for_each_row_with_spikes(out):
    report = (out / "report.html").read_text(encoding="utf-8")
    rows = rows_with_programs(out)
    assert rows, "a model with these settings has active latents"
    assert re.findall(r'href="(programs_[^"]+)"', report) == [f"programs_{name}.html" for name in rows]
    for name in rows:
        page = (out / f"programs_{name}.html").read_text(encoding="utf-8")
        assert "The map is that of the report" in page
        model = sp.load(out / "models" / name)
        latents = model.latent_representation(anndata.read_h5ad(out / "study.h5ad"))
        counts = f"{latents.active_k.sum()} of {latents.mean_nk.shape[1]} latents"
        assert counts in page.replace("\xa0", " ")


def test_it_writes_every_file_and_leaves_no_other(out):
    assert {entry.name for entry in out.iterdir()} == {
        *("report.html", "scores.csv", "times.csv", "history.csv", "provenance.json", "study.h5ad"),
        *("figures", "models", "runs"),
        *(f"programs_{name}.html" for name in rows_with_programs(out)),
    }
    assert {entry.name for entry in (out / "models").iterdir()} == set(ROWS[:7])
    assert all(png.read_bytes().startswith(b"\x89PNG") for png in (out / "figures").iterdir())


def test_tables_hold_every_model_seed_and_space(out):
    scores = pd.read_csv(out / "scores.csv")
    assert list(scores) == ["model", "seed", "space", *CLUSTERING_METRICS]
    assert list(scores["model"].unique()) == ROWS
    assert (scores.groupby("model")["space"].apply(sorted).map(tuple) == ("latent", "tsne2d")).all()
    assert scores[list(CLUSTERING_METRICS)].map(np.isfinite).all(axis=None)
    times = pd.read_csv(out / "times.csv")
    assert list(times) == ["model", "seed", "epochs", "train_seconds"]
    assert (times["epochs"] == 3).all()
    assert (times["train_seconds"] > 0).all()
    history = pd.read_csv(out / "history.csv")
    assert list(history) == ["model", "seed", "epoch", "loss", "reconstruction_loss", "kl"]
    assert (history.groupby("model").size() == 3).all()


def test_the_scores_are_those_of_the_partitions_in_the_anndata(out):
    adata = anndata.read_h5ad(out / "study.h5ad")
    scores = pd.read_csv(out / "scores.csv").set_index(["model", "space"])
    for row in ROWS:
        key = row.replace("-", "_")
        expected = sp.metrics.clustering_scores(adata.obs["label"], adata.obs[f"kmeans_{key}"])
        assert expected["nmi"] == pytest.approx(scores.loc[(row, "tsne2d"), "nmi"])
        assert adata.obsm[f"tsne2d_{key}"].shape == (adata.n_obs, 2)
    inclusion = adata.obsm["beta_vsc_inclusion"]
    assert inclusion.min() >= 0
    assert inclusion.max() <= 1
    assert adata.obs["kmeans_beta_vae"].nunique() == adata.obs["label"].nunique()


def test_a_saved_model_gives_the_study_s_latents_from_raw_counts(out, data):
    adata = anndata.read_h5ad(out / "study.h5ad")
    for row in ("beta-vsc", "autoencoder-hvg"):
        model = sp.load(out / "models" / row)
        assert np.array_equal(model.transform(adata), adata.obsm[f"X_{row.replace('-', '_')}"])


def test_the_provenance_is_complete(out):
    record = json.loads((out / "provenance.json").read_text())
    assert record["command"] == "sparcell study counts.h5ad"
    assert record["seeds"] == [0]
    assert record["versions"]["sparcell"] == sp.__version__
    assert len(record["input"]["sha256"]) == 64
    assert record["machine"]["cores"] >= 1


def test_the_same_seed_gives_the_same_scores_and_latents(out, data, tmp_path, no_output):
    again = pipeline.run(data, tmp_path / "again", ONE, changes=CHANGES, silent=True)
    first = pd.read_csv(out / "scores.csv", float_precision="round_trip")
    columns = ["space", *CLUSTERING_METRICS]
    assert again.scores[again.scores["model"] == "beta-vsc-hvg"][columns].to_numpy().tolist() == (
        first[first["model"] == "beta-vsc-hvg"][columns].to_numpy().tolist()
    )
    adata = anndata.read_h5ad(out / "study.h5ad")
    assert np.array_equal(again.rows[0].latent_nk, adata.obsm["X_beta_vsc_hvg"])


def test_figures_of_rows_that_are_gone_are_removed_and_other_files_stay(tmp_path):
    for name in ("map2d-old.png", "map2d-new.png", "scores.png", "thesis.png"):
        (tmp_path / name).write_bytes(b"figure")
    writing.remove_stale(tmp_path, pipeline.write.FIGURES_OF_ROWS, [tmp_path / "map2d-new.png"])
    assert {path.name for path in tmp_path.iterdir()} == {"map2d-new.png", "scores.png", "thesis.png"}


def test_a_label_column_of_the_data_keeps_its_values(out):
    adata = anndata.read_h5ad(out / "study.h5ad")
    adata.obs["label"] = "mine"
    labels = pd.Categorical(["a", "b"] * (adata.n_obs // 2) + ["a"] * (adata.n_obs % 2))
    annotated = writing.annotated(adata, labels, (), uns_key="sparcell_study")
    assert (annotated.obs["label"] == "mine").all()
    assert list(annotated.obs["sparcell_label"]) == list(labels)
