"""Matched factors and reproduced programs against brute force.

Suffixes: n cells, k latents, p true factors, g genes.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from helpers.labeled_latents import best_of_all_matchings
from sparcell.metrics.matching import matched_correlation, program_reproducibility


@pytest.mark.parametrize("n_latents", [3, 5, 7])
def test_mcc_is_the_best_of_all_matchings(n_latents):
    rng = np.random.default_rng(n_latents)
    factor_np = rng.normal(size=(50, 5))
    latent_nk = factor_np @ rng.normal(size=(5, n_latents)) + rng.normal(size=(50, n_latents))
    table_kp = np.array([[abs(stats.pearsonr(z, f).statistic) for f in factor_np.T] for z in latent_nk.T])
    found = matched_correlation(latent_nk, factor_np)
    assert found.mean == pytest.approx(best_of_all_matchings(table_kp))
    assert found.mean == pytest.approx(found.correlation_p.mean())
    matched = found.latent_p >= 0
    assert matched.sum() == min(5, n_latents) == len(set(found.latent_p[matched]))
    np.testing.assert_allclose(
        found.correlation_p[matched], table_kp[found.latent_p[matched], matched.nonzero()[0]]
    )
    np.testing.assert_array_equal(found.correlation_p[~matched], 0)


def test_mcc_finds_factors_in_any_order_sign_and_scale():
    factor_np = np.random.default_rng(0).normal(size=(100, 4))
    latent_nk = np.column_stack([np.full(100, 0.1), factor_np[:, [2, 0, 3, 1]] * [-1, 5, 0.1, -3] + 7])
    found = matched_correlation(latent_nk, factor_np)
    assert found.mean == pytest.approx(1)
    np.testing.assert_array_equal(found.latent_p, [2, 4, 1, 3])


def test_mcc_of_noise_is_small_and_of_a_constant_latent_zero():
    rng = np.random.default_rng(0)
    factor_np = rng.normal(size=(5000, 4))
    assert matched_correlation(rng.normal(size=(5000, 4)), factor_np).mean < 0.04
    assert matched_correlation(np.full((5000, 4), 0.1), factor_np).mean == 0


def test_the_same_programs_in_another_order_sign_and_scale_are_reproduced():
    effect_gk = np.random.default_rng(0).normal(size=(100, 4))
    reversed_gk = effect_gk[:, [3, 1, 0, 2]] * [1, -2, 3, -4] + 5
    found = program_reproducibility([effect_gk, reversed_gk, effect_gk])
    for fraction_k, correlation_k in zip(found.fraction, found.correlation, strict=True):
        np.testing.assert_array_equal(fraction_k, 1)
        np.testing.assert_allclose(correlation_k, 1)
    signed = program_reproducibility([effect_gk, effect_gk[:, [3, 1, 0, 2]] * [1, -2, 3, -4]], signed=True)
    np.testing.assert_array_equal(signed.fraction[0], [1, 0, 0, 1])
    assert signed.correlation[0][1] < 0.3


def test_a_program_that_another_seed_lacks_is_not_reproduced():
    """Programs 0 to 4 are uncorrelated; the seeds hold 0 1 2, 1 0 3 4, and 2 with a constant program."""
    basis_gk = np.linalg.qr(np.column_stack([np.ones(30), np.random.default_rng(0).normal(size=(30, 5))]))[0][
        :, 1:
    ]
    constant_g1 = np.full((30, 1), 0.1)
    seeds = [basis_gk[:, [0, 1, 2]], basis_gk[:, [1, 0, 3, 4]], np.hstack([basis_gk[:, [2]], constant_g1])]
    found = program_reproducibility(seeds)
    expected = [[0.5, 0.5, 0.5], [0.5, 0.5, 0, 0], [0.5, 0]]
    for seed, value in enumerate(expected):
        np.testing.assert_allclose(found.fraction[seed], value)
        np.testing.assert_allclose(found.correlation[seed], value, atol=1e-12)


def test_reproducibility_equals_that_of_brute_force():
    rng = np.random.default_rng(3)
    shared_gk = rng.normal(size=(40, 4))
    seeds = [shared_gk[:, :k] + rng.normal(scale=0.7, size=(40, k)) for k in (3, 4, 2)]
    found = program_reproducibility(seeds, 0.6)
    for seed, effect_gk in enumerate(seeds):
        matched = np.zeros((3, effect_gk.shape[1]))
        for other, other_gk in enumerate(seeds):
            if other != seed:
                table = np.abs(
                    np.corrcoef(effect_gk.T, other_gk.T)[: effect_gk.shape[1], effect_gk.shape[1] :]
                )
                small, is_transposed = (table, False) if table.shape[0] <= table.shape[1] else (table.T, True)
                rows = range(len(small))
                best = max(
                    itertools.permutations(range(small.shape[1]), len(small)),
                    key=lambda to, small=small, rows=rows: sum(small[row, to[row]] for row in rows),
                )
                for row, column in zip(rows, best, strict=True):
                    matched[other, column if is_transposed else row] = small[row, column]
        np.testing.assert_allclose(found.correlation[seed], matched.sum(axis=0) / 2, atol=1e-12)
        np.testing.assert_allclose(found.fraction[seed], (matched >= 0.6).sum(axis=0) / 2)
    assert 0 < np.concatenate(found.fraction).mean() < 1


def test_noise_is_not_reproduced():
    rng = np.random.default_rng(0)
    found = program_reproducibility([rng.normal(size=(500, 6)) for _ in range(4)])
    assert np.concatenate(found.fraction).max() == 0
    assert np.concatenate(found.correlation).max() < 0.2
