"""A loss that is not finite: rollback, lower learning rate, and the message when nothing helps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from helpers.broken_loss import BrokenLoss
from helpers.kinds import ONE_OF_EACH, fit, fitted, learning_curve, weights
from helpers.simulated import lognormalized, simulated_cells
from sparcell.errors import TrainingError
from sparcell.training import divergence, loop
from sparcell.training.objective import training_loss
from sparcell.training.optimizer import AdamW
from sparcell.training.plan import TrainPlan
from sparcell.training.state import BACKOFF

KIND = ("beta-vae", "nb")


each_model = pytest.mark.parametrize("kind", ONE_OF_EACH, ids="-".join)


@pytest.fixture(scope="module")
def adata():
    return simulated_cells()


def break_loss(monkeypatch, at):
    """Make the loss NaN at some calls; return what counts the calls."""
    broken = BrokenLoss(training_loss, at=at)
    monkeypatch.setattr(loop, "training_loss", broken)
    return broken


@each_model
def test_after_a_loss_of_nan_the_run_rolls_back_and_continues_with_a_lower_learning_rate(
    kind, adata, monkeypatch
):
    """The NaN comes in the third epoch's second step. A run with a lower rate from the third epoch on ends with the same weights."""
    settings = {"epochs": 5}
    break_loss(monkeypatch, lambda call: call == 11)
    model = fit(kind, adata, settings=settings)
    assert np.isfinite(model.history.drop(columns="validation_loss").to_numpy(dtype=float)).all()
    assert all(np.isfinite(values).all() for values in weights(model).values())
    monkeypatch.setattr(loop, "training_loss", training_loss)
    lr_factor, steps = TrainPlan.lr_factor, []

    def lowered(self, step):
        steps.append(step)
        return lr_factor(self, step) * (BACKOFF if step >= 10 else 1)

    monkeypatch.setattr(TrainPlan, "lr_factor", lowered)
    expected = fit(kind, adata, settings=settings)
    assert len(steps) == 25
    for name, values in weights(expected).items():
        np.testing.assert_allclose(weights(model)[name], values, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(learning_curve(model)["loss"], learning_curve(expected)["loss"], rtol=1e-6)


def test_an_infinite_weight_after_the_last_step_of_a_chunk_is_noticed(adata, monkeypatch):
    """The loss is computed before the step, so the last step of a chunk can spoil the weights unseen."""
    along, calls = AdamW.step, []

    def spoiling(self, *arguments):
        along(self, *arguments)
        calls.append(1)
        if len(calls) == 5:  # the last of the first epoch
            with torch.no_grad():
                self.param_groups[0]["params"][-1][0, 0] = math.inf

    monkeypatch.setattr(AdamW, "step", spoiling)
    model = fit(KIND, adata, settings={"epochs": 2})
    assert len(calls) == 15
    assert all(np.isfinite(values).all() for values in weights(model).values())


def test_a_run_rolls_back_to_the_start_of_the_chunk_only(adata, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_STEPS", 2)
    broken = break_loss(monkeypatch, lambda call: call == 3)
    model = fit(KIND, adata, settings={"epochs": 2})
    assert broken.n_calls == 10 + 2
    assert len(model.history) == 2


def test_a_loss_that_stays_nan_ends_at_the_last_snapshot_and_names_cells_and_genes(adata, monkeypatch):
    states = []
    explain = divergence.explain

    def recording(error, network, *arguments):
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return explain(error, network, *arguments)

    monkeypatch.setattr(divergence, "explain", recording)
    broken = break_loss(monkeypatch, lambda call: call >= 10)
    message = (
        r"^the loss was not finite in epoch 3, even after 5 attempts with lower learning rates; expected a finite number\. "
        r"With the last good weights the loss is largest for the cells 'cell\d+', 'cell\d+', 'cell\d+', whose largest values are those "
        r"of gene\d+ \(up to \d+\)"
    )
    with pytest.raises(TrainingError, match=message):
        fit(KIND, adata, settings={"epochs": 4})
    assert broken.n_calls == 10 + 6 * 5
    monkeypatch.setattr(loop, "training_loss", training_loss)
    for name, value in fitted(KIND, epochs=2).network.state_dict().items():
        assert torch.equal(value, states[0][name])


@pytest.mark.parametrize("kind", [("beta-vae", "gaussian"), ("autoencoder", "gaussian")], ids="-".join)
def test_real_divergence_names_cells_and_genes(kind):
    adata = simulated_cells()
    adata.X = adata.X * np.float32(1e6)
    adata.layers["lognorm"] = lognormalized(adata.X)
    with pytest.raises(TrainingError, match=r"expected a finite number.*\s.*lower learning rate"):
        fit(kind, adata, settings={"learning_rate": 0.99, "epochs": 400, "gaussian_variance": 1e-38})


@pytest.mark.parametrize("name", ["poisson", "nb", "zinb"])
def test_the_cells_with_the_highest_loss_and_their_largest_genes_are_named(adata, name, monkeypatch):
    other = adata.copy()
    x_ng = other.X.toarray()
    x_ng[17, 4] = 90_000
    other.X = x_ng
    break_loss(monkeypatch, lambda call: call >= 20)
    with pytest.raises(TrainingError, match=r"for the cells 'cell17', .* those of gene4 \(up to 9e\+04\)"):
        fit(("beta-vae", name), other)
