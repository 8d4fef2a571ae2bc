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
from sparcell.training.state import TrainState

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


def state_and_step(kind=("beta-vae", "nb")):
    settings = settings_of(kind, **EXACT)
    network = settings.network(5)
    state = TrainState.start(network.train(), settings, generator())
    plan = TrainPlan.of(settings, 10, 1.0)
    step = CudaGraphStep(state, partial(loop.train_step, state, plan), 8, Recorder())
    return state, step


def counts(seed, n_cells=8):
    return cells(torch.poisson(torch.full((n_cells, 5), 3.0), generator=generator(seed)))


def test_only_full_minibatches_after_the_warmup_with_one_kl_weight_are_recorded():
    state, step = state_and_step()
    recorder = step.recorder
    state.set_lr(1.0)
    cases = [
        ("before Adam has moments", counts(0), 1.0, 1.0),
        ("in the warm-up", counts(1), 1.0, 0.5),
        ("a small minibatch", counts(2, 5), 1.0, 1.0),
    ]
    for reason, batch, kl_weight, progress in cases:
        step(batch, kl_weight, progress)
        assert step.recorded is None, reason
    step(counts(3), 1.0, 1.0)
    assert recorder.n_replays == 3 + 1  # the trial steps, and this one
    for _, batch, kl_weight, progress in [*cases[1:], ("another weight", counts(4), 0.5, 1.0)]:
        step(batch, kl_weight, progress)
    assert recorder.n_replays == 4
    step(counts(5), 1.0, 1.0)
    assert recorder.n_replays == 5


def test_trying_a_recording_leaves_the_state_unchanged():
    """Learning rate and noise included: the next step is the one that would have come without a recorder."""
    (state, recorded), (plain_state, plain) = state_and_step(), state_and_step()
    plain.recorder = None
    for number in range(6):
        for each in (state, plain_state):
            each.set_lr(0.5)
        assert torch.equal(recorded(counts(number), 1.0, 1.0), plain(counts(number), 1.0, 1.0))
    assert recorded.recorder is None
    assert recorded.recorded is not None
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


def test_a_snapshot_from_before_adam_had_moments_ends_the_replaying():
    state, step = state_and_step()
    recorder, at_start = step.recorder, state.tensors()
    state.set_lr(1.0)
    for number in range(3):
        step(counts(number), 1.0, 1.0)
    n_replays = recorder.n_replays
    state.load_snapshot(state.tensors())  # in place: the recording still fits
    step(counts(3), 1.0, 1.0)
    assert recorder.n_replays == n_replays + 1
    state.load_snapshot(at_start)
    for number in range(3):
        step(counts(number), 1.0, 1.0)
    assert recorder.n_replays == n_replays + 1


def test_only_a_gpu_records_and_only_if_asked(monkeypatch):
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.delenv("SPARCELL_CUDA_GRAPH", raising=False)
    assert cuda_graph.recorder_for(gpu) is None
    monkeypatch.setenv("SPARCELL_CUDA_GRAPH", "1")
    assert cuda_graph.recorder_for(gpu) is cuda_graph.cuda_graph
    assert cuda_graph.recorder_for(cpu) is None
