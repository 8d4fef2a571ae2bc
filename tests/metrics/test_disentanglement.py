"""Measures of readable codes against brute force, tables worked out by hand, and other people's code.

Suffixes: n cells, k latents, c categories, p planted factors, g genes.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import KBinsDiscretizer

from sparcell.metrics.disentanglement import (
    disentanglement_scores,
    hoyer_sparsity,
    latent_matching_score,
    latents_on,
    matched_correlation,
    most_similar_averaging_score,
    most_similar_gap_score,
    program_reproducibility,
    same_process_neighbors,
    scaled_mutual_information,
)

BOTH = pytest.mark.parametrize("measure", [scaled_mutual_information, same_process_neighbors])
AGGREGATIONS = {
    "lms": latent_matching_score,
    "msas": most_similar_averaging_score,
    "msgs": most_similar_gap_score,
}


def some_cells(seed=0, n=200):
    """Codes of 4 latents, the last off (exactly 0) in most cells, and uneven labels that two of them follow."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["b", "a", "d", "c"], size=n, p=[0.1, 0.4, 0.3, 0.2])
    latent_nk = rng.normal(size=(n, 4))
    latent_nk[:, 0] += 3 * (labels == "a")
    latent_nk[:, 3] = np.where(labels == "b", rng.gamma(2, size=n), 0)
    return latent_nk, labels


def one_hot(n=60):
    labels = np.arange(n) % 3
    return np.eye(3)[labels], labels


# SMI


def binned(latent_nk, labels, n_bins):
    """SMI by scikit-learn: KBinsDiscretizer and mutual_info_score."""
    cutter = KBinsDiscretizer(n_bins, encode="ordinal", strategy="uniform")
    bin_nk = cutter.fit_transform(latent_nk).astype(int)
    members = [labels == name for name in np.unique(labels)]
    score_kc = [
        [mutual_info_score(bin_n, one) / stats.entropy([one.mean(), 1 - one.mean()]) for one in members]
        for bin_n in bin_nk.T
    ]
    return np.array(score_kc)


@pytest.mark.parametrize("n_bins", [2, 10, 33])
@pytest.mark.parametrize("seed", range(3))
def test_smi_is_that_of_scikit_learn(seed, n_bins):
    latent_nk, labels = some_cells(seed)
    found = scaled_mutual_information(latent_nk, labels, n_bins)
    np.testing.assert_allclose(found, binned(latent_nk, labels, n_bins), atol=1e-12)


def test_a_value_on_the_border_of_two_bins_falls_into_the_upper_one_as_in_scikit_learn():
    latent_nk, labels = np.arange(11.0)[:, None], np.array(list("aabababbaab"))
    np.testing.assert_allclose(
        scaled_mutual_information(latent_nk, labels, 5), binned(latent_nk, labels, 5), atol=1e-12
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


def test_smi_keeps_its_value_when_a_latent_is_shifted_scaled_or_turned_round():
    latent_nk, labels = some_cells()
    before = scaled_mutual_information(latent_nk, labels)
    for changed in (latent_nk + 4, latent_nk * [2, 3, 0.5, 7], -latent_nk):
        np.testing.assert_allclose(scaled_mutual_information(changed, labels), before, atol=1e-12)


def test_smi_sees_little_where_one_cell_lies_far_out_and_spn_does_not_care():
    """The documented weakness of bins of equal width."""
    latent_nk, labels = one_hot(300)
    latent_nk = latent_nk + np.random.default_rng(0).normal(scale=0.1, size=latent_nk.shape)
    far_nk = latent_nk.copy()
    far_nk[np.argmax(latent_nk, axis=0), np.arange(3)] = 100
    assert scaled_mutual_information(latent_nk, labels).max(axis=0).min() > 0.95
    assert scaled_mutual_information(far_nk, labels).max() < 0.1
    np.testing.assert_array_equal(
        same_process_neighbors(far_nk, labels), same_process_neighbors(latent_nk, labels)
    )


# SPN


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
    for score_c, code_n in zip(found, latent_nk.T, strict=True):
        along = labels[np.argsort(code_n)]
        expected = [scaled_pairs(adjacent(along, name), labels, name) for name in "abcd"]
        np.testing.assert_allclose(score_c, expected, atol=1e-12)


def test_spn_with_ties_is_the_mean_over_all_orders_of_the_tied_cells():
    code_n = np.array([0.0, 0.0, -0.0, 0.0, 0.5, 1.0, 1.0, 1.0])
    labels = "aababaab"
    orders = list(itertools.product(itertools.permutations(range(4)), itertools.permutations(range(5, 8))))
    found = same_process_neighbors(code_n[:, None], list(labels))
    for column, name in enumerate("ab"):
        pairs = [adjacent([labels[i] for i in (*low, 4, *high)], name) for low, high in orders]
        assert found[0, column] == pytest.approx(scaled_pairs(np.mean(pairs), labels, name), abs=1e-12)


def test_spn_in_plain_numbers():
    """Sorted: a a b a b b. Of a's two possible pairs 1 is there, half the cells are a: (1/2 - 1/2) / (1/2) = 0."""
    labels = np.array(list("aababb"))
    code_n = np.arange(6.0)[:, None]
    np.testing.assert_allclose(same_process_neighbors(code_n, labels), [[0, 0]], atol=1e-12)
    # a a a b b b: 2 of 2 pairs
    np.testing.assert_allclose(same_process_neighbors(code_n, np.sort(labels)), [[1, 1]])
    # a a a b a b b b: 2 of 3 pairs: (2/3 - 1/2) / (1/2) = 1/3
    np.testing.assert_allclose(
        same_process_neighbors(np.arange(8.0)[:, None], list("aaababbb")), [[1 / 3] * 2]
    )


def test_spn_depends_on_the_order_only():
    latent_nk, labels = some_cells()
    before = same_process_neighbors(latent_nk, labels)
    for changed in (np.exp(latent_nk), latent_nk**3, -latent_nk, stats.rankdata(latent_nk, axis=0)):
        np.testing.assert_allclose(same_process_neighbors(changed, labels), before, atol=1e-12)


# both


@BOTH
def test_a_perfect_code_scores_one_where_it_should(measure):
    latent_nk, labels = one_hot()
    score_kc = measure(latent_nk, labels)
    np.testing.assert_allclose(score_kc.diagonal(), 1, atol=1e-12)
    assert score_kc[~np.eye(3, dtype=bool)].max() < 0.5
    apart_nk = latent_nk * np.linspace(1, 2, len(labels))[:, None]  # no ties among the cells that are on
    np.testing.assert_allclose(measure(apart_nk, labels).diagonal(), 1, atol=1e-12)


@BOTH
def test_noise_scores_about_zero_and_a_constant_latent_exactly_that_even_when_cells_are_sorted(measure):
    rng = np.random.default_rng(0)
    labels = np.sort(rng.choice(4, size=4000))
    score_kc = measure(np.column_stack([rng.normal(size=4000), np.full(4000, 0.1)]), labels)
    assert score_kc[0].max() < 0.06
    np.testing.assert_allclose(score_kc[1], 0, atol=1e-12)


@BOTH
def test_order_of_cells_latents_and_names_does_not_matter(measure):
    latent_nk, labels = some_cells()
    before = measure(latent_nk, labels)
    cells, latents = np.random.default_rng(1).permutation(len(labels)), [2, 0, 3, 1]
    np.testing.assert_allclose(
        measure(latent_nk[cells][:, latents], labels[cells]), before[latents], atol=1e-12
    )
    renamed = pd.Categorical(labels).rename_categories({"a": "z"})
    np.testing.assert_allclose(measure(latent_nk, renamed), before[:, [1, 2, 3, 0]], atol=1e-12)


@BOTH
def test_membership_is_taken_as_well_and_may_overlap(measure):
    latent_nk, labels = some_cells()
    member_nc = labels[:, None] == np.array(list("abcd"))
    np.testing.assert_array_equal(measure(latent_nk, member_nc), measure(latent_nk, labels))
    either = np.column_stack([member_nc, np.isin(labels, ["a", "c"])]).astype(int)
    np.testing.assert_allclose(
        measure(latent_nk, either)[:, 4], measure(latent_nk, np.isin(labels, ["a", "c"]))[:, 1], atol=1e-12
    )


@BOTH
def test_unused_categories_are_no_categories(measure):
    latent_nk, labels = some_cells()
    padded = pd.Categorical(labels, categories=list("abcdef"))
    assert measure(latent_nk, padded).shape == (4, 4)


# aggregations


def by_trying_all(score_kc):
    """The greatest sum over one-to-one matchings, by trying them all, over the number of categories."""
    n_latents, n_categories = score_kc.shape
    if n_latents >= n_categories:
        chosen = itertools.permutations(range(n_latents), n_categories)
        best = max(sum(score_kc[k, c] for c, k in enumerate(latents)) for latents in chosen)
    else:
        chosen = itertools.permutations(range(n_categories), n_latents)
        best = max(sum(score_kc[k, c] for k, c in enumerate(categories)) for categories in chosen)
    return best / n_categories


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (2, 5), (1, 3), (3, 1)])
def test_aggregations_are_those_of_brute_force(shape):
    score_kc = np.random.default_rng(sum(shape)).random(shape)
    assert latent_matching_score(score_kc) == pytest.approx(by_trying_all(score_kc))
    best, gap = [], []
    for scores in score_kc.T:
        ranked = sorted([*scores, 0], reverse=True)
        best.append(ranked[0])
        gap.append(ranked[0] - ranked[1])
    assert most_similar_averaging_score(score_kc) == pytest.approx(np.mean(best))
    assert most_similar_gap_score(score_kc) == pytest.approx(np.mean(gap))


def test_aggregations_in_plain_numbers():
    """Both categories are best in the first latent: only one of them gets it."""
    score_kc = [[0.9, 0.8], [0.7, 0.2], [0.0, 0.1]]
    assert latent_matching_score(score_kc) == pytest.approx((0.7 + 0.8) / 2)
    assert most_similar_averaging_score(score_kc) == pytest.approx((0.9 + 0.8) / 2)
    assert most_similar_gap_score(score_kc) == pytest.approx((0.2 + 0.6) / 2)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_a_perfect_table_scores_one_and_order_does_not_matter(name):
    score_kc = np.random.default_rng(0).random((5, 3))
    assert AGGREGATIONS[name](np.eye(5)[:, :3]) == 1
    assert AGGREGATIONS[name](score_kc[[3, 1, 4, 0, 2]][:, [2, 0, 1]]) == pytest.approx(
        AGGREGATIONS[name](score_kc)
    )


def test_a_redundant_code_keeps_lms_and_msas_and_loses_msgs():
    latent_nk, labels = some_cells(n=400)
    once, twice = (
        disentanglement_scores(latent_nk, labels),
        disentanglement_scores(np.tile(latent_nk, 2), labels),
    )
    assert twice["msgs_smi"] == twice["msgs_spn"] == 0 < once["msgs_smi"]
    assert twice["msas_smi"] == once["msas_smi"]
    assert twice["lms_spn"] >= once["lms_spn"]


def test_disentanglement_gathers_the_six_scores():
    latent_nk, labels = some_cells()
    found = disentanglement_scores(latent_nk, labels)
    assert list(found) == [f"{name}_{score}" for score in ("smi", "spn") for name in AGGREGATIONS]
    tables = {
        "smi": scaled_mutual_information(latent_nk, labels),
        "spn": same_process_neighbors(latent_nk, labels),
    }
    for (score, table), (name, aggregate) in itertools.product(tables.items(), AGGREGATIONS.items()):
        assert found[f"{name}_{score}"] == aggregate(table)


@pytest.mark.parametrize("live", [[True, False, True, True], [True, False, False, False]])
def test_a_latent_that_is_not_live_is_dropped(live):
    latent_nk, labels = some_cells()
    latent_nk[:, 1] = 1e-6 * (labels == "c")  # perfect, but vanished
    without = disentanglement_scores(latent_nk[:, live], labels)
    assert disentanglement_scores(latent_nk, labels, live) == pytest.approx(without, abs=1e-12)
    assert disentanglement_scores(latent_nk, labels)["msas_smi"] > without["msas_smi"] + 0.1
    assert set(disentanglement_scores(latent_nk, labels, [False] * 4).values()) == {0.0}


def test_all_six_are_one_for_a_code_with_one_latent_a_category_and_about_zero_for_noise():
    labels = np.repeat(np.arange(5), 400)
    rng = np.random.default_rng(0)
    latent_nk = np.eye(5)[labels] * rng.uniform(1, 2, size=(2000, 1))
    perfect = disentanglement_scores(latent_nk, labels)
    assert min(perfect[f"{name}_smi"] for name in ("lms", "msas")) == pytest.approx(1)
    assert min(perfect[f"{name}_spn"] for name in ("lms", "msas")) == pytest.approx(1)
    assert (
        min(perfect.values()) > 0.75
    )  # MSGS: in the latent of another category, the off cells are a smaller crowd
    noise = disentanglement_scores(rng.normal(size=(2000, 5)), labels)
    assert max(noise.values()) < 0.06


# MCC


@pytest.mark.parametrize("n_latents", [3, 5, 7])
def test_mcc_is_the_best_of_all_matchings(n_latents):
    rng = np.random.default_rng(n_latents)
    factor_np = rng.normal(size=(50, 5))
    latent_nk = factor_np @ rng.normal(size=(5, n_latents)) + rng.normal(size=(50, n_latents))
    table_kp = np.array([[abs(stats.pearsonr(z, f).statistic) for f in factor_np.T] for z in latent_nk.T])
    found = matched_correlation(latent_nk, factor_np)
    assert found.mean == pytest.approx(by_trying_all(table_kp))
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


def test_mcc_of_noise_is_small_and_of_a_constant_code_zero():
    rng = np.random.default_rng(0)
    factor_np = rng.normal(size=(5000, 4))
    assert matched_correlation(rng.normal(size=(5000, 4)), factor_np).mean < 0.04
    assert matched_correlation(np.full((5000, 4), 0.1), factor_np).mean == 0


# sparsity


def test_latents_on_counts_by_hand():
    latent_nk = [[0, 0, 0], [0, -2, 0], [1, 0.4, 0], [3, 1, 1]]
    assert latents_on(latent_nk, 0) == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert latents_on(latent_nk, 0.5) == pytest.approx((0 + 1 + 1 + 3) / 4)
    assert latents_on([[0.9, 0.51, 0.5], [0.1, 0.2, 0.3]], 0.5) == pytest.approx(1)


def test_hoyer_by_hand():
    assert hoyer_sparsity([[3, 4]]) == pytest.approx((math.sqrt(2) - 7 / 5) / (math.sqrt(2) - 1))
    assert hoyer_sparsity([[1, 1, -1, 1], [0, 0, 2, 0]]) == pytest.approx(0.5)
    assert hoyer_sparsity([[0, -5, 0], [0, 0, 0]]) == pytest.approx(1)
    assert math.isnan(hoyer_sparsity(np.zeros((3, 2))))


def test_hoyer_keeps_its_value_under_scale_sign_and_order_and_rises_as_latents_go_off():
    latent_nk = np.random.default_rng(0).normal(size=(50, 8))
    before = hoyer_sparsity(latent_nk)
    scale_n1 = (
        10.0 ** np.linspace(-200, 200, 50)[:, None]
    )  # squares of these do not exist in double precision
    assert hoyer_sparsity(-latent_nk[:, ::-1] * scale_n1) == pytest.approx(before)
    half_nk = np.where(np.arange(8) < 4, latent_nk, 0)
    assert before < hoyer_sparsity(half_nk) < 1


# reproducibility


def test_the_same_programs_in_other_order_sign_and_scale_are_all_found():
    effect_gk = np.random.default_rng(0).normal(size=(100, 4))
    turned_gk = effect_gk[:, [3, 1, 0, 2]] * [1, -2, 3, -4] + 5
    found = program_reproducibility([effect_gk, turned_gk, effect_gk])
    for share_k, correlation_k in zip(found.share, found.correlation, strict=True):
        np.testing.assert_array_equal(share_k, 1)
        np.testing.assert_allclose(correlation_k, 1)
    signed = program_reproducibility([effect_gk, effect_gk[:, [3, 1, 0, 2]] * [1, -2, 3, -4]], signed=True)
    np.testing.assert_array_equal(signed.share[0], [1, 0, 0, 1])
    assert signed.correlation[0][1] < 0.3


def test_what_is_not_in_another_seed_is_not_found_there():
    """Programs 0 to 4 are uncorrelated; the seeds hold 0 1 2, 1 0 3 4 and 2 and nothing."""
    basis_gk = np.linalg.qr(np.column_stack([np.ones(30), np.random.default_rng(0).normal(size=(30, 5))]))[0][
        :, 1:
    ]
    nothing_g1 = np.full((30, 1), 0.1)
    seeds = [basis_gk[:, [0, 1, 2]], basis_gk[:, [1, 0, 3, 4]], np.hstack([basis_gk[:, [2]], nothing_g1])]
    found = program_reproducibility(seeds)
    expected = [[0.5, 0.5, 0.5], [0.5, 0.5, 0, 0], [0.5, 0]]
    for seed, value in enumerate(expected):
        np.testing.assert_allclose(found.share[seed], value)
        np.testing.assert_allclose(found.correlation[seed], value, atol=1e-12)


def test_reproducibility_is_that_of_brute_force():
    rng = np.random.default_rng(3)
    shared_gk = rng.normal(size=(40, 4))
    seeds = [shared_gk[:, :k] + rng.normal(scale=0.7, size=(40, k)) for k in (3, 4, 2)]
    found = program_reproducibility(seeds, 0.6)
    for mine, effect_gk in enumerate(seeds):
        matched = np.zeros((3, effect_gk.shape[1]))
        for other, other_gk in enumerate(seeds):
            if other != mine:
                table = np.abs(
                    np.corrcoef(effect_gk.T, other_gk.T)[: effect_gk.shape[1], effect_gk.shape[1] :]
                )
                small, to_memory_layout = (
                    (table, False) if table.shape[0] <= table.shape[1] else (table.T, True)
                )
                rows = range(len(small))
                best = max(
                    itertools.permutations(range(small.shape[1]), len(small)),
                    key=lambda to, small=small, rows=rows: sum(small[row, to[row]] for row in rows),
                )
                for row, column in zip(rows, best, strict=True):
                    matched[other, column if to_memory_layout else row] = small[row, column]
        np.testing.assert_allclose(found.correlation[mine], matched.sum(axis=0) / 2, atol=1e-12)
        np.testing.assert_allclose(found.share[mine], (matched >= 0.6).sum(axis=0) / 2)
    assert 0 < np.concatenate(found.share).mean() < 1


def test_noise_is_not_reproduced():
    rng = np.random.default_rng(0)
    found = program_reproducibility([rng.normal(size=(500, 6)) for _ in range(4)])
    assert np.concatenate(found.share).max() == 0
    assert np.concatenate(found.correlation).max() < 0.2


# bad input

CODE_NK = np.arange(12.0).reshape(6, 2)
LABELS = list("aabbcc")
MISTAKES = {
    "a vector as code": (
        lambda: scaled_mutual_information(CODE_NK[:, 0], LABELS),
        r"code_nk has shape \(6,\)",
    ),
    "no latents": (
        lambda: same_process_neighbors(CODE_NK[:, :0], LABELS),
        r"shape \(6, 0\); expected cells",
    ),
    "words as code": (lambda: hoyer_sparsity([["x", "y"]]), "code_nk is not a matrix of numbers"),
    "NaN": (lambda: latents_on(np.full((2, 2), np.nan), 0), "value_nk holds NaN"),
    "too few labels": (
        lambda: disentanglement_scores(CODE_NK, LABELS[:5]),
        r"\(5,\); expected one value .* 6 cells",
    ),
    "a missing label": (
        lambda: same_process_neighbors(CODE_NK, [*LABELS[:5], None]),
        "1 cells have no label",
    ),
    "one label": (
        lambda: scaled_mutual_information(CODE_NK, ["a"] * 6),
        "'a' has 6 cells; expected 1 or more, and",
    ),
    "a lone cell": (
        lambda: same_process_neighbors(CODE_NK, list("aabbbc")),
        "'c' has 1 cells; expected 2 or more",
    ),
    "no membership": (lambda: scaled_mutual_information(CODE_NK, CODE_NK), "other values than 0 and 1"),
    "an empty category": (lambda: scaled_mutual_information(CODE_NK, np.eye(6, 7)), "category 6 has 0 cells"),
    "one bin": (lambda: scaled_mutual_information(CODE_NK, LABELS, 1), "n_bins is 1; expected 2"),
    "live by number": (
        lambda: disentanglement_scores(CODE_NK, LABELS, [0, 1]),
        "live_k .* one bool for each of the 2",
    ),
    "other cells": (lambda: matched_correlation(CODE_NK, CODE_NK[1:]), "6 cells and factor_np 5"),
    "a constant factor": (lambda: matched_correlation(CODE_NK, CODE_NK * [1, 0]), "factor 1 is constant"),
    "a threshold below 0": (lambda: latents_on(CODE_NK, -1), "threshold is -1; expected 0 or more"),
    "a single latent": (lambda: hoyer_sparsity(CODE_NK[:, :1]), "1 latent; Hoyer's sparsity expects 2"),
    "a single seed": (lambda: program_reproducibility([CODE_NK]), "holds 1 seeds; expected 2"),
    "other genes": (lambda: program_reproducibility([CODE_NK, CODE_NK[1:]]), r"\[6, 5\] genes"),
    "no threshold": (
        lambda: program_reproducibility([CODE_NK] * 2, 0),
        "threshold is 0; expected a correlation",
    ),
    "a bad table": (lambda: latent_matching_score([1, 2]), r"score_kc has shape \(2,\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_bad_input_gets_one_clear_error(name):
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        call()
