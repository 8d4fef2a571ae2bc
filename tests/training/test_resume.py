"""Runs that are interrupted or killed, and resumed from a checkpoint to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.broken_loss import BrokenLoss
from helpers.interrupts import Stop, stop_after
from helpers.kinds import ONE_OF_EACH, assert_same_weights, fit, fitted, learning_curve
from helpers.simulated import simulated_cells
from sparcell import load
from sparcell.config.experiments import CHECKPOINT_SECONDS
from sparcell.models.estimator import Estimator
from sparcell.training import checkpoints, loop
from sparcell.training.objective import training_loss

KIND = ("beta-vae", "nb")


each_model = pytest.mark.parametrize("kind", ONE_OF_EACH, ids="-".join)


@pytest.fixture(scope="module")
def adata():
    return simulated_cells()


@pytest.fixture
def each_epoch(monkeypatch):
    """Write a checkpoint after each epoch, not every 30 seconds."""
    monkeypatch.setitem(Estimator.fit.__kwdefaults__, "checkpoint_seconds", 0.0)


LONG = {"epochs": 7, "validation_fraction": 0.2, "kl_warmup_fraction": 0.3}


@pytest.mark.parametrize("after", [1, 6])
@each_model
def test_a_resumed_run_ends_with_the_same_bits(kind, adata, tmp_path, each_epoch, after):
    uninterrupted = fitted(kind, **LONG)
    with pytest.raises(Stop):
        fit(kind, adata, settings=LONG, checkpoint_dir=tmp_path / "run", on_epoch=stop_after(after))
    records = []
    resumed = fit(kind, adata, settings=LONG, checkpoint_dir=tmp_path / "run", on_epoch=records.append)
    assert [record.number for record in records] == list(range(after + 1, 8))
    assert_same_weights(resumed, uninterrupted)
    pd.testing.assert_frame_equal(learning_curve(resumed), learning_curve(uninterrupted), check_exact=True)
    np.testing.assert_array_equal(resumed.transform(adata), uninterrupted.transform(adata))


def test_a_run_resumed_after_every_epoch_ends_with_the_same_bits(adata, tmp_path, each_epoch):
    kind = ("beta-vsc", "zinb")
    settings = {**LONG, "early_stopping_patience": 2, "learning_rate": 0.05, "epochs": 30}
    uninterrupted = fit(kind, adata, settings=settings)
    assert len(uninterrupted.history) < 30
    for after in range(1, len(uninterrupted.history)):
        with pytest.raises(Stop):
            fit(kind, adata, settings=settings, checkpoint_dir=tmp_path / "run", on_epoch=stop_after(after))
    resumed = fit(kind, adata, settings=settings, checkpoint_dir=str(tmp_path / "run"))
    assert_same_weights(resumed, uninterrupted)
    pd.testing.assert_frame_equal(learning_curve(resumed), learning_curve(uninterrupted), check_exact=True)


def test_the_learning_rate_lowered_by_a_rollback_stays_low_after_resuming(
    adata, tmp_path, each_epoch, monkeypatch
):
    def break_third_step():
        monkeypatch.setattr(loop, "training_loss", BrokenLoss(training_loss, at=lambda call: call == 2))

    break_third_step()
    uninterrupted = fit(KIND, adata, settings={"epochs": 4})
    break_third_step()
    with pytest.raises(Stop):
        fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run", on_epoch=stop_after(2))
    resumed = fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run")
    assert_same_weights(resumed, uninterrupted)


def test_a_finished_run_is_not_trained_again(adata, tmp_path):
    """However short a run is, the end of it is a checkpoint."""
    settings = {"epochs": 8, "validation_fraction": 0.2, "early_stopping_patience": 2, "learning_rate": 0.1}
    model = fit(KIND, adata, settings=settings, checkpoint_dir=tmp_path / "run")
    records = []
    again = fit(KIND, adata, settings=settings, checkpoint_dir=tmp_path / "run", on_epoch=records.append)
    assert records == []
    assert_same_weights(again, model)
    pd.testing.assert_frame_equal(again.history, model.history, check_exact=True)


def test_writing_checkpoints_does_not_change_a_run(adata, tmp_path, each_epoch):
    model = fit(KIND, adata, settings={"epochs": 3}, checkpoint_dir=tmp_path / "deep" / "run")
    assert_same_weights(model, fitted(KIND, epochs=3))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run"]


def test_checkpoints_are_at_least_30_seconds_apart(adata, tmp_path, monkeypatch):
    records, epochs, save = [], [], checkpoints.model_folder.save
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: 11.0 * len(records))

    def recording(folder, description, tensors):
        epochs.append(description["numbers"]["epoch"])
        save(folder, description, tensors)

    monkeypatch.setattr(checkpoints.model_folder, "save", recording)
    fit(KIND, adata, settings={"epochs": 11}, checkpoint_dir=tmp_path / "run", on_epoch=records.append)
    assert CHECKPOINT_SECONDS == 30
    assert epochs == [3, 6, 9, 11]


@pytest.mark.parametrize("form", ["dense", "csc", "wider type"])
def test_the_same_data_in_another_form_resumes_a_run(adata, tmp_path, each_epoch, form):
    with pytest.raises(Stop):
        fit(KIND, adata, settings={"epochs": 3}, checkpoint_dir=tmp_path / "run", on_epoch=stop_after(2))
    forms = {"dense": adata.X.toarray(), "csc": adata.X.tocsc(), "wider type": adata.X.astype(np.float64)}
    other, records = adata.copy(), []
    other.X = forms[form]
    settings = {"epochs": 3}
    resumed = fit(KIND, other, settings=settings, checkpoint_dir=tmp_path / "run", on_epoch=records.append)
    assert [record.number for record in records] == [3]
    assert_same_weights(resumed, fitted(KIND, epochs=3))


def test_ctrl_c_leaves_the_last_checkpoint(adata, tmp_path, each_epoch, monkeypatch):
    """It comes within an epoch, when the weights are those of no epoch."""
    calls = []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 13:  # the third step of the third epoch
            raise KeyboardInterrupt
        return training_loss(*arguments)

    monkeypatch.setattr(loop, "training_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run")
    monkeypatch.setattr(loop, "training_loss", training_loss)
    settings, records = {"epochs": 4}, []
    resumed = fit(KIND, adata, settings=settings, checkpoint_dir=tmp_path / "run", on_epoch=records.append)
    assert [record.number for record in records] == [3, 4]
    assert_same_weights(resumed, fitted(KIND, epochs=4))


@pytest.mark.parametrize(("step", "number"), [("write_bytes", 1), ("write_bytes", 2), ("replace", 1)])
def test_ctrl_c_during_the_writing_of_a_checkpoint_leaves_the_one_before(
    adata, tmp_path, each_epoch, monkeypatch, step, number
):
    with pytest.raises(Stop):
        fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run", on_epoch=stop_after(2))
    method, calls = getattr(Path, step), []

    def interrupted(self, *arguments, **keywords):
        calls.append(step == "write_bytes" or self.name.startswith(".sparcell-"))
        if calls[-1] and sum(calls) == number:
            raise KeyboardInterrupt
        return method(self, *arguments, **keywords)

    monkeypatch.setattr(Path, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run")
    monkeypatch.setattr(Path, step, method)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    resumed = fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run")
    assert_same_weights(resumed, fitted(KIND, epochs=4))


RUN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from helpers.kinds import fit
from helpers.simulated import simulated_cells

folder, pause = sys.argv[2], float(sys.argv[3])

def on_epoch(record):
    print(record.number, flush=True)
    time.sleep(pause)

settings = {"epochs": 8, "validation_fraction": 0.2}
keywords = {"checkpoint_dir": folder, "checkpoint_seconds": 0.0, "on_epoch": on_epoch}
model = fit(("beta-vsc", "nb"), simulated_cells(), settings=settings, **keywords)
model.save(folder + "-model")
"""


def start(folder, pause):
    command = [sys.executable, "-c", RUN, str(Path(__file__).parents[1]), str(folder), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_process_is_resumed_by_another_to_the_same_bits(tmp_path):
    uninterrupted = fitted(("beta-vsc", "nb"), epochs=8, validation_fraction=0.2)
    process = start(tmp_path / "run", 0.2)
    for line in process.stdout:
        if int(line) == 3:
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (tmp_path / "run-model").exists()
    second = start(tmp_path / "run", 0.0)
    output, _ = second.communicate(timeout=300)
    assert second.returncode == 0
    assert 3 <= int(output.split()[0]) <= 5  # not from the start
    resumed = load(tmp_path / "run-model")
    assert_same_weights(resumed, uninterrupted)
    pd.testing.assert_frame_equal(learning_curve(resumed), learning_curve(uninterrupted), check_exact=True)
