"""Cells and likelihoods that the tests of kernels compare with the plain formulas.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from helpers.cells import cells, generator, sparse_rows
from sparcell.config.model import LikelihoodConfig
from sparcell.likelihoods import LIKELIHOODS

N, G, H = 40, 30, 5
PATHS = [
    ("gaussian", "gene"),
    ("poisson", "gene"),
    ("nb", "gene"),
    ("zinb", "gene"),
    ("nb", "gene-batch"),
    ("zinb", "gene-batch"),
]
"""Likelihoods and their dispersion."""


def random_counts(seed=0, high=0, n_genes=G):
    """Return counts of which many are 0, some cells empty, with `high` counts in the first entry."""
    rng = np.random.default_rng(seed)
    x_ng = rng.poisson(rng.gamma(0.4, 2.0, (N, n_genes))).astype(np.float32)
    x_ng[3], x_ng[0, 0] = 0, high
    return x_ng


def sparse_and_dense(x_ng, n_batches=0, dtype=torch.float64):
    """Return a minibatch of the same cells twice: as sparse rows, and dense."""
    values = torch.from_numpy(x_ng).to(dtype)
    batch_nb = torch.eye(max(n_batches, 1), dtype=dtype)[torch.arange(len(x_ng)) % max(n_batches, 1)]
    dense = cells(values, batch_nb[:, :n_batches])
    return replace(dense, x=sparse_rows(x_ng)), dense


def likelihood_and_hidden(name, dispersion="gene", dtype=torch.float64, n_genes=G):
    """Return a likelihood with random weights and two batches, and a hidden layer to go with it."""
    config = LikelihoodConfig(likelihood=name, dispersion=dispersion, gaussian_variance=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        likelihood = LIKELIHOODS[name](H, n_genes, 2, config).to(dtype)
        for weight in likelihood.parameters():
            torch.nn.init.normal_(weight)
    return likelihood, torch.randn((N, H), generator=generator(), dtype=dtype, requires_grad=True)
