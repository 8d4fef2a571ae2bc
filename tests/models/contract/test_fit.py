"""What every model promises, over every likelihood: training."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.broken_loss import BrokenLoss
from helpers.kinds import (
    COUNT_KINDS,
    GAUSSIAN_KINDS,
    assert_same_weights,
    fit,
    learning_curve,
    weights,
)
from helpers.simulated import simulated_cells
from helpers.unchanged import assert_unchanged
from sparcell.errors import TrainingError
from sparcell.protocols import EpochRecord
from sparcell.training import loop
from sparcell.training.objective import training_loss

SHORT = {"epochs": 4}


gaussian_kinds = pytest.mark.parametrize("kind", GAUSSIAN_KINDS, ids="-".join)


count_kinds = pytest.mark.parametrize("kind", COUNT_KINDS, ids="-".join)


def test_the_seed_determines_the_bits_of_weights_history_and_latents(kind, adata, short_model):
    model, again = short_model, fit(kind, adata, settings=SHORT)
    other = fit(kind, adata, settings={**SHORT, "seed": 2})
    assert_same_weights(model, again)
    pd.testing.assert_frame_equal(learning_curve(model), learning_curve(again), check_exact=True)
    np.testing.assert_array_equal(model.transform(adata), again.transform(adata))
    for name, parameter in model.network.named_parameters():
        is_trained = parameter.requires_grad  # what is not trained comes from the data
        assert np.array_equal(weights(model)[name], weights(other)[name]) != is_trained, name


def test_fitting_and_using_a_model_changes_neither_data_nor_global_random_states(kind):
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


def test_global_seeds_do_not_matter(kind, adata, short_model):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert_same_weights(short_model, fit(kind, adata, settings=SHORT))


def test_the_loss_falls_and_all_is_finite(model):
    history = model.history
    assert list(history.columns) == [
        "epoch",
        "loss",
        "reconstruction_loss",
        "kl",
        "kl_weight",
        "validation_loss",
        "seconds",
    ]
    assert list(history["epoch"]) == list(range(1, model.settings.epochs + 1))
    assert history["validation_loss"].isna().all()
    assert np.isfinite(history.drop(columns="validation_loss").to_numpy(dtype=float)).all()
    assert (history["kl_weight"] == model.settings.kl_weight).all()
    expected = history["reconstruction_loss"] + model.settings.kl_weight * history["kl"]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    nonnegative = (
        model.settings.decoder_type == "nonnegative-linear"
    )  # it starts from factors of the data, so the loss falls less
    limit = 0.85 if model.schema.counts else 0.75 if nonnegative else 0.6
    assert history["loss"].iloc[-1] < limit * history["loss"].iloc[0]
    assert all(np.isfinite(values).all() for values in weights(model).values())


def test_on_epoch_gets_each_record(kind, adata):
    records: list[EpochRecord] = []
    model = fit(kind, adata, settings={"epochs": 3}, on_epoch=records.append)
    expected = pd.DataFrame([asdict(record) for record in records]).rename(columns={"number": "epoch"})
    expected = expected.astype({"validation_loss": float})
    pd.testing.assert_frame_equal(model.history, expected, check_exact=True)


@gaussian_kinds
def test_a_gaussian_model_log_normalizes_counts(kind, adata):
    settings = {"epochs": 4}
    model, from_counts = fit(kind, adata, settings=settings), fit(kind, adata, layer=None, settings=settings)
    assert from_counts.schema.log_normalize
    assert not model.schema.log_normalize
    np.testing.assert_allclose(from_counts.history["loss"], model.history["loss"], rtol=1e-4)
    np.testing.assert_allclose(
        from_counts.schema.matrix(adata).toarray(), adata.layers["lognorm"].toarray(), atol=1e-5
    )


def test_a_last_minibatch_of_one_cell_trains(kind):
    adata = simulated_cells(n_cells=65)
    model = fit(kind, adata, settings={"epochs": 2, "batch_size": 64})
    assert np.isfinite(model.history["loss"]).all()
    assert model.transform(adata).shape == (65, 6)


def test_an_epochs_record_is_the_mean_over_its_cells(kind, adata):
    """With tiny steps and a last minibatch of one cell, the record is what the fitted model gives for the same cells."""
    settings = {"epochs": 1, "batch_size": 299, "learning_rate": 1e-12, "dropout": 0.0, "input_dropout": 0.0}
    model = fit(kind, adata, settings=settings)
    record = model.history.iloc[0]
    np.testing.assert_allclose(record["kl"], model.latent_representation(adata).kl_k.sum(), rtol=1e-5)
    if not model.settings.generative:  # no draws, so the reconstruction loss is the same too
        np.testing.assert_allclose(record["reconstruction_loss"], -model.score(adata), rtol=1e-5)


def test_only_the_genes_of_genes_key_are_used(kind, adata):
    model = fit(kind, adata, genes_key="marked", settings={"epochs": 3})
    assert model.schema.genes == tuple(adata.var_names[adata.var["marked"]])
    assert model.reconstruct(adata).shape == (300, 60)
    np.testing.assert_array_equal(model.transform(adata[:, :60].copy()), model.transform(adata))


def test_data_can_be_given_as_a_path(kind, adata, short_model, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert_same_weights(fit(kind, tmp_path / "cells.h5ad", settings=SHORT), short_model)
    np.testing.assert_array_equal(
        short_model.transform(str(tmp_path / "cells.h5ad")), short_model.transform(adata)
    )


def test_a_loss_that_stays_nan_is_an_error_with_advice(kind, adata, monkeypatch):
    monkeypatch.setattr(loop, "training_loss", BrokenLoss(training_loss, at=lambda call: True))
    message = r"not finite in epoch 1,.*'cell\d+'.*gene\d+.*lower learning rate"
    with pytest.raises(TrainingError, match=message):
        fit(kind, adata)
