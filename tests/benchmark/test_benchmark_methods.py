"""What each method gets in a benchmark, and which scores it has: sparcell's models, scIB, scVI and DRVI (fakes)."""

from __future__ import annotations

from dataclasses import replace

import anndata
import numpy as np
import pytest

import sparcell as sp
from helpers.benchmarks import BASELINES, CONFIG, MODELS_AND_PCA, N_CELLS, PCA, SMALL, run, stored
from helpers.fakes import fake_drvi, fake_harmony, fake_scib, fake_scvi
from sparcell.benchmark import split
from sparcell.benchmark.methods import BATCH, HELD_OUT

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
    assert [call.adata.n_obs for call in calls] == [300, 300]
    assert results.rows[0].latent_nk.shape[0] == 320


# ---------------------------------------------------------------- scIB


def test_scib_gets_latents_types_and_batches_and_is_not_scaled(data, tmp_path, monkeypatch):
    calls = fake_scib(monkeypatch)
    results = run(data, tmp_path / "b", PCA)
    (call,) = calls
    assert np.allclose(call.adata.obsm[call.embedding_obsm_keys[0]], results.rows[0].latent_nk)
    assert list(call.adata.obs[call.label_key]) == list(results.labels)
    assert list(call.adata.obs[call.batch_key]) == list(results.batches)
    unintegrated = call.adata.obsm[call.pre_integrated_embedding_obsm_key]
    assert unintegrated.shape == (N_CELLS, 50)
    assert np.allclose(np.abs(unintegrated[:, :5]), np.abs(results.rows[0].latent_nk), atol=1e-3), "PCA"
    assert call.scaled is False
    assert call.progress_bar is False


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
    assert calls[0].batch_correction_metrics is None
    assert calls[0].bio_conservation_metrics == {"isolated_labels": False}
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
    assert results.notes["scvi-10x1"] == "Trained for 40 epochs; the default of the library is 400."


def test_an_external_model_that_would_take_too_long_is_shortened_for_all_seeds(
    data, tmp_path, monkeypatch, caplog
):
    calls = fake_scvi(monkeypatch)
    monkeypatch.setattr("sparcell.benchmark.methods.MAX_SECONDS", 0.0)
    with caplog.at_level("INFO", "sparcell"):
        results = run(data, tmp_path / "b", replace(CONFIG, models=("none",), baselines=("none",), seeds=2))
    assert (results.scores["epochs"] == 100).all()
    assert [call.max_epochs for call in calls] == [400, 400, 100, 100]
    assert all(call.warmup == 100 for call in calls)
    assert "Set --external-epochs for another number." in caplog.text
    assert results.notes["scvi-10x1"].startswith("Trained for 100 epochs: the usual 400 epochs would take")


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
    monkeypatch.setattr("sparcell.benchmark.methods.MAX_SECONDS", 0.0)
    run(data, tmp_path / "c", replace(config, external_epochs=None))
    assert (calls[1].max_epochs, calls[1].warmup, len(calls)) == (400, 100, 2)
