"""The likelihood that `fit` chooses for the data, and the defaults of the settings."""

from __future__ import annotations

from dataclasses import MISSING, asdict, fields

import anndata as ad
import numpy as np
import pytest

import sparcell as sp
from helpers.kinds import assert_same_weights
from helpers.simulated import N_TYPES, simulated_cells
from sparcell.config.options import settings_of
from sparcell.errors import InputError
from sparcell.metrics.clustering import clustering_scores
from sparcell.models import MODELS
from sparcell.tl import embedding

each_model = pytest.mark.parametrize("name", MODELS)
SHORT = {"epochs": 1, "seed": 3}


@pytest.fixture(scope="module")
def adata():
    simulated = simulated_cells()
    simulated.layers["umis"] = simulated.X.copy()
    return simulated


def fit(name, adata, *, settings=None, **keywords):
    return MODELS[name](**SHORT, **(settings or {})).fit(adata, silent=True, **keywords)


@each_model
@pytest.mark.parametrize("layer", [None, "umis"])
def test_raw_counts_get_the_negative_binomial(name, adata, layer):
    model = fit(name, adata, layer=layer)
    assert model.settings == MODELS[name](**SHORT, likelihood="nb")
    assert model.schema.counts
    assert not model.schema.log_normalize
    np.testing.assert_array_equal(model.schema.matrix(adata).toarray(), adata.X.toarray())


@each_model
def test_log_normalized_values_get_the_gaussian(name, adata):
    model = fit(name, adata, layer="lognorm")
    assert model.settings == MODELS[name](**SHORT, likelihood="gaussian")
    assert not model.schema.counts


@each_model
@pytest.mark.parametrize(
    "options", [{"log_normalize": True}, {"scale": True}, {"log_normalize": True, "scale": True}]
)
def test_log_normalize_and_scale_mean_the_gaussian(name, adata, options):
    model = fit(name, adata, **options)
    assert model.settings == MODELS[name](**SHORT, likelihood="gaussian")
    assert model.schema.log_normalize
    assert (model.schema.mean is not None) == ("scale" in options)


def test_log_normalize_false_means_the_gaussian_too_and_refuses_counts(adata):
    assert fit("beta-vae", adata, layer="lognorm", log_normalize=False).settings.likelihood == "gaussian"
    with pytest.raises(InputError, match=r"X holds counts.*expected log-normalized"):
        fit("beta-vae", adata, log_normalize=False)


@each_model
@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb"])
def test_a_chosen_count_likelihood_wins(name, adata, likelihood):
    assert fit(name, adata, settings={"likelihood": likelihood}).settings.likelihood == likelihood
    with pytest.raises(InputError, match=r"layers\['lognorm'\] holds log-normalized.*expected counts"):
        fit(name, adata, layer="lognorm", settings={"likelihood": likelihood})


@each_model
def test_a_chosen_gaussian_wins_and_log_normalizes_counts(name, adata):
    model = fit(name, adata, settings={"likelihood": "gaussian"})
    assert model.settings.likelihood == "gaussian"
    assert model.schema.log_normalize
    np.testing.assert_allclose(
        model.schema.matrix(adata).toarray(), adata.layers["lognorm"].toarray(), atol=1e-5
    )


@each_model
def test_every_setting_has_exactly_one_default(name):
    """It is a value that can be used as it is, and does not depend on the likelihood."""
    for field in fields(MODELS[name]):
        assert field.default is not MISSING, field.name
        assert field.default_factory is MISSING, field.name
        assert isinstance(field.default, str | bool | int | float | tuple | None), field.name
    defaults = asdict(MODELS[name]())
    assert defaults == {setting.name: setting.default for setting in settings_of(MODELS[name])}
    for likelihood in ("gaussian", "nb"):
        assert asdict(MODELS[name](likelihood=likelihood)) == {**defaults, "likelihood": likelihood}


@each_model
def test_fit_changes_no_setting_but_the_likelihood(name, adata):
    settings = {"n_latent": 3, "encoder_widths": (9,), "validation_fraction": 0.3}
    for layer, likelihood in ((None, "nb"), ("lognorm", "gaussian")):
        model = fit(name, adata, layer=layer, settings=settings)
        assert model.settings == MODELS[name](**SHORT, **settings, likelihood=likelihood)


@each_model
def test_settings_are_unchanged_by_a_fit_and_can_be_fitted_again(name, adata):
    settings = MODELS[name](**SHORT)
    counts, expression = settings.fit(adata, silent=True), settings.fit(adata, layer="lognorm", silent=True)
    assert settings == MODELS[name](**SHORT)
    assert settings.likelihood == "auto"
    assert (counts.settings.likelihood, expression.settings.likelihood) == ("nb", "gaussian")
    assert_same_weights(settings.fit(adata, silent=True), counts)


@pytest.mark.parametrize("method", ["embed", "transform", "programs", "reconstruct", "save"])
def test_using_settings_that_are_not_fitted_says_that_fit_returns_the_model(adata, method):
    message = rf"BetaVSC holds settings and has no '{method}'; fit returns the trained model: model = BetaVSC"
    with pytest.raises(AttributeError, match=message):
        getattr(sp.BetaVSC(), method)(adata)


def test_other_missing_attributes_are_plain_attribute_errors():
    with pytest.raises(AttributeError, match="'BetaVSC' object has no attribute 'embedd'"):
        sp.BetaVSC().embedd  # noqa: B018 - the access is what is tested
    assert not hasattr(sp.BetaVSC(), "__array__")


def test_counts_rounded_by_a_logarithm_and_back_are_counts(adata):
    """Else a count of 2.9999998 would be no count, and a zero that is not quite one would be stored."""
    rounded = adata.copy()
    rounded.X = np.expm1(np.log1p(adata.X.toarray().astype(np.float32)))
    assert not np.array_equal(rounded.X, adata.X.toarray())
    model, other = fit("beta-vae", adata), fit("beta-vae", rounded)
    assert other.settings.likelihood == "nb"
    np.testing.assert_array_equal(other.schema.matrix(rounded).toarray(), adata.X.toarray())
    assert_same_weights(model, other)


def test_stored_zeros_are_zeros(adata):
    stored = adata.copy()
    stored.X = adata.X.copy()
    stored.X.data[::7] = 0
    clean = stored.copy()
    clean.X.eliminate_zeros()
    assert clean.X.nnz < stored.X.nnz
    assert_same_weights(fit("beta-vae", stored), fit("beta-vae", clean))


def test_a_cell_without_counts_in_the_chosen_genes_is_encoded(adata):
    other = adata.copy()
    x_ng = adata.X.toarray()
    x_ng[7, :60] = 0
    other.X = x_ng
    model = fit("beta-vsc", other, genes_key="marked")
    mean_ng = model.reconstruct(other)
    assert np.isfinite(model.transform(other)).all()
    assert np.isfinite(mean_ng).all()
    assert mean_ng[7].sum() == pytest.approx(1, rel=1e-5)  # the smallest library size
    assert np.isfinite(model.history.drop(columns="validation_loss").to_numpy(dtype=float)).all()


@each_model
def test_with_the_defaults_the_latents_separate_the_cell_types(name):
    """Fewer steps than the default are enough for these cells."""
    adata = simulated_cells(seed=5)
    model = MODELS[name](max_steps=300).fit(adata, silent=True)
    partition, _ = embedding.kmeans(model.transform(adata), N_TYPES, seed=0)
    assert clustering_scores(adata.obs["type"], partition)["ari"] > 0.9
    assert model.history["validation_loss"].notna().all()
    assert len(model.history) == 100  # of three steps each
    weight = model.history["kl_weight"]
    assert weight.iloc[0] < 0.1 < weight.iloc[-1] == model.settings.kl_weight


def test_the_documented_calls_work_on_a_file(tmp_path):
    simulated_cells(400).write_h5ad(tmp_path / "atlas.h5ad")
    adata = ad.read_h5ad(tmp_path / "atlas.h5ad")
    settings = sp.BetaVSC(n_latent=4, likelihood="nb", epochs=2)
    settings.fit(tmp_path / "atlas.h5ad", batch_key="type", silent=True).save(tmp_path / "vsc")
    model = sp.load(tmp_path / "vsc")
    model.embed(adata)
    assert adata.obsm["X_beta_vsc"].shape == (400, 4)
    assert model.transform(adata, sparse=True).shape == (400, 4)
