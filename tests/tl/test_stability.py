"""Programs of other models: reversed, reordered, missing, and trained from other seeds."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.simulated import COUNTS, simulated_cells, two_batches
from helpers.untrained import N_CELLS, N_GENES, untrained_model
from sparcell.errors import InputError
from sparcell.models import MODELS
from sparcell.tl import stability

SHORT = {**COUNTS, "epochs": 12, "likelihood": "nb"}


@pytest.fixture
def adata():
    return two_batches(N_CELLS, n_affected=10)[:, :N_GENES].copy()


def rearranged(adata, order, signs):
    """Return the same model with its latents in another order and some of them reversed."""
    model = untrained_model(adata, "additive")
    order, signs = torch.tensor(order), torch.tensor(signs, dtype=torch.float32)
    encoder, head = model.network.latent_encoder, model.network.likelihood.head
    with torch.no_grad():
        for layer in (encoder.mu, encoder.log_sigma, encoder.logit):
            for values in layer.parameters():
                values.copy_(values[order])
        for values in encoder.mu.parameters():
            values.mul_(signs if values.ndim == 1 else signs[:, None])
        head.weight[:, : len(order)] = head.weight[:, order] * signs
    return model


def test_programs_are_reproduced_in_any_order_and_direction(adata):
    model = untrained_model(adata, "additive")
    result = stability.compare_programs([model, rearranged(adata, [2, 0, 3, 1], [1, -1, 1, -1])], adata)
    assert (result.table["n_reproduced"] == 1).all()
    assert result.table["stable"].all()
    np.testing.assert_allclose(result.matches, 1, atol=1e-4)
    assert list(result.matches.index) == list(result.programs[0].effects.columns)
    assert not adata.varm
    assert not [key for key in adata.uns if "programs" in key]


def test_matches_are_correlations_of_effects_and_a_missing_program_is_not_reproduced(adata):
    """The second model lacks the latents 0 and 2, so some programs have no match; numpy gives the correlations of the others."""
    model, other = untrained_model(adata, "additive"), untrained_model(adata, "additive")
    with torch.no_grad():
        for values in other.network.latent_encoder.mu.parameters():
            values[[0, 2]] = 0
    result = stability.compare_programs([model, other, model], adata, min_match=0.9)
    one, two, three = (programs.effects for programs in result.programs)
    assert len(two.columns) < len(one.columns)
    assert list(result.matches.columns) == ["seed 3", "seed 3"], (
        "columns are named after the seed of the settings"
    )
    np.testing.assert_allclose(result.matches.iloc[:, 1], 1)
    pd.testing.assert_frame_equal(one, three)
    for key in one.columns:
        match = result.matches.iloc[:, 0][key]
        r = [np.corrcoef(one[key], two[column])[0, 1] for column in two.columns]
        assert match == 0 or np.isclose(r, match).any()
    assert (result.matches.iloc[:, 0] == 0).sum() == len(one.columns) - len(two.columns)
    n_reproduced = (result.matches >= 0.9).sum(axis=1).to_numpy()
    np.testing.assert_array_equal(result.table["n_reproduced"], n_reproduced)
    np.testing.assert_array_equal(result.table["stable"], n_reproduced == 2)
    np.testing.assert_allclose(result.table["median_match"], result.matches.mean(axis=1))


@pytest.mark.parametrize(
    ("n_reproduced", "n_seeds", "stable"),
    [(1, 2, True), (3, 5, True), (2, 5, False), (1, 3, False), (7, 10, True)],
)
def test_stable_is_four_fifths_of_the_seeds(adata, monkeypatch, n_reproduced, n_seeds, stable):
    model, inactive = untrained_model(adata, "additive"), untrained_model(adata, "additive")
    with torch.no_grad():
        for values in inactive.network.latent_encoder.mu.parameters():
            values.zero_()
    models = [model] + [model] * n_reproduced + [inactive] * (n_seeds - 1 - n_reproduced)
    warning = (
        pytest.warns(UserWarning, match="no latent is active")
        if n_reproduced + 1 < n_seeds
        else nullcontext()
    )
    with warning:
        result = stability.compare_programs(models, adata)
    assert (result.table["stable"] == stable).all()
    assert (result.table["n_others"] == n_seeds - 1).all()


def test_models_of_other_seeds_equal_those_of_fit():
    cells = simulated_cells(200)
    settings = MODELS["beta-vsc"](**SHORT)
    models = {seed: replace(settings, seed=seed).fit(cells, silent=True) for seed in (0, 1, 2)}
    by_hand = stability.compare_programs([models[1], models[0], models[2]], cells)
    result = stability.seed_stability(models[1], cells, 3, silent=True)
    assert result.seeds == (1, 0, 2)
    assert list(result.matches.columns) == ["seed 0", "seed 2"]
    pd.testing.assert_frame_equal(result.table, by_hand.table)
    pd.testing.assert_frame_equal(result.matches, by_hand.matches)


def test_wrong_arguments_raise_before_any_training(adata):
    model = untrained_model(adata, "additive")
    with pytest.raises(InputError, match="found 1 model; expected two or more"):
        stability.compare_programs([model], adata)
    with pytest.raises(InputError, match="differ in their genes \\(40, 39 genes\\)"):
        stability.compare_programs([model, untrained_model(adata[:, 1:].copy(), "additive")], adata)
    with pytest.raises(InputError, match="n_seeds"):
        stability.seed_stability(model, adata, 1)
    with pytest.raises(InputError, match="30 cells, fewer than the model's batch_size"):
        stability.seed_stability(model, adata, 2)
