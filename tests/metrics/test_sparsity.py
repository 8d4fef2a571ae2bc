"""Included latents and Hoyer's sparsity, worked out by hand.

Suffixes: n cells, k latents.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparcell.metrics.sparsity import hoyer_sparsity, mean_included, sparsity_summary
from sparcell.results.latents import LatentRepresentation


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


@pytest.mark.parametrize(
    ("inclusion_k", "active_k", "expected"),
    [
        ([1.0, 1.0, 0.99], [True, True, True], (3, 0, False)),  # dense, as a model of study-2019
        ([0.2, 0.3, 1.0], [True, True, True], (3, 2, True)),
        ([0.2, 0.95, 1.0], [True, True, True], (3, 1, False)),
        ([0.0, 0.0, 1.0], [False, False, True], (1, 0, False)),  # inactive latents do not count
        ([0.0, 0.0, 0.0], [False, False, False], (0, 0, False)),
    ],
)
def test_a_model_is_sparse_if_most_of_its_active_latents_are_off_in_a_tenth_of_the_cells(
    inclusion_k, active_k, expected
):
    summary = sparsity_summary(np.tile(inclusion_k, (4, 1)), active_k)
    assert (summary.n_active, summary.n_sparse, summary.is_sparse) == expected
    used = np.array(inclusion_k)[np.array(active_k)]
    assert summary.mean_inclusion == pytest.approx(used.mean() if len(used) else math.nan, nan_ok=True)


def test_a_latent_that_is_off_in_some_cells_is_sparse_by_its_mean():
    inclusion_nk = np.ones((20, 1))
    inclusion_nk[:3] = 0
    assert sparsity_summary(inclusion_nk, [True]).is_sparse
    inclusion_nk[1:3] = 1
    assert not sparsity_summary(inclusion_nk, [True]).is_sparse


def test_a_representation_says_whether_it_is_sparse():
    mean_nk = np.repeat([[0.0], [2.0]], 10, axis=0).astype(np.float32)
    on_nk = np.ones_like(mean_nk)
    assert LatentRepresentation(mean_nk, np.zeros(1), None).sparsity is None
    assert not LatentRepresentation(mean_nk, np.zeros(1), on_nk).sparsity.is_sparse
    assert LatentRepresentation(mean_nk, np.zeros(1), (mean_nk > 0).astype(np.float32)).sparsity.is_sparse


def test_a_mask_or_probabilities_of_the_wrong_kind_raise():
    with pytest.raises(ValueError, match="expected one bool for each of the 2 latents"):
        sparsity_summary([[0.5, 0.5]], [True])
    with pytest.raises(ValueError, match="expected one bool for each"):
        sparsity_summary([[0.5, 0.5]], [1, 0])
    with pytest.raises(ValueError, match=r"ranges from 0\.5 to 2; expected probabilities"):
        sparsity_summary([[0.5, 2.0]], [True, True])
