"""Recorded training steps, with recorders in place of a GPU's: training gives the same result as without them."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.cells import cells, generator
from helpers.kinds import KINDS, assert_same_weights, fit, learning_curve, settings_of
from helpers.simulated import simulated_cells
from sparcell.data import loader
from sparcell.training import cuda_graph, loop
from sparcell.training.cuda_graph import CudaGraphStep
from sparcell.training.plan import TrainPlan
from sparcell.training.state import FAST_LR_FACTOR, TrainState

EXACT = {"learning_rate": 2**-9, "lr_schedule": "constant", "epochs": 6, "early_stopping_patience": 0}
"""A learning rate that single precision holds exactly, unlike those of a cosine."""


class Recorder:
    """Records by keeping the work and replays by doing it again: it reads and writes the memory that a recording would."""

    def __init__(self, wrong=None):
        self.n_replays, self.wrong = 0, wrong

    def __call__(self, work, generator):
        def replay():
            self.n_replays += 1
            work()
            if self.wrong is not None:
                self.wrong(work, generator)

        return replay


class FailingRecorder(Recorder):
    """Fails in the middle of the work, as a wait for the device does."""

    def __call__(self, work, generator):
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def fit_dense(kind, monkeypatch, recorder=None, **settings):
    """Return a model that was trained on dense cells with a recorder."""
    monkeypatch.setattr(loader, "MAX_SPARSE_DENSITY", -1.0)
    monkeypatch.setattr(cuda_graph, "recorder_for", lambda device: recorder)
    return fit(kind, simulated_cells(), settings={**EXACT, **settings})


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_recorded_steps_give_the_same_bits(kind, monkeypatch):
    recorder = Recorder()
    model, plain = fit_dense(kind, monkeypatch, recorder), fit_dense(kind, monkeypatch)
    assert recorder.n_replays > 3 + len(plain.history)
    pd.testing.assert_frame_equal(learning_curve(model), learning_curve(plain), check_exact=True)
    assert_same_weights(model, plain)


def test_recorded_steps_read_the_labels_of_their_own_cells(monkeypatch):
    monkeypatch.setattr(loader, "MAX_SPARSE_DENSITY", -1.0)
    models = []
    for recorder in (Recorder(), None):
        monkeypatch.setattr(cuda_graph, "recorder_for", lambda device, recorder=recorder: recorder)
        models.append(fit(("beta-vae", "nb"), simulated_cells(), settings=EXACT, labels_key="type"))
        assert recorder is None or recorder.n_replays > 0
    assert_same_weights(*models)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_recorded_steps_follow_schedule_and_warmup(schedule, monkeypatch):
    """The learning rate is rounded to single precision, so the losses differ in their last digits."""
    settings = {
        "lr_schedule": schedule,
        "learning_rate": 3e-3,
        "kl_warmup_fraction": 0.4,
        "epochs": 10,
        "max_grad_norm": 1.0,
    }
    recorder = Recorder()
    model = fit_dense(("beta-vsc", "nb"), monkeypatch, recorder, **settings)
    plain = fit_dense(("beta-vsc", "nb"), monkeypatch, **settings)
    assert recorder.n_replays > 0
    np.testing.assert_allclose(model.history["loss"], plain.history["loss"], rtol=1e-5)


WARMING = {"gate": "steep-sigmoid", "spike_warmup": True}
"""Settings of a β-VSC whose step depends on the progress of the warm-up."""


def state_and_step(warming=None):
    kind = ("beta-vsc", "nb") if warming else ("beta-vae", "nb")
    settings = settings_of(kind, **EXACT, **(warming or {}))
    network = settings.network(5)
    state = TrainState.start(network.train(), settings, generator())
    plan = TrainPlan.of(settings, 10, 1.0)
    step = CudaGraphStep(state, partial(loop.train_step, state, plan), Recorder())
    return state, step


def counts(seed, n_cells=8):
    return cells(torch.poisson(torch.full((n_cells, 5), 3.0), generator=generator(seed)))


def test_a_step_is_recorded_once_for_each_of_two_sizes_after_the_first_step():
    state, step = state_and_step()
    recorder = step.recorder
    state.set_lr(1.0)
    step(counts(0), 1.0, 1.0)
    assert not step.recorded, "Adam has no moments before the first step"
    sizes = [(8, 4), (8, 5), (5, 9), (5, 10), (3, 10), (8, 11)]
    """Cells of a minibatch, and replays after it: three trial steps at the first of a size, and each step; a third size is not recorded."""
    for number, (n_cells, n_replays) in enumerate(sizes):
        step(counts(number, n_cells), 1.0, 1.0)
        assert recorder.n_replays == n_replays
    assert list(step.recorded) == [8, 5]


def test_a_second_recording_leaves_the_learning_rate_where_the_first_one_reads_it():
    state, step = state_and_step()
    state.set_lr(1.0)
    places = []
    for n_cells in (8, 8, 5, 8):
        step(counts(n_cells, n_cells), 1.0, 1.0)
        places.append([group["lr"] for group in state.adam.param_groups])
    assert len(step.recorded) == 2
    assert all(one is two for one, two in zip(places[1], places[-1], strict=True))
    state.set_lr(0.25)
    assert [float(lr) for lr in places[1]] == pytest.approx(
        [0.25 * state.lr, 0.25 * state.lr * FAST_LR_FACTOR]
    )


def test_a_recording_reads_the_weight_of_the_kl_and_the_progress():
    (state, recorded), (plain_state, plain) = state_and_step(WARMING), state_and_step(WARMING)
    plain.recorder = None
    for number in range(6):
        for each in (state, plain_state):
            each.set_lr(0.5)
        schedule = (0.3 * number, 0.2 * number)
        found, expected = recorded(counts(number), *schedule), plain(counts(number), *schedule)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert len(recorded.recorded) == 1


def test_trying_a_recording_leaves_the_state_unchanged():
    """Learning rate and noise included: the next step is the one that would have come without a recorder."""
    (state, recorded), (plain_state, plain) = state_and_step(), state_and_step()
    plain.recorder = None
    for number in range(6):
        for each in (state, plain_state):
            each.set_lr(0.5)
        assert torch.equal(recorded(counts(number), 1.0, 1.0), plain(counts(number), 1.0, 1.0))
    assert list(recorded.recorded) == [8]
    assert torch.equal(state.generator.get_state(), plain_state.generator.get_state())
    for name, values in plain_state.tensors().items():
        assert torch.equal(state.tensors()[name], values), name


WRONG = {
    "draws other noise": lambda work, generator: generator.manual_seed(1),
    "makes each step twice": lambda work, generator: work(),
}


@pytest.mark.parametrize("recorder", [FailingRecorder(), *(Recorder(wrong) for wrong in WRONG.values())])
def test_a_recording_that_fails_or_differs_is_dropped_with_a_warning(recorder, monkeypatch, caplog):
    kind = ("beta-vae", "nb")
    with caplog.at_level(logging.WARNING, logger="sparcell"):
        model = fit_dense(kind, monkeypatch, recorder)
    warnings = [line.message for line in caplog.records if "CUDA graph" in line.message]
    assert len(warnings) == 1
    assert "\n" not in warnings[0]
    plain = fit_dense(kind, monkeypatch)
    pd.testing.assert_frame_equal(learning_curve(model), learning_curve(plain), check_exact=True)
    assert_same_weights(model, plain)


def test_after_adam_s_moments_moved_the_step_is_recorded_again():
    state, step = state_and_step()
    recorder, at_start = step.recorder, state.tensors()
    state.set_lr(1.0)
    for number in range(3):
        step(counts(number), 1.0, 1.0)
    assert recorder.n_replays == 5
    state.load_snapshot(state.tensors())  # in place: the recording still fits
    step(counts(3), 1.0, 1.0)
    assert recorder.n_replays == 6
    state.load_snapshot(at_start)
    step(counts(4), 1.0, 1.0)
    assert recorder.n_replays == 6, "the first step makes Adam's moments"
    step(counts(5), 1.0, 1.0)
    assert recorder.n_replays == 6 + 3 + 1


def test_only_a_gpu_records():
    assert cuda_graph.recorder_for(torch.device("cuda")) is cuda_graph.cuda_graph
    assert cuda_graph.recorder_for(torch.device("cpu")) is None
