"""A benchmark that is interrupted, resumed, or has a failing run; stored runs that still fit, and those that do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.benchmarks import BASELINES, CONFIG, MODELS_AND_PCA, PCA, SMALL, run
from helpers.fakes import fake_scvi
from sparcell.benchmark import entries, pipeline, worker
from sparcell.errors import InputError, TrainingError


def test_a_stopped_benchmark_says_what_is_saved_and_resumes(
    data, tmp_path, in_process, monkeypatch, no_output
):
    run_method = pipeline.run_method

    def stop(row, *options):
        if row.name == "ica":
            raise KeyboardInterrupt
        return run_method(row, *options)

    monkeypatch.setattr(pipeline, "run_method", stop)
    with pytest.raises(KeyboardInterrupt, match=r"1 of 2 runs are saved .* --resume"):
        run(data, tmp_path / "b", BASELINES)
    monkeypatch.setattr(pipeline, "run_method", run_method)
    in_process.clear()
    results = run(data, tmp_path / "b", BASELINES, resume=True)
    assert [request["function"] for request in in_process] == ["ica"]
    assert [row.name for row in results.rows] == ["pca", "ica"]


def test_a_resumed_benchmark_repeats_nothing_and_writes_the_same(data, tmp_path, in_process):
    run(data, tmp_path / "b", MODELS_AND_PCA)
    first = (tmp_path / "b" / "scores.csv").read_text()
    in_process.clear()
    (tmp_path / "b" / "figures" / "map-old.png").write_bytes(b"of a row that is gone")
    run(data, tmp_path / "b", MODELS_AND_PCA, resume=True)
    assert not in_process
    assert (tmp_path / "b" / "scores.csv").read_text() == first
    assert not (tmp_path / "b" / "figures" / "map-old.png").exists()
    with pytest.raises(InputError, match=r"other counts, genes or batches \(counts.h5ad\)"):
        run(data, tmp_path / "b", replace(MODELS_AND_PCA, n_top_genes=50), resume=True)


def test_our_own_version_changes_our_rows_and_no_external_one(monkeypatch, no_libraries):
    fake_scvi(monkeypatch)
    config = replace(CONFIG, baselines=("pca",))
    rows = list(entries.entries(config, SMALL))
    before = {row.name: row.fingerprint("data", 0, 3) for row in rows}
    version = entries.metadata.version
    monkeypatch.setattr(
        entries.metadata, "version", lambda name: "9.9" if name == "sparcell" else version(name)
    )
    monkeypatch.setattr(entries, "OUR_FORMAT", 99)
    after = {row.name: row.fingerprint("data", 0, 3) for row in entries.entries(config, SMALL)}
    assert {name for name in before if before[name] != after[name]} == {"beta-vsc"}
    changed = [key for key in before["beta-vsc"] if before["beta-vsc"][key] != after["beta-vsc"][key]]
    assert changed == ["format", "versions"]
    monkeypatch.setattr(
        entries.metadata, "version", lambda name: "9.9" if name == "scvi-tools" else version(name)
    )
    newer = {row.name: row.fingerprint("data", 0, 3) for row in rows}
    assert {name for name in before if before[name] != newer[name]} == {"scvi-10x1", "scvi-30x2"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_top_genes": 50}, "inputs changed: data"),
        ({"n_components": 4}, "inputs changed: settings"),
        ({"batch_key": None}, "inputs changed: data"),
    ],
)
def test_runs_of_other_genes_settings_or_batches_are_recomputed(
    data, tmp_path, in_process, no_output, caplog, change, reason
):
    run(data, tmp_path / "b", PCA)
    in_process.clear()
    run(data, tmp_path / "b", replace(PCA, **change), resume=True)
    assert len(in_process) == 1
    path = tmp_path / "b" / "runs" / "pca-seed0.npz"
    assert f"recomputing {path} ({reason})" in caplog.messages


def test_the_folder_of_a_study_is_refused(data, tmp_path, in_process):
    (tmp_path / "s" / "runs").mkdir(parents=True)
    for name in ("runs/pca-6-seed0.npz", "study.h5ad"):
        (tmp_path / "s" / name).write_bytes(b"of a study")
    with pytest.raises(InputError, match="s is not empty"):
        run(data, tmp_path / "s", PCA, resume=True)
    assert not in_process


def test_a_run_that_fails_is_reported_and_the_others_run(data, tmp_path, in_process, no_output, monkeypatch):
    def fail(inputs):
        raise TrainingError("the loss was not finite")

    monkeypatch.setitem(worker.FUNCTIONS, "ica", fail)
    results = run(data, tmp_path / "b", BASELINES)
    assert [row.name for row in results.rows] == ["pca"]
    skipped = [(entry.title, entry.reason) for entry in results.skipped]
    assert ("ICA", "failed with seed 0: the loss was not finite") in skipped
    monkeypatch.setitem(worker.FUNCTIONS, "pca", fail)
    with pytest.raises(TrainingError, match="every run failed; the first: PCA, failed with seed 0"):
        run(data, tmp_path / "c", BASELINES)
