"""Folders that are refused as checkpoints of a run."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from helpers.kinds import fit, fitted
from helpers.simulated import simulated_cells, two_batches
from sparcell import load
from sparcell.errors import InputError

KIND = ("beta-vae", "nb")


@pytest.fixture(scope="module")
def adata():
    return simulated_cells()


@pytest.fixture(scope="module")
def finished(adata, tmp_path_factory):
    """Return the folder of a finished run of three epochs; tests copy it."""
    folder = tmp_path_factory.mktemp("checkpoint") / "run"
    fit(KIND, adata, settings={"epochs": 3}, checkpoint_dir=folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def with_a_changed_value(adata):
    x_ng = adata.X.toarray()
    x_ng[5, 5] += 3
    other = adata.copy()
    other.X = x_ng
    return other


CHANGED_FITS = {
    "another setting": {"settings": {"epochs": 4}},
    "another seed": {"settings": {"epochs": 3, "seed": 2}},
    "another likelihood": {"kind": ("beta-vae", "poisson")},
    "another model": {"kind": ("autoencoder", "nb")},
    "other genes": {"genes_key": "marked"},
    "a covariate": {"covariates": ("depth",)},
}
CHANGED_DATA = {
    "a value": with_a_changed_value,
    "fewer cells": lambda adata: adata[:299].copy(),
    "another order of cells": lambda adata: adata[::-1].copy(),
}


def assert_refused(run, adata, *, kind=KIND, settings=None, **keywords):
    before, records = content(run), []
    settings = settings or {"epochs": 3}
    with pytest.raises(
        InputError, match=r"run holds a checkpoint of a different run \(settings or data differ\)"
    ):
        fit(kind, adata, settings=settings, checkpoint_dir=run, on_epoch=records.append, **keywords)
    assert records == []
    assert content(run) == before


@pytest.mark.parametrize("name", CHANGED_FITS)
def test_a_checkpoint_of_other_settings_is_refused_before_training(adata, run, name):
    assert_refused(run, adata, **CHANGED_FITS[name])


@pytest.mark.parametrize("name", CHANGED_DATA)
def test_a_checkpoint_of_other_data_is_refused_before_training(adata, run, name):
    assert_refused(run, CHANGED_DATA[name](adata))


def test_a_checkpoint_of_cells_in_other_batches_is_refused(tmp_path):
    """Two cells swap their batches, so that the batch proportions stay the same."""
    adata = two_batches(200)
    fit(KIND, adata, settings={"epochs": 1}, batch_key="batch", checkpoint_dir=tmp_path / "run")
    other = adata.copy()
    batch_n = other.obs["batch"].to_numpy().astype(str)
    first = [int(np.flatnonzero(batch_n == name)[0]) for name in ("a", "b")]
    batch_n[first] = batch_n[first[::-1]]
    other.obs["batch"] = batch_n
    assert_refused(tmp_path / "run", other, settings={"epochs": 1}, batch_key="batch")


def damage(folder, how):
    tensors, description = folder / "model.safetensors", folder / "model.json"
    if how == "a flipped bit":
        damaged = bytearray(tensors.read_bytes())
        damaged[-5] ^= 1
        tensors.write_bytes(damaged)
    elif how == "cut":
        tensors.write_bytes(tensors.read_bytes()[:1000])
    elif how == "no JSON":
        description.write_text("{")
    else:
        description.write_text(json.dumps({**json.loads(description.read_text()), "format": 99}))


@pytest.mark.parametrize("how", ["a flipped bit", "cut", "no JSON", "another format"])
def test_a_damaged_checkpoint_is_an_error_before_training(adata, run, how):
    damage(run, how)
    records = []
    with pytest.raises(InputError, match=r"run.*(is damaged|format 99, this version reads)"):
        fit(KIND, adata, settings={"epochs": 3}, checkpoint_dir=run, on_epoch=records.append)
    assert records == []


def test_a_saved_model_is_not_a_checkpoint(adata, tmp_path):
    fitted(KIND, epochs=3).save(tmp_path / "model")
    with pytest.raises(InputError, match="model holds a checkpoint of a different run"):
        fit(KIND, adata, settings={"epochs": 3}, checkpoint_dir=tmp_path / "model")


def test_a_folder_with_other_files_is_refused_and_left_alone(adata, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years")
    with pytest.raises(InputError, match=r"chapter\.txt"):
        fit(KIND, adata, settings={"epochs": 2}, checkpoint_dir=tmp_path / "thesis")
    assert content(tmp_path / "thesis") == {"chapter.txt": b"years"}


def test_a_checkpoint_is_not_a_model(run):
    with pytest.raises(InputError, match="does not describe a whole model"):
        load(run)


@pytest.fixture
def ctrl_c_interrupts():
    """A shell starts background jobs with SIGINT ignored; here it interrupts all the same."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_of_the_last_epoch(adata, tmp_path, number):
    """No checkpoint is due yet when the process is asked to end."""
    before = signal.getsignal(signal.SIGTERM)

    def ask(record):
        if record.number == 2:
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt, match=r"Epoch 2 of 4 is saved in .*run; run again with --resume"):
        fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run", on_epoch=ask)
    assert signal.getsignal(signal.SIGTERM) == before
    records = []
    fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run", on_epoch=records.append)
    assert [record.number for record in records] == [3, 4]


def test_a_full_disk_of_checkpoints_does_not_end_training(adata, tmp_path, monkeypatch, caplog):
    def refuse(path, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    model = fit(KIND, adata, settings={"epochs": 3}, checkpoint_dir=tmp_path / "run", checkpoint_seconds=0)
    assert len(model.history) == 3
    assert [line for line in caplog.messages if "training goes on" in line] == [caplog.messages[-1]]
    assert "no checkpoint of epoch 1" in caplog.messages[-1]
    assert list(tmp_path.iterdir()) == []


def test_two_runs_with_one_checkpoint_folder_are_refused(adata, tmp_path):
    def second(record):
        with pytest.raises(InputError, match="run is in use by another run"):
            fit(KIND, adata, settings={"epochs": 2}, checkpoint_dir=tmp_path / "run")

    fit(KIND, adata, settings={"epochs": 2}, checkpoint_dir=tmp_path / "run", on_epoch=second)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
