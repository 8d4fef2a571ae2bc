"""How a run goes: which cells train, when it stops, what it does about a loss that is no number, and that it can be taken up again.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.cells import cells, generator
from helpers.kinds import (
    ONE_OF_EACH,
    assert_same_weights,
    curve,
    fit,
    matrix_of,
    settings_of,
    weights,
    with_matrix,
)
from helpers.planted import lognormalized, planted, two_batches
from sparcell import load
from sparcell.config.training import TrainConfig
from sparcell.data import sampler
from sparcell.errors import InputError, TrainingError
from sparcell.kernels import AdamW
from sparcell.protocols import Loss
from sparcell.training import checkpoints, divergence, loop
from sparcell.training.cuda_graph import CudaGraphStep
from sparcell.training.loop import Plan
from sparcell.training.objective import LEAST_RATE, LR_SCHEDULES, RISE
from sparcell.training.state import BACKOFF, TrainState

KIND = ("beta-vae", "nb")
"""Where any model will do."""
each_model = pytest.mark.parametrize("kind", ONE_OF_EACH, ids="-".join)


@pytest.fixture(scope="module")
def adata():
    return planted()


# Cells held out


def test_a_split_puts_each_cell_on_one_side_and_depends_on_the_seed_only():
    training, held_out = sampler.split(300, 0.1, 3)
    assert (len(training), len(held_out)) == (270, 30)
    assert sorted([*training, *held_out]) == list(range(300))
    assert list(held_out) == sorted(held_out)
    np.testing.assert_array_equal(held_out, sampler.split(300, 0.1, 3)[1])
    assert not np.array_equal(held_out, sampler.split(300, 0.1, 4)[1])


@pytest.mark.parametrize(
    ("n_cells", "share", "expected"), [(300, 0.0, 0), (9, 0.1, 0), (10, 0.1, 1), (3, 0.999, 2)]
)
def test_the_share_held_out_is_rounded_down_and_leaves_a_cell_to_train(n_cells, share, expected):
    training, held_out = sampler.split(n_cells, share, 0)
    assert (len(training), len(held_out)) == (n_cells - expected, expected)


@each_model
def test_cells_held_out_never_train(kind, adata):
    """With their values shuffled over the genes the weights are the same, bit for bit, and what is told of them is not."""
    settings = {"epochs": 3, "validation_fraction": 0.2}
    _, held_out = sampler.split(adata.n_obs, 0.2, settings_of(kind).seed)
    x_ng = matrix_of(kind, adata)
    x_ng[held_out] = x_ng[held_out][:, np.random.default_rng(0).permutation(x_ng.shape[1])]
    changed = with_matrix(kind, adata, x_ng)
    model, other = fit(kind, adata, settings=settings), fit(kind, changed, settings=settings)
    told, told_other = curve(model), curve(other)
    pd.testing.assert_frame_equal(
        told.drop(columns="held_out"), told_other.drop(columns="held_out"), check_exact=True
    )
    assert (told["held_out"] != told_other["held_out"]).all()
    once = {
        **settings,
        "epochs": 1,
    }  # of more epochs those weights are kept that are best for the held-out cells
    assert_same_weights(fit(kind, adata, settings=once), fit(kind, changed, settings=once))
    swapped = sampler.split(adata.n_obs, 0.2, 1)[0][:60]
    x_ng[swapped] = x_ng[swapped][:, ::-1]
    trained_on = fit(kind, with_matrix(kind, adata, x_ng), settings=settings)
    assert (curve(trained_on)["loss"] != told["loss"]).all()


def test_what_is_told_of_the_held_out_cells_is_their_loss_after_the_epoch(adata):
    """Of the autoencoder, which draws nothing, the score says the same of the same cells."""
    kind = ("autoencoder", "nb")
    model = fit(kind, adata, settings={"epochs": 4, "validation_fraction": 0.2})
    _, held_out = sampler.split(adata.n_obs, 0.2, 1)
    assert model.history["held_out"].min() == pytest.approx(-model.score(adata[held_out].copy()), rel=1e-5)


def test_the_held_out_cells_get_the_same_draws_after_each_epoch(adata):
    """So that one epoch's loss can be compared with another's: where nothing is learned, it stays the same."""
    model = fit(
        ("beta-vsc", "nb"), adata, settings={"epochs": 4, "validation_fraction": 0.2, "learning_rate": 1e-12}
    )
    told = model.history["held_out"]
    np.testing.assert_allclose(told, told[0], rtol=1e-9)
    assert model.history["loss"].nunique() == 4


# When it stops


class Scripted:
    """Stands in for the loss of the held-out cells, and remembers the weights after each epoch."""

    def __init__(self, losses):
        self.losses = losses
        self.weights = []

    def __call__(self, course, feed, plan):
        self.weights.append({name: value.clone() for name, value in course.network.state_dict().items()})
        return self.losses[course.epoch - 1]


def scripted(losses, adata, monkeypatch, **settings):
    script = Scripted(losses)
    monkeypatch.setattr(loop, "loss_of_held_out", script)
    model = fit(KIND, adata, settings={"epochs": len(losses), "validation_fraction": 0.1, **settings})
    return model, script.weights


def assert_weights_are(model, expected):
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, expected[name])


def test_training_stops_when_patience_is_over_and_keeps_the_best_weights(adata, monkeypatch):
    losses = [9.0, 5.0, 6.0, 7.0, 5.1, 8.0, 1.0, 0.0]
    model, after = scripted(losses, adata, monkeypatch, early_stopping_patience=3)
    assert list(model.history["held_out"]) == losses[:5]
    assert_weights_are(model, after[1])
    assert not all(torch.equal(after[1][name], after[4][name]) for name in after[1])


def test_a_better_epoch_in_time_renews_the_patience(adata, monkeypatch):
    losses = [9.0, 5.0, 6.0, 4.0, 6.0, 6.0, 1.0]
    model, after = scripted(losses, adata, monkeypatch, early_stopping_patience=2)
    assert list(model.history["held_out"]) == losses[:6]
    assert_weights_are(model, after[3])


@pytest.mark.parametrize(
    ("tolerance", "kept", "stopped"), [(0.0, 2, 5), (0.01, 2, 5), (0.1, 4, 7), (0.2, 6, 9), (0.9, 11, 11)]
)
def test_the_latest_weights_within_the_tolerance_of_the_lowest_loss_are_kept(
    adata, monkeypatch, tolerance, kept, stopped
):
    losses = [90.0, 50.0, 57.0, 54.0, 61.0, 59.0, 70.0, 61.0, 62.0, 63.0, 64.0]
    model, after = scripted(
        losses, adata, monkeypatch, early_stopping_patience=3, early_stopping_tolerance=tolerance
    )
    assert list(model.history["held_out"]) == losses[:stopped]
    assert_weights_are(model, after[kept - 1])


def test_a_lower_loss_later_lowers_what_is_tolerated(adata, monkeypatch):
    losses = [50.0, 54.0, 40.0, 46.0, 45.0, 43.0, 45.0]
    model, after = scripted(losses, adata, monkeypatch, early_stopping_tolerance=0.1)
    assert_weights_are(model, after[5])


def test_a_share_of_a_loss_below_zero_is_tolerated_too(adata, monkeypatch):
    """Densities may be above 1."""
    losses = [-50.0, -46.0, -40.0]
    model, after = scripted(losses, adata, monkeypatch, early_stopping_tolerance=0.1)
    assert_weights_are(model, after[1])


def test_without_patience_a_run_goes_to_its_end_and_keeps_the_best_weights(adata, monkeypatch):
    losses = [9.0, 5.0, 6.0, 7.0, 8.0]
    model, after = scripted(losses, adata, monkeypatch, early_stopping_patience=0)
    assert list(model.history["held_out"]) == losses
    assert_weights_are(model, after[1])


@pytest.mark.parametrize(
    ("settings", "n_cells"),
    [({"validation_fraction": 0.0}, 300), ({"validation_fraction": 0.1, "batch_size": 9}, 9)],
)
def test_without_held_out_cells_a_run_goes_to_its_end(settings, n_cells):
    """Also where a share of them was asked for that is less than a cell."""
    model = fit(
        KIND,
        planted(n_cells),
        settings={"epochs": 6, "early_stopping_patience": 2, "kl_warmup_fraction": 0.3, **settings},
    )
    assert len(model.history) == 6
    assert model.history["held_out"].isna().all()


def test_epochs_of_the_warm_up_are_not_judged(adata, monkeypatch):
    """Their KL weighs less in training than in what is told, and they would be left too early."""
    losses = [1.0, 1.0, 1.0, 9.0, 8.0, 9.0, 9.0, 9.0, 9.0, 9.0]
    model, after = scripted(losses, adata, monkeypatch, early_stopping_patience=2, kl_warmup_fraction=0.35)
    assert list(model.history["held_out"]) == losses[:7]
    assert_weights_are(model, after[4])


def test_a_held_out_loss_that_is_no_number_is_never_the_best(adata, monkeypatch):
    losses = [math.nan, 5.0, math.nan, 6.0]
    model, after = scripted(losses, adata, monkeypatch, early_stopping_patience=0)
    assert_weights_are(model, after[1])


@pytest.mark.parametrize("kind", [("beta-vae", "gaussian"), ("beta-vsc", "poisson")], ids="-".join)
def test_early_stopping_stops_overfitting_early_and_returns_the_best_epoch(kind):
    adata = planted(120, n_genes=60, seed=3)
    settings = {
        "epochs": 400,
        "validation_fraction": 0.25,
        "early_stopping_patience": 8,
        "learning_rate": 0.01,
        "beta": 0.1,
    }
    model = fit(kind, adata, settings=settings)
    told = model.history["held_out"]
    assert len(told) < 400
    assert len(told) == told.argmin() + 1 + 8
    shorter = {**settings, "early_stopping_patience": 0, "epochs": int(told.argmin()) + 1}
    assert_same_weights(model, fit(kind, adata, settings=shorter))


@pytest.mark.parametrize(
    ("n_steps", "expected"),
    [
        (1, 400),
        (2, 400),
        (3, 400),
        (4, 300),
        (11, 109),
        (24, 50),
        (120, 20),
        (1000, 20),
        (5000, 4),
        (50_000, 1),
    ],
)
def test_epochs_chosen_by_the_data_make_about_1200_steps(n_steps, expected):
    """At least 20 epochs and at most 400, but no more than 20,000 steps, or one epoch."""
    assert Plan.of(TrainConfig(epochs="auto"), n_steps, 1.0).n_epochs == expected
    assert Plan.of(TrainConfig(epochs=7), n_steps, 1.0).n_epochs == 7


def test_the_number_of_epochs_follows_from_the_steps_and_the_cells_that_train(adata):
    """150 of 300 cells in steps of 10 are 15 steps an epoch."""
    settings = {"epochs": "auto", "max_steps": 450, "batch_size": 10, "validation_fraction": 0.5}
    model = fit(KIND, adata, settings=settings)
    assert len(model.history) == 30
    assert model.settings.epochs == "auto"


# Warm-up and step size


@pytest.mark.parametrize("start", [0.0, 1.5])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.5, 0.99])
def test_the_weight_of_the_kl_goes_linearly_from_its_start_to_beta(adata, warmup, start):
    """10 epochs of 5 steps; the last step has fewer cells, and counts for less."""
    settings = {"epochs": 10, "kl_warmup_fraction": warmup, "kl_warmup_start": start, "beta": 3.0}
    model = fit(("beta-vsc", "nb"), adata, settings=settings)
    n_warmup = int(warmup * 50)
    share = start + (1 - start) * (np.minimum(1, np.arange(50) / n_warmup) if n_warmup else np.ones(50))
    sizes = np.array([64, 64, 64, 64, 44])
    expected = 3.0 * (share.reshape(10, 5) * sizes).sum(axis=1) / 300
    np.testing.assert_allclose(model.history["kl_weight"], expected, rtol=1e-6)


def test_in_the_warm_up_the_loss_weighs_the_kl_by_so_much(adata, monkeypatch):
    seen = []
    real = loop.negative_elbo

    def watched(output, likelihood, batch, beta):
        loss = real(output, likelihood, batch, beta)
        seen.append((beta, (loss.total - loss.nll).item() / max(loss.kl.item(), 1e-9)))
        return loss

    monkeypatch.setattr(loop, "negative_elbo", watched)
    fit(("beta-vae", "gaussian"), adata, settings={"epochs": 4, "kl_warmup_fraction": 0.5, "beta": 2.0})
    told, found = np.array(seen).T
    np.testing.assert_allclose(told, 2.0 * np.minimum(1, np.arange(20) / 10))
    np.testing.assert_allclose(found, told, atol=0.02)


def test_the_cosine_schedule_rises_and_falls_to_a_hundredth():
    share = np.array([LR_SCHEDULES["cosine"](step, 1000) for step in range(1000)])
    rise = int(RISE * 1000)
    np.testing.assert_allclose(share[:rise], np.arange(1, rise + 1) / rise)
    assert share.max() == 1
    assert (np.diff(share[rise:]) < 0).all()
    middle = rise + (1000 - rise) // 2
    assert share[middle] == pytest.approx((1 + LEAST_RATE) / 2, abs=1e-3)
    assert share[-1] == pytest.approx(LEAST_RATE, abs=1e-4)
    assert all(0 < LR_SCHEDULES["cosine"](step, n) <= 1 for n in (1, 2, 3, 19, 21) for step in range(n))
    assert LR_SCHEDULES["constant"](7, 9) == 1


@pytest.mark.parametrize("schedule", LR_SCHEDULES)
def test_each_step_is_made_with_the_scheduled_size(adata, schedule, monkeypatch):
    sizes = []
    real = AdamW.along

    def watched(self, *arguments):
        sizes.append(self.param_groups[0]["lr"])
        return real(self, *arguments)

    monkeypatch.setattr(AdamW, "along", watched)
    fit(KIND, adata, settings={"epochs": 4, "lr_schedule": schedule, "learning_rate": 0.02})
    np.testing.assert_allclose(sizes, [0.02 * LR_SCHEDULES[schedule](step, 20) for step in range(20)])


# One step, by hand


def one_step(*, max_grad_norm=0.0, weight_decay=0.0, scale=1.0):
    """A network before and after one step, and the gradient of that step."""
    settings = settings_of(
        ("autoencoder", "gaussian"), max_grad_norm=max_grad_norm, weight_decay=weight_decay, epochs=1
    )
    network = settings.network(5)
    x_ng = torch.randn(8, 5, generator=generator()) * scale
    loss = loop.negative_elbo(network(cells(x_ng), generator()), network.likelihood, cells(x_ng), 1.0)
    gradients = torch.autograd.grad(loss.total, list(network.parameters()))
    before = [value.detach().clone() for value in network.parameters()]

    class Once:
        n_steps = 1

        def batches(self, epoch, first, last):
            return [cells(x_ng)]

    course, plan = TrainState.start(network, settings, generator()), Plan.of(settings, 1, 1.0)
    loop.steps(CudaGraphStep(course, partial(loop.step, course, plan), 8), Once(), plan, 0)
    return before, list(network.parameters()), gradients, course


def test_a_step_is_adam_s():
    """The first step of Adam is the step size times the sign of the gradient, but for its epsilon."""
    before, after, gradients, _ = one_step()
    for old, new, gradient in zip(before, after, gradients, strict=True):
        np.testing.assert_allclose(
            (new - old).detach(), -0.003 * gradient / (gradient.abs() + 1e-8), atol=1e-6
        )


def test_weight_decay_takes_its_share_of_each_weight():
    plain, decayed = one_step(), one_step(weight_decay=0.5)
    for old, new, other in zip(plain[0], plain[1], decayed[1], strict=True):
        np.testing.assert_allclose((new - other).detach(), 0.5 * 0.003 * old, atol=1e-7)


def test_adam_is_given_weights_and_gradients_row_by_row(monkeypatch):
    """However they lie: the loops go through memory, and take it for granted that all of a weight's lies alike."""
    seen, real = [], AdamW.along

    def watched(self, slopes, limit):
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for weight, slope in zip(weights, slopes, strict=True):
            seen.append(weight.is_contiguous() and slope.is_contiguous() and slope.shape == weight.shape)
        return real(self, slopes, limit)

    monkeypatch.setattr(AdamW, "along", watched)
    _, after, _, course = one_step()
    assert not all(weight.is_contiguous() for weight in after)
    assert all(seen)
    assert len(seen) == len(after)
    memory = course.tensors()
    for number, weight in enumerate(course.weights):
        assert memory[f"adam.{number}.exp_avg"].shape == weight.shape


@pytest.mark.parametrize("clip", [0.0, 0.5, 1e9])
def test_a_long_gradient_is_shortened_to_the_limit_and_keeps_its_direction(clip):
    """Adam's memory after one step is a tenth of the gradient it was given."""
    _, _, gradients, course = one_step(max_grad_norm=max_grad_norm, scale=50.0)
    memory = course.tensors()
    given = torch.cat([10 * memory[f"adam.{n}.exp_avg"].ravel() for n in range(len(gradients))])
    whole = torch.cat([gradient.ravel() for gradient in reversed(gradients)])  # the encoder is Adam's last
    assert whole.norm() > 100
    limit = min(clip, whole.norm().item()) if clip else whole.norm().item()
    assert given.norm().item() == pytest.approx(limit, rel=1e-4)
    torch.testing.assert_close(given / given.norm(), whole / whole.norm(), rtol=1e-4, atol=1e-6)


def test_a_short_gradient_is_left_as_it_is():
    _, after, gradients, _ = one_step(max_grad_norm=1e6)
    assert torch.cat([gradient.ravel() for gradient in gradients]).norm() < 1e6
    for one, other in zip(after, one_step()[1], strict=True):
        assert torch.equal(one, other)


# A loss that is no number


class Broken:
    """Stands in for the loss, and makes it NaN at the steps told; calls are counted from 0."""

    def __init__(self, *, at, real):
        self.at, self.real, self.calls = at, real, 0

    def __call__(self, *arguments):
        loss = self.real(*arguments)
        bad, self.calls = self.at(self.calls), self.calls + 1
        return Loss(loss.total * math.nan, loss.nll, loss.kl) if bad else loss


@each_model
def test_after_one_loss_that_is_no_number_the_run_goes_back_and_on_with_smaller_steps(
    kind, adata, monkeypatch
):
    """The third epoch's second step; the same run with all its steps as small from the third epoch on ends with the same weights."""
    real, settings = loop.negative_elbo, {"epochs": 5}
    monkeypatch.setattr(loop, "negative_elbo", Broken(at=lambda call: call == 11, real=real))
    model = fit(kind, adata, settings=settings)
    assert np.isfinite(model.history.drop(columns="held_out").to_numpy(dtype=float)).all()
    assert all(np.isfinite(values).all() for values in weights(model).values())
    monkeypatch.setattr(loop, "negative_elbo", real)
    real_rate, calls = Plan.rate, []

    def slower(self, step):
        calls.append(step)
        return real_rate(self, step) * (BACKOFF if step >= 10 else 1)

    monkeypatch.setattr(Plan, "rate", slower)
    expected = fit(kind, adata, settings=settings)
    assert len(calls) == 25
    for name, values in weights(expected).items():
        np.testing.assert_allclose(weights(model)[name], values, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(curve(model)["loss"], curve(expected)["loss"], rtol=1e-6)


def test_a_weight_that_is_no_number_after_the_last_step_is_noticed(adata, monkeypatch):
    """The loss is computed before the step, so a segment's last step can spoil the weights unseen."""
    real, calls = AdamW.along, []

    def spoiling(self, *arguments):
        real(self, *arguments)
        calls.append(1)
        if len(calls) == 5:  # the last of the first epoch
            with torch.no_grad():
                self.param_groups[0]["params"][-1][0, 0] = math.inf

    monkeypatch.setattr(AdamW, "along", spoiling)
    model = fit(KIND, adata, settings={"epochs": 2})
    assert len(calls) == 15
    assert all(np.isfinite(values).all() for values in weights(model).values())


def test_in_long_epochs_a_run_goes_back_to_the_last_look_only(adata, monkeypatch):
    monkeypatch.setattr(loop, "SEGMENT", 2)
    broken = Broken(at=lambda call: call == 3, real=loop.negative_elbo)
    monkeypatch.setattr(loop, "negative_elbo", broken)
    model = fit(KIND, adata, settings={"epochs": 2})
    assert broken.calls == 10 + 2
    assert len(model.history) == 2


def test_segments_do_not_change_a_run(adata, monkeypatch):
    model = fit(KIND, adata, settings={"epochs": 2})
    monkeypatch.setattr(loop, "SEGMENT", 2)
    assert_same_weights(fit(KIND, adata, settings={"epochs": 2}), model)


def test_a_loss_that_stays_no_number_ends_at_the_last_good_weights_and_names_cells_and_genes(
    adata, monkeypatch
):
    kept = []
    explain, real = divergence.explain, loop.negative_elbo

    def watched(error, network, *arguments):
        kept.append({name: value.clone() for name, value in network.state_dict().items()})
        return explain(error, network, *arguments)

    broken = Broken(at=lambda call: call >= 10, real=real)
    monkeypatch.setattr(divergence, "explain", watched)
    monkeypatch.setattr(loop, "negative_elbo", broken)
    message = (
        r"^the loss was not finite in epoch 3, even after 5 tries with smaller steps; expected a finite number\. "
        r"With the last good weights the loss is largest for the cells 'cell\d+', 'cell\d+', 'cell\d+', whose largest values are those "
        r"of gene\d+ \(up to \d+\)"
    )
    with pytest.raises(TrainingError, match=message):
        fit(KIND, adata, settings={"epochs": 4})
    assert broken.calls == 10 + 6 * 5
    monkeypatch.setattr(loop, "negative_elbo", real)
    assert_weights_are(fit(KIND, adata, settings={"epochs": 2}), kept[0])


@pytest.mark.parametrize("kind", [("beta-vae", "gaussian"), ("autoencoder", "gaussian")], ids="-".join)
def test_real_divergence_is_told_with_the_cell_and_the_gene_that_caused_it(kind):
    adata = planted()
    adata.X = adata.X * np.float32(1e6)
    adata.layers["lognorm"] = lognormalized(adata.X)
    with pytest.raises(TrainingError, match=r"expected a finite number.*\s.*smaller learning rate"):
        fit(kind, adata, settings={"learning_rate": 0.99, "epochs": 400, "gaussian_variance": 1e-38})


@pytest.mark.parametrize("name", ["poisson", "nb", "zinb"])
def test_the_worst_cells_and_their_largest_genes_are_those_named(adata, name, monkeypatch):
    other = adata.copy()
    x_ng = other.X.toarray()
    x_ng[17, 4] = 90_000
    other.X = x_ng
    monkeypatch.setattr(loop, "negative_elbo", Broken(at=lambda call: call >= 20, real=loop.negative_elbo))
    with pytest.raises(TrainingError, match=r"for the cells 'cell17', .* those of gene4 \(up to 9e\+04\)"):
        fit(("beta-vae", name), other)


# Taken up again


class Stop(Exception):
    pass


def stop_after(n_epochs):
    def stop(epoch):
        if epoch.number == n_epochs:
            raise Stop

    return stop


@pytest.fixture
def each_epoch(monkeypatch):
    """Notes are written after each epoch, not every half minute."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)


LONG = {"epochs": 7, "validation_fraction": 0.2, "kl_warmup_fraction": 0.3}


@pytest.mark.parametrize("after", [1, 4, 6])
@each_model
def test_a_run_taken_up_ends_with_the_same_bits(kind, adata, tmp_path, each_epoch, after):
    whole = fit(kind, adata, settings=LONG)
    with pytest.raises(Stop):
        fit(kind, adata, settings=LONG, checkpoint_dir=tmp_path / "run", on_epoch=stop_after(after))
    told = []
    taken_up = fit(kind, adata, settings=LONG, checkpoint_dir=tmp_path / "run", on_epoch=told.append)
    assert [epoch.number for epoch in told] == list(range(after + 1, 8))
    assert_same_weights(taken_up, whole)
    pd.testing.assert_frame_equal(curve(taken_up), curve(whole), check_exact=True)
    np.testing.assert_array_equal(taken_up.transform(adata), whole.transform(adata))


def test_a_run_taken_up_again_and_again_ends_with_the_same_bits(adata, tmp_path, each_epoch):
    kind = ("beta-vsc", "zinb")
    settings = {**LONG, "early_stopping_patience": 2, "learning_rate": 0.05, "epochs": 30}
    whole = fit(kind, adata, settings=settings)
    assert len(whole.history) < 30
    for after in range(1, len(whole.history)):
        with pytest.raises(Stop):
            fit(kind, adata, settings=settings, checkpoint_dir=tmp_path / "run", on_epoch=stop_after(after))
    taken_up = fit(kind, adata, settings=settings, checkpoint_dir=str(tmp_path / "run"))
    assert_same_weights(taken_up, whole)
    pd.testing.assert_frame_equal(curve(taken_up), curve(whole), check_exact=True)


def test_smaller_steps_after_a_setback_stay_small_when_taken_up(adata, tmp_path, each_epoch, monkeypatch):
    real = loop.negative_elbo
    monkeypatch.setattr(loop, "negative_elbo", Broken(at=lambda call: call == 2, real=real))
    whole = fit(KIND, adata, settings={"epochs": 4})
    monkeypatch.setattr(loop, "negative_elbo", Broken(at=lambda call: call == 2, real=real))
    with pytest.raises(Stop):
        fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run", on_epoch=stop_after(2))
    assert_same_weights(fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run"), whole)


def test_a_finished_run_is_not_trained_again(adata, tmp_path):
    """Noted at the end, however short the run was."""
    settings = {"epochs": 8, "validation_fraction": 0.2, "early_stopping_patience": 2, "learning_rate": 0.1}
    model = fit(KIND, adata, settings=settings, checkpoint_dir=tmp_path / "run")
    told = []
    again = fit(KIND, adata, settings=settings, checkpoint_dir=tmp_path / "run", on_epoch=told.append)
    assert told == []
    assert_same_weights(again, model)
    pd.testing.assert_frame_equal(again.history, model.history, check_exact=True)


def test_a_checkpoint_does_not_change_a_run(adata, tmp_path, each_epoch):
    model = fit(KIND, adata, settings={"epochs": 3})
    assert_same_weights(
        fit(KIND, adata, settings={"epochs": 3}, checkpoint_dir=tmp_path / "deep" / "run"), model
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run"]


def test_notes_are_written_no_more_often_than_every_half_minute(adata, tmp_path, monkeypatch):
    clock = iter(np.arange(0.0, 1e6, 11.0))  # two looks an epoch while notes are due
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    saved, real = [], checkpoints.checkpoint.save

    def watched(folder, told, tensors):
        saved.append(told["numbers"]["epoch"])
        real(folder, told, tensors)

    monkeypatch.setattr(checkpoints.checkpoint, "save", watched)
    fit(KIND, adata, settings={"epochs": 12}, checkpoint_dir=tmp_path / "run")
    assert checkpoints.EVERY == 30
    assert saved[-1] == 12
    assert 3 <= len(saved) <= 5


CHANGES = {
    "another setting": ({}, {"settings": {"epochs": 4}}),
    "another seed": ({}, {"settings": {"seed": 2}}),
    "another likelihood": ({}, {"kind": ("beta-vae", "poisson")}),
    "another model": ({}, {"kind": ("autoencoder", "nb")}),
    "a value": ({"value": 3}, {}),
    "other genes": ({}, {"genes": "marked"}),
    "fewer cells": ({"cells": 299}, {}),
    "other cells first": ({"turned": True}, {}),
    "a covariate": ({}, {"covariates": ("depth",)}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_checkpoint_of_other_data_or_settings_is_refused_before_training(adata, tmp_path, name):
    of_data, of_fit = CHANGES[name]
    settings = {"epochs": 3}
    fit(KIND, adata, settings=settings, checkpoint_dir=tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    other = adata.copy()
    if "value" in of_data:
        x_ng = other.X.toarray()
        x_ng[5, 5] += of_data["value"]
        other.X = x_ng
    if "turned" in of_data:
        other = other[::-1].copy()
    other = other[: of_data.get("cells", 300)].copy()
    told = []
    wanted = {"settings": {**settings, **of_fit.get("settings", {})}}
    wanted |= {key: value for key, value in of_fit.items() if key in ("genes", "covariates")}
    with pytest.raises(
        InputError, match=r"run holds the training of other settings, data or another kind of file"
    ):
        fit(of_fit.get("kind", KIND), other, checkpoint_dir=tmp_path / "run", on_epoch=told.append, **wanted)
    assert told == []
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}


def test_a_checkpoint_of_cells_of_other_batches_is_refused(tmp_path):
    """Two cells change places, so that every share stays as it is."""
    adata = two_batches(200)
    fit(KIND, adata, settings={"epochs": 1}, batch_key="batch", checkpoint_dir=tmp_path / "run")
    other = adata.copy()
    batches = other.obs["batch"].to_numpy().astype(str)
    first = [int(np.flatnonzero(batches == name)[0]) for name in ("a", "b")]
    batches[first] = batches[first[::-1]]
    other.obs["batch"] = batches
    with pytest.raises(InputError, match="of other settings, data"):
        fit(KIND, other, settings={"epochs": 1}, batch_key="batch", checkpoint_dir=tmp_path / "run")


@pytest.mark.parametrize("form", ["dense", "csc", "wider type"])
def test_the_same_data_in_another_form_are_the_same_data(adata, tmp_path, each_epoch, form):
    whole = fit(KIND, adata, settings={"epochs": 3})
    with pytest.raises(Stop):
        fit(KIND, adata, settings={"epochs": 3}, checkpoint_dir=tmp_path / "run", on_epoch=stop_after(2))
    other = adata.copy()
    other.X = {"dense": adata.X.toarray(), "csc": adata.X.tocsc(), "wider type": adata.X.astype(np.float64)}[
        form
    ]
    told = []
    taken_up = fit(KIND, other, settings={"epochs": 3}, checkpoint_dir=tmp_path / "run", on_epoch=told.append)
    assert [epoch.number for epoch in told] == [3]
    assert_same_weights(taken_up, whole)


def damaged(folder, how):
    tensors, description = folder / "model.safetensors", folder / "model.json"
    if how == "a flipped bit":
        content = bytearray(tensors.read_bytes())
        content[-5] ^= 1
        tensors.write_bytes(content)
    elif how == "cut":
        tensors.write_bytes(tensors.read_bytes()[:1000])
    elif how == "no JSON":
        description.write_text("{")
    else:
        description.write_text(json.dumps({**json.loads(description.read_text()), "format": 99}))


@pytest.mark.parametrize("how", ["a flipped bit", "cut", "no JSON", "another format"])
def test_a_damaged_checkpoint_is_told_before_training(adata, tmp_path, how):
    fit(KIND, adata, settings={"epochs": 2}, checkpoint_dir=tmp_path / "run")
    damaged(tmp_path / "run", how)
    told = []
    with pytest.raises(InputError, match=r"run.*(is damaged|has model format 99)"):
        fit(KIND, adata, settings={"epochs": 2}, checkpoint_dir=tmp_path / "run", on_epoch=told.append)
    assert told == []


def test_a_saved_model_or_a_folder_of_the_user_s_is_not_taken_for_a_checkpoint(adata, tmp_path):
    model = fit(KIND, adata, settings={"epochs": 2})
    model.save(tmp_path / "model")
    with pytest.raises(InputError, match="another kind of file"):
        fit(KIND, adata, settings={"epochs": 2}, checkpoint_dir=tmp_path / "model")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years")
    with pytest.raises(InputError, match=r"it holds chapter\.txt"):
        fit(KIND, adata, settings={"epochs": 2}, checkpoint_dir=tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years"


def test_a_checkpoint_is_not_taken_for_a_model(adata, tmp_path):
    fit(KIND, adata, settings={"epochs": 2}, checkpoint_dir=tmp_path / "run")
    with pytest.raises(InputError, match="does not describe a whole model"):
        load(tmp_path / "run")


def test_ctrl_c_leaves_the_last_note(adata, tmp_path, each_epoch, monkeypatch):
    """Amid an epoch, where the weights are no epoch's."""
    whole = fit(KIND, adata, settings={"epochs": 4})
    real, calls = loop.negative_elbo, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 13:  # the third step of the third epoch
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "negative_elbo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run")
    monkeypatch.setattr(loop, "negative_elbo", real)
    told = []
    taken_up = fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run", on_epoch=told.append)
    assert [epoch.number for epoch in told] == [3, 4]
    assert_same_weights(taken_up, whole)


@pytest.mark.parametrize("step", ["write_bytes", "write_text", "replace"])
def test_ctrl_c_while_a_note_is_written_leaves_the_one_before(adata, tmp_path, each_epoch, monkeypatch, step):
    whole = fit(KIND, adata, settings={"epochs": 4})
    with pytest.raises(Stop):
        fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run", on_epoch=stop_after(2))
    real = getattr(Path, step)

    def interrupted(self, *arguments, **keywords):
        if step == "replace" and (not self.name.startswith(".run") or self.name.endswith("-earlier")):
            return real(self, *arguments, **keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run")
    monkeypatch.setattr(Path, step, real)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert_same_weights(fit(KIND, adata, settings={"epochs": 4}, checkpoint_dir=tmp_path / "run"), whole)


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[1])
from helpers.kinds import fit
from helpers.planted import planted
from sparcell.training import checkpoints

checkpoints.EVERY = 0.0
folder, pause = sys.argv[2], float(sys.argv[3])

def told(epoch):
    print(epoch.number, flush=True)
    time.sleep(pause)

model = fit(("beta-vsc", "nb"), planted(), settings={"epochs": 8, "validation_fraction": 0.2}, checkpoint_dir=folder, on_epoch=told)
model.save(folder + "-model")
"""


def start(folder, pause):
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), str(folder), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_process_is_taken_up_by_another_to_the_same_bits(adata, tmp_path):
    whole = fit(("beta-vsc", "nb"), adata, settings={"epochs": 8, "validation_fraction": 0.2})
    run = start(tmp_path / "run", 0.2)
    for line in run.stdout:
        if int(line) == 3:
            break
    time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.stdout.close()
    assert run.wait(timeout=60) == -signal.SIGKILL
    assert not (tmp_path / "run-model").exists()
    again = start(tmp_path / "run", 0.0)
    told, _ = again.communicate(timeout=300)
    assert again.returncode == 0
    assert 3 <= int(told.split()[0]) <= 5  # not from the start
    taken_up = load(tmp_path / "run-model")
    assert_same_weights(taken_up, whole)
    pd.testing.assert_frame_equal(curve(taken_up), curve(whole), check_exact=True)
