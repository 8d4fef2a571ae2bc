"""Readability of a benchmark's runs on planted codes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sparcell.benchmark.scoring import live, readable, reproduced_fractions
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
    found = readable(of(latent_nk), pd.Categorical(names), unit_prior=False)
    assert [found[key] for key in ("lms_smi", "msas_smi", "msgs_smi")] == pytest.approx([1, 1, 1], abs=0.8)
    assert found["lms_smi"] == pytest.approx(1)
    assert (found["live"], found["on"], found["hoyer"]) == pytest.approx((3, 1, 1))
    turn = np.linalg.qr(np.arange(9.0).reshape(3, 3) + np.diag([5, -3, 2]))[0]
    to_memory_layout = readable(of(latent_nk @ turn), pd.Categorical(names), unit_prior=False)
    assert to_memory_layout["msgs_smi"] < found["msgs_smi"]
    assert to_memory_layout["on"] > 2


def test_latents_that_vanished_count_only_where_all_do(generator):
    names = np.repeat(["a", "b", "c"], N // 3)
    latent_nk = one_latent_a_type(names) * [1, 1, 1e-3]
    with_prior = readable(of(latent_nk), pd.Categorical(names), unit_prior=True)
    assert with_prior["live"] == 2
    assert with_prior["lms_smi"] == pytest.approx(2 / 3)  # the third type finds no latent
    assert with_prior["all_lms_smi"] == pytest.approx(1)
    without = readable(of(latent_nk), pd.Categorical(names), unit_prior=False)
    assert (without["live"], without["lms_smi"]) == pytest.approx((3, 1))
    alone = readable(of(latent_nk * [1, 0, 0]), pd.Categorical(names), unit_prior=True)
    assert (alone["live"], alone["on"]) == pytest.approx((1, 1 / 3))
    assert np.isnan(alone["hoyer"])
    none = readable(of(latent_nk * 0), pd.Categorical(names), unit_prior=False)
    assert (none["live"], none["on"], none["lms_smi"]) == (0, 0, 0)


def test_inclusion_probabilities_tell_what_is_on(generator):
    names = pd.Categorical(np.repeat(["a", "b"], N // 2))
    latent_nk = generator.normal(size=(N, 3)) * [1, 1, 0.001]
    inclusion_nk = np.array([[0.9, 0.5, 0.9]]).repeat(N, axis=0)
    inclusion_nk[: N // 4, 0] = 0.1
    found = readable(of(latent_nk, inclusion_nk=inclusion_nk), names, unit_prior=True)
    assert found["on"] == pytest.approx(0.75)  # the third vanished, whatever its gamma


def test_a_latent_that_is_on_in_a_rare_type_lives_however_small_its_variance():
    names = np.array(["a"] * (N - 3) + ["rare"] * 3)
    rare = (names == "rare").astype(float)
    latent_nk = np.stack([rare, 0.1 * rare, 0.1 * rare + 0.001, np.arange(N) / N], axis=1)
    inclusion_nk = np.stack([rare, rare, np.ones(N), rare * 0.4], axis=1)
    assert latent_nk.var(axis=0)[0] < 0.01
    assert live(of(latent_nk, inclusion_nk=inclusion_nk), unit_prior=True).tolist() == [
        True,
        False,
        False,
        True,
    ]
    assert live(of(latent_nk), unit_prior=True).tolist() == [False, False, False, True]
    two = rare * (np.arange(N) < N - 1)
    assert not live(
        of(two[:, None], inclusion_nk=two[:, None]), unit_prior=True
    ).any()  # of two cells nobody knows
    found = readable(of(latent_nk, inclusion_nk=inclusion_nk), pd.Categorical(names), unit_prior=True)
    assert found["msas_smi"] == pytest.approx(1)


def test_cells_without_a_label_and_types_of_one_cell_are_left_out(generator):
    names = np.repeat(["a", "b", "c"], N // 3).astype(object)
    latent_nk = one_latent_a_type(names)
    more = np.vstack([latent_nk, generator.normal(size=(6, 3))])
    labels = pd.Categorical([*names, "single", *[None] * 5], categories=["a", "b", "c", "single", "absent"])
    found = readable(of(more), labels, unit_prior=False)
    told = readable(of(more[: N + 1]), pd.Categorical([*names, None]), unit_prior=False)
    assert found["lms_smi"] > 0.9
    assert found["lms_smi"] == pytest.approx(told["lms_smi"], abs=0.05)
    assert found["lms_spn"] > 0.5


def test_latents_are_found_again_in_any_order_and_either_way_round(generator):
    latent_nk = generator.normal(size=(N, 4))
    to_memory_layout = latent_nk[:, [2, 0, 3, 1]] * [-1, 5, 1, -0.2] + 3
    assert reproduced_fractions([of(latent_nk), of(to_memory_layout)], unit_prior=True) == [1, 1]
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


def test_vanished_latents_take_no_part_and_one_seed_says_nothing(generator):
    latent_nk = generator.normal(size=(N, 3))
    small = latent_nk * [1, 1, 1e-3]
    assert live(of(small), unit_prior=True).tolist() == [True, True, False]
    assert reproduced_fractions([of(latent_nk), of(small)], unit_prior=True) == pytest.approx([2 / 3, 1])
    dead = reproduced_fractions([of(latent_nk), of(latent_nk * 0)], unit_prior=True)
    assert dead[0] == 0
    assert np.isnan(dead[1])
    assert np.isnan(reproduced_fractions([of(latent_nk)], unit_prior=True)).all()
