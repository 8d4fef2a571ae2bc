"""Posteriors of known parameters, and checks of draws against exact values."""

from __future__ import annotations

import math

import numpy as np
import torch

from sparcell.config.presets import STUDY_2019
from sparcell.models.beta_vae import GaussianPosterior
from sparcell.models.spike_slab import GATES, Prior, SpikeSlab

N_DRAWS = 200_000
GAUSSIANS = [(0.0, 1.0), (0.7, 0.4), (-2.5, 1.6), (4.0, 0.05)]
"""Mean and sd of posteriors or slabs."""
TEMPERATURE = STUDY_2019["temperature"]
"""The temperature for which the bias of the straight-through gradient is stated."""


def column(value, n_cells=1):
    return torch.full((n_cells, 1), float(value), dtype=torch.float64)


def gaussian(mu, sigma, n_cells=1):
    return GaussianPosterior(column(mu, n_cells), column(math.log(sigma), n_cells))


def spike_slab(mu, sigma, logit, n_cells=1, *, alpha=0.3, temperature=TEMPERATURE):
    log_sigma = column(math.log(sigma), n_cells)
    return spike_slab_of(column(mu, n_cells), log_sigma, column(logit, n_cells), alpha, temperature)


def spike_slab_of(mu, log_sigma, logit, alpha, temperature, gate="straight-through"):
    zero = torch.zeros(1, 1, dtype=mu.dtype)
    prior = Prior(zero, zero, zero + math.log(alpha / (1 - alpha)), zero[0])
    return SpikeSlab(
        mu, log_sigma, logit, prior, lambda at, source: GATES[gate](at, temperature, 1.0, source)
    )


def assert_mean_near(sample, expected):
    """Assert that the mean of the draws is within five standard errors of the expected value."""
    sample = np.asarray(sample, dtype=np.float64).ravel()
    error = sample.std() / math.sqrt(sample.size)
    assert abs(sample.mean() - expected) < 5 * error + 1e-12, (sample.mean(), expected, error)
