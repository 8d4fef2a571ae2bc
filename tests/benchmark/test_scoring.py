"""Metrics of single latents of a benchmark's runs, on simulated latents."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sparcell.benchmark.scoring import active_latents_of, reproduced_fractions, single_latent_metrics
from sparcell.experiments.runs import Run

N = 600


@pytest.fixture
def generator():
    return np.random.default_rng(4)


def of(latent_nk, **more):
    return Run({"latent_nk": np.asarray(latent_nk, dtype=np.float32), **more})


def one_latent_a_type(names):
    return np.stack([names == name for name in np.unique(names)], axis=1).astype(float)


def test_one_latent_a_type_scores_1_and_a_rotation_of_it_less():
    names = np.repeat(["a", "b", "c"], N // 3)
    latent_nk = one_latent_a_type(names)
    scores = single_latent_metrics(of(latent_nk), pd.Categorical(names), unit_prior=False)
    assert [scores[key] for key in ("lms_smi", "msas_smi", "msgs_smi")] == pytest.approx([1, 1, 1], abs=0.8)
    assert scores["lms_smi"] == pytest.approx(1)
    assert (scores["n_active"], scores["mean_included"], scores["hoyer"]) == pytest.approx((3, 1, 1))
    turn = np.linalg.qr(np.arange(9.0).reshape(3, 3) + np.diag([5, -3, 2]))[0]
    rotated = single_latent_metrics(of(latent_nk @ turn), pd.Categorical(names), unit_prior=False)
    assert rotated["msgs_smi"] < scores["msgs_smi"]
    assert rotated["mean_included"] > 2


def test_inactive_latents_count_only_in_the_metrics_of_all_latents(generator):
    names = np.repeat(["a", "b", "c"], N // 3)
    latent_nk = one_latent_a_type(names) * [1, 1, 1e-3]
    with_prior = single_latent_metrics(of(latent_nk), pd.Categorical(names), unit_prior=True)
    assert with_prior["n_active"] == 2
    assert with_prior["lms_smi"] == pytest.approx(2 / 3)  # the third type finds no latent
    assert with_prior["all_lms_smi"] == pytest.approx(1)
    without = single_latent_metrics(of(latent_nk), pd.Categorical(names), unit_prior=False)
    assert (without["n_active"], without["lms_smi"]) == pytest.approx((3, 1))
    alone = single_latent_metrics(of(latent_nk * [1, 0, 0]), pd.Categorical(names), unit_prior=True)
    assert (alone["n_active"], alone["mean_included"]) == pytest.approx((1, 1 / 3))
    assert np.isnan(alone["hoyer"])
    none = single_latent_metrics(of(latent_nk * 0), pd.Categorical(names), unit_prior=False)
    assert (none["n_active"], none["mean_included"], none["lms_smi"]) == (0, 0, 0)


def test_inclusion_probabilities_decide_what_is_on(generator):
    names = pd.Categorical(np.repeat(["a", "b"], N // 2))
    latent_nk = generator.normal(size=(N, 3)) * [1, 1, 0.001]
    inclusion_nk = np.array([[0.9, 0.5, 0.9]]).repeat(N, axis=0)
    inclusion_nk[: N // 4, 0] = 0.1
    scores = single_latent_metrics(of(latent_nk, inclusion_nk=inclusion_nk), names, unit_prior=True)
    assert scores["mean_included"] == pytest.approx(
        0.75
    )  # the third is inactive, whatever its inclusion probability


def test_a_latent_that_is_on_in_a_rare_type_is_active_however_small_its_variance():
    names = np.array(["a"] * (N - 3) + ["rare"] * 3)
    rare = (names == "rare").astype(float)
    latent_nk = np.stack([rare, 0.1 * rare, 0.1 * rare + 0.001, np.arange(N) / N], axis=1)
    inclusion_nk = np.stack([rare, rare, np.ones(N), rare * 0.4], axis=1)
    assert latent_nk.var(axis=0)[0] < 0.01
    assert active_latents_of(of(latent_nk, inclusion_nk=inclusion_nk), unit_prior=True).tolist() == [
        True,
        False,
        False,
        True,
    ]
    assert active_latents_of(of(latent_nk), unit_prior=True).tolist() == [False, False, False, True]
    two = rare * (np.arange(N) < N - 1)
    assert not active_latents_of(
        of(two[:, None], inclusion_nk=two[:, None]), unit_prior=True
    ).any()  # two cells are too few
    scores = single_latent_metrics(
        of(latent_nk, inclusion_nk=inclusion_nk), pd.Categorical(names), unit_prior=True
    )
    assert scores["msas_smi"] == pytest.approx(1)


def test_cells_without_a_label_and_types_of_one_cell_are_left_out(generator):
    names = np.repeat(["a", "b", "c"], N // 3).astype(object)
    latent_nk = one_latent_a_type(names)
    more = np.vstack([latent_nk, generator.normal(size=(6, 3))])
    labels = pd.Categorical([*names, "single", *[None] * 5], categories=["a", "b", "c", "single", "absent"])
    scores = single_latent_metrics(of(more), labels, unit_prior=False)
    without_single = single_latent_metrics(
        of(more[: N + 1]), pd.Categorical([*names, None]), unit_prior=False
    )
    assert scores["lms_smi"] > 0.9
    assert scores["lms_smi"] == pytest.approx(without_single["lms_smi"], abs=0.05)
    assert scores["lms_spn"] > 0.5


def test_latents_are_reproduced_in_any_order_and_with_either_sign(generator):
    latent_nk = generator.normal(size=(N, 4))
    rotated = latent_nk[:, [2, 0, 3, 1]] * [-1, 5, 1, -0.2] + 3
    assert reproduced_fractions([of(latent_nk), of(rotated)], unit_prior=True) == [1, 1]
    half = np.hstack([latent_nk[:, :2], generator.normal(size=(N, 2))])
    assert reproduced_fractions([of(latent_nk), of(half)], unit_prior=True) == [0.5, 0.5]
    assert reproduced_fractions([of(latent_nk), of(latent_nk), of(half)], unit_prior=True) == [
        0.5,
        0.5,
        0.5,
    ]  # 1 of 2 others is below .8


def test_four_of_five_other_seeds_are_enough(generator):
    latent_nk = generator.normal(size=(N, 2))
    strange = of(generator.normal(size=(N, 2)))
    assert reproduced_fractions([*[of(latent_nk)] * 5, strange], unit_prior=True) == [1, 1, 1, 1, 1, 0]
    assert reproduced_fractions([*[of(latent_nk)] * 4, strange], unit_prior=True) == [0, 0, 0, 0, 0]


def test_inactive_latents_match_nothing_and_one_seed_gives_no_fraction(generator):
    latent_nk = generator.normal(size=(N, 3))
    small = latent_nk * [1, 1, 1e-3]
    assert active_latents_of(of(small), unit_prior=True).tolist() == [True, True, False]
    assert reproduced_fractions([of(latent_nk), of(small)], unit_prior=True) == pytest.approx([2 / 3, 1])
    inactive = reproduced_fractions([of(latent_nk), of(latent_nk * 0)], unit_prior=True)
    assert inactive[0] == 0
    assert np.isnan(inactive[1])
    assert np.isnan(reproduced_fractions([of(latent_nk)], unit_prior=True)).all()
