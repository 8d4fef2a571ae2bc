"""Included latents and Hoyer's sparsity, worked out by hand.

Suffixes: n cells, k latents.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparcell.metrics.sparsity import hoyer_sparsity, mean_included


def test_mean_included_counts_by_hand():
    latent_nk = [[0, 0, 0], [0, -2, 0], [1, 0.4, 0], [3, 1, 1]]
    assert mean_included(latent_nk, 0) == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert mean_included(latent_nk, 0.5) == pytest.approx((0 + 1 + 1 + 3) / 4)
    assert mean_included([[0.9, 0.51, 0.5], [0.1, 0.2, 0.3]], 0.5) == pytest.approx(1)


def test_hoyer_by_hand():
    assert hoyer_sparsity([[3, 4]]) == pytest.approx((math.sqrt(2) - 7 / 5) / (math.sqrt(2) - 1))
    assert hoyer_sparsity([[1, 1, -1, 1], [0, 0, 2, 0]]) == pytest.approx(0.5)
    assert hoyer_sparsity([[0, -5, 0], [0, 0, 0]]) == pytest.approx(1)
    assert math.isnan(hoyer_sparsity(np.zeros((3, 2))))


def test_hoyer_does_not_change_under_scale_sign_and_order_and_rises_as_latents_go_off():
    latent_nk = np.random.default_rng(0).normal(size=(50, 8))
    before = hoyer_sparsity(latent_nk)
    scale_n1 = (
        10.0 ** np.linspace(-200, 200, 50)[:, None]
    )  # squares of these do not exist in double precision
    assert hoyer_sparsity(-latent_nk[:, ::-1] * scale_n1) == pytest.approx(before)
    half_nk = np.where(np.arange(8) < 4, latent_nk, 0)
    assert before < hoyer_sparsity(half_nk) < 1
