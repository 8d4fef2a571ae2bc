"""Scores against tables worked out by hand, and against the table that the seed study printed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from sparcell.metrics.active_latents import ACTIVE_VARIANCE, active_latents, predict_active_latents
from sparcell.metrics.clustering import clustering_scores
from sparcell.tl import embedding

SEED = Path(__file__).parents[3] / "shared" / "seed"
PRINTED = {
    "autoencoder": {"nmi": 0.721, "ari": 0.580, "homogeneity": 0.770, "completeness": 0.675},
    "beta_vae": {"nmi": 0.609, "ari": 0.440, "homogeneity": 0.654, "completeness": 0.567},
    "beta_vsc": {"nmi": 0.646, "ari": 0.465, "homogeneity": 0.692, "completeness": 0.602},
}
"""The seed study's table, rounded to the third digit."""


def cells(table):
    """Labels and partition of the cells that a contingency table counts: row = label, column = part."""
    labels, parts = np.divmod(np.repeat(np.arange(np.size(table)), np.ravel(table)), np.shape(table)[1])
    return [f"type {label}" for label in labels], parts


def entropy(counts):
    shares = np.asarray(counts, dtype=float)
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * np.log(shares)).sum())


def scores_of_table(table):
    """The four scores written out from their definitions."""
    table = np.asarray(table)
    labels, parts = entropy(table.sum(axis=1)), entropy(table.sum(axis=0))
    mutual = labels + parts - entropy(table.ravel())

    def pairs(counts):
        return sum(math.comb(int(count), 2) for count in np.ravel(counts))

    same_both, same_label, same_part = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    by_chance = same_label * same_part / math.comb(int(table.sum()), 2)
    return {
        "nmi": mutual / ((labels + parts) / 2),
        "ari": (same_both - by_chance) / ((same_label + same_part) / 2 - by_chance),
        "homogeneity": mutual / labels,
        "completeness": mutual / parts,
    }


TABLES = {
    "two types, one cell astray": [[3, 1], [0, 4]],
    "a type split": [[5, 5, 0], [0, 0, 10]],
    "two types merged": [[6, 0], [4, 0], [0, 10]],
    "uneven": [[30, 2, 1, 0], [4, 18, 0, 3], [0, 1, 9, 5]],
}


@pytest.mark.parametrize("name", TABLES)
def test_scores_are_those_worked_out_from_the_table(name):
    found = clustering_scores(*cells(TABLES[name]))
    expected = scores_of_table(TABLES[name])
    assert list(found) == list(expected)
    for measure, value in expected.items():
        assert found[measure] == pytest.approx(value, abs=1e-12), measure


def test_scores_in_plain_numbers():
    """Four cells of each type; the first part holds two of the first type, the second all the rest."""
    found = clustering_scores(*cells([[2, 2], [0, 4]]))
    # H(label) = ln 2; H(part) = -(¼ ln ¼ + ¾ ln ¾) = .562335; I = .215762
    assert found["homogeneity"] == pytest.approx(0.215762 / 0.693147, abs=1e-5)
    assert found["completeness"] == pytest.approx(0.215762 / 0.562335, abs=1e-5)
    assert found["nmi"] == pytest.approx(2 * 0.215762 / (0.693147 + 0.562335), abs=1e-5)
    # pairs: 8 in one cell of the table, 12 with one label, 16 in one part, 28 in all: (8 - 48/7) / (14 - 48/7)
    assert found["ari"] == pytest.approx(0.16, abs=1e-12)


def test_a_type_split_is_homogeneous_and_two_types_merged_are_complete():
    split, merged = (clustering_scores(*cells(TABLES[name])) for name in ("a type split", "two types merged"))
    assert split["homogeneity"] == pytest.approx(1)
    assert split["completeness"] < 0.8
    assert merged["completeness"] == pytest.approx(1)
    assert merged["homogeneity"] < 0.8


def test_names_and_order_of_the_parts_do_not_matter():
    labels, parts = cells(TABLES["uneven"])
    renamed = np.array(["c", "a", "d", "b"])[parts]
    assert clustering_scores(labels, renamed) == pytest.approx(clustering_scores(labels, parts))


def test_a_perfect_partition_scores_one_and_a_random_one_about_zero():
    labels = np.arange(5000) % 5
    assert set(clustering_scores(labels, 4 - labels).values()) == {1.0}
    shuffled = clustering_scores(labels, np.random.default_rng(0).permutation(labels))
    assert all(abs(value) < 0.01 for value in shuffled.values())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", PRINTED)
def test_the_scorer_reproduces_the_seed_study_s_table_from_its_own_maps(name, seed):
    path = SEED / f"tsne_{name}.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    table = pd.read_csv(path)
    partition, _ = embedding.kmeans(table[["x", "y"]].to_numpy(), 9, seed=seed)
    found = clustering_scores(table["seurat_cluster"], partition)
    assert found == pytest.approx(PRINTED[name], abs=0.003)


def test_a_latent_is_live_when_its_code_varies_by_more_than_the_threshold():
    rng = np.random.default_rng(0)
    spread = np.sqrt(np.array([0.0, 0.5, 0.9, 1.1, 100.0]) * ACTIVE_VARIANCE)
    unit = rng.normal(size=(1000, 5))
    latent_nk = (unit - unit.mean(axis=0)) / unit.std(axis=0) * spread + 7
    np.testing.assert_array_equal(active_latents(latent_nk), [False, False, False, True, True])


def test_an_offset_alone_is_not_live():
    assert not active_latents(np.full((10, 2), 3.0, dtype=np.float32)).any()


def linear_loss(value_g, n_latent, beta, variance):
    """Lowest loss of a linear beta-VAE whose latents are the first principal components, and their weights: found by descent.

    Of one component with eigenvalue v, weight w, code slope a and posterior variance s: E (x - w z)² = v (1 - w a)² + w² s.
    """

    def loss(free):
        weight, slope, log_s = np.split(free[: 3 * n_latent], 3)
        lost = value_g.copy()
        lost[:n_latent] = lost[:n_latent] * (1 - weight * slope) ** 2 + weight**2 * np.exp(log_s)
        noise = lost.mean() if variance is None else variance
        kl = 0.5 * (slope**2 * value_g[:n_latent] + np.exp(log_s) - 1 - log_s).sum()
        return lost.sum() / (2 * noise) + len(value_g) / 2 * np.log(noise) + beta * kl

    starts = [
        np.concatenate([np.full(n_latent, w), np.full(n_latent, 0.5), np.full(n_latent, -2.0)])
        for w in (0.3, 1.0)
    ]
    best = min(
        (minimize(loss, start, method="L-BFGS-B", options={"maxiter": 5000}) for start in starts),
        key=lambda found: found.fun,
    )
    return best.fun, best.x[:n_latent]


@pytest.mark.parametrize(
    ("beta", "variance", "expected"),
    [(2.0, 0.5, 3), (1.0, 0.5, 4), (4.0, 0.5, 2), (2.0, None, 3), (1.0, None, 5), (4.0, None, 2)],
)
def test_the_number_of_live_latents_is_that_of_the_linear_model_s_optimum(beta, variance, expected):
    value_g = np.concatenate([[8.0, 3.0, 1.4, 0.7, 0.31], np.full(15, 0.3)])
    found = predict_active_latents(value_g[::-1], 5, beta=beta, gaussian_variance=variance)
    weight_k = linear_loss(value_g, 5, beta, variance)[1]
    assert found == (np.abs(weight_k) > 0.05).sum()
    assert found == expected
