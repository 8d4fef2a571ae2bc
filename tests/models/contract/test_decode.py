"""What every model promises, over every likelihood: reconstruction, samples, interpolation and scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from helpers.kinds import COUNT_KINDS, GAUSSIAN_KINDS, explains_counts, fit, fitted, matrix_of, with_matrix
from sparcell.errors import InputError

gaussian_kinds = pytest.mark.parametrize("kind", GAUSSIAN_KINDS, ids="-".join)


count_kinds = pytest.mark.parametrize("kind", COUNT_KINDS, ids="-".join)


def type_means(x_ng, adata):
    return pd.DataFrame(x_ng).groupby(adata.obs["type"].to_numpy()).mean().to_numpy()


def test_reconstruct_returns_the_profile_of_each_type(kind, model, adata):
    mean_ng = model.reconstruct(adata)
    assert mean_ng.shape == adata.shape
    assert mean_ng.dtype == np.float32
    reconstructed, expected = type_means(mean_ng, adata), type_means(matrix_of(kind, adata), adata)
    for one, other in zip(reconstructed, expected, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.97


@count_kinds
def test_reconstructed_counts_add_up_to_the_library_size(kind, adata):
    """A zero-inflated model leaves out the counts that it expects to be dropped."""
    mean_ng = fitted(kind).reconstruct(adata)
    totals_n, sizes_n = mean_ng.sum(axis=1), adata.X.toarray().sum(axis=1)
    assert (mean_ng > 0).all()
    if kind[1] == "zinb":
        assert ((totals_n > 0.8 * sizes_n) & (totals_n < sizes_n)).all()
    else:
        np.testing.assert_allclose(totals_n, sizes_n, rtol=1e-5)


@gaussian_kinds
def test_reconstruct_undoes_scale(kind, adata):
    model = fit(kind, adata, scale=True, settings={"latent_activation": "linear", "epochs": 60})
    x_ng = adata.layers["lognorm"].toarray()
    mean_ng = model.reconstruct(adata)
    np.testing.assert_allclose(mean_ng.mean(axis=0), x_ng.mean(axis=0), atol=0.35)
    min_r = 0.97 if len(kind) == 2 else 0.9  # nonnegative effects can only raise a gene
    means = type_means(mean_ng, adata).ravel(), type_means(x_ng, adata).ravel()
    assert np.corrcoef(*means)[0, 1] > min_r
    path = model.interpolate(adata, "cell5", "cell17", n_steps=2)
    np.testing.assert_allclose(path.X, mean_ng[[5, 17]], atol=1e-4)
    np.testing.assert_allclose(model.encode(x_ng), model.transform(adata), atol=1e-5)


def test_samples_resemble_the_data_and_need_a_prior(kind, model, adata):
    if not model.settings.generative:
        with pytest.raises(InputError, match="no prior"):
            model.sample(3)
        return
    samples, again, other = model.sample(500, seed=4), model.sample(500, seed=4), model.sample(500, seed=5)
    assert samples.shape == (500, adata.n_vars)
    assert list(samples.var_names) == list(adata.var_names)
    assert samples.obsm[f"X_{model.settings.name}"].shape == (500, model.settings.n_latent)
    assert np.isfinite(samples.X).all()
    np.testing.assert_array_equal(samples.X, again.X)
    assert not np.array_equal(samples.X, other.X)
    mean_g = matrix_of(kind, adata).mean(axis=0)
    nonnegative = (
        model.settings.decoder_type == "nonnegative-linear"
    )  # sampled cells may have the programs of several types on, or none
    assert np.corrcoef(samples.X.mean(axis=0), mean_g)[0, 1] > (0.65 if nonnegative else 0.75)
    noisy = model.sample(500, seed=4, noise=True)
    np.testing.assert_array_equal(noisy.X, model.sample(500, seed=4, noise=True).X)
    assert noisy.X.var() > samples.X.var()
    if explains_counts(kind):
        assert (noisy.X >= 0).all()
        assert (np.rint(noisy.X) == noisy.X).all()
        median = np.median(adata.X.toarray().sum(axis=1))
        assert 0.8 * median < samples.X.sum(axis=1).mean() <= median * (1 + 1e-5)
        assert noisy.X.sum(axis=1).mean() == pytest.approx(samples.X.sum(axis=1).mean(), rel=0.05)


def test_sampling_no_cells_is_an_error(model):
    with pytest.raises(InputError, match="n_cells is 0; expected a whole number of at least 1"):
        model.sample(0)


def test_interpolate_ends_at_the_two_cells(model, adata):
    """The ends are the reconstructed cells, for a model of counts at the median library size of the fit."""
    path = model.interpolate(adata, "cell5", "cell17", n_steps=5)
    mean_ng, latents = model.reconstruct(adata)[[5, 17]], model.transform(adata)
    if model.schema.counts:
        sizes_n = adata.X.toarray().sum(axis=1)
        mean_ng = mean_ng / sizes_n[[5, 17], None] * np.median(sizes_n)
    np.testing.assert_allclose(path.X[[0, -1]], mean_ng, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(path.obs["position"], np.linspace(0, 1, 5), atol=1e-7)
    middle = path.obsm[f"X_{model.settings.name}"][2]
    np.testing.assert_allclose(middle, (latents[5] + latents[17]) / 2, atol=1e-5)


def test_interpolate_needs_two_known_cells_and_two_steps(model, adata):
    with pytest.raises(InputError, match=r"no cell 'cell55x' in the data; did you mean 'cell55'"):
        model.interpolate(adata, "cell55x", "cell1")
    with pytest.raises(InputError, match="n_steps is 1; expected a whole number of at least 2"):
        model.interpolate(adata, "cell0", "cell1", n_steps=1)


def test_interpolate_from_a_cell_to_itself_is_constant(model, adata):
    path = model.interpolate(adata, "cell5", "cell5", n_steps=3)
    np.testing.assert_allclose(path.X, path.X[:1].repeat(3, axis=0), atol=1e-5)


def test_the_score_is_seeded_and_higher_for_cells_like_the_training_cells(kind, adata, model):
    assert np.isfinite(model.score(adata))
    assert model.score(adata, seed=3) == model.score(adata, seed=3)
    order = np.random.default_rng(0).permutation(adata.n_vars)
    shuffled = with_matrix(kind, adata, matrix_of(kind, adata)[:, order])
    assert model.score(shuffled) < model.score(adata)


def test_the_importance_weighted_bound_is_seeded_one_number_per_cell_and_above_the_score(model, adata):
    """For the autoencoder, whose posterior is a point, the bound is the score."""
    few = adata[:60].copy()
    bound_n = model.marginal_log_likelihood(few, n_samples=20, seed=3)
    assert (bound_n.shape, bound_n.dtype) == ((60,), np.float64)
    np.testing.assert_array_equal(bound_n, model.marginal_log_likelihood(few, n_samples=20, seed=3))
    if model.settings.generative:
        assert not np.array_equal(bound_n, model.marginal_log_likelihood(few, n_samples=20, seed=4))
        assert bound_n.mean() > model.score(few)
    else:
        assert bound_n.mean() == pytest.approx(model.score(few), rel=1e-6)
    with pytest.raises(InputError, match="n_samples is 0; expected a whole number of at least 1"):
        model.marginal_log_likelihood(few, n_samples=0)
