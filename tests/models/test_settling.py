"""What `fit` makes of data when nothing, or something, is said of the likelihood."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import sparcell as sp
from helpers.simulated import N_TYPES, simulated_cells
from sparcell.config.validation import ByKind
from sparcell.errors import InputError
from sparcell.metrics.clustering import clustering_scores
from sparcell.models import MODELS
from sparcell.tl import embedding

each_model = pytest.mark.parametrize("name", MODELS)
SHORT = {"epochs": 1, "seed": 3}


@pytest.fixture(scope="module")
def adata():
    made = simulated_cells()
    made.layers["umis"] = made.X.copy()
    return made


def fit(name, adata, *, settings=None, **keywords):
    return MODELS[name](**SHORT, **(settings or {})).fit(adata, silent=True, **keywords)


@each_model
def test_raw_counts_are_modelled_as_counts(name, adata):
    for layer in (None, "umis"):
        model = fit(name, adata, layer=layer)
        assert model.settings == MODELS[name](**SHORT, likelihood="nb")
        assert model.schema.counts
        assert not model.schema.log_normalize
        np.testing.assert_array_equal(model.schema.matrix(adata).toarray(), adata.X.toarray())


@each_model
def test_log_normalised_values_are_modelled_as_the_seed_study_does(name, adata):
    model = fit(name, adata, layer="lognorm")
    assert model.settings == MODELS[name](**SHORT, likelihood="gaussian")
    assert not model.schema.counts
    assert model.settings.encoder_widths == (128, 32)


@each_model
@pytest.mark.parametrize(
    "wish", [{"log_normalize": True}, {"scale": True}, {"log_normalize": True, "scale": True}]
)
def test_to_normalise_or_scale_counts_means_expression(name, adata, wish):
    model = fit(name, adata, **wish)
    assert model.settings == MODELS[name](**SHORT, likelihood="gaussian")
    assert model.schema.log_normalize
    assert (model.schema.mean is not None) == ("scale" in wish)


def test_not_to_normalise_means_expression_too_and_counts_are_refused(adata):
    assert fit("beta-vae", adata, layer="lognorm", log_normalize=False).settings.likelihood == "gaussian"
    with pytest.raises(InputError, match=r"X holds counts.*expected log-normalized"):
        fit("beta-vae", adata, log_normalize=False)


@each_model
@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb"])
def test_a_likelihood_for_counts_that_is_asked_for_is_taken(name, adata, likelihood):
    model = fit(name, adata, settings={"likelihood": likelihood})
    assert model.settings.likelihood == likelihood
    with pytest.raises(InputError, match=r"layers\['lognorm'\] holds log-normalized.*expected counts"):
        fit(name, adata, layer="lognorm", settings={"likelihood": likelihood})


@each_model
def test_gaussian_that_is_asked_for_normalises_counts(name, adata):
    model = fit(name, adata, settings={"likelihood": "gaussian"})
    assert model.schema.log_normalize
    np.testing.assert_allclose(
        model.schema.matrix(adata).toarray(), adata.layers["lognorm"].toarray(), atol=1e-5
    )


@each_model
def test_a_default_given_by_hand_stays(name, adata):
    for layer in (None, "lognorm"):
        model = fit(
            name,
            adata,
            layer=layer,
            settings={"n_latent": 3, "encoder_widths": (9,), "validation_fraction": 0.3},
        )
        assert (
            model.settings.n_latent,
            model.settings.encoder_widths,
            model.settings.validation_fraction,
        ) == (3, (9,), 0.3)


@each_model
def test_settings_are_not_changed_by_a_fit_and_can_fit_both_kinds(name, adata):
    settings = MODELS[name](**SHORT)
    counts, expression = settings.fit(adata, silent=True), settings.fit(adata, layer="lognorm", silent=True)
    assert isinstance(settings.likelihood, ByKind)
    assert (counts.settings.likelihood, expression.settings.likelihood) == ("nb", "gaussian")
    again = settings.fit(adata, silent=True)
    for name_, value in again.network.state_dict().items():
        np.testing.assert_array_equal(value, counts.network.state_dict()[name_])


def test_counts_that_a_logarithm_and_back_left_with_rounding_are_the_counts(adata):
    """Else a count of 2.9999998 would be no count, and a zero that is not quite one would be taken for one."""
    rounded = adata.copy()
    rounded.X = np.expm1(np.log1p(adata.X.toarray().astype(np.float32)))
    assert not np.array_equal(rounded.X, adata.X.toarray())
    model, other = fit("beta-vae", adata), fit("beta-vae", rounded)
    assert other.settings.likelihood == "nb"
    np.testing.assert_array_equal(other.schema.matrix(rounded).toarray(), adata.X.toarray())
    for name, value in model.network.state_dict().items():
        np.testing.assert_array_equal(value, other.network.state_dict()[name])


def test_zeros_that_are_stored_are_zeros(adata):
    stored = adata.copy()
    stored.X = adata.X.copy()
    stored.X.data[::7] = 0
    clean = stored.copy()
    clean.X.eliminate_zeros()
    assert clean.X.nnz < stored.X.nnz
    one, other = fit("beta-vae", stored), fit("beta-vae", clean)
    for name, value in one.network.state_dict().items():
        np.testing.assert_array_equal(value, other.network.state_dict()[name])


def test_a_cell_without_a_count_in_the_chosen_genes_is_encoded_all_the_same(adata):
    other = adata.copy()
    x_ng = adata.X.toarray()
    x_ng[7, :60] = 0
    other.X = x_ng
    model = fit("beta-vsc", other, genes_key="marked")
    restored = model.reconstruct(other)
    assert np.isfinite(model.transform(other)).all()
    assert np.isfinite(restored).all()
    assert restored[7].sum() == pytest.approx(1, rel=1e-5)  # the least size there is
    assert np.isfinite(model.history.drop(columns="held_out").to_numpy(dtype=float)).all()


@each_model
def test_with_nothing_but_defaults_the_types_in_the_counts_are_found(name):
    """Fewer steps than by default are enough here."""
    adata = simulated_cells(seed=5)
    model = MODELS[name](max_steps=400).fit(adata, silent=True)
    partition, _ = embedding.kmeans(model.transform(adata), N_TYPES, seed=0)
    assert clustering_scores(adata.obs["type"], partition)["ari"] > 0.9
    assert model.history["held_out"].notna().all()
    assert len(model.history) == 133  # of three steps each
    weight = model.history["kl_weight"]
    assert weight.iloc[0] < 0.1 < weight.iloc[-1] == model.settings.kl_weight


def test_the_page_of_the_user_works(tmp_path):
    """As it stands in the documentation, on a file."""
    simulated_cells(400).write_h5ad(tmp_path / "atlas.h5ad")
    adata = ad.read_h5ad(tmp_path / "atlas.h5ad")
    model = sp.BetaVSC(n_latent=4, likelihood="nb", epochs=2).fit(
        tmp_path / "atlas.h5ad", batch_key="type", silent=True
    )
    model.save(tmp_path / "vsc")
    loaded = sp.load(tmp_path / "vsc")
    loaded.embed(adata)
    assert adata.obsm["X_beta_vsc"].shape == (400, 4)
    assert loaded._transform_sparse(adata).shape == (400, 4)
