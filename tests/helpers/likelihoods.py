"""Likelihoods with random weights, counts and hidden layers for them, and their log probability by scipy.

Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import special, stats

from helpers.cells import generator
from sparcell.config.model import LikelihoodConfig
from sparcell.likelihoods import LIKELIHOODS

COUNT_LIKELIHOODS = [name for name, kind in LIKELIHOODS.items() if kind.counts]


N_HIDDEN, N_GENES, N_CELLS = 3, 5, 6


def random_likelihood(name, *, n_batches=0, n_genes=N_GENES, dtype=torch.float64, **config):
    """Return a likelihood with random weights, large enough to matter."""
    likelihood = LIKELIHOODS[name](
        N_HIDDEN, n_genes, n_batches, LikelihoodConfig(**{"gaussian_variance": 0.5, **config})
    ).to(dtype)
    source = generator(5)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=dtype))
    return likelihood


def hidden(dtype=torch.float64, n_cells=N_CELLS):
    return torch.randn(n_cells, N_HIDDEN, generator=generator(6), dtype=dtype)


def random_counts(dtype=torch.float64, n_genes=N_GENES, n_cells=N_CELLS):
    """Return small and large random_counts and many zeros."""
    rng = np.random.default_rng(7)
    x_ng = rng.poisson(rng.gamma(0.3, 20.0, size=(n_cells, n_genes)))
    assert (x_ng == 0).any()
    return torch.from_numpy(x_ng).to(dtype)


def one_hot(n_batches, n_cells=N_CELLS, dtype=torch.float64):
    return torch.eye(n_batches, dtype=dtype)[torch.arange(n_cells) % n_batches]


def linear(module, h_nh):
    """Return the output of a linear layer by numpy."""
    return h_nh.numpy() @ module.weight.detach().numpy().T + module.bias.detach().numpy()


def scipy_log_prob(likelihood, h_nh, batch, x_ng=None):
    """Return log probability and mean of each entry, (n, g), by scipy from the weights."""
    x_ng = batch.x_ng.numpy() if x_ng is None else x_ng
    mean_ng = batch.library_size_n1.numpy() * special.softmax(linear(likelihood.head, h_nh), axis=1)
    if not hasattr(likelihood, "log_r"):
        return stats.poisson(mean_ng).logpmf(x_ng), mean_ng
    log_r = likelihood.log_r.detach().numpy()
    r = np.exp(batch.batch_nb.numpy() @ log_r if len(log_r) > 1 else log_r)
    log_prob_ng = stats.nbinom(r, r / (r + mean_ng)).logpmf(x_ng)
    if not hasattr(likelihood, "drop"):
        return log_prob_ng, mean_ng
    dropped_ng = special.expit(linear(likelihood.drop, h_nh))
    zero_ng = np.log(dropped_ng + (1 - dropped_ng) * np.exp(log_prob_ng))
    return np.where(x_ng == 0, zero_ng, np.log1p(-dropped_ng) + log_prob_ng), mean_ng * (1 - dropped_ng)
