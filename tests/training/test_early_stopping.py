"""Early stopping: which epoch's weights are kept and when training ends, by itself and within a run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from helpers.kinds import assert_same_weights, fit
from helpers.simulated import simulated_cells
from sparcell.training import loop
from sparcell.training.early_stopping import EarlyStopping

KIND = ("beta-vae", "nb")


def run(losses, **settings):
    """Return the state after these validation losses, the last epoch, and the epoch whose weights were loaded at the end.

    The network's only weight is the number of the epoch.
    """
    stopping = EarlyStopping(**{"patience": 0, "tolerance": 0.0, **settings})
    network, epoch = nn.Linear(1, 1, bias=False).train(), 0
    while epoch < len(losses) and not stopping.should_stop(epoch):
        epoch += 1
        nn.init.constant_(network.weight, epoch)
        stopping.update(losses[epoch - 1], epoch, network)
    nn.init.constant_(network.weight, -1)  # the copy does not share memory with the network
    stopping.load_best(network)
    assert not network.training
    return stopping, epoch, int(network.weight)


def test_training_stops_after_patience_epochs_without_improvement_and_keeps_the_best_weights():
    stopping, last_epoch, loaded_epoch = run([9.0, 5.0, 6.0, 7.0, 5.1, 8.0, 1.0, 0.0], patience=3)
    assert (last_epoch, loaded_epoch) == (5, 2)
    assert (stopping.best_epoch, stopping.best_loss) == (2, 5.0)


def test_an_improvement_restarts_the_patience():
    _, last_epoch, loaded_epoch = run([9.0, 5.0, 6.0, 4.0, 6.0, 6.0, 1.0], patience=2)
    assert (last_epoch, loaded_epoch) == (6, 4)


def test_patience_0_trains_to_the_end_and_keeps_the_best_weights():
    _, last_epoch, loaded_epoch = run([9.0, 5.0, 6.0, 7.0, 8.0], patience=0)
    assert (last_epoch, loaded_epoch) == (5, 2)


@pytest.mark.parametrize(
    ("tolerance", "best", "last"), [(0.0, 2, 5), (0.5, 2, 5), (5.0, 4, 7), (10.0, 6, 9), (45.0, 11, 11)]
)
def test_the_latest_weights_within_the_tolerance_of_the_lowest_loss_are_kept(tolerance, best, last):
    losses = [90.0, 50.0, 57.0, 54.0, 61.0, 59.0, 70.0, 61.0, 62.0, 63.0, 64.0]
    stopping, last_epoch, loaded_epoch = run(losses, patience=3, tolerance=tolerance)
    assert (last_epoch, loaded_epoch, stopping.best_epoch) == (last, best, best)
    assert stopping.best_loss == 50.0


def test_a_lower_loss_later_lowers_the_tolerated_loss():
    assert run([50.0, 54.0, 40.0, 46.0, 45.0, 43.0, 45.0], tolerance=4)[2] == 6


@pytest.mark.parametrize("shift", [-1000.0, 0.0, 1000.0])
def test_the_tolerance_does_not_depend_on_the_size_of_the_loss(shift):
    """Densities may be above 1, so a loss may be negative, and more genes have a higher loss."""
    assert run([shift + loss for loss in (5.0, 0.0, 2.0, 4.0)], tolerance=3)[2] == 3


def test_a_validation_loss_of_nan_is_never_the_best():
    stopping, _, loaded_epoch = run([math.nan, 5.0, math.nan, 6.0])
    assert (loaded_epoch, stopping.best_loss) == (2, 5.0)


def test_without_validation_losses_training_never_stops_and_no_weights_are_loaded():
    stopping, network = EarlyStopping(patience=1, tolerance=0.0), nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 7)
    assert not stopping.should_stop(100)
    stopping.load_best(network)
    assert int(network.weight) == 7


def test_early_stopping_continues_from_what_was_written_to_disk():
    stopping, _, _ = run([9.0, 5.0, 6.0], patience=3)
    tensors, numbers = stopping.to_disk()
    again = EarlyStopping(patience=3, tolerance=0.0)
    again.from_disk({name.removeprefix("best."): value for name, value in tensors.items()}, numbers)
    assert again == stopping
    assert not again.should_stop(4)
    assert again.should_stop(5)


class ScriptedValidation:
    """Replaces the validation loss by given values and remembers the weights after each epoch."""

    def __init__(self, losses):
        self.losses, self.weights = losses, []

    def __call__(self, state, data, plan):
        self.weights.append({name: value.clone() for name, value in state.network.state_dict().items()})
        return self.losses[state.epoch - 1]


def fit_with_validation_losses(losses, monkeypatch, **settings):
    """Return a model whose validation losses are these, and the weights after each epoch."""
    script = ScriptedValidation(losses)
    monkeypatch.setattr(loop, "validation_loss", script)
    settings = {"epochs": len(losses), "validation_fraction": 0.1, **settings}
    return fit(KIND, simulated_cells(100), settings=settings), script.weights


def assert_weights_are(model, state):
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_run_stops_early_and_returns_the_best_weights(monkeypatch):
    losses = [9.0, 5.0, 6.0, 7.0, 5.1, 8.0, 1.0, 0.0]
    model, after = fit_with_validation_losses(losses, monkeypatch, early_stopping_patience=3)
    assert list(model.history["validation_loss"]) == losses[:5]
    assert_weights_are(model, after[1])
    assert not all(torch.equal(after[1][name], after[4][name]) for name in after[1])


def test_a_run_uses_the_tolerance_of_its_settings(monkeypatch):
    model, after = fit_with_validation_losses([9.0, 5.0, 5.4, 5.6], monkeypatch, early_stopping_tolerance=0.5)
    assert_weights_are(model, after[2])


def test_patience_begins_with_the_end_of_the_kl_warmup(monkeypatch):
    """In the warm-up the weight of the KL moves to its value in the validation loss, and the run would end too early."""
    losses = [5.0, 7.0, 8.0, 9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0]
    settings = {"early_stopping_patience": 2, "kl_warmup_fraction": 0.35}  # four epochs
    model, after = fit_with_validation_losses(losses, monkeypatch, **settings)
    assert list(model.history["validation_loss"]) == losses[:6]
    assert_weights_are(model, after[0])


def test_weights_of_the_kl_warmup_can_be_the_best(monkeypatch):
    settings = {"early_stopping_patience": 0, "kl_warmup_fraction": 0.5}
    model, after = fit_with_validation_losses([5.0, 3.0, 4.0, 4.0, 4.0, 4.0], monkeypatch, **settings)
    assert len(model.history) == 6
    assert_weights_are(model, after[1])


@pytest.mark.parametrize(
    ("settings", "n_cells"),
    [({"validation_fraction": 0.0}, 100), ({"validation_fraction": 0.1, "batch_size": 9}, 9)],
    ids=["no fraction", "a fraction of less than one cell"],
)
def test_without_validation_cells_a_run_goes_to_its_end(settings, n_cells):
    settings = {"epochs": 6, "early_stopping_patience": 2, "kl_warmup_fraction": 0.3, **settings}
    model = fit(KIND, simulated_cells(n_cells), settings=settings)
    assert len(model.history) == 6
    assert model.history["validation_loss"].isna().all()


@pytest.mark.parametrize("kind", [("beta-vae", "gaussian"), ("beta-vsc", "poisson")], ids="-".join)
def test_early_stopping_ends_an_overfitting_run_and_returns_the_best_epoch(kind):
    adata = simulated_cells(120, n_genes=60, seed=3)
    settings = {
        "epochs": 400,
        "validation_fraction": 0.25,
        "early_stopping_patience": 8,
        "learning_rate": 0.01,
        "beta": 0.1,
    }
    model = fit(kind, adata, settings=settings)
    losses = model.history["validation_loss"]
    best_epoch = int(losses.argmin()) + 1
    assert len(losses) == best_epoch + 8 < 400
    shorter = {**settings, "early_stopping_patience": 0, "epochs": best_epoch}
    assert_same_weights(model, fit(kind, adata, settings=shorter))
