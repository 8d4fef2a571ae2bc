"""Posterior predictive checks beside numpy, and beside data that was drawn from the very distribution.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sparcell.tl.misfits import describe, does_not_fit, findings
from sparcell.tl.predictive_checks import (
    CheckSums,
    PowerSums,
    Replicate,
    gene_table,
    mass_below,
    overall_table,
)

N_CELLS, N_GENES = 1500, 40
MEANS = np.geomspace(0.02, 60, N_GENES)
GENES = [f"gene{number}" for number in range(N_GENES)]
R = 1.5


def model():
    return stats.nbinom(R, R / (R + MEANS))


def checked(observed_ng, *, n_samples=3, seed=0, blocks=2):
    """The sums of observed counts under a negative binomial with the same mean for all cells."""
    rng, sums = np.random.default_rng(seed), CheckSums(N_GENES, n_samples, 2)
    for block_ng in np.array_split(observed_ng, blocks):
        replicates = [
            Replicate(
                model().rvs(block_ng.shape, random_state=rng).astype(float),
                model().cdf(block_ng - 1),
                model().cdf(block_ng),
            )
            for _ in range(n_samples)
        ]
        sums.add(block_ng, replicates, np.arange(len(block_ng)) % 2)
    return sums


def tables(sums):
    genes = gene_table(sums, GENES)
    genes["finding"] = findings(genes, sums)
    return genes, overall_table(sums, genes)


def right_counts(seed=1):
    return model().rvs((N_CELLS, N_GENES), random_state=np.random.default_rng(seed)).astype(float)


def test_sums_of_powers_are_the_moments():
    x_ng = right_counts()
    sums = PowerSums()
    for block_ng in np.array_split(x_ng, 3):
        sums.add(block_ng)
    np.testing.assert_allclose(sums.mean, x_ng.mean(axis=0))
    np.testing.assert_allclose(sums.variance, x_ng.var(axis=0))
    np.testing.assert_allclose(sums.fourth_moment, stats.moment(x_ng, 4, axis=0), rtol=1e-8)
    np.testing.assert_allclose(sums.zeros, (x_ng == 0).mean(axis=0))


def test_mass_below_an_edge_is_that_of_draws_within_the_atom():
    rng = np.random.default_rng(0)
    low_n = rng.uniform(0, 0.9, 30)
    high_n = low_n + rng.uniform(0, 0.1, 30)
    drawn_sn = rng.uniform(low_n, high_n, size=(40_000, 30))
    for edge in (0.05, 0.5, 0.9):
        np.testing.assert_allclose(mass_below(edge, low_n, high_n), (drawn_sn < edge).mean(axis=0), atol=0.02)
    np.testing.assert_array_equal(mass_below(0.5, np.array([0.4, 0.6]), np.array([0.4, 0.6])), [1, 0])


def test_a_right_model_has_its_nominal_coverage_at_every_mean():
    """Also for genes of which nearly all counts are 0, whose intervals could not have it otherwise."""
    genes, overall = tables(checked(right_counts()))
    error = 4 * np.sqrt(0.25 / N_CELLS)
    np.testing.assert_allclose(genes["coverage_50"], 0.5, atol=error)
    np.testing.assert_allclose(genes["coverage_90"], 0.9, atol=4 * np.sqrt(0.09 / N_CELLS))
    np.testing.assert_allclose(genes["pit_mean"], 0.5, atol=4 * np.sqrt(1 / 12 / N_CELLS))
    assert genes["misfit"].max() < 0.06
    assert (genes["finding"] == "").all()
    assert not does_not_fit(genes, overall)
    assert "None of the 40 genes" in describe(genes, overall)[-1]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda x_n, rng: np.where(rng.random(N_CELLS) < 0.3, 0, x_n), "more zeros than expected"),
        (lambda x_n, rng: np.maximum(x_n, 1), "fewer zeros than expected"),
        (lambda x_n, rng: rng.poisson(x_n.mean(), N_CELLS), "fewer zeros than expected"),
    ],
)
def test_a_gene_that_does_not_fit_is_found_with_its_direction(change, finding):
    x_ng = right_counts()
    x_ng[:, 25] = change(x_ng[:, 25], np.random.default_rng(2))
    genes, overall = tables(checked(x_ng))
    assert genes.loc[25, "finding"] == finding
    assert (genes["finding"] != "").sum() == 1
    assert f"1 with {finding} (gene25)" in describe(genes, overall)[-1]


def test_a_wide_and_a_narrow_gene_are_told_apart():
    rng = np.random.default_rng(3)
    x_ng = right_counts()
    mean = MEANS[-1]
    x_ng[:, -1] = rng.poisson(mean, N_CELLS)
    x_ng[:, -2] = rng.negative_binomial(0.8, 0.8 / (0.8 + MEANS[-2]), N_CELLS)
    genes, _ = tables(checked(x_ng))
    assert genes.loc[N_GENES - 1, "coverage_90"] > 0.97
    assert genes.loc[N_GENES - 1, "finding"].startswith(("less variance", "fewer values far"))
    assert genes.loc[N_GENES - 2, "finding"] in (
        "more zeros than expected",
        "more variance than expected",
        "more values far from the expected ones than there should be",
    )


def test_single_counts_far_too_high_are_extremes_and_no_finding():
    x_ng = right_counts()
    x_ng[:5, 10] = 400
    genes, overall = tables(checked(x_ng))
    assert genes.loc[10, "extremes"] == pytest.approx(5 / N_CELLS)
    assert genes.loc[10, "variance_observed"] > 20 * genes.loc[10, "variance_expected"]
    assert genes.loc[10, "finding"] == ""
    assert any("gene10" in sentence for sentence in describe(genes, overall))


def test_overall_errors_by_hand_and_blocks_do_not_matter():
    x_ng = right_counts()
    sums = checked(x_ng, blocks=1)
    genes, overall = tables(sums)
    value = overall.set_index("check")
    assert value.loc["zeros", "observed"] == pytest.approx((x_ng == 0).mean())
    error = (genes["zeros_observed"] - genes["zeros_expected"]).abs().mean()
    assert value.loc["zeros", "error"] == pytest.approx(error)
    assert value.loc["cv", "observed"] == pytest.approx((x_ng.std(axis=0) / x_ng.mean(axis=0)).mean())
    assert value.loc["total", "observed"] == pytest.approx(x_ng.sum(axis=1).mean())
    several, _ = tables(checked(x_ng, blocks=7))
    np.testing.assert_allclose(several["coverage_90"], genes["coverage_90"])
