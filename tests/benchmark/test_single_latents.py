"""Benchmarks with `disentanglement`: metrics of single latents, and the settings of the methods."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.benchmarks import CONFIG, N_CELLS, PCA, run, stored
from helpers.fakes import fake_drvi, fake_scvi
from sparcell.benchmark import entries, worker
from sparcell.config.experiments import BenchmarkConfig
from sparcell.metrics import (
    active_latents,
    disentanglement_scores,
    hoyer_sparsity,
    program_reproducibility,
)
from sparcell.results.benchmark import DISENTANGLEMENT, SPARSITY

VSC_PROGRAMS = "beta-vsc" + entries.PROGRAMS.suffix


def test_each_metric_of_single_latents_is_that_of_the_stored_latents(data, tmp_path, in_process, monkeypatch):
    fake_drvi(monkeypatch)

    def simulated(inputs):
        """Return four latents, of which one is inactive, that are on in some cells."""
        generator = np.random.default_rng(inputs.seed)
        inclusion_nk = generator.random((N_CELLS, 4)).astype(np.float32)
        latent_nk = inclusion_nk * generator.normal(size=inclusion_nk.shape) * [1, 1, 0.001, 1]
        latent_nk[:, 0] = inputs.cells.X[:, 0].toarray().ravel()
        return lambda: worker.MethodOutput(encode=lambda: latent_nk, inclusion=lambda: inclusion_nk)

    monkeypatch.setitem(worker.FUNCTIONS, "model", simulated)
    config = replace(
        CONFIG,
        disentanglement=True,
        seeds=2,
        baselines=("nmf",),
        external_models=("drvi",),
        external_epochs=40,
    )
    results = run(data, tmp_path / "b", config)
    assert [row.name for row in results.rows] == [VSC_PROGRAMS, "nmf", "drvi"]
    scores = results.scores.set_index(["method", "seed"])
    labels = np.asarray(results.labels)
    for (name, seed), line in scores.iterrows():
        arrays = stored(tmp_path / "b", name, seed)
        latent_nk = arrays["latent_nk"].astype(float)
        other_nk = stored(tmp_path / "b", name, 1 - seed)["latent_nk"]
        has_prior = name in (VSC_PROGRAMS, "drvi")
        active = (latent_nk.var(axis=0) > 0.01) if has_prior else np.ptp(latent_nk, axis=0) > 0
        for key, value in disentanglement_scores(latent_nk, labels, active).items():
            assert line[key] == pytest.approx(value)
        with_all = disentanglement_scores(latent_nk, labels)
        assert line["all_lms_smi"] == pytest.approx(with_all["lms_smi"])
        assert line["all_lms_spn"] == pytest.approx(with_all["lms_spn"])
        on_nk = arrays["inclusion_nk"] > 0.5 if "inclusion_nk" in arrays else latent_nk != 0
        assert line["n_active"] == active.sum()
        assert line["mean_included"] == pytest.approx(on_nk[:, active].sum(axis=1).mean())
        assert line["hoyer"] == pytest.approx(
            hoyer_sparsity(latent_nk[:, active] / latent_nk[:, active].std(axis=0))
        )
        active_only = [
            z_nk[:, active_latents(z_nk) if has_prior else np.ptp(z_nk, axis=0) > 0]
            for z_nk in (arrays["latent_nk"], other_nk)
        ]
        reproduced = program_reproducibility(active_only).fraction[0]
        assert line["reproduced"] == pytest.approx((reproduced == 1).mean())
    assert scores.at[(VSC_PROGRAMS, 0), "n_active"] == 3
    assert scores.at[(VSC_PROGRAMS, 0), "reproduced"] == pytest.approx(1 / 3)
    assert 0 < scores.at[("nmf", 0), "mean_included"] < scores.at[("nmf", 0), "n_active"] == 5
    page = (tmp_path / "b" / "benchmark.html").read_text(encoding="utf-8")
    assert "LMS-SMI" in page
    figures = {path.name for path in (tmp_path / "b" / "figures").iterdir()}
    assert {"single-latents.png", "one-latent-per-type.png"} <= figures


def test_metrics_of_single_latents_are_computed_only_with_the_option_and_from_stored_runs(
    data, tmp_path, in_process
):
    results = run(data, tmp_path / "b", PCA)
    keys = [metric.key for group in (DISENTANGLEMENT, SPARSITY) for metric in group.metrics]
    assert results.scores[keys].isna().all(axis=None)
    assert "LMS-SMI" not in (tmp_path / "b" / "benchmark.html").read_text(encoding="utf-8")
    in_process.clear()
    results = run(data, tmp_path / "b", replace(PCA, disentanglement=True), resume=True)
    assert not in_process
    assert results.scores["lms_smi"].notna().all()
    assert results.scores["reproduced"].isna().all()  # one seed
    assert "LMS-SMI" in (tmp_path / "b" / "benchmark.html").read_text(encoding="utf-8")


def test_methods_have_32_latents_and_the_models_the_preset_programs(monkeypatch, no_libraries):
    fake_scvi(monkeypatch)
    usual = BenchmarkConfig(labels_key="program", batch_key="batch")
    programs = replace(usual, disentanglement=True)
    rows = {row.name: row for row in entries.entries(programs, {})}
    assert list(rows) == [VSC_PROGRAMS, "pca", "ica", "nmf", "harmony", "scvi-10x1", "scvi-30x2", "drvi"]
    sizes = {name: row.method.settings.get("n_components") for name, row in rows.items()}
    assert [sizes[name] for name in ("pca", "ica", "nmf", "harmony")] == [32] * 4
    latents = [rows[name].method.settings["n_latent"] for name in ("scvi-10x1", "scvi-30x2", "drvi")]
    assert latents == [10, 30, 32]
    settings = rows[VSC_PROGRAMS].method.settings["settings"]
    expected = entries.PROGRAMS.settings | entries.PROGRAMS.by_model.get("beta-vsc", {})
    assert {name: settings[name] for name in expected} == expected
    assert settings["n_latent"] == 32
    changed = next(entries.entries(programs, {"n_latent": 7, "beta": 3.0})).method.settings["settings"]
    assert (changed["n_latent"], changed["beta"]) == (7, 3.0)
    assert changed["decoder_type"] == settings["decoder_type"]
    names = [row.name for row in entries.entries(usual, {})]
    assert names == ["beta-vsc", "pca", "ica", "harmony", "scvi-10x1", "scvi-30x2"]
    reason = rows["drvi"].unavailable_reason(batches=True)
    assert reason == "drvi-py is not installed; pip install 'sparcell[drvi]'"
