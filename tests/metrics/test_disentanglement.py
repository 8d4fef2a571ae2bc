"""LMS, MSAS and MSGS against brute force and tables worked out by hand.

Suffixes: n cells, k latents, c categories.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from helpers.labeled_latents import best_of_all_matchings, some_cells
from sparcell.metrics.disentanglement import (
    disentanglement_scores,
    latent_matching_score,
    most_similar_averaging_score,
    most_similar_gap_score,
    same_process_neighbors,
    scaled_mutual_information,
)

AGGREGATIONS = {
    "lms": latent_matching_score,
    "msas": most_similar_averaging_score,
    "msgs": most_similar_gap_score,
}


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (2, 5), (1, 3), (3, 1)])
def test_aggregations_equal_those_of_brute_force(shape):
    score_kc = np.random.default_rng(sum(shape)).random(shape)
    assert latent_matching_score(score_kc) == pytest.approx(best_of_all_matchings(score_kc))
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


def test_redundant_latents_keep_lms_and_msas_and_lose_msgs():
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


@pytest.mark.parametrize("active", [[True, False, True, True], [True, False, False, False]])
def test_an_inactive_latent_is_dropped(active):
    latent_nk, labels = some_cells()
    latent_nk[:, 1] = 1e-6 * (labels == "c")  # perfect, but inactive
    without = disentanglement_scores(latent_nk[:, active], labels)
    assert disentanglement_scores(latent_nk, labels, active) == pytest.approx(without, abs=1e-12)
    assert disentanglement_scores(latent_nk, labels)["msas_smi"] > without["msas_smi"] + 0.1
    assert set(disentanglement_scores(latent_nk, labels, [False] * 4).values()) == {0.0}


def test_all_six_are_one_for_one_latent_per_category_and_about_zero_for_noise():
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
