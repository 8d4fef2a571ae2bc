"""Relaxed gates of the spike-and-slab posterior: probabilities, noise and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from helpers.cells import generator
from helpers.posteriors import N_DRAWS, TEMPERATURE, assert_mean_near, column, spike_slab, spike_slab_of
from sparcell.models.spike_slab import GATES, STRETCH_HIGH, STRETCH_LOW


def gate_gradient(f, mu, sigma, logit):
    """Return mean and standard error of the gradient of f(z) to the logit, over draws."""
    posterior = spike_slab(mu, sigma, logit, N_DRAWS)
    posterior.logit.requires_grad_()
    f(posterior.rsample(generator())).sum().backward()
    draws = posterior.logit.grad.numpy()
    return draws.mean(), draws.std() / math.sqrt(N_DRAWS)


def analytic_gate_gradient(f, mu, sigma, logit):
    """Return d/dlogit E f(z) = gamma (1 - gamma) (E_slab f - f(0))."""
    gamma = 1 / (1 + math.exp(-logit))
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    values = f(torch.from_numpy(mu + sigma * nodes)).numpy()
    slab = float(values @ weights / weights.sum())
    return gamma * (1 - gamma) * (slab - f(torch.zeros(1, dtype=torch.float64)).item())


SMOOTH = {
    "a line": lambda z: z,
    "a parabola": lambda z: z**2,
    "an error to a target": lambda z: (z - 2).square(),
    "a sigmoid": lambda z: z.sigmoid(),
}


@pytest.mark.parametrize("logit", [-8.0, 8.0])
def test_a_nearly_certain_gate_still_has_a_gradient_in_an_epoch(logit):
    """In single precision and over 2,638 cells; its mean has the sign of the truth, which for f(z) = z and mu = 1 is +."""
    leaf = torch.full((2638, 6), logit, requires_grad=True)
    mu = torch.ones(2638, 6)
    spike_slab_of(mu, mu.log() - 9, leaf, 0.5, TEMPERATURE).rsample(generator()).sum().backward()
    assert torch.isfinite(leaf.grad).all()
    assert (leaf.grad.sum(dim=0) > 0).all()


@pytest.mark.parametrize("logit", [-4.0, -1.5, 0.0, 1.5, 4.0])
@pytest.mark.parametrize("name", SMOOTH)
def test_the_straight_through_gradient_has_the_right_sign_and_about_the_right_size(name, logit):
    """Straight-through is biased; tolerated: .8 to 1.25 of the true gradient, .7 to 1.45 where a gate is nearly sure."""
    f = SMOOTH[name]
    expected = analytic_gate_gradient(f, 1.2, 0.3, logit)
    drawn, error = gate_gradient(f, 1.2, 0.3, logit)
    assert 5 * error < 0.2 * abs(expected)
    low, high = (0.8, 1.25) if abs(logit) < 2 else (0.7, 1.45)
    assert low < drawn / expected < high


def test_the_straight_through_gradient_of_a_line_is_that_of_the_relaxation():
    """Bias in closed form: the logistic density smoothed at the temperature, π T / sin(π T) in the tail."""
    for logit in (0.0, 2.0, 4.0):

        def smoothed(noise, logit=logit):
            soft = special.expit((logit + noise) / TEMPERATURE)
            return soft * (1 - soft) / TEMPERATURE * stats.logistic.pdf(noise)

        expected, _ = integrate.quad(smoothed, -logit - 12, -logit + 12, points=[-logit])
        drawn, error = gate_gradient(lambda z: z, 1.0, 1e-6, logit)
        assert abs(drawn - expected) < 5 * error


LIMIT = math.log(-STRETCH_LOW / STRETCH_HIGH)
"""Logit over temperature at which a hard concrete gate leaves 0; the gate reaches 1 at -LIMIT."""


def gates(name, logit, *, temperature=2 / 3, progress=1.0, n_cells=N_DRAWS):
    """Return draws of a gate, and the logit."""
    leaf = column(logit, n_cells).requires_grad_()
    return GATES[name](leaf, temperature, progress, generator()), leaf


@pytest.mark.parametrize("temperature", [0.2, 2 / 3, 1.5])
@pytest.mark.parametrize("logit", [-4.0, -1.0, 0.0, 2.5])
def test_hard_concrete_gates_are_on_with_probability_gamma_and_exactly_0_or_1_where_cut(logit, temperature):
    """With the shift of Louizos et al.: P(gate > 0) = gamma, P(gate = 1) = sigmoid(logit - 2 T log 11)."""
    gate, leaf = gates("hard-concrete", logit, temperature=temperature)
    drawn = gate.detach().numpy()
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert_mean_near(drawn > 0, special.expit(logit))
    assert_mean_near(drawn == 1, special.expit(logit + 2 * temperature * LIMIT))
    gate.sum().backward()
    between = (drawn > 0) & (drawn < 1)
    gradient = leaf.grad.numpy()
    assert between.mean() > 0.01
    assert (gradient[between] > 0).all()
    assert (gradient[~between] == 0).all()


@pytest.mark.parametrize("logit", [-2.0, 1.0])
def test_a_hard_concrete_gate_between_its_cuts_is_the_stretched_sigmoid(logit):
    """Its noise, computed back from the gate, is logistic."""
    temperature = 0.5
    drawn = gates("hard-concrete", logit, temperature=temperature)[0].detach().numpy().ravel()
    between = drawn[(drawn > 0) & (drawn < 1)]
    noise = special.logit((between - STRETCH_LOW) / (STRETCH_HIGH - STRETCH_LOW)) * temperature - (
        logit + temperature * LIMIT
    )
    low, high = (temperature * edge - (logit + temperature * LIMIT) for edge in (LIMIT, -LIMIT))
    inside = special.expit(high) - special.expit(low)
    assert (
        stats.kstest(noise[:50_000], lambda at: (special.expit(at) - special.expit(low)) / inside).pvalue
        > 1e-4
    )


@pytest.mark.parametrize(("progress", "steepness"), [(0.0, 50.0), (0.5, 125.0), (1.0, 200.0)])
@pytest.mark.parametrize("logit", [-3.0, 0.0, 1.5])
def test_steep_gates_are_a_sigmoid_of_uniform_noise_that_gets_steeper(logit, progress, steepness):
    """Computed back from the gate the noise is uniform; the mean is the sigmoid's integral."""
    gamma = special.expit(logit)
    gate, leaf = gates("steep-sigmoid", logit, progress=progress)
    drawn = gate.detach().numpy().ravel()
    noise = special.logit(drawn[drawn < 0.999]) / steepness + 1 - gamma  # nearer to 1 double precision rounds
    reach = min(1.0, special.logit(0.999) / steepness + 1 - gamma)
    assert stats.kstest(noise[:50_000], stats.uniform(0, reach).cdf).pvalue > 1e-4
    mean = (np.logaddexp(0, steepness * gamma) - np.logaddexp(0, steepness * (gamma - 1))) / steepness
    assert_mean_near(drawn, mean)
    gate.sum().backward()
    expected = steepness * drawn * (1 - drawn) * gamma * (1 - gamma)
    np.testing.assert_allclose(leaf.grad.numpy().ravel(), expected, rtol=1e-6, atol=1e-12)


def test_steep_gates_are_never_0_while_the_other_gates_are():
    """The fraction of gates between .01 and .99 is 2 log 99 / steepness, so the VSC paper's gate is not the default."""
    for progress, steepness in ((0.0, 50.0), (1.0, 200.0)):
        drawn = gates("steep-sigmoid", 0.0, progress=progress)[0].detach().numpy()
        assert (drawn > 0).all()
        assert_mean_near((drawn > 0.01) & (drawn < 0.99), 2 * math.log(99) / steepness)
    for name in ("straight-through", "hard-concrete"):
        assert_mean_near(gates(name, 0.0)[0].detach().numpy() == 0, 0.5)


@pytest.mark.parametrize("logit", [-15.0, -3.0, 0.0, 3.0, 15.0])
@pytest.mark.parametrize("name", GATES)
def test_gates_draw_from_their_generator_only_and_have_finite_gradients(name, logit):
    leaf = torch.full((5000, 1), logit, requires_grad=True)
    state = torch.get_rng_state()
    first = GATES[name](leaf, 0.5, 1.0, generator(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, GATES[name](leaf, 0.5, 1.0, generator(1)))
    assert not torch.equal(first, GATES[name](leaf, 0.5, 1.0, generator(2))) or abs(logit) > 10
    first.sum().backward()
    assert torch.isfinite(leaf.grad).all()
