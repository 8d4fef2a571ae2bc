"""A study that is interrupted and resumed; stored runs that still fit, and those that do not."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest

from helpers.studies import CHANGES, ONE
from sparcell.config.experiments import StudyConfig
from sparcell.errors import InputError
from sparcell.experiments import runs
from sparcell.experiments.runs import Run, fingerprint_of, run_or_load
from sparcell.models import estimator
from sparcell.study import pipeline
from sparcell.training.checkpoints import CheckpointWriter

pytestmark = pytest.mark.usefixtures("no_output")


def test_a_stopped_study_says_what_is_saved_and_resumes(data, tmp_path, monkeypatch, caplog):
    pca_run = pipeline.embedding.pca_run

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.embedding, "pca_run", stop)
    with pytest.raises(KeyboardInterrupt, match=r"1 of 3 runs are saved .* --resume"):
        pipeline.run(data, tmp_path / "s", ONE, changes=CHANGES, silent=True)
    assert [entry.name for entry in (tmp_path / "s" / "runs").iterdir()] == ["beta-vsc-hvg-seed0.npz"]
    monkeypatch.setattr(pipeline.embedding, "pca_run", pca_run)
    trained = []
    monkeypatch.setattr(pipeline.embedding, "train_run", lambda *a, **k: trained.append(a))
    with caplog.at_level("INFO", logger="sparcell"):
        results = pipeline.run(data, tmp_path / "s", ONE, changes=CHANGES, resume=True, silent=True)
    assert not trained
    assert [row.name for row in results.rows] == ["beta-vsc-hvg", "pca-6", "pca-10"]
    assert f"resuming from {tmp_path / 's' / 'runs' / 'beta-vsc-hvg-seed0.npz'}" in caplog.messages


def interrupt_training(monkeypatch, after):
    """Press Ctrl-C in the epoch after some epochs of the next training."""
    train = estimator.train

    def interrupted(*given):
        for record in train(*given):
            yield record
            if record.number == after:
                monkeypatch.setattr(estimator, "train", train)
                raise KeyboardInterrupt

    monkeypatch.setattr(estimator, "train", interrupted)


def test_a_study_stopped_amid_a_training_ends_with_the_same_bits(data, tmp_path, monkeypatch):
    run = partial(pipeline.run, data, config=ONE, changes=CHANGES, silent=True)
    run(out=tmp_path / "whole")
    interrupt_training(monkeypatch, after=2)
    with pytest.raises(
        KeyboardInterrupt, match=r"0 of 3 runs are saved .* a checkpoint of the unfinished one"
    ):
        run(out=tmp_path / "s")
    assert [entry.name for entry in (tmp_path / "s").iterdir()] == ["checkpoints"]
    n_resumed, resume = [], CheckpointWriter.resume

    def counted(self, state):
        resume(self, state)
        n_resumed.append(len(state.history))

    monkeypatch.setattr(CheckpointWriter, "resume", counted)
    run(out=tmp_path / "s", resume=True)
    assert n_resumed == [2]
    assert not (tmp_path / "s" / "checkpoints").exists()
    whole, continued = (
        dict(np.load(tmp_path / name / "runs" / "beta-vsc-hvg-seed0.npz")) for name in ("whole", "s")
    )
    for name in set(whole) - {"seconds", "train_seconds"}:
        np.testing.assert_array_equal(whole[name], continued[name], err_msg=name)
    assert continued["train_seconds"] >= continued["seconds"].sum()  # of both parts


def test_a_study_stopped_while_its_first_model_is_saved_resumes(data, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sparcell.models.fitted.Model.save", stop)
    (tmp_path / "s" / "models").mkdir(parents=True)  # as saving leaves it
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        pipeline.run(data, tmp_path / "s", ONE, changes=CHANGES, resume=True, silent=True)
    monkeypatch.undo()
    monkeypatch.setattr(pipeline.write, "write", lambda *_: None)
    pipeline.run(data, tmp_path / "s", ONE, changes=CHANGES, resume=True, silent=True)


def test_a_damaged_checkpoint_is_no_obstacle(tmp_path, caplog):
    fingerprint = fingerprint_of(seed=0)
    folder = runs.checkpoint_dir(tmp_path / "runs" / "vsc-seed0.npz", fingerprint)
    assert folder.parent == tmp_path / "checkpoints"
    assert folder != runs.checkpoint_dir(tmp_path / "runs" / "vsc-seed0.npz", fingerprint_of(seed=1))
    folder.mkdir(parents=True)
    for name in ("model.json", "model.safetensors"):
        (folder / name).write_text("{")
    assert runs.checkpoint_dir(tmp_path / "runs" / "vsc-seed0.npz", fingerprint) == folder
    assert not folder.exists()
    assert "training from the start" in caplog.text


def test_a_second_study_in_the_folder_is_refused(data, tmp_path):
    with (
        runs.open_folder(tmp_path / "s", False, foreign="benchmark.h5ad"),
        pytest.raises(InputError, match=rf"in use by another run \(process {os.getpid()} on"),
    ):
        pipeline.run(data, tmp_path / "s", ONE, changes=CHANGES, silent=True)
    assert not (tmp_path / "s").exists()  # new, and nothing was written


def test_runs_with_other_settings_are_recomputed_and_the_log_says_why(data, tmp_path, caplog):
    for epochs in (1, 2):
        results = pipeline.run(
            data, tmp_path / "s", ONE, changes=CHANGES | {"epochs": epochs}, resume=True, silent=True
        )
        assert results.times["epochs"].tolist() == [epochs]
    path = tmp_path / "s" / "runs" / "beta-vsc-hvg-seed0.npz"
    assert f"recomputing {path} (inputs changed: settings)" in caplog.messages


def test_a_run_is_kept_when_the_training_after_it_is_stopped(data, tmp_path, monkeypatch):
    config = StudyConfig(
        n_top_genes=300, perplexity=20, models=("autoencoder", "beta-vsc"), presets=("hvg",), seeds=1
    )
    train_run = pipeline.embedding.train_run

    def stop(context, entry, **options):
        if entry.model == "beta-vsc":
            raise KeyboardInterrupt
        return train_run(context, entry, **options)

    monkeypatch.setattr(pipeline.embedding, "train_run", stop)
    with pytest.raises(KeyboardInterrupt, match="1 of 4 runs are saved"):
        pipeline.run(data, tmp_path / "s", config, changes=CHANGES, silent=True)
    assert [entry.name for entry in (tmp_path / "s" / "runs").iterdir()] == ["autoencoder-hvg-seed0.npz"]


def test_a_folder_with_other_files_is_refused_and_kept(data, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(InputError, match="not empty"):
            pipeline.run(data, tmp_path, ONE, resume=resume, silent=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("length", [0, 10, 0.5])
def test_a_damaged_run_is_no_run(tmp_path, length):
    fingerprint = fingerprint_of(seed=0)
    content = Run({"latent_nk": np.ones((50, 2))}).to_bytes(fingerprint)
    path = tmp_path / "run.npz"
    path.write_bytes(content)
    assert Run.from_file(path, fingerprint) is not None
    path.write_bytes(content[: int(length * len(content)) if length < 1 else length])
    assert Run.from_file(path, fingerprint) is None


def test_the_reason_for_recomputing_is_logged(tmp_path, caplog):
    path = tmp_path / "run.npz"

    def compute():
        return Run({"latent_nk": np.ones((3, 2))})

    def reason(fingerprint, **options):
        caplog.clear()
        run_or_load(path, fingerprint, compute, **options)
        return caplog.messages

    assert reason(fingerprint_of(seed=0, versions="1")) == []
    assert reason(fingerprint_of(seed=1, versions="2")) == [
        f"recomputing {path} (inputs changed: seed, versions)"
    ]
    assert reason(fingerprint_of(seed=1, versions="2"), incomplete="the saved model") == [
        f"recomputing {path} (the saved model is missing)"
    ]
    np.savez(path, fingerprint=np.array("1f3a"), latent_nk=np.ones((3, 2)))  # a digest, as before
    assert reason(fingerprint_of(seed=1, versions="2")) == [
        f"recomputing {path} (the file is damaged, or of an older format)"
    ]


def test_a_run_without_its_model_is_trained_again(data, tmp_path, caplog):
    for _ in range(2):
        results = pipeline.run(
            data, tmp_path / "s", ONE, changes=CHANGES | {"epochs": 1}, resume=True, silent=True
        )
        assert results.rows[0].name == "beta-vsc-hvg"
        for file in (tmp_path / "s" / "models" / "beta-vsc-hvg").iterdir():
            file.unlink()
    path = tmp_path / "s" / "runs" / "beta-vsc-hvg-seed0.npz"
    assert f"recomputing {path} (the saved model is missing)" in caplog.messages
