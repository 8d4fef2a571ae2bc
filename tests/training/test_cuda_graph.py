"""Steps recorded and played back, with recorders that stand in for a GPU's: training does what it does without."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.cells import cells, generator
from helpers.kinds import KINDS, assert_same_weights, curve, fit, settings_of
from helpers.simulated import simulated_cells
from sparcell.data import loader
from sparcell.training import cuda_graph, loop
from sparcell.training.cuda_graph import CudaGraphStep
from sparcell.training.loop import Plan
from sparcell.training.state import TrainState

QUICK = {"learning_rate": 2**-9, "lr_schedule": "constant", "epochs": 6, "early_stopping_patience": 0}
"""Step sizes that single precision holds exactly, as it does not hold those of a cosine."""


class Recorder:
    """Records by keeping the work, plays by doing it again: it reads and writes what a recording would."""

    def __init__(self, wrong=None):
        self.played, self.wrong = 0, wrong

    def __call__(self, work, noise):
        def play():
            self.played += 1
            work()
            if self.wrong is not None:
                self.wrong(work, noise)

        return play


class Refusal(Recorder):
    """Fails in the middle of the work, as a wait for the device would make it."""

    def __call__(self, work, noise):
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def trained(kind, monkeypatch, recorder=None, **settings):
    """A model whose dense cells train with a recorder."""
    monkeypatch.setattr(loader, "SPARSE_SHARE", -1.0)
    monkeypatch.setattr(loop, "wanted", lambda device: recorder)
    return fit(kind, simulated_cells(), settings={**QUICK, **settings})


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_recorded_steps_lose_and_learn_the_same_to_the_bit(kind, monkeypatch):
    recorder = Recorder()
    model, plain = trained(kind, monkeypatch, recorder), trained(kind, monkeypatch)
    assert recorder.played > 3 + len(plain.history)
    pd.testing.assert_frame_equal(curve(model), curve(plain), check_exact=True)
    assert_same_weights(model, plain)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_recorded_steps_follow_the_schedule_and_the_warm_up(schedule, monkeypatch):
    """A step size in single precision is another one in its last digits."""
    settings = {
        "lr_schedule": schedule,
        "learning_rate": 3e-3,
        "kl_warmup_fraction": 0.4,
        "epochs": 10,
        "max_grad_norm": 1.0,
    }
    recorder = Recorder()
    model = trained(("beta-vsc", "nb"), monkeypatch, recorder, **settings)
    plain = trained(("beta-vsc", "nb"), monkeypatch, **settings)
    assert recorder.played > 0
    np.testing.assert_allclose(model.history["loss"], plain.history["loss"], rtol=1e-5)


def course_of(kind=("beta-vae", "nb")):
    settings = settings_of(kind, **QUICK)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = settings.network(5)
    course = TrainState.start(network.train(), settings, generator())
    plan = Plan.of(settings, 10, 1.0)
    return course, CudaGraphStep(course, lambda *given: loop.step(course, plan, *given), 8, Recorder())


def counts(seed, n_cells=8):
    return cells(torch.poisson(torch.full((n_cells, 5), 3.0), generator=generator(seed)))


def test_what_is_recorded_is_full_batches_after_the_warm_up_with_one_weight_of_the_kl():
    player = course_of()[1]
    recorder = player.record
    made = [
        ("before Adam has a memory", counts(0), 1.0, 1.0),
        ("in the warm-up", counts(1), 1.0, 0.5),
        ("a short batch", counts(2, 5), 1.0, 1.0),
    ]
    for why, batch, weight, progress in made:
        player.step(batch, weight, progress, 1.0)
        assert player.played is None, why
    player.step(counts(3), 1.0, 1.0, 1.0)
    assert recorder.played == 3 + 1  # those tried, and this one
    for _, batch, weight, progress in [*made[1:], ("another weight", counts(4), 0.5, 1.0)]:
        player.step(batch, weight, progress, 1.0)
    assert recorder.played == 4
    player.step(counts(5), 1.0, 1.0, 1.0)
    assert recorder.played == 5


def test_trying_a_recording_leaves_no_trace():
    """The state after it, step size and noise included, is that before it: the next step is the one that would have come."""
    (course, player), (other, plain) = course_of(), course_of()
    plain.record = None
    for number in range(6):
        found, expected = (each.step(counts(number), 1.0, 1.0, 0.5) for each in (player, plain))
        assert torch.equal(found, expected)
    assert player.record is None
    assert player.played is not None
    assert torch.equal(course.generator.get_state(), other.generator.get_state())
    for name, values in other.tensors().items():
        assert torch.equal(course.tensors()[name], values), name


WRONG = {
    "draws other noise": lambda work, noise: noise.manual_seed(1),
    "makes each step twice": lambda work, noise: work(),
}


@pytest.mark.parametrize("recorder", [Refusal(), *(Recorder(wrong) for wrong in WRONG.values())])
def test_a_recording_that_fails_or_does_something_else_is_dropped_and_that_is_told(
    recorder, monkeypatch, caplog
):
    with caplog.at_level(logging.WARNING, logger="sparcell"):
        model = trained(("beta-vae", "nb"), monkeypatch, recorder)
    told = [line.message for line in caplog.records if "CUDA graph" in line.message]
    assert len(told) == 1
    assert "\n" not in told[0]
    plain = trained(("beta-vae", "nb"), monkeypatch)
    pd.testing.assert_frame_equal(curve(model), curve(plain), check_exact=True)
    assert_same_weights(model, plain)


def test_going_back_to_before_adam_had_a_memory_ends_the_playing():
    course, player = course_of()
    recorder, start = player.record, course.tensors()
    for number in range(3):
        player.step(counts(number), 1.0, 1.0, 1.0)
    played = recorder.played
    noted = course.tensors()
    course.restore(noted)  # in place: what is played goes on
    player.step(counts(3), 1.0, 1.0, 1.0)
    assert recorder.played == played + 1
    course.restore(start)
    for number in range(3):
        player.step(counts(number), 1.0, 1.0, 1.0)
    assert recorder.played == played + 1


def test_only_a_gpu_records_and_only_when_asked(monkeypatch):
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.delenv("SPARCELL_CUDA_GRAPH", raising=False)
    assert cuda_graph.wanted(gpu) is None
    monkeypatch.setenv("SPARCELL_CUDA_GRAPH", "1")
    assert cuda_graph.wanted(gpu) is cuda_graph.cuda_graph
    assert cuda_graph.wanted(cpu) is None
