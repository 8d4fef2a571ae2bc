"""Learning-rate schedules, the KL warm-up and the number of epochs: pure functions of the step."""

from __future__ import annotations

import numpy as np
import pytest

from sparcell.config.training import TrainConfig
from sparcell.training.plan import TrainPlan
from sparcell.training.schedules import FINAL_FACTOR, LR_SCHEDULES, RISE_FRACTION, warmup_progress


def test_cosine_rises_linearly_and_decays_to_a_hundredth():
    factor = np.array([LR_SCHEDULES["cosine"](step, 1000) for step in range(1000)])
    rise = int(RISE_FRACTION * 1000)
    np.testing.assert_allclose(factor[:rise], np.arange(1, rise + 1) / rise)
    assert factor.max() == 1
    assert (np.diff(factor[rise:]) < 0).all()
    middle = rise + (1000 - rise) // 2
    assert factor[middle] == pytest.approx((1 + FINAL_FACTOR) / 2, abs=1e-3)
    assert factor[-1] == pytest.approx(FINAL_FACTOR, abs=1e-4)
    assert FINAL_FACTOR == 0.01


@pytest.mark.parametrize("n_steps", [1, 2, 3, 19, 21])
def test_cosine_is_above_0_and_at_most_1_in_short_runs(n_steps):
    assert all(0 < LR_SCHEDULES["cosine"](step, n_steps) <= 1 for step in range(n_steps))


def test_constant_is_1_at_every_step():
    assert {LR_SCHEDULES["constant"](step, 9) for step in range(9)} == {1.0}


def test_warmup_progress_is_linear_from_0_to_1_and_stays_there():
    assert [warmup_progress(step, 4) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]


def test_without_a_warmup_progress_is_1_from_the_first_step():
    assert warmup_progress(0, 0) == 1


@pytest.mark.parametrize("start", [0.0, 1.5])
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.99])
def test_the_plan_moves_the_kl_weight_linearly_from_its_start_to_beta(fraction, start):
    config = TrainConfig(epochs=10, kl_warmup_fraction=fraction, kl_warmup_start=start)
    plan = TrainPlan.of(config, 5, 3.0)
    n_warmup = int(fraction * 50)
    progress = np.minimum(1, np.arange(50) / n_warmup) if n_warmup else np.ones(50)
    np.testing.assert_allclose([plan.progress(step) for step in range(50)], progress)
    weight = 3.0 * (start + (1 - start) * progress)
    np.testing.assert_allclose([plan.kl_weight(step) for step in range(50)], weight)


@pytest.mark.parametrize("schedule", LR_SCHEDULES)
def test_the_plans_lr_factor_is_the_schedule_over_all_steps_of_the_run(schedule):
    plan = TrainPlan.of(TrainConfig(epochs=4, lr_schedule=schedule), 5, 1.0)
    factors = [plan.lr_factor(step) for step in range(20)]
    assert factors == [LR_SCHEDULES[schedule](step, 20) for step in range(20)]


@pytest.mark.parametrize(
    ("n_steps", "n_epochs"),
    [
        (1, 400),
        (3, 400),
        (4, 300),
        (11, 109),
        (19, 63),
        (21, 60),
        (79, 60),
        (333, 60),
        (400, 50),
        (5000, 4),
        (50_000, 1),
    ],
)
def test_epochs_auto_makes_1200_steps_of_small_data_and_60_epochs_of_larger(n_steps, n_epochs):
    """There are at most 400 epochs, and no more than 20,000 steps, or one epoch."""
    assert TrainPlan.of(TrainConfig(epochs="auto"), n_steps, 1.0).n_epochs == n_epochs
    assert TrainPlan.of(TrainConfig(epochs=7), n_steps, 1.0).n_epochs == 7


def test_min_epochs_and_max_steps_are_settings():
    assert TrainPlan.of(TrainConfig(min_epochs=20), 100, 1.0).n_epochs == 20
    assert TrainPlan.of(TrainConfig(min_epochs=20, max_steps=3000), 100, 1.0).n_epochs == 30
