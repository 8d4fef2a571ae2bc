"""`sparcell fit` with --checkpoint-dir and --resume: what is refused, and that a resumed run ends with the same bits."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

from helpers import small
from helpers.shell import sparcell
from sparcell.models import MODELS, load
from sparcell.training.checkpoints import CheckpointWriter

SETTINGS = {"epochs": 4, "batch_size": 64, "encoder_widths": (32, 16), "n_latent": 4}
WORDS = ("--epochs", "4", "--batch-size", "64", "--encoder-widths", "32", "16", "--n-latent", "4")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    small.counts(200).write_h5ad(path)
    return path


class KilledError(Exception):
    """Stands for the end of a process."""


def interrupt(data, checkpoint_dir, after=2):
    """Train, and stop after some epochs."""

    def stop(record):
        if record.number == after:
            raise KilledError

    with pytest.raises(KilledError):
        MODELS["beta-vsc"](**SETTINGS).fit(data, checkpoint_dir=checkpoint_dir, on_epoch=stop, silent=True)


def fit(data, *words, monkeypatch):
    return sparcell("fit", data, "--model", "beta-vsc", "--quiet", *WORDS, *words, monkeypatch=monkeypatch)


def test_resume_without_a_folder_is_refused(data, tmp_path, monkeypatch, capfd):
    words = ("--model-dir", tmp_path / "m", "--resume")
    assert fit(data, *words, monkeypatch=monkeypatch) == 1
    assert "add --checkpoint-dir FOLDER" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_not_used_unless_resume_is_given(data, tmp_path, monkeypatch, capfd):
    interrupt(data, tmp_path / "c")
    before = {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    words = ("--model-dir", tmp_path / "m", "--checkpoint-dir", tmp_path / "c")
    assert fit(data, *words, monkeypatch=monkeypatch) == 1
    assert "holds a checkpoint. Add --resume to continue" in capfd.readouterr().err
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    assert not (tmp_path / "m").exists()


def test_a_checkpoint_of_other_settings_is_refused(data, tmp_path, monkeypatch, capfd):
    interrupt(data, tmp_path / "c")
    words = ("--model-dir", tmp_path / "m", "--checkpoint-dir", tmp_path / "c", "--resume", "--seed", "1")
    assert fit(data, *words, monkeypatch=monkeypatch) == 1
    assert "holds a checkpoint of a different run" in capfd.readouterr().err


def test_resume_continues_to_the_same_bits(data, tmp_path, monkeypatch):
    assert fit(data, "--model-dir", tmp_path / "whole", monkeypatch=monkeypatch) == 0
    interrupt(data, tmp_path / "c")
    resumed, resume = [], CheckpointWriter.resume

    def noted(self, state):
        resume(self, state)
        resumed.append(state.epoch)

    monkeypatch.setattr(CheckpointWriter, "resume", noted)
    words = ("--model-dir", tmp_path / "resumed", "--checkpoint-dir", tmp_path / "c", "--resume")
    assert fit(data, *words, monkeypatch=monkeypatch) == 0
    assert resumed == [2]  # it went on; it did not start again
    cells = anndata.read_h5ad(data)
    whole, continued = load(tmp_path / "whole"), load(tmp_path / "resumed")
    assert np.array_equal(whole.transform(cells), continued.transform(cells))
    weights = continued.network.state_dict()
    for name, value in whole.network.state_dict().items():
        assert np.array_equal(value, weights[name]), name
    assert whole.history.drop(columns="seconds").equals(continued.history.drop(columns="seconds"))


def test_resume_with_a_new_folder_trains_from_the_start(data, tmp_path, monkeypatch):
    words = ("--model-dir", tmp_path / "m", "--checkpoint-dir", tmp_path / "c", "--resume")
    assert fit(data, *words, monkeypatch=monkeypatch) == 0
    assert len(load(tmp_path / "m").history) == 4
