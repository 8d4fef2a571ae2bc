"""Baselines against independent code, and the input of external models."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from scipy.optimize import nnls

from sparcell import datasets
from sparcell.benchmark import methods
from sparcell.benchmark.methods import BASELINES, BATCH, EXTERNAL_MODELS, FUNCTIONS, HELD_OUT, MethodInput
from sparcell.data.normalize import log_normalized


@pytest.fixture(scope="module")
def cells():
    simulated = datasets.simulate_programs(n_programs=4, n_cells=200, n_genes=50, n_batches=2, seed=0)
    obs = pd.DataFrame(
        {BATCH: pd.Categorical(simulated.obs["batch"].astype(str)), HELD_OUT: np.arange(200) % 10 == 0}
    )
    return anndata.AnnData(sparse.csr_matrix(simulated.X), obs=obs.set_index(simulated.obs_names))


def inputs(cells, seed=0, **settings):
    return MethodInput(cells, {"n_components": 6, **settings}, seed, 5, silent=True)


def test_counts_are_log_normalized_as_in_scanpy(cells):
    reference = cells.copy()
    sc.pp.normalize_total(reference, target_sum=1e4)
    sc.pp.log1p(reference)
    assert np.allclose(log_normalized(cells.X).toarray(), reference.X.toarray(), rtol=1e-5)


def test_principal_components_are_those_of_the_centered_matrix(cells):
    latent_nk = methods.pca(inputs(cells))().encode()
    x_ng = log_normalized(cells.X).toarray()
    left, values, _ = np.linalg.svd(x_ng - x_ng.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs(latent_nk), np.abs(left * values)[:, :6], atol=1e-2)


def test_independent_components_are_uncorrelated_with_variance_one_and_span_the_principal_ones(cells):
    latent_nk = methods.ica(inputs(cells))().encode()
    assert np.allclose(np.cov(latent_nk.T), np.eye(6), atol=0.02)
    components = methods.pca(inputs(cells))().encode()
    restored = components @ np.linalg.lstsq(components, latent_nk, rcond=None)[0]
    assert np.allclose(restored, latent_nk - latent_nk.mean(axis=0), atol=0.02)


def test_nonnegative_factors_restore_the_values_as_well_as_multiplicative_updates_do(cells):
    latent_nk = methods.nmf(inputs(cells))().encode()
    x_ng = log_normalized(cells.X).toarray().astype(float)
    assert latent_nk.shape == (200, 6)
    assert latent_nk.min() == 0
    rows_gk = np.array([nnls(latent_nk, x_n)[0] for x_n in x_ng.T])
    generator = np.random.default_rng(0)
    w_nk, h_kg = generator.random((200, 6)), generator.random((6, 50))
    for _ in range(500):  # Lee & Seung 2001, for the sum of squares
        h_kg *= (w_nk.T @ x_ng) / (w_nk.T @ w_nk @ h_kg)
        w_nk *= (x_ng @ h_kg.T) / (w_nk @ h_kg @ h_kg.T)
    assert np.linalg.norm(x_ng - latent_nk @ rows_gk.T) < 1.01 * np.linalg.norm(x_ng - w_nk @ h_kg)


@pytest.mark.parametrize("name", ["pca", "ica", "nmf"])
def test_the_same_seed_gives_the_same_latents(cells, name):
    first, again = (FUNCTIONS[name](inputs(cells, seed=3))().encode() for _ in range(2))
    assert np.array_equal(first, again)


def test_train_and_test_part_the_cells(cells):
    pca = inputs(cells)
    assert np.array_equal(np.sort(np.concatenate([pca.train_n, pca.test_t])), np.arange(200))
    assert pca.test_t.tolist() == list(range(0, 200, 10))
    assert pca.batch_key == BATCH
    alone = anndata.AnnData(cells.X, obs=cells.obs[[HELD_OUT]])
    assert inputs(alone).batch_key is None


def test_every_method_has_a_function_and_a_unique_name():
    rows = [method for table in (BASELINES, EXTERNAL_MODELS) for rows in table.values() for method in rows]
    assert {row.function for row in rows} <= set(FUNCTIONS)
    assert len({row.name for row in rows}) == len(rows)
    assert all(set(row.needs) <= set(row.packages) for row in rows)
    assert all(row.extra for row in rows if row.needs)


def test_the_warm_up_of_an_external_model_is_shortened_with_its_training():
    assert methods.warmup(400, 100, 400) == 100
    assert methods.warmup(400, 100, 200) == 200
    assert methods.warmup(400, 400, 400) == 400
    assert methods.warmup(400, 800, 400) == 400
    assert [methods.scvi_epochs(n) for n in (100, 20_000, 40_000, 10_000_000)] == [400, 400, 200, 1]
