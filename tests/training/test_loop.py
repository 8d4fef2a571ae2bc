"""The training loop: validation cells, history, KL weight and learning rate of each step.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from helpers.kinds import (
    ONE_OF_EACH,
    assert_same_weights,
    fit,
    fitted,
    learning_curve,
    matrix_of,
    settings_of,
    with_matrix,
)
from helpers.simulated import simulated_cells
from sparcell.data import sampler
from sparcell.training import loop
from sparcell.training.optimizer import AdamW
from sparcell.training.schedules import LR_SCHEDULES

KIND = ("beta-vae", "nb")


each_model = pytest.mark.parametrize("kind", ONE_OF_EACH, ids="-".join)


@pytest.fixture(scope="module")
def adata():
    return simulated_cells()


def test_the_validation_split_puts_each_cell_on_one_side_and_depends_on_the_seed_only():
    train_rows, validation_rows = sampler.train_validation_split(300, 0.1, 3)
    assert (len(train_rows), len(validation_rows)) == (270, 30)
    assert sorted([*train_rows, *validation_rows]) == list(range(300))
    assert list(validation_rows) == sorted(validation_rows)
    np.testing.assert_array_equal(validation_rows, sampler.train_validation_split(300, 0.1, 3)[1])
    assert not np.array_equal(validation_rows, sampler.train_validation_split(300, 0.1, 4)[1])


@pytest.mark.parametrize(
    ("n_cells", "fraction", "n_validation"), [(300, 0.0, 0), (9, 0.1, 0), (10, 0.1, 1), (3, 0.999, 2)]
)
def test_the_number_of_validation_cells_is_rounded_down_and_leaves_a_cell_to_train(
    n_cells, fraction, n_validation
):
    train_rows, validation_rows = sampler.train_validation_split(n_cells, fraction, 0)
    assert (len(train_rows), len(validation_rows)) == (n_cells - n_validation, n_validation)


@each_model
def test_validation_cells_do_not_train(kind, adata):
    """With the genes of the validation cells permuted the weights are the same bits; the validation losses differ."""
    settings = {"epochs": 3, "validation_fraction": 0.2}
    train_rows, validation_rows = sampler.train_validation_split(adata.n_obs, 0.2, settings_of(kind).seed)
    x_ng = matrix_of(kind, adata)
    x_ng[validation_rows] = x_ng[validation_rows][:, np.random.default_rng(0).permutation(x_ng.shape[1])]
    changed = with_matrix(kind, adata, x_ng)
    curve, changed_curve = (learning_curve(fit(kind, data, settings=settings)) for data in (adata, changed))
    pd.testing.assert_frame_equal(
        curve.drop(columns="validation_loss"), changed_curve.drop(columns="validation_loss"), check_exact=True
    )
    assert (curve["validation_loss"] != changed_curve["validation_loss"]).all()
    once = {**settings, "epochs": 1}  # with more epochs the validation loss chooses the weights
    assert_same_weights(fit(kind, adata, settings=once), fit(kind, changed, settings=once))
    x_ng[train_rows[:60]] = x_ng[train_rows[:60]][:, ::-1]
    retrained = fit(kind, with_matrix(kind, adata, x_ng), settings=settings)
    assert (learning_curve(retrained)["loss"] != curve["loss"]).all()


def test_the_validation_loss_is_the_loss_of_the_validation_cells_after_the_epoch(adata):
    """An autoencoder draws no noise, so its score is the same number."""
    model = fitted(("autoencoder", "nb"), epochs=4, validation_fraction=0.2)
    _, validation_rows = sampler.train_validation_split(adata.n_obs, 0.2, 1)
    score = model.score(adata[validation_rows].copy())
    assert model.history["validation_loss"].min() == pytest.approx(-score, rel=1e-5)


def test_the_validation_loss_uses_the_same_draws_after_each_epoch(adata):
    """Where nothing is learned the validation loss is constant, so that epochs can be compared."""
    settings = {"epochs": 4, "validation_fraction": 0.2, "learning_rate": 1e-12}
    history = fit(("beta-vsc", "nb"), adata, settings=settings).history
    np.testing.assert_allclose(history["validation_loss"], history["validation_loss"][0], rtol=1e-9)
    assert history["loss"].nunique() == 4


@pytest.mark.parametrize(("min_epochs", "n_epochs"), [(20, 30), (40, 40)])
def test_epochs_auto_follows_from_max_steps_and_the_number_of_training_cells(adata, min_epochs, n_epochs):
    """150 of 300 cells in steps of 30 are 5 steps an epoch."""
    lengths = {"epochs": "auto", "max_steps": 150, "min_epochs": min_epochs, "early_stopping_patience": 0}
    model = fit(KIND, adata, settings={**lengths, "batch_size": 30, "validation_fraction": 0.5})
    assert len(model.history) == n_epochs
    assert model.settings.epochs == "auto"


@pytest.mark.parametrize(("fraction", "start"), [(0.0, 1.5), (0.25, 0.0), (0.5, 1.5), (0.99, 0.0)])
def test_the_history_holds_the_mean_kl_weight_of_each_epoch(adata, fraction, start):
    """There are 10 epochs of 5 steps; the last step has fewer cells and weighs less."""
    settings = {"epochs": 10, "kl_warmup_fraction": fraction, "kl_warmup_start": start, "beta": 3.0}
    model = fit(("beta-vsc", "nb"), adata, settings=settings)
    n_warmup = int(fraction * 50)
    progress = np.minimum(1, np.arange(50) / n_warmup) if n_warmup else np.ones(50)
    weight = (start + (1 - start) * progress).reshape(10, 5)
    n_cells = np.array([64, 64, 64, 64, 44])
    expected = 3.0 * (weight * n_cells).sum(axis=1) / 300
    np.testing.assert_allclose(model.history["kl_weight"], expected, rtol=1e-6)


def test_the_loss_of_each_step_weighs_the_kl_as_planned(adata, monkeypatch):
    weights, ratios = [], []
    training_loss = loop.training_loss

    def recording(output, network, batch, beta, label_weight):
        loss = training_loss(output, network, batch, beta, label_weight)
        weights.append(beta)
        ratios.append((loss.total - loss.reconstruction).item() / max(loss.kl.item(), 1e-9))
        return loss

    monkeypatch.setattr(loop, "training_loss", recording)
    fit(("beta-vae", "gaussian"), adata, settings={"epochs": 4, "kl_warmup_fraction": 0.5, "beta": 2.0})
    np.testing.assert_allclose(weights, 2.0 * np.minimum(1, np.arange(20) / 10))
    np.testing.assert_allclose(ratios, weights, atol=0.02)


@pytest.mark.parametrize("schedule", LR_SCHEDULES)
def test_each_step_uses_the_scheduled_learning_rate(adata, schedule, monkeypatch):
    learning_rates, along = [], AdamW.step

    def recording(self, *arguments):
        learning_rates.append(self.param_groups[0]["lr"])
        return along(self, *arguments)

    monkeypatch.setattr(AdamW, "step", recording)
    fit(KIND, adata, settings={"epochs": 4, "lr_schedule": schedule, "learning_rate": 0.02})
    expected = [0.02 * LR_SCHEDULES[schedule](step, 20) for step in range(20)]
    np.testing.assert_allclose(learning_rates, expected)


def test_the_length_of_chunks_does_not_change_a_run(adata, monkeypatch):
    model = fitted(KIND, epochs=2)
    monkeypatch.setattr(loop, "CHUNK_STEPS", 2)
    assert_same_weights(fit(KIND, adata, settings={"epochs": 2}), model)
