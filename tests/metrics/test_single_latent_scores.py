"""SMI and SPN of single latents against scikit-learn, brute force and tables worked out by hand.

Suffixes: n cells, k latents, c categories.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import KBinsDiscretizer

from helpers.labeled_latents import one_hot, some_cells
from sparcell.metrics.disentanglement import same_process_neighbors, scaled_mutual_information

BOTH = pytest.mark.parametrize("score", [scaled_mutual_information, same_process_neighbors])


def smi_by_scikit_learn(latent_nk, labels, n_bins):
    """SMI by scikit-learn: KBinsDiscretizer and mutual_info_score."""
    binning = KBinsDiscretizer(n_bins, encode="ordinal", strategy="uniform")
    bin_nk = binning.fit_transform(latent_nk).astype(int)
    members = [labels == name for name in np.unique(labels)]
    score_kc = [
        [mutual_info_score(bin_n, one) / stats.entropy([one.mean(), 1 - one.mean()]) for one in members]
        for bin_n in bin_nk.T
    ]
    return np.array(score_kc)


@pytest.mark.parametrize("n_bins", [2, 10, 33])
@pytest.mark.parametrize("seed", range(3))
def test_smi_equals_that_of_scikit_learn(seed, n_bins):
    latent_nk, labels = some_cells(seed)
    found = scaled_mutual_information(latent_nk, labels, n_bins)
    np.testing.assert_allclose(found, smi_by_scikit_learn(latent_nk, labels, n_bins), atol=1e-12)


def test_a_value_on_the_border_of_two_bins_falls_into_the_upper_one_as_in_scikit_learn():
    latent_nk, labels = np.arange(11.0)[:, None], np.array(list("aabababbaab"))
    np.testing.assert_allclose(
        scaled_mutual_information(latent_nk, labels, 5), smi_by_scikit_learn(latent_nk, labels, 5), atol=1e-12
    )


def test_smi_in_plain_numbers():
    """Two bins of four cells: the first holds 2 cells of 'a' and 2 of 'b', the second 4 of 'b'."""
    latent_nk = np.array([0, 0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 1.0])[:, None]
    labels = list("aabb" + "bbbb")
    # H(a) = .562335; half the cells stand in a bin of entropy ln 2: I = .562335 - .346574 = .215762
    expected = 0.215762 / 0.562335
    np.testing.assert_allclose(
        scaled_mutual_information(latent_nk, labels, 2), [[expected, expected]], atol=1e-5
    )


def test_smi_does_not_change_when_a_latent_is_shifted_scaled_or_reversed():
    latent_nk, labels = some_cells()
    before = scaled_mutual_information(latent_nk, labels)
    for changed in (latent_nk + 4, latent_nk * [2, 3, 0.5, 7], -latent_nk):
        np.testing.assert_allclose(scaled_mutual_information(changed, labels), before, atol=1e-12)


def test_an_outlying_cell_lowers_smi_and_not_spn():
    """The documented weakness of bins of equal width."""
    latent_nk, labels = one_hot(300)
    latent_nk = latent_nk + np.random.default_rng(0).normal(scale=0.1, size=latent_nk.shape)
    outlying_nk = latent_nk.copy()
    outlying_nk[np.argmax(latent_nk, axis=0), np.arange(3)] = 100
    assert scaled_mutual_information(latent_nk, labels).max(axis=0).min() > 0.95
    assert scaled_mutual_information(outlying_nk, labels).max() < 0.1
    np.testing.assert_array_equal(
        same_process_neighbors(outlying_nk, labels), same_process_neighbors(latent_nk, labels)
    )


def adjacent(labels, name):
    return sum(one == other == name for one, other in itertools.pairwise(labels))


def scaled_pairs(pairs, labels, name):
    n_c, n = sum(label == name for label in labels), len(labels)
    return max(0, pairs / (n_c - 1) - n_c / n) / (1 - n_c / n)


@pytest.mark.parametrize("seed", range(3))
def test_spn_without_ties_counts_pairs_along_the_sorted_cells(seed):
    latent_nk, labels = some_cells(seed)
    latent_nk = latent_nk[:, :3]
    found = same_process_neighbors(latent_nk, labels)
    for score_c, z_n in zip(found, latent_nk.T, strict=True):
        along = labels[np.argsort(z_n)]
        expected = [scaled_pairs(adjacent(along, name), labels, name) for name in "abcd"]
        np.testing.assert_allclose(score_c, expected, atol=1e-12)


def test_spn_with_ties_is_the_mean_over_all_orders_of_the_tied_cells():
    z_n = np.array([0.0, 0.0, -0.0, 0.0, 0.5, 1.0, 1.0, 1.0])
    labels = "aababaab"
    orders = list(itertools.product(itertools.permutations(range(4)), itertools.permutations(range(5, 8))))
    found = same_process_neighbors(z_n[:, None], list(labels))
    for column, name in enumerate("ab"):
        pairs = [adjacent([labels[i] for i in (*low, 4, *high)], name) for low, high in orders]
        assert found[0, column] == pytest.approx(scaled_pairs(np.mean(pairs), labels, name), abs=1e-12)


def test_spn_in_plain_numbers():
    """Sorted: a a b a b b. Of a's two possible pairs 1 is there, half the cells are a: (1/2 - 1/2) / (1/2) = 0."""
    labels = np.array(list("aababb"))
    z_n = np.arange(6.0)[:, None]
    np.testing.assert_allclose(same_process_neighbors(z_n, labels), [[0, 0]], atol=1e-12)
    # a a a b b b: 2 of 2 pairs
    np.testing.assert_allclose(same_process_neighbors(z_n, np.sort(labels)), [[1, 1]])
    # a a a b a b b b: 2 of 3 pairs: (2/3 - 1/2) / (1/2) = 1/3
    np.testing.assert_allclose(
        same_process_neighbors(np.arange(8.0)[:, None], list("aaababbb")), [[1 / 3] * 2]
    )


def test_spn_depends_on_the_order_only():
    latent_nk, labels = some_cells()
    before = same_process_neighbors(latent_nk, labels)
    for changed in (np.exp(latent_nk), latent_nk**3, -latent_nk, stats.rankdata(latent_nk, axis=0)):
        np.testing.assert_allclose(same_process_neighbors(changed, labels), before, atol=1e-12)


@BOTH
def test_a_latent_per_category_scores_one_for_it(score):
    latent_nk, labels = one_hot()
    score_kc = score(latent_nk, labels)
    np.testing.assert_allclose(score_kc.diagonal(), 1, atol=1e-12)
    assert score_kc[~np.eye(3, dtype=bool)].max() < 0.5
    untied_nk = latent_nk * np.linspace(1, 2, len(labels))[:, None]  # no ties among the cells that are on
    np.testing.assert_allclose(score(untied_nk, labels).diagonal(), 1, atol=1e-12)


@BOTH
def test_noise_scores_about_zero_and_a_constant_latent_exactly_zero_even_if_cells_are_sorted(score):
    rng = np.random.default_rng(0)
    labels = np.sort(rng.choice(4, size=4000))
    score_kc = score(np.column_stack([rng.normal(size=4000), np.full(4000, 0.1)]), labels)
    assert score_kc[0].max() < 0.06
    np.testing.assert_allclose(score_kc[1], 0, atol=1e-12)


@BOTH
def test_order_of_cells_latents_and_names_does_not_matter(score):
    latent_nk, labels = some_cells()
    before = score(latent_nk, labels)
    cells, latents = np.random.default_rng(1).permutation(len(labels)), [2, 0, 3, 1]
    np.testing.assert_allclose(
        score(latent_nk[cells][:, latents], labels[cells]), before[latents], atol=1e-12
    )
    renamed = pd.Categorical(labels).rename_categories({"a": "z"})
    np.testing.assert_allclose(score(latent_nk, renamed), before[:, [1, 2, 3, 0]], atol=1e-12)


@BOTH
def test_membership_is_accepted_and_may_overlap(score):
    latent_nk, labels = some_cells()
    member_nc = labels[:, None] == np.array(list("abcd"))
    np.testing.assert_array_equal(score(latent_nk, member_nc), score(latent_nk, labels))
    either = np.column_stack([member_nc, np.isin(labels, ["a", "c"])]).astype(int)
    np.testing.assert_allclose(
        score(latent_nk, either)[:, 4], score(latent_nk, np.isin(labels, ["a", "c"]))[:, 1], atol=1e-12
    )


@BOTH
def test_unused_categories_are_no_categories(score):
    latent_nk, labels = some_cells()
    padded = pd.Categorical(labels, categories=list("abcdef"))
    assert score(latent_nk, padded).shape == (4, 4)
