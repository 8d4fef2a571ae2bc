"""Logistic regression, its temperature and the distances, beside scikit-learn's and plain formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.linear_model import LogisticRegression

from sparcell.errors import InputError
from sparcell.tl import label_classifier
from sparcell.tl.label_classifier import LabelClassifier, best_temperature

CENTERS = np.array([[0, 0, 0], [2, 0, 1], [0, 3, -1]])


def cells(n_cells=600, types=(0, 1, 2), seed=0):
    rng = np.random.default_rng(seed)
    label_n = np.array(types)[np.arange(n_cells) % len(types)]
    return CENTERS[label_n] + rng.normal(size=(n_cells, 3)), np.array([f"t{label}" for label in label_n])


@pytest.mark.parametrize("types", [(0, 1, 2), (0, 1)])
def test_probabilities_are_those_of_scikit_learn_at_the_temperature(types):
    z_nk, labels_n = cells(types=types)
    classifier = LabelClassifier.fit(z_nk, labels_n)
    scaled_nk = (z_nk - z_nk.mean(axis=0)) / z_nk.std(axis=0)
    plain = LogisticRegression(max_iter=1000).fit(scaled_nk, labels_n)
    p_nt = plain.predict_proba(scaled_nk) ** (1 / classifier.temperature)
    expected = p_nt / p_nt.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.probabilities(z_nk), expected, rtol=1e-6)
    assert classifier.labels == tuple(plain.classes_)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true_temperature):
    rng = np.random.default_rng(1)
    logits_nt = 3 * rng.normal(size=(20_000, 4))
    noise_nt = rng.gumbel(size=logits_nt.shape)  # argmax(logits + Gumbel noise) is a draw of the softmax
    label_n = (logits_nt / true_temperature + noise_nt).argmax(axis=1)
    assert best_temperature(logits_nt, label_n) == pytest.approx(true_temperature, rel=0.05)


def test_probabilities_hold_on_other_cells():
    classifier = LabelClassifier.fit(*cells(6000))
    z_nk, labels_n = cells(30_000, seed=2)
    p_nt = classifier.probabilities(z_nk)
    right_n = np.array(classifier.labels)[p_nt.argmax(axis=1)] == labels_n
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.0)):
        bin_n = (p_nt.max(axis=1) > low) & (p_nt.max(axis=1) <= high)
        assert right_n[bin_n].mean() == pytest.approx(p_nt.max(axis=1)[bin_n].mean(), abs=0.05)


def test_the_distance_is_the_smallest_mahalanobis_distance(monkeypatch):
    z_nk, labels_n = cells()
    monkeypatch.setattr(label_classifier, "SHRINKAGE_CELLS", 0)
    classifier = LabelClassifier.fit(z_nk, labels_n)
    expected = np.inf
    for label in classifier.labels:
        of_type = z_nk[labels_n == label]
        precision = np.linalg.inv(np.cov(of_type.T, bias=True))
        expected = np.minimum(
            expected, [mahalanobis(cell, of_type.mean(axis=0), precision) ** 2 for cell in z_nk]
        )
    np.testing.assert_allclose(classifier.distances(z_nk), expected, rtol=1e-6)


def test_a_type_of_one_cell_has_a_finite_distance_and_a_probability():
    z_nk, labels_n = cells()
    classifier = LabelClassifier.fit(np.vstack([z_nk, [[9, 9, 9]]]), np.append(labels_n, "alone"))
    assert classifier.distances(np.array([[9, 9, 9]]))[0] == pytest.approx(0, abs=1e-9)
    assert np.isfinite(classifier.probabilities(z_nk)).all()


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_the_rate_of_known_cells_that_are_too_far_is_as_asked(rate):
    classifier = LabelClassifier.fit(*cells(6000))
    distance_n = classifier.distances(cells(20_000, seed=3)[0])
    assert (distance_n > classifier.max_distance(rate)).mean() == pytest.approx(rate, rel=0.35)
    assert classifier.max_distance(0) == np.inf


def test_a_type_that_the_reference_lacks_is_far():
    classifier = LabelClassifier.fit(*cells())
    far = np.array([8, 8, 8]) + np.random.default_rng(4).normal(size=(200, 3))
    assert (classifier.distances(far) > classifier.max_distance(0.01)).mean() > 0.95


def test_json_keeps_every_number_and_damage_is_refused():
    classifier = LabelClassifier.fit(*cells())
    stored = json.loads(json.dumps(classifier.to_json()))
    again = LabelClassifier.from_json(stored)
    z_nk = cells(seed=5)[0]
    np.testing.assert_array_equal(again.probabilities(z_nk), classifier.probabilities(z_nk))
    np.testing.assert_array_equal(again.distances(z_nk), classifier.distances(z_nk))
    with pytest.raises(ValueError, match="do not fit together"):
        LabelClassifier.from_json({**stored, "labels": ["t0"]})
    with pytest.raises(ValueError, match="not finite"):
        LabelClassifier.from_json({**stored, "temperature": float("nan")})


def test_the_same_seed_gives_the_same_numbers():
    first, second, other = (LabelClassifier.fit(*cells(), seed=seed) for seed in (1, 1, 2))
    assert first.to_json() == second.to_json()
    assert first.temperature != other.temperature


def test_one_label_is_refused():
    with pytest.raises(InputError, match="at least two"):
        LabelClassifier.fit(np.random.default_rng(0).normal(size=(10, 2)), np.array(["a"] * 10))
