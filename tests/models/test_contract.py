"""What every model promises, over every likelihood: a new line in MODELS or LIKELIHOODS is tested by standing there."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import sparcell as sp
from helpers.cells import cells
from helpers.kinds import (
    COUNTED,
    EXPRESSION,
    KINDS,
    assert_same_weights,
    curve,
    explains_counts,
    fit,
    matrix_of,
    weights,
    with_matrix,
)
from helpers.simulated import simulated_cells
from sparcell.errors import InputError, TrainingError
from sparcell.models import MODELS
from sparcell.protocols import EpochRecord, Loss
from sparcell.training import loop

expression_only = pytest.mark.parametrize("kind", EXPRESSION, ids="-".join)
counts_only = pytest.mark.parametrize("kind", COUNTED, ids="-".join)
BRIEF = {"epochs": 4}
FITTED = {}
"""Fitted once for all tests that do not change them."""


def assert_unchanged(adata, before):
    """Bit for bit, the kind of each array included."""
    for found, expected in [
        (adata.X, before.X),
        *((adata.layers[key], before.layers[key]) for key in before.layers),
    ]:
        assert type(found) is type(expected)
        assert found.dtype == expected.dtype
        if sparse.issparse(expected):
            for part in ("data", "indices", "indptr"):
                np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
        else:
            np.testing.assert_array_equal(found, expected)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert set(adata.layers) == set(before.layers)
    for slot in ("obsm", "varm", "obsp"):
        assert set(getattr(adata, slot)) == set(getattr(before, slot))
        for key, values in getattr(before, slot).items():
            np.testing.assert_array_equal(getattr(adata, slot)[key], values)
    assert set(adata.uns) == set(before.uns)
    if "theirs" in before.uns:
        assert adata.uns["theirs"]["note"] == before.uns["theirs"]["note"]
        np.testing.assert_array_equal(adata.uns["theirs"]["numbers"], before.uns["theirs"]["numbers"])
    assert (adata.raw is None) == (before.raw is None)
    if before.raw is not None:
        np.testing.assert_array_equal(adata.raw.X.toarray(), before.raw.X.toarray())


@pytest.fixture(scope="module")
def adata():
    made = simulated_cells()
    made.raw = made
    return made


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def kind(request):
    return request.param


def fitted(kind, adata):
    if kind not in FITTED:
        FITTED[kind] = fit(kind, adata)
    return FITTED[kind]


@pytest.fixture(scope="module")
def model(kind, adata):
    return fitted(kind, adata)


@pytest.fixture(scope="module")
def brief(kind, adata):
    """Trained for some steps, where what is learned does not matter."""
    return fit(kind, adata, settings=BRIEF)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(kind, adata, brief):
    model, again = brief, fit(kind, adata, settings=BRIEF)
    other = fit(kind, adata, settings={**BRIEF, "seed": 2})
    assert_same_weights(model, again)
    pd.testing.assert_frame_equal(curve(model), curve(again), check_exact=True)
    np.testing.assert_array_equal(model.transform(adata), again.transform(adata))
    for name, parameter in model.network.named_parameters():
        drawn = parameter.requires_grad  # what is not trained comes from the data
        assert np.array_equal(weights(model)[name], weights(other)[name]) != drawn, name


def test_nothing_of_the_user_s_is_changed(kind):
    adata = simulated_cells()
    adata.raw = adata
    before = adata.copy()
    np.random.seed(3)  # noqa: NPY002 - the global generator is what must be left alone
    torch.manual_seed(3)
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    model = fit(kind, adata, settings={"epochs": 2})
    model.transform(adata)
    model.reconstruct(adata)
    model.score(adata)
    model.marginal_log_likelihood(adata, n_samples=2)
    model.interpolate(adata, "cell0", "cell1", n_steps=3)
    assert_unchanged(adata, before)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002
    assert np.random.get_state()[2] == numpy_state[2]  # noqa: NPY002


def test_the_global_seeds_do_not_matter(kind, adata, brief):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert_same_weights(brief, fit(kind, adata, settings=BRIEF))


def test_the_loss_falls_and_all_is_finite(model):
    history = model.history
    assert list(history.columns) == ["epoch", "loss", "nll", "kl", "kl_weight", "held_out", "seconds"]
    assert list(history["epoch"]) == list(range(1, model.settings.epochs + 1))
    assert history["held_out"].isna().all()
    assert np.isfinite(history.drop(columns="held_out").to_numpy(dtype=float)).all()
    assert (history["kl_weight"] == model.settings.kl_weight).all()
    expected = history["nll"] + model.settings.kl_weight * history["kl"]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    floored = (
        model.settings.decoder_type == "nonnegative-linear"
    )  # such a model begins from parts of the data: less is left to fall
    most = 0.85 if model.schema.counts else 0.75 if floored else 0.6
    assert history["loss"].iloc[-1] < most * history["loss"].iloc[0]
    assert all(np.isfinite(values).all() for values in weights(model).values())


def test_each_epoch_is_told(kind, adata):
    told: list[EpochRecord] = []
    model = fit(kind, adata, settings={"epochs": 3}, on_epoch=told.append)
    expected = pd.DataFrame([asdict(epoch) for epoch in told]).rename(columns={"number": "epoch"})
    pd.testing.assert_frame_equal(
        model.history, expected.astype({"validation_fraction": float}), check_exact=True
    )


def test_codes_are_one_row_a_cell_in_single_precision(model, adata):
    codes = model.transform(adata)
    assert codes.shape == (adata.n_obs, model.settings.n_latent)
    assert codes.dtype == np.float32
    assert np.isfinite(codes).all()
    np.testing.assert_allclose(model.transform(adata[:7]), codes[:7], atol=1e-5)


def test_the_order_of_genes_does_not_matter(model, adata):
    order = np.random.default_rng(0).permutation(adata.n_vars)
    np.testing.assert_array_equal(model.transform(adata[:, order].copy()), model.transform(adata))


def test_genes_the_model_does_not_know_do_not_matter(model, adata):
    more = simulated_cells(seed=8)
    known = adata.copy()
    del known.raw
    more.var_names = [f"other{number}" for number in range(more.n_vars)]
    more.obs_names = adata.obs_names
    wide = ad.concat([more, known], axis=1)
    np.testing.assert_array_equal(model.transform(wide), model.transform(adata))


def test_missing_genes_are_named(model, adata):
    with pytest.raises(
        InputError, match=r"2 of the model's 120 genes are not in the data \(such as gene4, gene9\)"
    ):
        model.transform(adata[:, ~adata.var_names.isin(["gene4", "gene9"])])


@expression_only
def test_counts_are_normalised_as_the_layer_was(kind, adata):
    short = {"epochs": 5}
    model, from_counts = fit(kind, adata, settings=short), fit(kind, adata, layer=None, settings=short)
    assert from_counts.schema.log_normalize
    assert not model.schema.log_normalize
    np.testing.assert_allclose(from_counts.history["loss"], model.history["loss"], rtol=1e-4)
    np.testing.assert_allclose(
        from_counts.schema.matrix(adata).toarray(), adata.layers["lognorm"].toarray(), atol=1e-5
    )


@pytest.mark.parametrize(
    "form", [np.asarray, sparse.csc_matrix, sparse.csr_array], ids=["dense", "csc", "csr_array"]
)
def test_the_form_of_the_matrix_does_not_matter(kind, model, adata, form):
    other = with_matrix(kind, adata, form(matrix_of(kind, adata)))
    np.testing.assert_array_equal(model.transform(other), model.transform(adata))
    np.testing.assert_array_equal(model.reconstruct(other), model.reconstruct(adata))


@counts_only
@pytest.mark.parametrize("number", [np.int64, np.uint16, np.float64])
def test_the_type_of_the_counts_does_not_matter(kind, adata, number):
    model, other = fitted(kind, adata), with_matrix(kind, adata, adata.X.astype(number))
    np.testing.assert_array_equal(model.transform(other), model.transform(adata))
    assert model.score(other) == model.score(adata)


READ_BACK = """
import sys
import anndata, numpy, sparcell
data, *folders = sys.argv[1:]
adata = anndata.read_h5ad(data)
for folder in folders:
    model = sparcell.load(folder)
    numpy.savez(
        folder + ".npz",
        codes=model.transform(adata),
        restored=model.reconstruct(adata),
        score=model.score(adata),
        bound=model.marginal_log_likelihood(adata, n_samples=3),
    )
"""


def test_saved_models_give_the_same_in_a_fresh_process(adata, tmp_path):
    for kind in KINDS:
        model = fitted(kind, adata)
        model.save(tmp_path / "-".join(kind))
        loaded = sp.load(tmp_path / "-".join(kind))
        assert loaded.settings == model.settings
        assert loaded.schema == model.schema
        pd.testing.assert_frame_equal(loaded.history, model.history, check_exact=True)
        assert_same_weights(loaded, model)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    folders = [str(tmp_path / "-".join(kind)) for kind in KINDS]
    command = [sys.executable, "-c", READ_BACK, str(tmp_path / "cells.h5ad"), *folders]
    subprocess.run(command, check=True, timeout=300)
    for kind in KINDS:
        model, found = fitted(kind, adata), np.load(tmp_path / f"{'-'.join(kind)}.npz")
        np.testing.assert_array_equal(found["codes"], model.transform(adata), err_msg=str(kind))
        np.testing.assert_array_equal(found["restored"], model.reconstruct(adata), err_msg=str(kind))
        assert found["score"] == model.score(adata), kind
        np.testing.assert_array_equal(found["bound"], model.marginal_log_likelihood(adata, n_samples=3))


def test_annotate_writes_the_documented_keys_and_they_survive_a_file(model, adata, tmp_path):
    name = model.settings.name
    noted, codes = adata.copy(), model.codes(adata)
    model.embed(noted)
    spikes = {f"{name}_gamma"} if codes.inclusion_nk is not None else set()
    assert set(noted.obsm) == {"X_theirs", f"X_{name}"} | spikes
    assert set(noted.uns) == {"theirs", name}
    noted.write_h5ad(tmp_path / "noted.h5ad")
    read = ad.read_h5ad(tmp_path / "noted.h5ad")
    np.testing.assert_array_equal(read.obsm[f"X_{name}"], codes.mean_nk)
    np.testing.assert_array_equal(read.uns[name]["kl"], codes.kl_k)
    np.testing.assert_array_equal(read.uns[name]["live"], codes.active_k)
    assert set(read.uns[name]["settings"]) == set(asdict(model.settings))
    assert list(read.uns[name]["settings"]["encoder"]) == list(model.settings.encoder_widths)
    for key in list(noted.obsm.keys() - {"X_theirs"}):
        del noted.obsm[key]
    del noted.uns[name]
    assert_unchanged(noted, adata)


def test_key_added_renames_what_annotate_writes(model, adata):
    noted = adata.copy()
    model.embed(noted, key_added="mine")
    assert "X_mine" in noted.obsm
    assert "mine" in noted.uns
    assert not [key for key in [*noted.obsm, *noted.uns] if model.settings.name in key]


def test_programs_are_tables_and_what_is_written_is_documented(kind, model, adata):
    noted, name, codes = adata.copy(), model.settings.name, model.codes(adata)
    found = model.programs(noted, labels_key="type", n_top=5)
    assert found.summary["latent"].isin(np.flatnonzero(codes.active_k)).all()
    assert len(found.summary) >= 1
    assert found.summary["label"].isin(adata.obs["type"].cat.categories).all()
    numbers = found.summary[["share_on", "label_share", "label_auc", "explained"]].to_numpy(dtype=float)
    assert ((numbers[:, :3] >= 0) & (numbers[:, :3] <= 1)).all()
    assert np.isfinite(numbers).all()
    assert (found.summary["label_auc"] > 0.8).any()
    assert found.genes.groupby(["program", "direction"]).size().max() <= 5
    assert np.isfinite(found.genes["mean_on"]).all()
    if explains_counts(kind):  # a Gaussian may restore a gene below 0
        assert (found.genes["mean_on"] > 0).all()
    effect_gk = noted.varm[f"{name}_effects"]
    assert effect_gk.shape == (adata.n_vars, model.settings.n_latent)
    assert np.isfinite(effect_gk).all()
    assert (effect_gk[:, ~codes.active_k] == 0).all()
    again = model.programs(noted.copy(), labels_key="type", n_top=5)
    pd.testing.assert_frame_equal(again.summary, found.summary, check_exact=True)
    pd.testing.assert_frame_equal(again.genes, found.genes, check_exact=True)
    for table in ("summary", "genes"):
        pd.testing.assert_frame_equal(noted.uns[f"{name}_programs"][table], getattr(found, table))
    del noted.varm[f"{name}_effects"], noted.uns[f"{name}_programs"]
    assert_unchanged(noted, adata)


def test_gamma_is_given_by_models_with_spikes_and_by_no_other(kind, model, adata):
    codes = model.codes(adata)
    x_ng = matrix_of(kind, adata)
    with torch.no_grad():
        posterior = model.network.posterior(cells(torch.from_numpy(x_ng)))
    if posterior.gamma is None:
        assert codes.inclusion_nk is None
        with pytest.raises(InputError, match="has no spikes"):
            model.gamma(adata)
        return
    inclusion_nk = model.gamma(adata)
    assert ((inclusion_nk >= 0) & (inclusion_nk <= 1)).all()
    np.testing.assert_array_equal(inclusion_nk, posterior.gamma.numpy())
    slab = posterior.prior.slab.mean(posterior.mu, posterior.log_sigma.exp())
    np.testing.assert_allclose(codes.mean_nk, inclusion_nk * slab.numpy(), rtol=1e-5)


def test_codes_report_the_kl_of_each_latent(model, adata):
    codes = model.codes(adata)
    assert codes.kl_k.shape == (model.settings.n_latent,)
    np.testing.assert_allclose(codes.kl_k, codes.kl_nk.astype(np.float64).mean(axis=0), rtol=1e-6)
    assert (codes.kl_k > 0).any() == model.settings.generative


def type_means(x_ng, adata):
    return pd.DataFrame(x_ng).groupby(adata.obs["type"].to_numpy()).mean().to_numpy()


def test_reconstruct_gives_each_type_its_profile(kind, model, adata):
    restored = model.reconstruct(adata)
    assert restored.shape == adata.shape
    assert restored.dtype == np.float32
    found, expected = type_means(restored, adata), type_means(matrix_of(kind, adata), adata)
    for one, other in zip(found, expected, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.97


@counts_only
def test_restored_counts_share_out_the_cell_s_own_size(kind, adata):
    """All of it, but for those that a zero-inflated model takes for dropped."""
    restored = fitted(kind, adata).reconstruct(adata)
    totals_n, sizes_n = restored.sum(axis=1), adata.X.toarray().sum(axis=1)
    assert (restored > 0).all()
    if kind[1] == "zinb":
        assert ((totals_n > 0.8 * sizes_n) & (totals_n < sizes_n)).all()
    else:
        np.testing.assert_allclose(totals_n, sizes_n, rtol=1e-5)


def test_samples_look_like_the_data_or_are_refused(kind, model, adata):
    if not model.settings.generative:
        with pytest.raises(InputError, match="no prior"):
            model.sample(3)
        return
    made, again, other = model.sample(500, seed=4), model.sample(500, seed=4), model.sample(500, seed=5)
    assert made.shape == (500, adata.n_vars)
    assert list(made.var_names) == list(adata.var_names)
    assert made.obsm[f"X_{model.settings.name}"].shape == (500, model.settings.n_latent)
    assert np.isfinite(made.X).all()
    np.testing.assert_array_equal(made.X, again.X)
    assert not np.array_equal(made.X, other.X)
    mean_g = matrix_of(kind, adata).mean(axis=0)
    floored = (
        model.settings.decoder_type == "nonnegative-linear"
    )  # drawn cells may have several types' programs on, or none
    assert np.corrcoef(made.X.mean(axis=0), mean_g)[0, 1] > (0.65 if floored else 0.75)
    noisy = model.sample(500, seed=4, noise=True)
    np.testing.assert_array_equal(noisy.X, model.sample(500, seed=4, noise=True).X)
    assert noisy.X.var() > made.X.var()
    if explains_counts(kind):
        assert (noisy.X >= 0).all()
        assert (np.rint(noisy.X) == noisy.X).all()
        median = np.median(adata.X.toarray().sum(axis=1))
        assert 0.8 * median < made.X.sum(axis=1).mean() <= median * (1 + 1e-5)
        assert noisy.X.sum(axis=1).mean() == pytest.approx(made.X.sum(axis=1).mean(), rel=0.05)


def test_no_cells_cannot_be_sampled(model):
    with pytest.raises(InputError, match="n_cells is 0; expected at least 1"):
        model.sample(0)


def test_a_walk_ends_at_the_two_cells(model, adata):
    """As they are restored; a model of counts walks at one size, the median of the fit."""
    walk = model.interpolate(adata, "cell5", "cell17", n_steps=5)
    restored, codes = model.reconstruct(adata)[[5, 17]], model.transform(adata)
    if model.schema.counts:
        sizes_n = adata.X.toarray().sum(axis=1)
        restored = restored / sizes_n[[5, 17], None] * np.median(sizes_n)
    np.testing.assert_allclose(walk.X[[0, -1]], restored, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(walk.obs["position"], np.linspace(0, 1, 5), atol=1e-7)
    middle = walk.obsm[f"X_{model.settings.name}"][2]
    np.testing.assert_allclose(middle, (codes[5] + codes[17]) / 2, atol=1e-5)


def test_a_walk_needs_two_known_cells_and_two_steps(model, adata):
    with pytest.raises(InputError, match=r"no cell 'cell55x' in the data; did you mean 'cell55'"):
        model.interpolate(adata, "cell55x", "cell1")
    with pytest.raises(InputError, match="n_steps is 1; expected at least 2"):
        model.interpolate(adata, "cell0", "cell1", n_steps=1)


def test_a_walk_from_a_cell_to_itself_stays(model, adata):
    walk = model.interpolate(adata, "cell5", "cell5", n_steps=3)
    np.testing.assert_allclose(walk.X, walk.X[:1].repeat(3, axis=0), atol=1e-5)


def test_the_score_is_finite_seeded_and_better_for_cells_like_those_seen(kind, adata, model):
    assert np.isfinite(model.score(adata))
    assert model.score(adata, seed=3) == model.score(adata, seed=3)
    order = np.random.default_rng(0).permutation(adata.n_vars)
    shuffled = with_matrix(kind, adata, matrix_of(kind, adata)[:, order])
    assert model.score(shuffled) < model.score(adata)


def test_the_bound_with_many_draws_is_seeded_one_number_a_cell_and_above_the_score(model, adata):
    """For the autoencoder, whose code is a point, it is the score."""
    few = adata[:60].copy()
    bound_n = model.marginal_log_likelihood(few, n_samples=20, seed=3)
    assert (bound_n.shape, bound_n.dtype) == ((60,), np.float64)
    np.testing.assert_array_equal(bound_n, model.marginal_log_likelihood(few, n_samples=20, seed=3))
    if model.settings.generative:
        assert not np.array_equal(bound_n, model.marginal_log_likelihood(few, n_samples=20, seed=4))
        assert bound_n.mean() > model.score(few)
    else:
        assert bound_n.mean() == pytest.approx(model.score(few), rel=1e-6)
    with pytest.raises(InputError, match="n_samples is 0; expected at least 1"):
        model.marginal_log_likelihood(few, n_samples=0)


def test_a_last_batch_of_one_cell_is_trained_on(kind):
    adata = simulated_cells(n_cells=65)
    model = fit(kind, adata, settings={"epochs": 2, "batch_size": 64})
    assert np.isfinite(model.history["loss"]).all()
    assert model.transform(adata).shape == (65, 6)


def test_an_epoch_s_record_is_the_mean_over_its_cells(kind, adata):
    """With steps too small to matter and a last batch of one cell, it is what the fitted model says of the same cells."""
    still = {"epochs": 1, "batch_size": 299, "learning_rate": 1e-12, "dropout": 0.0, "input_dropout": 0.0}
    model = fit(kind, adata, settings=still)
    told = model.history.iloc[0]
    np.testing.assert_allclose(told["kl"], model.codes(adata).kl_k.sum(), rtol=1e-5)
    if not model.settings.generative:  # no draw, so the reconstruction can be told as well
        np.testing.assert_allclose(told["nll"], -model.score(adata), rtol=1e-5)


def test_one_cell_can_be_encoded(model, adata):
    one = model.transform(adata[3])
    np.testing.assert_allclose(one, model.transform(adata)[3:4], atol=1e-5)


def without_training(kind, adata, message, **keywords):
    """The data is refused with a message, before an epoch, and nothing is changed."""
    before, told = adata.copy(), []
    with pytest.raises(InputError, match=message):
        fit(kind, adata, on_epoch=told.append, **keywords)
    assert told == []
    assert_unchanged(adata, before)


def test_fewer_cells_than_a_batch_are_refused(kind, adata):
    message = r"300 cells, fewer than batch_size \(301\).*set batch_size to 300 or less"
    without_training(kind, adata, message, settings={"batch_size": 301})


BROKEN = {
    "scaled": (lambda x_ng: (x_ng - x_ng.mean(axis=0)) / (x_ng.std(axis=0) + 1), "below 0"),
    "negative": (lambda x_ng: np.where(x_ng == x_ng.max(), -1, x_ng), "below 0"),
    "nan": (lambda x_ng: np.where(x_ng == x_ng.max(), np.nan, x_ng), "1 missing or infinite value"),
    "inf": (lambda x_ng: np.where(x_ng == x_ng.max(), np.inf, x_ng), "1 missing or infinite value"),
    "normalised": (lambda x_ng: x_ng / x_ng.sum(axis=1, keepdims=True) * 1e4, "normalised.*not logged"),
    "empty": (lambda x_ng: x_ng * (np.arange(300) != 7)[:, None], "1 cell.*without a single count.*'cell7'"),
    "text": (lambda x_ng: x_ng.astype(str), "expected real numbers"),
}
"""What no model takes: how it is made of what the kind reads, and what is said."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_layer_is_refused(kind, name):
    make, message = BROKEN[name]
    adata = simulated_cells()
    adata.layers["given"] = make(matrix_of(kind, adata))
    without_training(kind, adata, message, layer="given")


@pytest.mark.parametrize("name", ["scaled", "nan", "normalised", "empty"])
def test_a_fitted_model_refuses_a_broken_layer(kind, model, adata, name):
    make, message = BROKEN[name]
    other = with_matrix(kind, adata, make(matrix_of(kind, adata)))
    for use in (model.transform, model.reconstruct, model.score, model.log_likelihood, model.embed):
        with pytest.raises(InputError, match=message):
            use(other)
    assert set(other.obsm) == {"X_theirs"}


@counts_only
def test_a_model_of_counts_refuses_expression_and_says_what_it_needs(kind, adata):
    message = r"layers\['lognorm'\] holds log-normalized values .*expected counts.*give the raw counts"
    without_training(kind, adata, message, layer="lognorm")
    model, other = fitted(kind, adata), with_matrix(kind, adata, adata.layers["lognorm"])
    for use in (model.transform, model.reconstruct, model.score):
        with pytest.raises(InputError, match=r"X holds log-normalized values .*expected counts"):
            use(other)


@counts_only
@pytest.mark.parametrize("wish", [{"log_normalize": True}, {"scale": True}])
def test_a_model_of_counts_refuses_to_normalise_or_scale_them(kind, adata, wish):
    message = r"a model of counts takes them as they are; expected normalise and scale to be left out, or likelihood='gaussian'"
    without_training(kind, adata, message, **wish)


@expression_only
def test_a_model_of_expression_refuses_what_it_is_told_to_take_for_the_other_kind(kind, adata):
    without_training(kind, adata, "holds counts.*expected log-normalized", layer=None, log_normalize=False)
    without_training(kind, adata, "holds log-normalized.*expected counts", log_normalize=True)
    model, other = fitted(kind, adata), with_matrix(kind, adata, adata.X)
    with pytest.raises(InputError, match=r"layers\['lognorm'\] holds counts.*expected log-normalized"):
        model.transform(other)


def test_an_unknown_layer_or_column_names_the_nearest(kind, adata):
    without_training(kind, adata, "no layer 'lognrm' in the data; did you mean 'lognorm'", layer="lognrm")
    without_training(kind, adata, "no column 'markd' in var.*did you mean 'marked'", genes_key="markd")


def test_a_column_that_does_not_choose_is_refused(kind):
    adata = simulated_cells()
    adata.var["none"], adata.var["name"] = False, "a"
    without_training(kind, adata, "chooses no gene", genes_key="none")
    without_training(kind, adata, "expected true/false", genes_key="name")


def repeated_gene(adata):
    names = ["gene0", *adata.var_names[:-1]]
    return ad.AnnData(adata.X, obs=adata.obs, var=pd.DataFrame(index=names), layers=dict(adata.layers))


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_repeated_gene_names_are_refused(kind):
    adata = repeated_gene(simulated_cells())
    without_training(kind, adata, "gene name 'gene0' occurs more than once.*var_names_make_unique")


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_repeated_gene_names_are_refused_by_a_fitted_model(model, adata):
    other = repeated_gene(adata)
    with pytest.raises(InputError, match="gene name 'gene0' occurs more than once"):
        model.transform(other)


def test_no_x_and_no_layer_is_refused(kind, adata):
    bare = ad.AnnData(obs=adata.obs.copy(), var=adata.var.copy(), layers={"lognorm": adata.layers["lognorm"]})
    with pytest.raises(InputError, match="X is empty"):
        fit(kind, bare, layer=None)


def test_chosen_genes_only_are_learned(kind, adata):
    model = fit(kind, adata, genes_key="marked", settings={"epochs": 3})
    assert model.schema.genes == tuple(adata.var_names[adata.var["marked"]])
    assert model.reconstruct(adata).shape == (300, 60)
    np.testing.assert_array_equal(model.transform(adata[:, :60].copy()), model.transform(adata))


@expression_only
def test_scaled_input_is_brought_back_by_reconstruct(kind, adata):
    model = fit(kind, adata, scale=True)
    x_ng = adata.layers["lognorm"].toarray()
    restored = model.reconstruct(adata)
    np.testing.assert_allclose(restored.mean(axis=0), x_ng.mean(axis=0), atol=0.35)
    least = (
        0.97 if len(kind) == 2 else 0.9
    )  # effects that are never negative can only raise a gene above its mean
    means = type_means(restored, adata).ravel(), type_means(x_ng, adata).ravel()
    assert np.corrcoef(*means)[0, 1] > least
    walk = model.interpolate(adata, "cell5", "cell17", n_steps=2)
    np.testing.assert_allclose(walk.X, restored[[5, 17]], atol=1e-4)
    np.testing.assert_allclose(model.encode(x_ng), model.transform(adata), atol=1e-5)


def test_expression_that_is_no_measured_cell_can_be_encoded(kind, model, adata):
    x_ng = matrix_of(kind, adata)
    np.testing.assert_allclose(model.encode(x_ng), model.transform(adata), atol=1e-5)
    if explains_counts(kind):  # twice as many counts are the same cell, and need not be whole
        np.testing.assert_allclose(model.encode(1.5 * x_ng), model.transform(adata), atol=1e-4)
        assert np.isfinite(model.encode(np.zeros_like(x_ng[:2]))).all()
    else:
        assert np.isfinite(model.encode(x_ng.astype(np.float64) - 0.5)).all()


def test_a_path_is_as_good_as_the_data(kind, adata, brief, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert_same_weights(fit(kind, tmp_path / "cells.h5ad", settings=BRIEF), brief)
    np.testing.assert_array_equal(brief.transform(str(tmp_path / "cells.h5ad")), brief.transform(adata))


def test_a_loss_that_is_no_number_stops_the_training_with_advice(kind, adata, monkeypatch):
    real = loop.negative_elbo

    def broken(*arguments):
        loss = real(*arguments)
        return Loss(loss.total * float("nan"), loss.nll, loss.kl)

    monkeypatch.setattr(loop, "negative_elbo", broken)
    with pytest.raises(
        TrainingError, match=r"not finite in epoch 1,.*'cell\d+'.*gene\d+.*smaller learning rate"
    ):
        fit(kind, adata)


@pytest.mark.parametrize("name", MODELS)
def test_an_unknown_likelihood_is_refused_by_name(name):
    with pytest.raises(
        InputError, match="likelihood is 'poison'; expected one of gaussian, poisson, nb, zinb"
    ):
        MODELS[name](likelihood="poison")
