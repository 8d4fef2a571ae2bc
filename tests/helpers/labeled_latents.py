"""Latents with uneven labels, and independent calculations of matchings, for the tests of metrics.

Suffixes: n cells, k latents, c categories.
"""

from __future__ import annotations

import itertools

import numpy as np


def some_cells(seed=0, n=200):
    """Return 4 latents, the last one off (exactly 0) in most cells, and uneven labels that two of the latents follow."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["b", "a", "d", "c"], size=n, p=[0.1, 0.4, 0.3, 0.2])
    latent_nk = rng.normal(size=(n, 4))
    latent_nk[:, 0] += 3 * (labels == "a")
    latent_nk[:, 3] = np.where(labels == "b", rng.gamma(2, size=n), 0)
    return latent_nk, labels


def one_hot(n=60):
    """Return one latent per category and the labels."""
    labels = np.arange(n) % 3
    return np.eye(3)[labels], labels


def best_of_all_matchings(score_kc):
    """Return the largest sum over all one-to-one matchings, divided by the number of categories."""
    n_latents, n_categories = score_kc.shape
    if n_latents >= n_categories:
        chosen = itertools.permutations(range(n_latents), n_categories)
        best = max(sum(score_kc[k, c] for c, k in enumerate(latents)) for latents in chosen)
    else:
        chosen = itertools.permutations(range(n_categories), n_latents)
        best = max(sum(score_kc[k, c] for k, c in enumerate(categories)) for categories in chosen)
    return best / n_categories
