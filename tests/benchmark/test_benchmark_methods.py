"""What each method gets in a benchmark, and which scores it has: sparcell's models, scIB, scVI and DRVI (fakes)."""

from __future__ import annotations

from dataclasses import replace

import anndata
import numpy as np
import pytest

import sparcell as sp
from helpers.benchmarks import BASELINES, CONFIG, MODELS_AND_PCA, N_CELLS, PCA, SMALL, run, stored
from helpers.fakes import fake_drvi, fake_harmony, fake_scib, fake_scvi
from sparcell.benchmark import pipeline, split
from sparcell.benchmark.methods import BATCH, HELD_OUT, planned_epochs
from sparcell.benchmark.treatments import treatment_warning

pytestmark = pytest.mark.usefixtures("in_process", "no_output")


@pytest.fixture(scope="module")
def cells(data):
    return split.prepare(data, CONFIG).cells


def test_models_train_on_the_other_cells_only_and_encode_all(data, cells, tmp_path, monkeypatch):
    trained_on = []
    kind = type(sp.BetaVSC())
    fit = kind.fit
    monkeypatch.setattr(
        kind, "fit", lambda self, adata, **options: trained_on.append(adata) or fit(self, adata, **options)
    )
    config = replace(MODELS_AND_PCA, models=("beta-vsc", "beta-vae", "autoencoder"))
    results = run(data, tmp_path / "b", config)
    train = cells[~cells.obs[HELD_OUT]].copy()
    assert set(trained_on[0].obs_names) == set(train.obs_names)
    assert results.rows[0].latent_nk.shape == (N_CELLS, 4)
    model = fit(sp.BetaVSC(**SMALL, likelihood="nb", seed=0), train, batch_key=BATCH, silent=True)
    test = cells[cells.obs[HELD_OUT].to_numpy()].copy()
    scores = results.scores.set_index("method")
    assert scores.at["beta-vsc", "log_likelihood"] == pytest.approx(
        model.marginal_log_likelihood(test, n_samples=3, seed=0).mean()
    )
    assert scores.at["beta-vsc", "epochs"] == 2
    assert np.isnan(scores.at["pca", "log_likelihood"])
    assert np.isnan(scores.at["autoencoder", "log_likelihood"]), "an autoencoder has no likelihood to compare"
    run_of_vsc = stored(tmp_path / "b", "beta-vsc", 0)
    assert np.allclose(run_of_vsc["inclusion_nk"], model.inclusion_probability(cells), atol=1e-6)
    assert np.allclose(run_of_vsc["latent_nk"], model.transform(cells), atol=1e-6)
    assert "inclusion_nk" not in stored(tmp_path / "b", "beta-vae", 0)


def test_the_clustering_scores_are_those_of_the_map_and_the_latents(data, tmp_path):
    results = run(data, tmp_path / "b", PCA)
    row, scores = results.rows[0], results.scores.iloc[0]
    types = results.labels.codes
    assert scores["map_ari"] == pytest.approx(sp.metrics.clustering_scores(types, row.kmeans_n)["ari"])
    partition, _ = sp.tl.kmeans(row.latent_nk, len(results.labels.categories), seed=0)
    assert scores["latent_nmi"] == pytest.approx(sp.metrics.clustering_scores(types, partition)["nmi"])
    assert results.provenance["versions"]["sparcell"] == sp.__version__


def test_what_is_not_installed_is_skipped_and_named(data, tmp_path, caplog):
    with caplog.at_level("WARNING", "sparcell"):
        results = run(data, tmp_path / "b", replace(CONFIG, models=("none",)))
    reasons = {entry.title: entry.reason for entry in results.skipped}
    assert set(reasons) == {
        "Harmony",
        "scVI, 10 latents, 1 layer",
        "scVI, 30 latents, 2 layers",
        "scIB's metrics",
    }
    assert reasons["Harmony"] == "harmonypy is not installed; pip install 'sparcell[benchmark]'"
    assert "scvi-tools is not installed" in caplog.text
    assert results.scores["total"].isna().all()
    assert results.scores["map_nmi"].notna().all()


def test_unlabeled_cells_are_not_scored(data, tmp_path, monkeypatch):
    calls = fake_scib(monkeypatch)
    adata = anndata.read_h5ad(data)
    adata.obs["program"] = adata.obs["program"].astype(object)
    adata.obs.iloc[:20, adata.obs.columns.get_loc("program")] = None
    adata.write_h5ad(tmp_path / "some.h5ad")
    with pytest.warns(UserWarning, match="20 of 320 cells have no label"):
        results = run(tmp_path / "some.h5ad", tmp_path / "b", BASELINES)
    assert [len(arrays[1]) for name, arrays in calls if name == "kmeans"] == [300, 300]
    assert results.rows[0].latent_nk.shape[0] == 320


# ---------------------------------------------------------------- scIB


def test_scib_gets_latents_types_and_batches_and_is_not_scaled(data, tmp_path, monkeypatch):
    calls = dict(fake_scib_calls(data, tmp_path, monkeypatch))
    latent_nk, labels_n = calls["kmeans"]
    results = run(data, tmp_path / "b", PCA, resume=True)
    assert np.allclose(latent_nk, results.rows[0].latent_nk)
    assert list(labels_n) == list(results.labels)
    neighbors, batches_n = calls["ilisi_knn"]
    assert list(batches_n) == list(results.batches)
    distance_nn = np.linalg.norm(latent_nk[:, None] - latent_nk[None], axis=2)
    assert neighbors.indices.shape == (N_CELLS, 90)
    assert np.allclose(neighbors.distances, np.sort(distance_nn, axis=1)[:, :90], atol=1e-2)
    unintegrated, latent_nk, batches_n = calls["pcr_comparison"]
    assert unintegrated.shape == (N_CELLS, 50)
    assert np.allclose(np.abs(unintegrated[:, :5]), np.abs(results.rows[0].latent_nk), atol=1e-3), "PCA"
    scores = results.scores.iloc[0]
    assert scores["clisi"] == 0.5
    bio = ["isolated_labels", "kmeans_nmi", "kmeans_ari", "silhouette_label", "clisi"]
    batch = ["bras", "ilisi", "kbet", "graph_connectivity", "pcr_comparison"]
    assert scores["bio_conservation"] == pytest.approx(scores[bio].mean())
    assert scores["batch_correction"] == pytest.approx(scores[batch].mean())
    assert scores["total"] == pytest.approx(0.6 * scores[bio].mean() + 0.4 * scores[batch].mean())


def fake_scib_calls(data, tmp_path, monkeypatch):
    calls = fake_scib(monkeypatch)
    run(data, tmp_path / "b", PCA)
    return calls


def test_scoring_says_what_it_is_doing(data, tmp_path, monkeypatch, capfd, caplog):
    fake_scib(monkeypatch)
    with caplog.at_level("INFO", "sparcell"):
        pipeline.run(data, tmp_path / "b", PCA)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("PCA, seed 0, scores: ")]
    assert len(lines) == 10
    assert lines[0].startswith("PCA, seed 0, scores: 1/10, ")
    assert lines[0].endswith("next: Isolated labels")
    assert lines[-2].endswith("next: PCR comparison")
    assert "PCA, seed 0: scoring, 10 steps, the first is the t-SNE map and clusters" in caplog.text


def test_if_scib_fails_the_other_scores_are_kept(data, tmp_path, monkeypatch):
    fake_scib(monkeypatch)

    def fail(*_):
        raise ValueError("singular")

    monkeypatch.setattr("sparcell.metrics.scib.scib_scores", fail)
    for resume in (False, True):
        results = run(data, tmp_path / "b", PCA, resume=resume)
        assert results.scores["map_nmi"].notna().all()
        assert results.scores["total"].isna().all()
        assert [(entry.title, entry.reason) for entry in results.skipped] == [
            ("scIB's metrics of PCA, seed 0", "ValueError: singular")
        ]


def test_without_batches_only_bio_conservation_is_scored(data, tmp_path, monkeypatch):
    (calls, _) = fake_scib(monkeypatch), fake_harmony(monkeypatch)
    config = replace(CONFIG, batch_key=None, models=("none",), external_models=("none",))
    results = run(data, tmp_path / "b", config)
    assert {name for name, _ in calls} == {"kmeans", "clisi_knn"}
    assert results.scores[["isolated_labels", "batch_correction", "kbet"]].isna().all(axis=None)
    assert results.scores["bio_conservation"].notna().all()
    assert results.scores["total"].isna().all()
    reasons = {entry.title: entry.reason for entry in results.skipped}
    assert reasons == {"Harmony": "it corrects for batches, and no batches are given (--batch-key)"}


# ---------------------------------------------------------------- external models


def test_scvi_is_trained_on_the_same_split_and_scored_on_the_held_out_cells(
    data, cells, tmp_path, monkeypatch
):
    calls = fake_scvi(monkeypatch)
    config = replace(CONFIG, models=("none",), baselines=("none",), external_epochs=40)
    results = run(data, tmp_path / "b", config)
    test = np.flatnonzero(cells.obs[HELD_OUT])
    assert [call.options for call in calls] == [
        {"n_latent": 10, "n_layers": 1, "gene_likelihood": "nb"},
        {"n_latent": 30, "n_layers": 2, "gene_likelihood": "nb"},
    ]
    for call in calls:
        train, held_out = call.trained["datasplitter_kwargs"]["external_indexing"]
        assert np.array_equal(held_out, test)
        assert np.array_equal(np.sort(np.concatenate([train, held_out])), np.arange(N_CELLS))
        assert np.array_equal(call.scored, test)
        assert (call.batch_key, call.n_samples, call.max_epochs) == (BATCH, 3, 40)
        assert call.warmup == 40  # a tenth of the usual 400, like the epochs
    assert (results.scores["log_likelihood"] == -100).all()
    assert results.notes["scvi-10x1"] == "Trained for 40 epochs; the default of scvi-tools is 400."


def test_epochs_of_external_models_follow_the_cells_and_are_part_of_the_name(
    data, tmp_path, monkeypatch, caplog
):
    calls = fake_scvi(monkeypatch)
    monkeypatch.setattr("sparcell.benchmark.methods.MAX_STEPS", 300)
    config = replace(CONFIG, models=("none",), baselines=("none",), seeds=2)
    with caplog.at_level("INFO", "sparcell"):
        results = run(data, tmp_path / "b", config)
    assert (results.scores["epochs"] == 100).all(), "288 training cells are 3 steps of 128"
    assert (results.scores["own_epochs"] == 400).all()
    assert [call.max_epochs for call in calls] == [100] * 4
    assert all(call.warmup == 100 for call in calls)
    assert [row.title for row in results.rows] == [
        "scVI, 10 latents, 1 layer, 100 of 400 epochs",
        "scVI, 30 latents, 2 layers, 100 of 400 epochs",
    ]
    assert [row.name for row in results.rows] == ["scvi-10x1", "scvi-30x2"]
    assert "100 of 400 epochs (at most 300 steps; --external-epochs full: all epochs)" in caplog.text
    results = run(data, tmp_path / "full", replace(config, external_epochs="full"))
    assert (results.scores["epochs"] == 400).all()
    assert results.rows[0].title == "scVI, 10 latents, 1 layer"


def test_a_busy_machine_does_not_change_the_epochs():
    assert planned_epochs(400, 1_697, "auto") == 400
    assert planned_epochs(400, 12_599, "auto") == 202
    assert planned_epochs(8, 900_000, "auto") == 2
    assert planned_epochs(8, 90_000_000, "auto") == 1
    assert planned_epochs(400, 12_599, "full") == 400
    assert planned_epochs(400, 12_599, 800) == 800


def test_batches_that_are_treatments_are_named_in_the_results(data, tmp_path, caplog):
    adata = anndata.read_h5ad(data)
    adata.obs["batch"] = np.where(adata.obs["batch"] == adata.obs["batch"].iloc[0], "CTRL", "STIM")
    adata.write_h5ad(tmp_path / "kang.h5ad")
    with caplog.at_level("WARNING", "sparcell"):
        results = run(tmp_path / "kang.h5ad", tmp_path / "b", PCA)
    assert results.batch_warning.startswith(
        "The batches in obs['batch'] look like treatments or conditions, not technical batches (CTRL, STIM)"
    )
    assert results.batch_warning in caplog.text
    assert run(data, tmp_path / "c", PCA).batch_warning == ""


@pytest.mark.parametrize(
    ("column", "values", "suspicious"),
    [
        ("batch", ["CTRL", "STIM"], True),
        ("stimStatus", ["a", "b"], True),
        ("condition", ["1", "2"], True),
        ("sample", ["healthy_1", "tumor_1"], True),
        ("donor", ["wt1", "ko1"], True),
        ("donor", ["healthy_1", "healthy_2"], False),
        ("donor", ["ctrl1", "ctrl2"], False),
        ("chemistry", ["v1", "v2"], False),
        ("batch", ["human_postmortem", "human_fresh"], False),
    ],
)
def test_treatments_are_told_from_technical_batches(column, values, suspicious):
    assert bool(treatment_warning(column, values)) == suspicious


def test_drvi_is_trained_on_the_same_split_and_has_no_likelihood(data, cells, tmp_path, monkeypatch):
    calls = fake_drvi(monkeypatch)
    config = replace(
        CONFIG, models=("none",), baselines=("none",), external_models=("drvi",), external_epochs=40
    )
    results = run(data, tmp_path / "b", config)
    (call,) = calls
    assert call.options == {"n_latent": 5}
    assert (call.batch_key, call.max_epochs, call.warmup) == (BATCH, 40, 40)
    train, held_out = call.trained["datasplitter_kwargs"]["external_indexing"]
    assert np.array_equal(held_out, np.flatnonzero(cells.obs[HELD_OUT]))
    assert np.array_equal(train, np.flatnonzero(~cells.obs[HELD_OUT]))
    assert results.scores["log_likelihood"].isna().all()
    assert results.notes["drvi"] == "Trained for 40 epochs; the tutorials of its authors use 400."
