"""Clustering scores against tables worked out by hand, and against the table of the 2019 study."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sparcell.metrics.clustering import clustering_scores
from sparcell.tl import embedding

STUDY_2019 = Path(__file__).parents[3] / "shared" / "seed"
PRINTED = {
    "autoencoder": {"nmi": 0.721, "ari": 0.580, "homogeneity": 0.770, "completeness": 0.675},
    "beta_vae": {"nmi": 0.609, "ari": 0.440, "homogeneity": 0.654, "completeness": 0.567},
    "beta_vsc": {"nmi": 0.646, "ari": 0.465, "homogeneity": 0.692, "completeness": 0.602},
}
"""Table of the 2019 study, rounded to the third digit."""


def cells(table):
    """Return labels and partition of the cells that a contingency table counts: row = label, column = part."""
    labels, parts = np.divmod(np.repeat(np.arange(np.size(table)), np.ravel(table)), np.shape(table)[1])
    return [f"type {label}" for label in labels], parts


def entropy(counts):
    frequencies = np.asarray(counts, dtype=float)
    frequencies = frequencies[frequencies > 0] / frequencies.sum()
    return float(-(frequencies * np.log(frequencies)).sum())


def scores_of_table(table):
    """Return the four scores, written out from their definitions."""
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
def test_scores_equal_their_definitions(name):
    found = clustering_scores(*cells(TABLES[name]))
    expected = scores_of_table(TABLES[name])
    assert list(found) == list(expected)
    for score, value in expected.items():
        assert found[score] == pytest.approx(value, abs=1e-12), score


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
def test_scores_reproduce_the_table_of_the_2019_study_from_its_maps(name, seed):
    path = STUDY_2019 / f"tsne_{name}.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    table = pd.read_csv(path)
    partition, _ = embedding.kmeans(table[["x", "y"]].to_numpy(), 9, seed=seed)
    found = clustering_scores(table["seurat_cluster"], partition)
    assert found == pytest.approx(PRINTED[name], abs=0.003)
