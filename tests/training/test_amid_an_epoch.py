"""Runs that are interrupted amid an epoch continue to the same bits. Chunks are two steps long; an epoch has five."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest

from helpers.broken_loss import BrokenLoss
from helpers.interrupts import steps_counted, stopped_in
from helpers.kinds import ONE_OF_EACH, assert_same_weights, fit, fitted, learning_curve
from helpers.simulated import simulated_cells
from sparcell.data import loader
from sparcell.io import matrix_files
from sparcell.training import checkpoints, cuda_graph, loop
from sparcell.training.objective import training_loss
from sparcell.training.state import TrainState

KIND = ("beta-vae", "nb")
LONG = {"epochs": 4, "validation_fraction": 0.0, "kl_warmup_fraction": 0.3}
N_STEPS = 5


@pytest.fixture(scope="module")
def adata():
    return simulated_cells()


def assert_same_run(one, other):
    assert_same_weights(one, other)
    pd.testing.assert_frame_equal(learning_curve(one), learning_curve(other), check_exact=True)


@pytest.mark.parametrize(("stop_in", "n_saved"), [(3, 2), (12, 12), (18, 17)])
@pytest.mark.parametrize("kind", ONE_OF_EACH, ids="-".join)
def test_a_run_stopped_amid_an_epoch_ends_with_the_same_bits(kind, adata, tmp_path, stop_in, n_saved):
    run = partial(fit, kind, adata, settings=LONG)
    stopped_in(stop_in, run, checkpoint_dir=tmp_path / "run")
    with steps_counted() as steps:
        resumed = run(checkpoint_dir=tmp_path / "run")
    assert len(steps) == 4 * N_STEPS - n_saved
    with steps_counted():
        assert_same_run(resumed, fit(kind, adata, settings=LONG))


def test_a_run_stopped_in_every_chunk_stops_early_with_the_same_bits(adata, tmp_path):
    """Validation loss, best weights and patience go on too."""
    settings = {"epochs": 30, "validation_fraction": 0.2, "early_stopping_patience": 2, "learning_rate": 0.05}
    run = partial(fit, ("beta-vsc", "zinb"), adata, settings=settings)
    with steps_counted() as steps:
        whole = run()
    assert len(whole.history) < 30
    for _ in range(len(steps) // 2 - 1):  # an epoch has two chunks of two steps; each run makes one
        stopped_in(2, run, checkpoint_dir=tmp_path / "run")
    with steps_counted() as rest:
        resumed = run(checkpoint_dir=tmp_path / "run")
    assert len(rest) == 2
    assert_same_run(resumed, whole)


def test_a_run_from_disk_stopped_amid_an_epoch_ends_with_the_same_bits(adata, tmp_path, monkeypatch):
    """Windows are read again from the step on."""
    monkeypatch.setattr(matrix_files, "BLOCK_VALUES", 500)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    run = partial(fit, KIND, tmp_path / "cells.h5ad", settings=LONG, memory="1KB")
    stopped_in(13, run, checkpoint_dir=tmp_path / "run")
    with steps_counted() as steps:
        resumed = run(checkpoint_dir=tmp_path / "run")
    assert len(steps) == 4 * N_STEPS - 12
    with steps_counted():
        assert_same_run(resumed, run())


def test_recorded_steps_go_on_amid_an_epoch_with_the_same_bits(adata, tmp_path, monkeypatch):
    """The recorder stands for a GPU's: it replays by doing the work again."""
    replays = []

    def recorder(work, generator):
        return lambda: replays.append(work())

    monkeypatch.setattr(loader, "MAX_SPARSE_DENSITY", -1.0)
    monkeypatch.setattr(cuda_graph, "recorder_for", lambda device: recorder)
    exact = {"learning_rate": 2**-9, "lr_schedule": "constant"}  # as single precision holds it
    run = partial(fit, KIND, adata, settings=LONG | exact)
    whole, n_replays = run(), len(replays)
    chunk = partial(monkeypatch.setattr, loop, "CHUNK_STEPS")
    chunk(2)
    saved = []
    save = checkpoints.model_folder.save

    def save_and_stop(folder, described, tensors):
        save(folder, described, tensors)
        saved.append(described["numbers"])
        if len(saved) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.model_folder, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint_dir=tmp_path / "run", checkpoint_seconds=0)
    assert (saved[6]["epoch"], saved[6]["epoch_sums"]["n_steps"]) == (2, 2)
    replays.clear()
    resumed = run(checkpoint_dir=tmp_path / "run")
    assert 0 < len(replays) < n_replays
    assert_same_weights(resumed, whole)
    np.testing.assert_allclose(learning_curve(resumed)["loss"], learning_curve(whole)["loss"], rtol=1e-12)


def test_a_learning_rate_lowered_earlier_in_the_epoch_stays_low(adata, tmp_path, monkeypatch):
    def broken(at):
        monkeypatch.setattr(loop, "training_loss", BrokenLoss(training_loss, at=lambda call: call == at))

    run = partial(fit, KIND, adata, settings=LONG)
    broken(at=11)  # the second step of the third epoch, whose chunk is made twice
    with steps_counted():
        whole = run()
    broken(at=11)
    stopped_in(15, run, checkpoint_dir=tmp_path / "run")
    monkeypatch.setattr(loop, "training_loss", training_loss)
    with steps_counted() as steps:
        resumed = run(checkpoint_dir=tmp_path / "run")
    assert len(steps) == 4 * N_STEPS - 12
    assert_same_run(resumed, whole)
    assert learning_curve(whole)["loss"].iloc[-1] != learning_curve(fitted(KIND, **LONG))["loss"].iloc[-1]


def test_ctrl_c_amid_the_first_epoch_says_which_step_is_saved(adata, tmp_path):
    run = partial(fit, KIND, adata, settings=LONG)
    message = r"^Epoch 1 of 4 is saved up to step 2 of 5 in .*run; run again with --resume"
    with steps_counted(stop_in=3, error=KeyboardInterrupt), pytest.raises(KeyboardInterrupt, match=message):
        run(checkpoint_dir=tmp_path / "run")
    with steps_counted(stop_in=1, error=KeyboardInterrupt), pytest.raises(KeyboardInterrupt, match=message):
        run(checkpoint_dir=tmp_path / "run")
    with steps_counted(stop_in=1, error=KeyboardInterrupt), pytest.raises(KeyboardInterrupt, match=r"^$"):
        run(checkpoint_dir=tmp_path / "other")  # there is nothing to save


def test_a_checkpoint_is_due_after_the_seconds_amid_an_epoch_too(adata, tmp_path, monkeypatch):
    places, save = [], checkpoints.model_folder.save

    def recording(folder, described, tensors):
        numbers = described["numbers"]
        places.append((numbers["epoch"], numbers["epoch_sums"]["n_steps"]))
        save(folder, described, tensors)

    monkeypatch.setattr(checkpoints.model_folder, "save", recording)
    with steps_counted() as steps:
        monkeypatch.setattr(checkpoints.time, "monotonic", lambda: 10.0 * len(steps))
        fit(KIND, adata, settings=LONG, checkpoint_dir=tmp_path / "run", checkpoint_seconds=25)
    assert places == [(0, 4), (1, 2), (2, 0), (2, 4), (3, 2), (4, 0)]


def test_an_interruption_amid_the_copy_of_the_state_leaves_the_copy_before(adata, tmp_path, monkeypatch):
    copy, calls = TrainState.tensors, []

    def interrupted(self, into=None):
        calls.append(into)
        if len(calls) == 5:
            for values in into.values():
                if values.is_floating_point():
                    values.fill_(math.nan)  # half of one state and half of another
            raise KeyboardInterrupt
        return copy(self, into)

    run = partial(fit, KIND, adata, settings=LONG)
    monkeypatch.setattr(TrainState, "tensors", interrupted)
    with steps_counted(), pytest.raises(KeyboardInterrupt, match=r"^Epoch 1 of 4 is saved in"):
        run(checkpoint_dir=tmp_path / "run")
    monkeypatch.setattr(TrainState, "tensors", copy)
    with steps_counted():
        assert_same_run(run(checkpoint_dir=tmp_path / "run"), run())
