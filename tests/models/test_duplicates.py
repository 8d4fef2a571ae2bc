"""Latents that duplicate another latent are merged after training; the model decodes nearly the same, with fewer latents.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparcell import datasets
from sparcell.models import MODELS
from sparcell.models.duplicates import merged_effects, representatives


@pytest.fixture(scope="module")
def copies():
    """Values and effects: latents 0 and 2 are copies of latent 3, latent 1 is another program."""
    generator = np.random.default_rng(0)
    on_n, other_n = generator.random(500) < 0.3, generator.random(500) < 0.3
    value_n = on_n * generator.gamma(4, 0.25, 500)
    effect_g, other_g = generator.random(40), generator.permutation(np.arange(40) < 4) * 1.0
    value_nk = np.column_stack([0.2 * value_n, other_n * 1.0, 0.5 * value_n, value_n, np.zeros(500)])
    effect_gk = np.column_stack([effect_g, other_g, 2 * effect_g, effect_g, effect_g])
    return value_nk, effect_gk


def test_copies_are_represented_by_the_strongest(copies):
    value_nk, effect_gk = copies
    # z² · effect²: latents 2 and 3 contribute alike up to rounding, latent 0 less
    representative_k = representatives(value_nk, effect_gk * [1, 1, 1, 1.5, 1])
    assert representative_k.tolist() == [3, 1, 3, 3, 4]


def test_similar_values_alone_or_similar_effects_alone_make_no_copy(copies):
    value_nk, effect_gk = copies
    shuffled_nk = np.random.default_rng(1).permuted(value_nk, axis=0)
    assert representatives(shuffled_nk, effect_gk).tolist() == [0, 1, 2, 3, 4]
    apart_gk = np.eye(40)[:, :5]
    assert representatives(value_nk, apart_gk).tolist() == [0, 1, 2, 3, 4]
    assert representatives(value_nk * [-1, 1, 1, 1, 1], effect_gk)[0] == 0  # opposite values are no copies


def test_a_copy_of_a_copy_that_resembles_the_representative_too_little_stays():
    axis_n, noise_n = np.linspace(-1, 1, 400), np.sin(np.arange(400))
    axis_n, noise_n = axis_n / axis_n.std(), noise_n / noise_n.std()
    angles = np.radians([0, 20, 40])  # correlations .94 of neighbors and .77 of the first with the last
    value_nk = np.column_stack([np.cos(a) * axis_n + np.sin(a) * noise_n for a in angles])
    assert representatives(value_nk, np.ones((3, 3)) * [3, 2, 1]).tolist() == [0, 0, 2]


def test_merged_effects_decode_the_same_from_the_representatives(copies):
    value_nk, effect_gk = copies
    representative_k = np.array([3, 1, 3, 3, 4])
    merged_gk = merged_effects(value_nk, effect_gk, representative_k)
    assert (merged_gk[:, [0, 2]] == 0).all()
    np.testing.assert_allclose(value_nk @ merged_gk.T, value_nk @ effect_gk.T, atol=1e-12)


def test_the_fitted_model_has_no_copies_and_decodes_nearly_the_same():
    """A network whose latents 0 and 1 are equal: after `finish` one of the two is off everywhere and the decoded mean stays."""
    adata = datasets.simulate_programs(3, n_genes=60, n_cells=200)
    settings = MODELS["beta-vsc"](
        likelihood="gaussian",
        n_latent=4,
        n_prior_components=1,
        slab="softplus-normal",
        decoder_type="nonnegative-linear",
        merge_duplicates=True,
        epochs=1,
        batch_size=32,
    )
    model = settings.fit(adata, silent=True)
    encoder, head = model.network.latent_encoder, model.network.likelihood.head
    weight_gh = model.network.decoder_type.head_weight(head)
    with torch.no_grad():
        for layer in (encoder.mu, encoder.log_sigma, encoder.logit):
            for values in layer.parameters():
                values[1] = values[0]
        weight_gh[:, 1] = 0.5 * weight_gh[:, 0]
    before_nk = model.transform(adata)
    decoded_ng = model.reconstruct(adata)
    batches = model._loader(adata, "error").batches([np.arange(adata.n_obs)])
    settings.finish(model.network, batches)
    after_nk, inclusion_nk = model.transform(adata), model.inclusion_probability(adata)
    assert inclusion_nk[:, 1].max() < 1e-6
    np.testing.assert_array_equal(after_nk[:, [0, 2, 3]], before_nk[:, [0, 2, 3]])
    assert np.abs(after_nk[:, 1]).max() < 1e-6
    np.testing.assert_allclose(model.reconstruct(adata), decoded_ng, atol=1e-4)
