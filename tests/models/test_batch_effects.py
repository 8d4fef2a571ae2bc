"""Models with a batch key or further covariates: what is left out of the latent representation, moving cells between batches.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

import sparcell as sp
from helpers.kinds import assert_same_weights, fit
from helpers.simulated import two_batches
from sparcell.errors import InputError


@pytest.fixture(scope="module")
def adata():
    return two_batches()


@pytest.fixture(scope="module", params=[("beta-vae", "nb"), ("beta-vsc", "poisson"), ("autoencoder", "zinb")])
def with_batch(request, adata):
    """Return a model that was trained with a batch key."""
    return fit(request.param, adata, batch_key="batch")


AFFECTED = slice(-40, None)


def fold(restored_ng, plain_ng):
    """Return the fold change of the affected genes, relative to the other genes of the same cell, (n,)."""
    one, other = (
        x_ng[:, AFFECTED].sum(axis=1) / x_ng[:, :-40].sum(axis=1) for x_ng in (restored_ng, plain_ng)
    )
    return one / other


def test_cells_are_moved_between_batches(with_batch, adata):
    """In batch b the affected genes are counted five times as often. Nothing of that is left if all cells are moved to one batch."""
    in_b_n = (adata.obs["batch"] == "b").to_numpy()
    as_a, as_b = (with_batch.reconstruct(adata, batch=batch) for batch in "ab")
    assert 3.3 < np.median(fold(as_b, as_a)) < 6
    unmoved = with_batch.reconstruct(adata)
    np.testing.assert_array_equal(unmoved[in_b_n], as_b[in_b_n])
    np.testing.assert_array_equal(unmoved[~in_b_n], as_a[~in_b_n])
    measured = adata.X.toarray()
    assert 4 < fold(measured[in_b_n].mean(axis=0)[None], measured[~in_b_n].mean(axis=0)[None])[0] < 6
    for moved in (as_a, as_b):
        assert 0.9 < fold(moved[in_b_n].mean(axis=0)[None], moved[~in_b_n].mean(axis=0)[None])[0] < 1.1
    between = np.median(fold(with_batch.reconstruct(adata, batch="average"), as_a))
    assert 1.5 < between < 0.8 * np.median(fold(as_b, as_a))


def test_a_moved_cell_keeps_its_type_and_its_library_size(with_batch, adata):
    restored = with_batch.reconstruct(adata, batch="a")
    sizes_n = adata.X.toarray().sum(axis=1)
    assert (restored.sum(axis=1) <= sizes_n * (1 + 1e-5)).all()
    markers = np.stack([restored[:, kind * 15 : kind * 15 + 15].sum(axis=1) for kind in range(4)], axis=1)
    expected = adata.obs["type"].str.removeprefix("type ").astype(int).to_numpy()
    assert (markers.argmax(axis=1) == expected).mean() > 0.95


def test_an_unknown_batch_or_a_model_without_batches_is_an_error(with_batch, adata):
    with pytest.raises(InputError, match="no batch 'z' in the model; there are: a, b, average"):
        with_batch.reconstruct(adata, batch="z")
    plain = fit(("beta-vae", "nb"), adata, settings={"epochs": 1})
    with pytest.raises(InputError, match=r"no batch 'a' in the model; .*average"):
        plain.reconstruct(adata, batch="a")


@pytest.mark.parametrize("name", ["autoencoder", "beta-vae", "beta-vsc"])
def test_the_latent_representation_carries_less_of_a_batch_effect_with_a_batch_key(name, adata):
    """A classifier of the batch is right in half of the cells by chance. Types are predicted as before."""
    kind = (name, "poisson")
    corrected, uncorrected = (fit(kind, adata, batch_key=key) for key in ("batch", None))
    assert accuracy(uncorrected, adata, "batch") > 0.8
    assert accuracy(corrected, adata, "batch") < 0.7
    assert accuracy(corrected, adata, "type") > 0.95


def accuracy(model, adata, column):
    """Return the cross-validated accuracy of a logistic regression on the latent representation."""
    return cross_val_score(
        LogisticRegression(max_iter=2000), model.transform(adata), adata.obs[column], cv=4
    ).mean()


@pytest.mark.parametrize("kind", [("beta-vae", "gaussian"), ("autoencoder", "gaussian")], ids="-".join)
def test_expression_is_moved_between_batches_too(kind, adata):
    model = fit(kind, adata, batch_key="batch", settings={"epochs": 60})
    shift_g = (model.reconstruct(adata, batch="b") - model.reconstruct(adata, batch="a")).mean(axis=0)
    x_ng, in_b_n = adata.layers["lognorm"].toarray(), (adata.obs["batch"] == "b").to_numpy()
    expected_g = x_ng[in_b_n].mean(axis=0) - x_ng[~in_b_n].mean(axis=0)
    np.testing.assert_allclose(shift_g, expected_g, atol=0.4)
    assert expected_g[AFFECTED].mean() > 0.5


def test_the_effect_of_further_covariates_is_restored_and_left_out_of_the_latent_representation(adata):
    """The same batch effect, as a covariate."""
    uncorrected = fit(("beta-vae", "poisson"), adata)
    corrected = fit(("beta-vae", "poisson"), adata, covariates=("batch", "depth"))
    assert accuracy(corrected, adata, "batch") < 0.7 < accuracy(uncorrected, adata, "batch")
    other = adata.copy()
    other.obs["batch"] = "a"
    as_a = corrected.reconstruct(other)
    other.obs["batch"] = "b"
    assert 3.3 < np.median(fold(corrected.reconstruct(other), as_a)) < 6


@pytest.mark.parametrize("encode", [False, True], ids=["decoder", "encoder and decoder"])
def test_a_model_with_covariates_is_saved_and_loaded(adata, encode, tmp_path):
    settings = {"epochs": 2, "encode_covariates": encode, "dispersion": "gene-batch"}
    model = fit(("beta-vsc", "nb"), adata, batch_key="batch", covariates=("depth", "type"), settings=settings)
    model.save(tmp_path / "model")
    loaded = sp.load(tmp_path / "model")
    assert loaded.schema == model.schema
    assert loaded.schema.covariates.batch.names == ("a", "b")
    assert_same_weights(loaded, model)
    np.testing.assert_array_equal(loaded.transform(adata), model.transform(adata))
    np.testing.assert_array_equal(loaded.reconstruct(adata, batch="b"), model.reconstruct(adata, batch="b"))
    np.testing.assert_array_equal(loaded.sample(5).X, model.sample(5).X)
    assert loaded.network.likelihood.log_r.shape == (2, 120)


@pytest.fixture(scope="module", params=[False, True], ids=["decoder", "encoder and decoder"])
def either(request, adata):
    settings = {"epochs": 3, "encode_covariates": request.param}
    return fit(("beta-vae", "nb"), adata, batch_key="batch", covariates=("depth",), settings=settings)


def test_latents_need_the_columns_only_if_the_encoder_reads_them(either, adata):
    bare = adata.copy()
    del bare.obs["batch"], bare.obs["depth"]
    if either.settings.encode_covariates:
        with pytest.raises(InputError, match=r"obs has no column '(batch|depth)'"):
            either.transform(bare)
        assert not np.array_equal(either.transform(bare, unseen="average"), either.transform(adata))
    else:
        np.testing.assert_array_equal(either.transform(bare), either.transform(adata))
    for use in (either.reconstruct, either.score, either.marginal_log_likelihood):
        with pytest.raises(InputError, match=r"obs has no column '(batch|depth)'"):
            use(bare)
        assert np.isfinite(use(bare, unseen="average")).all()


def test_an_unseen_batch_is_refused_or_average(either, adata):
    other = adata.copy()
    other.obs["batch"] = np.where(np.arange(adata.n_obs) == 7, "c", adata.obs["batch"].astype(str))
    message = r"obs\['batch'\] holds 'c' in 1 cell\(s\), which the model has not seen; expected one of a, b, or unseen='average'"
    with pytest.raises(InputError, match=message):
        either.reconstruct(other)
    if either.settings.encode_covariates:
        with pytest.raises(InputError, match=message):
            either.transform(other)
    walk = either.interpolate(other, "cell7", "cell8", n_steps=2, unseen="average")
    np.testing.assert_allclose(walk.obsm["X_beta_vae"], either.transform(other[[7, 8]], unseen="average"))
    restored, expected = either.reconstruct(other, unseen="average"), either.reconstruct(adata)
    changed = np.flatnonzero((restored != expected).any(axis=1))
    assert list(changed) == [7]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"batch_key": "donor"}, "obs has no column 'donor'"),
        ({"batch_key": "barcode"}, "400 different values in 400 cells"),
        ({"covariates": ("hole",)}, r"obs\['hole'\] is empty for 1 cell\(s\), the first 'cell3'"),
        ({"covariates": ("endless",)}, r"obs\['endless'\] is infinite for 1 cell\(s\), the first 'cell3'"),
        ({"covariates": ("depth", "bach")}, "obs has no column 'bach'; did you mean 'batch'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_unusable_columns_are_refused_before_training(adata, columns, message):
    other, epochs = adata.copy(), []
    depth = other.obs["depth"].to_numpy(dtype=float)
    other.obs["barcode"] = list(other.obs_names)
    other.obs["hole"] = np.where(np.arange(400) == 3, np.nan, depth)
    other.obs["endless"] = np.where(np.arange(400) == 3, np.inf, depth)
    with pytest.raises(InputError, match=message):
        fit(("beta-vae", "nb"), other, on_epoch=epochs.append, **columns)
    assert epochs == []


def test_one_covariate_may_be_named_without_a_tuple(adata):
    """A string is a sequence of letters, none of which is a column."""
    model = fit(("beta-vae", "nb"), adata, covariates="depth", settings={"epochs": 1})
    assert [column.key for column in model.schema.covariates.continuous] == ["depth"]
