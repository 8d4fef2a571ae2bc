"""Programs found again: turned, reordered, missing, and trained again from other seeds."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.simulated import COUNTS, simulated_cells, two_batches
from helpers.untrained import N_CELLS, N_GENES, made
from sparcell.errors import InputError
from sparcell.models import MODELS
from sparcell.tl import stability

SHORT = {**COUNTS, "epochs": 12, "likelihood": "nb"}


@pytest.fixture
def adata():
    return two_batches(N_CELLS, n_affected=10)[:, :N_GENES].copy()


def rearranged(adata, order, signs):
    """The same model with its latents in another order and some of them turned round."""
    model = made(adata, "additive")
    order, signs = torch.tensor(order), torch.tensor(signs, dtype=torch.float32)
    latent, head = model.network.latent, model.network.likelihood.head
    with torch.no_grad():
        for part in (latent.mu, latent.log_sigma, latent.logit):
            for values in part.parameters():
                values.copy_(values[order])
        for values in latent.mu.parameters():
            values.mul_(signs if values.ndim == 1 else signs[:, None])
        head.weight[:, : len(order)] = head.weight[:, order] * signs
    return model


def test_programs_are_found_in_whatever_order_and_direction(adata):
    own = made(adata, "additive")
    found = stability.compare([own, rearranged(adata, [2, 0, 3, 1], [1, -1, 1, -1])], adata)
    assert (found.table["n_found"] == 1).all()
    assert found.table["stable"].all()
    np.testing.assert_allclose(found.matches, 1, atol=1e-4)
    assert list(found.matches.index) == list(found.programs[0].effects.columns)
    assert not adata.varm
    assert not [key for key in adata.uns if "programs" in key]


def test_matches_are_correlations_of_effects_and_what_is_not_there_is_not_found(adata):
    """The second model lacks the latents 0 and 2, so nothing is left for some; checked against numpy for the rest."""
    own, other = made(adata, "additive"), made(adata, "additive")
    with torch.no_grad():
        for values in other.network.latent.mu.parameters():
            values[[0, 2]] = 0
    found = stability.compare([own, other, own], adata, least_match=0.9)
    one, two, three = (programs.effects for programs in found.programs)
    assert len(two.columns) < len(one.columns)
    assert list(found.matches.columns) == ["seed 3", "seed 3"], "each is called by the seed of its settings"
    np.testing.assert_allclose(found.matches.iloc[:, 1], 1)
    pd.testing.assert_frame_equal(one, three)
    for key in one.columns:
        match = found.matches.iloc[:, 0][key]
        r = [np.corrcoef(one[key], two[column])[0, 1] for column in two.columns]
        assert match == 0 or np.isclose(r, match).any()
    assert (found.matches.iloc[:, 0] == 0).sum() == len(one.columns) - len(two.columns)
    n_found = (found.matches >= 0.9).sum(axis=1).to_numpy()
    np.testing.assert_array_equal(found.table["n_found"], n_found)
    np.testing.assert_array_equal(found.table["stable"], n_found == 2)
    np.testing.assert_allclose(found.table["median_match"], found.matches.mean(axis=1))


@pytest.mark.parametrize(
    ("n_found", "n_seeds", "stable"),
    [(1, 2, True), (3, 5, True), (2, 5, False), (1, 3, False), (7, 10, True)],
)
def test_stable_is_four_fifths_of_the_seeds(adata, monkeypatch, n_found, n_seeds, stable):
    model, nothing = made(adata, "additive"), made(adata, "additive")
    with torch.no_grad():
        for values in nothing.network.latent.mu.parameters():
            values.zero_()
    models = [model] + [model] * n_found + [nothing] * (n_seeds - 1 - n_found)
    told = pytest.warns(UserWarning, match="no latent is live") if n_found + 1 < n_seeds else nullcontext()
    with told:
        found = stability.compare(models, adata)
    assert (found.table["stable"] == stable).all()
    assert (found.table["n_others"] == n_seeds - 1).all()


def test_other_seeds_are_what_fit_gives_with_them():
    cells = simulated_cells(200)
    settings = MODELS["beta-vsc"](**SHORT)
    models = {seed: replace(settings, seed=seed).fit(cells, silent=True) for seed in (0, 1, 2)}
    by_hand = stability.compare([models[1], models[0], models[2]], cells)
    found = stability.across_seeds(models[1], cells, 3, silent=True)
    assert found.seeds == (1, 0, 2)
    assert list(found.matches.columns) == ["seed 0", "seed 2"]
    pd.testing.assert_frame_equal(found.table, by_hand.table)
    pd.testing.assert_frame_equal(found.matches, by_hand.matches)


def test_mistakes_are_told_before_any_training(adata):
    model = made(adata, "additive")
    with pytest.raises(InputError, match="1 model given; expected two or more"):
        stability.compare([model], adata)
    with pytest.raises(InputError, match="other genes \\(40, 39 of them\\)"):
        stability.compare([model, made(adata[:, 1:].copy(), "additive")], adata)
    with pytest.raises(InputError, match="n_seeds"):
        stability.across_seeds(model, adata, 1)
    with pytest.raises(InputError, match="30 cells, fewer than the model's batch_size"):
        stability.across_seeds(model, adata, 2)
