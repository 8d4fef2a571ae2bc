"""What every model promises, over every likelihood: encoding, saving and what is written into AnnData."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import sparcell as sp
from helpers.cells import cells
from helpers.kinds import (
    COUNT_KINDS,
    KINDS,
    assert_same_weights,
    explains_counts,
    fitted,
    matrix_of,
    with_matrix,
)
from helpers.simulated import simulated_cells
from helpers.unchanged import assert_unchanged
from sparcell.errors import InputError

count_kinds = pytest.mark.parametrize("kind", COUNT_KINDS, ids="-".join)


def test_transform_returns_one_float32_row_per_cell(model, adata):
    latents = model.transform(adata)
    assert latents.shape == (adata.n_obs, model.settings.n_latent)
    assert latents.dtype == np.float32
    assert np.isfinite(latents).all()
    np.testing.assert_allclose(model.transform(adata[:7]), latents[:7], atol=1e-5)


def test_the_order_of_genes_does_not_matter(model, adata):
    order = np.random.default_rng(0).permutation(adata.n_vars)
    np.testing.assert_array_equal(model.transform(adata[:, order].copy()), model.transform(adata))


def test_further_genes_do_not_matter(model, adata):
    more = simulated_cells(seed=8)
    renamed = adata.copy()
    del renamed.raw
    more.var_names = [f"other{number}" for number in range(more.n_vars)]
    more.obs_names = adata.obs_names
    wide = ad.concat([more, renamed], axis=1)
    np.testing.assert_array_equal(model.transform(wide), model.transform(adata))


def test_missing_genes_are_named(model, adata):
    with pytest.raises(
        InputError, match=r"2 of the model's 120 genes are not in the data \(such as gene4, gene9\)"
    ):
        model.transform(adata[:, ~adata.var_names.isin(["gene4", "gene9"])])


@pytest.mark.parametrize(
    "form", [np.asarray, sparse.csc_matrix, sparse.csr_array], ids=["dense", "csc", "csr_array"]
)
def test_dense_csc_and_csr_matrices_give_the_same_result(kind, model, adata, form):
    other = with_matrix(kind, adata, form(matrix_of(kind, adata)))
    np.testing.assert_array_equal(model.transform(other), model.transform(adata))
    np.testing.assert_array_equal(model.reconstruct(other), model.reconstruct(adata))


@count_kinds
@pytest.mark.parametrize("number", [np.int64, np.uint16, np.float64])
def test_the_type_of_counts_does_not_matter(kind, adata, number):
    model, other = fitted(kind), with_matrix(kind, adata, adata.X.astype(number))
    np.testing.assert_array_equal(model.transform(other), model.transform(adata))
    assert model.score(other) == model.score(adata)


LOAD = """
import sys
import anndata, numpy, sparcell
data, *folders = sys.argv[1:]
adata = anndata.read_h5ad(data)
for folder in folders:
    model = sparcell.load(folder)
    numpy.savez(
        folder + ".npz",
        latents=model.transform(adata),
        mean=model.reconstruct(adata),
        score=model.score(adata),
        bound=model.marginal_log_likelihood(adata, n_samples=3),
    )
"""


def test_saved_models_give_the_same_results_in_another_process(adata, tmp_path):
    for kind in KINDS:
        model = fitted(kind)
        model.save(tmp_path / "-".join(kind))
        loaded = sp.load(tmp_path / "-".join(kind))
        assert loaded.settings == model.settings
        assert loaded.schema == model.schema
        pd.testing.assert_frame_equal(loaded.history, model.history, check_exact=True)
        assert_same_weights(loaded, model)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    folders = [str(tmp_path / "-".join(kind)) for kind in KINDS]
    command = [sys.executable, "-c", LOAD, str(tmp_path / "cells.h5ad"), *folders]
    subprocess.run(command, check=True, timeout=300)
    for kind in KINDS:
        model, results = fitted(kind), np.load(tmp_path / f"{'-'.join(kind)}.npz")
        np.testing.assert_array_equal(results["latents"], model.transform(adata), err_msg=str(kind))
        np.testing.assert_array_equal(results["mean"], model.reconstruct(adata), err_msg=str(kind))
        assert results["score"] == model.score(adata), kind
        np.testing.assert_array_equal(results["bound"], model.marginal_log_likelihood(adata, n_samples=3))


def test_embed_writes_the_documented_keys_which_survive_a_file(model, adata, tmp_path):
    name = model.settings.name
    embedded, latents = adata.copy(), model.latent_representation(adata)
    model.embed(embedded)
    spikes = {f"{name}_inclusion"} if latents.inclusion_nk is not None else set()
    assert set(embedded.obsm) == {"X_other", f"X_{name}"} | spikes
    assert set(embedded.uns) == {"other", name}
    embedded.write_h5ad(tmp_path / "embedded.h5ad")
    read = ad.read_h5ad(tmp_path / "embedded.h5ad")
    np.testing.assert_array_equal(read.obsm[f"X_{name}"], latents.mean_nk)
    if spikes:
        np.testing.assert_array_equal(read.obsm[f"{name}_inclusion"], latents.inclusion_nk)
    np.testing.assert_array_equal(read.uns[name]["kl"], latents.kl_k)
    np.testing.assert_array_equal(read.uns[name]["active"], latents.active_k)
    assert set(read.uns[name]) == {"settings", "kl", "active"}
    assert set(read.uns[name]["settings"]) == set(asdict(model.settings))
    assert list(read.uns[name]["settings"]["encoder_widths"]) == list(model.settings.encoder_widths)
    for key in list(embedded.obsm.keys() - {"X_other"}):
        del embedded.obsm[key]
    del embedded.uns[name]
    assert_unchanged(embedded, adata)


@pytest.mark.parametrize("key_added", ["foo", "X_foo"])
def test_key_added_renames_what_embed_writes_with_or_without_x(model, adata, key_added):
    embedded = adata.copy()
    model.embed(embedded, key_added=key_added)
    spikes = {"foo_inclusion"} if model.latent_representation(adata).inclusion_nk is not None else set()
    assert set(embedded.obsm) == {"X_other", "X_foo"} | spikes
    assert set(embedded.uns) == {"other", "foo"}


def test_programs_returns_tables_and_writes_the_documented_keys(kind, model, adata):
    described, name, latents = adata.copy(), model.settings.name, model.latent_representation(adata)
    programs = model.programs(described, labels_key="type", n_genes=5)
    assert programs.summary["latent"].isin(np.flatnonzero(latents.active_k) + 1).all()
    assert len(programs.summary) >= 1
    assert programs.summary["label"].isin(adata.obs["type"].cat.categories).all()
    numbers = programs.summary[
        ["fraction_cells_on", "label_fraction_on", "label_auc", "fraction_explained"]
    ].to_numpy(dtype=float)
    assert ((numbers[:, :3] >= 0) & (numbers[:, :3] <= 1)).all()
    assert np.isfinite(numbers).all()
    assert (programs.summary["label_auc"] > 0.8).any()
    assert programs.genes.groupby(["program", "direction"]).size().max() <= 5
    assert np.isfinite(programs.genes["mean_on"]).all()
    if explains_counts(kind):  # a Gaussian mean may be below 0
        assert (programs.genes["mean_on"] > 0).all()
    effect_gk = described.varm[f"{name}_effects"]
    assert effect_gk.shape == (adata.n_vars, model.settings.n_latent)
    assert np.isfinite(effect_gk).all()
    assert (effect_gk[:, ~latents.active_k] == 0).all()
    again = model.programs(described.copy(), labels_key="type", n_genes=5)
    pd.testing.assert_frame_equal(again.summary, programs.summary, check_exact=True)
    pd.testing.assert_frame_equal(again.genes, programs.genes, check_exact=True)
    for table in ("summary", "genes"):
        pd.testing.assert_frame_equal(described.uns[f"{name}_programs"][table], getattr(programs, table))
    del described.varm[f"{name}_effects"], described.uns[f"{name}_programs"]
    assert_unchanged(described, adata)


def test_inclusion_probabilities_are_those_of_the_posterior_and_need_spikes(kind, model, adata):
    latents = model.latent_representation(adata)
    with torch.no_grad():
        posterior = model.network.posterior(cells(torch.from_numpy(matrix_of(kind, adata))))
    if posterior.gamma is None:
        assert latents.inclusion_nk is None
        for use in (model.inclusion_probability, partial(model.transform, sparse=True)):
            with pytest.raises(
                InputError, match="has no inclusion probabilities, since it has no spikes; use BetaVSC"
            ):
                use(adata)
        return
    inclusion_nk = model.inclusion_probability(adata)
    assert ((inclusion_nk >= 0) & (inclusion_nk <= 1)).all()
    np.testing.assert_array_equal(inclusion_nk, posterior.gamma.numpy())
    slab = posterior.prior.slab.mean(posterior.mu, posterior.log_sigma.exp())
    np.testing.assert_allclose(latents.mean_nk, inclusion_nk * slab.numpy(), rtol=1e-5)


@pytest.mark.parametrize("min_inclusion", [None, 0.0, 0.3, 1.1])
def test_sparse_transform_keeps_latents_of_at_least_min_inclusion(model, adata, min_inclusion):
    latents = model.latent_representation(adata)
    if latents.inclusion_nk is None:
        return  # refused: see the test above
    options = {} if min_inclusion is None else {"min_inclusion": min_inclusion}
    sparse_nk = model.transform(adata, sparse=True, **options)
    assert sparse.issparse(sparse_nk)
    assert sparse_nk.format == "csr"
    limit = 0.5 if min_inclusion is None else min_inclusion
    expected_nk = np.where(latents.inclusion_nk >= limit, latents.mean_nk, 0)
    np.testing.assert_array_equal(sparse_nk.toarray(), expected_nk)
    assert sparse_nk.nnz == np.count_nonzero(expected_nk)  # zeros are not stored


def test_latent_representation_holds_the_kl_of_each_latent(kind, model, adata):
    latents = model.latent_representation(adata)
    assert latents.kl_k.shape == (model.settings.n_latent,)
    with torch.no_grad():
        kl_nk = model.network.posterior(cells(torch.from_numpy(matrix_of(kind, adata)))).kl().numpy()
    np.testing.assert_allclose(latents.kl_k, kl_nk.astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-7)
    assert (latents.kl_k > 0).any() == model.settings.generative


def test_one_cell_can_be_encoded(model, adata):
    one = model.transform(adata[3])
    np.testing.assert_allclose(one, model.transform(adata)[3:4], atol=1e-5)


def test_encode_accepts_expression_that_is_not_a_measured_cell(kind, model, adata):
    x_ng = matrix_of(kind, adata)
    np.testing.assert_allclose(model.encode(x_ng), model.transform(adata), atol=1e-5)
    if explains_counts(kind):  # twice as many counts are the same cell, and need not be whole
        np.testing.assert_allclose(model.encode(1.5 * x_ng), model.transform(adata), atol=1e-4)
        assert np.isfinite(model.encode(np.zeros_like(x_ng[:2]))).all()
    else:
        assert np.isfinite(model.encode(x_ng.astype(np.float64) - 0.5)).all()
