"""Loss curves of whole trainings: sparse against dense cells, bfloat16 against float32."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from helpers.kinds import KINDS, explains_counts, layer_of, settings_of
from helpers.simulated import simulated_cells
from sparcell import kernels
from sparcell.data import loader
from sparcell.likelihoods import LIKELIHOODS


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_twenty_epochs_lose_the_same_on_sparse_and_on_dense_cells(kind, monkeypatch):
    curves = []
    # as many cells as units of the head: so the square of a Gaussian is expanded
    changes = {} if explains_counts(kind) else {"input_dropout": 0.0, "batch_size": 128}
    for fraction in (1.0, -1.0):
        monkeypatch.setattr(loader, "MAX_SPARSE_DENSITY", fraction)
        settings = settings_of(kind, epochs=20, early_stopping_patience=0, **changes)
        model = settings.fit(simulated_cells(), layer=layer_of(kind), silent=True)
        curves.append(model.history["loss"].to_numpy())
    # an effect |v| that lies at 0 jumps from side to side with Adam's momentum, and a rounding decides which: in time the curves part
    jumps = settings.decoder_type == "nonnegative-linear"
    np.testing.assert_allclose(curves[0][:4], curves[1][:4], rtol=1e-4)
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-2 if jumps else 1e-4)
    assert np.abs(curves[0] - curves[1]).max() > 0  # two paths, not one


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_twenty_epochs_with_batch_augmentation_lose_the_same_too(likelihood, monkeypatch):
    adata, curves, kind = simulated_cells(), [], ("beta-vae", likelihood)
    adata.obs["donor"] = pd.Categorical(np.array(["a", "b", "c"])[np.arange(adata.n_obs) % 3])
    dense = {"standardize_input": False, "input_dropout": 0.0, "batch_augmentation": True}
    for fraction in (1.0, -1.0):
        monkeypatch.setattr(loader, "MAX_SPARSE_DENSITY", fraction)
        settings = settings_of(kind, epochs=20, early_stopping_patience=0, **dense)
        model = settings.fit(adata, layer=layer_of(kind), batch_key="donor", silent=True)
        curves.append(model.history["loss"].to_numpy())
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
    assert np.abs(curves[0] - curves[1]).max() > 0  # two paths, not one


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "poisson"])
def test_bfloat16_changes_the_loss_a_little(likelihood, monkeypatch):
    monkeypatch.setattr(
        kernels, "has_bfloat16", lambda device: True
    )  # slow without the instructions, but the same
    kind = ("beta-vae", likelihood)
    curves = [
        settings_of(kind, epochs=5, precision=precision)
        .fit(simulated_cells(), layer=layer_of(kind), silent=True)
        .history["loss"]
        .to_numpy()
        for precision in ("float32", "bfloat16")
    ]
    np.testing.assert_allclose(curves[0], curves[1], rtol=2e-2)
    if likelihood != "gaussian":  # its square is expanded on so few genes, in float32
        assert np.abs(curves[0] - curves[1]).max() > 0
