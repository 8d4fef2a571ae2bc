"""Settings of small networks for counts, and counts to go through them.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import numpy as np
import torch

from sparcell.models import MODELS


def count_settings(**changes):
    """Return settings of a small beta-VAE for counts without dropout, normalization and standardization, unless set."""
    plain = {"normalization": "none", "dropout": 0.0, "input_dropout": 0.0, "standardize_input": False}
    sizes = {"encoder_widths": (7,), "decoder_widths": (6,), "n_latent": 3}
    return MODELS["beta-vae"](**{"likelihood": "nb", **sizes, **plain, **changes})


def random_counts(n_cells=40, n_genes=5, seed=0):
    rng = np.random.default_rng(seed)
    rate_ng = rng.gamma(1.0, 4.0, size=(n_cells, 1)) * rng.gamma(1.0, 2.0, size=n_genes)
    return torch.from_numpy(rng.poisson(rate_ng).astype(np.float32))


def log_normalized(x_ng):
    """Return log(1 + counts / total · 10,000) by numpy; a cell without counts stays at 0."""
    counts_ng = x_ng.double().numpy()
    return torch.from_numpy(
        np.log1p(counts_ng / np.maximum(counts_ng.sum(axis=1, keepdims=True), 1) * 1e4)
    ).float()
