"""Active latents, and their predicted number against the optimum of a linear model.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from sparcell.metrics.active_latents import ACTIVE_VARIANCE, active_latents, predict_active_latents


def test_a_latent_is_active_if_its_variance_exceeds_the_threshold():
    rng = np.random.default_rng(0)
    spread = np.sqrt(np.array([0.0, 0.5, 0.9, 1.1, 100.0]) * ACTIVE_VARIANCE)
    unit = rng.normal(size=(1000, 5))
    latent_nk = (unit - unit.mean(axis=0)) / unit.std(axis=0) * spread + 7
    np.testing.assert_array_equal(active_latents(latent_nk), [False, False, False, True, True])


def test_a_constant_latent_is_not_active():
    assert not active_latents(np.full((10, 2), 3.0, dtype=np.float32)).any()


def linear_loss(value_g, n_latent, beta, variance):
    """Return the lowest loss of a linear beta-VAE whose latents are the first principal components, and their weights, by descent.

    One component with eigenvalue v, decoder weight w, encoder weight a and posterior variance s has E (x - w z)² = v (1 - w a)² + w² s.
    """

    def loss(parameters):
        weight, encoder, log_s = np.split(parameters[: 3 * n_latent], 3)
        error_g = value_g.copy()
        error_g[:n_latent] = error_g[:n_latent] * (1 - weight * encoder) ** 2 + weight**2 * np.exp(log_s)
        noise = error_g.mean() if variance is None else variance
        kl = 0.5 * (encoder**2 * value_g[:n_latent] + np.exp(log_s) - 1 - log_s).sum()
        return error_g.sum() / (2 * noise) + len(value_g) / 2 * np.log(noise) + beta * kl

    starts = [
        np.concatenate([np.full(n_latent, w), np.full(n_latent, 0.5), np.full(n_latent, -2.0)])
        for w in (0.3, 1.0)
    ]
    best = min(
        (minimize(loss, start, method="L-BFGS-B", options={"maxiter": 5000}) for start in starts),
        key=lambda result: result.fun,
    )
    return best.fun, best.x[:n_latent]


@pytest.mark.parametrize(
    ("beta", "variance", "expected"),
    [(2.0, 0.5, 3), (1.0, 0.5, 4), (4.0, 0.5, 2), (2.0, None, 3), (1.0, None, 5), (4.0, None, 2)],
)
def test_the_predicted_number_of_active_latents_is_that_of_the_optimum_of_the_linear_model(
    beta, variance, expected
):
    value_g = np.concatenate([[8.0, 3.0, 1.4, 0.7, 0.31], np.full(15, 0.3)])
    found = predict_active_latents(value_g[::-1], 5, beta=beta, gaussian_variance=variance)
    weight_k = linear_loss(value_g, 5, beta, variance)[1]
    assert found == (np.abs(weight_k) > 0.05).sum()
    assert found == expected
