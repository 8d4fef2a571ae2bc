"""New batches onto a fitted model: what stays the same to the bit, what is learned, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import sparcell as sp
from helpers.simulated import COUNTS, simulated_cells
from helpers.untrained import ARCHITECTURES, untrained_model
from sparcell.errors import InputError
from sparcell.io.stored import StoredCells
from sparcell.models import mapping

SETTINGS = {**COUNTS, "standardize_input": False, "n_prior_components": 1, "epochs": 15}
RAISED, FOLD = np.arange(60, 80), 6.0
"""Genes that the new chemistry finds more often, and how much more often."""


def cells(n_cells=160, batches=("a", "b"), seed=0):
    adata = simulated_cells(n_cells, n_genes=100, seed=seed)
    adata.obs["batch"] = pd.Categorical(np.array(batches, dtype=object)[np.arange(n_cells) % len(batches)])
    return adata


def new_chemistry(n_cells=200, name="c"):
    """Return cells of a new batch, with more counts of some genes."""
    adata = cells(n_cells, (name,), seed=1)
    counts_ng = adata.X.toarray()
    counts_ng[:, RAISED] = np.round(counts_ng[:, RAISED] * FOLD)
    adata.X = type(adata.X)(counts_ng)
    return adata


@pytest.fixture(scope="module")
def fitted():
    return sp.BetaVSC(**SETTINGS).fit(cells(), batch_key="batch", silent=True)


@pytest.fixture(scope="module")
def mapped(fitted):
    return fitted.map_query(new_chemistry(), silent=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_old_cells_keep_their_latents_to_the_bit(architecture):
    adata, query = cells(80), cells(60, ("c", "d"), seed=3)
    model = untrained_model(adata, architecture)
    mapped = model.map_query(query, silent=True)
    np.testing.assert_array_equal(mapped.transform(adata), model.transform(adata))
    np.testing.assert_allclose(mapped.reconstruct(adata), model.reconstruct(adata), rtol=1e-4, atol=1e-4)
    assert mapped.schema.covariates.batch.names == ("a", "b", "c", "d")
    assert model.schema.covariates.batch.names == ("a", "b")


@pytest.mark.parametrize("dense", [False, True])
def test_old_cells_keep_their_latents_where_the_encoder_reads_batches_and_covariates(dense):
    adata, query = cells(), new_chemistry()
    settings = {**SETTINGS, "encode_covariates": True, "epochs": 2, "encoder_widths": (32, 16)}
    if dense:
        adata.X, query.X = adata.X.toarray() + 1, query.X.toarray() + 1
    model = sp.BetaVAE(**{k: v for k, v in settings.items() if k != "n_prior_components"}).fit(
        adata, batch_key="batch", covariates="depth", silent=True
    )
    mapped = model.map_query(query, silent=True)
    np.testing.assert_array_equal(mapped.transform(adata), model.transform(adata))


def test_only_columns_of_the_new_batch_are_trained(fitted, mapped):
    before, after = fitted.network.state_dict(), mapped.network.state_dict()
    for name, old in before.items():
        new = after[name]
        if new.shape == old.shape:
            assert torch.equal(new, old), name
        elif name.startswith("encoder."):
            assert torch.equal(new[:, : old.shape[1]], old)
            assert (new[:, old.shape[1] : -1] == 0).all()  # batches a and b
            assert (new[:, -1] != 0).any()
        else:
            assert torch.equal(new[:, :-1], old), name
            average = old[:, -2:] @ torch.tensor([0.5, 0.5])
            assert not torch.allclose(new[:, -1], average)


def test_the_decoder_learns_what_the_new_chemistry_raises(fitted, mapped):
    query, reference = new_chemistry(), cells()
    untrained = fitted.map_query(query, unseen="average")
    assert mapped.score(query) > untrained.score(query) + 10
    own, other = (mapped.reconstruct(reference, batch=name) for name in ("c", "a"))
    log_fold_g = np.log(own.mean(axis=0) / other.mean(axis=0))
    raised_g = np.isin(np.arange(100), RAISED)
    difference = log_fold_g[raised_g].mean() - log_fold_g[~raised_g].mean()
    assert difference == pytest.approx(np.log(FOLD), abs=0.5)


def test_without_training_a_new_batch_is_the_average_batch(fitted):
    query = new_chemistry()
    mapped = fitted.map_query(query, unseen="average")
    np.testing.assert_array_equal(mapped.transform(query), fitted.transform(query))
    np.testing.assert_allclose(
        mapped.reconstruct(query), fitted.reconstruct(query, unseen="average"), rtol=1e-4
    )


def test_the_same_seed_gives_the_same_bits_and_saving_keeps_them(mapped, fitted, tmp_path):
    query = new_chemistry()
    again = fitted.map_query(query, silent=True)
    np.testing.assert_array_equal(again.transform(query), mapped.transform(query))
    mapped.save(tmp_path / "m")
    loaded = sp.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.transform(query), mapped.transform(query))
    np.testing.assert_array_equal(loaded.transform(cells()), fitted.transform(cells()))


def test_a_mapped_model_can_take_up_more_batches(mapped):
    second = mapped.map_query(new_chemistry(name="d"), silent=True)
    assert second.schema.covariates.batch.names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(second.transform(new_chemistry()), mapped.transform(new_chemistry()))


def test_the_average_batch_stays_that_of_the_fit(fitted, mapped):
    average = mapped.reconstruct(cells(), batch="average")
    np.testing.assert_allclose(average, fitted.reconstruct(cells(), batch="average"), rtol=1e-5)


def test_training_leaves_the_switches_of_the_network_as_they_were(fitted, mapped):
    assert mapped.network.batch_augmentation == fitted.network.batch_augmentation
    frozen = {name for name, weight in fitted.network.named_parameters() if not weight.requires_grad}
    assert {name for name, weight in mapped.network.named_parameters() if not weight.requires_grad} == frozen
    assert not mapped.network.training


def test_known_and_tiny_batches_are_not_trained(fitted, caplog):
    caplog.set_level("INFO", "sparcell")
    query = cells(60, ("a", "b"), seed=4)
    known = fitted.map_query(query)
    assert "knows all batches" in caplog.text
    np.testing.assert_array_equal(known.transform(query), fitted.transform(query))
    query.obs["batch"] = ["c"] + ["a"] * 59
    tiny = fitted.map_query(query)
    assert f"under {mapping.MIN_CELLS} cells" in caplog.text
    np.testing.assert_array_equal(tiny.transform(query), fitted.transform(query))


def test_missing_genes_are_refused_or_counted(fitted, caplog):
    caplog.set_level("INFO", "sparcell")
    query = new_chemistry()[:, 10:].copy()
    with pytest.raises(InputError, match="10 of the model's 100 genes are not in the data"):
        fitted.map_query(query, silent=True)
    mapped = fitted.map_query(query, missing_genes="zero", silent=True)
    assert "10 of the model's 100 genes are not in the data and count as 0" in caplog.text
    assert mapped.transform(query).shape == (200, 6)


def test_another_column_may_hold_the_batches(fitted):
    query = new_chemistry()
    query.obs = query.obs.rename(columns={"batch": "donor"})
    mapped = fitted.map_query(query, batch_key="donor", silent=True)
    assert mapped.schema.covariates.batch.key == "donor"
    assert mapped.transform(query).shape == (200, 6)


def test_a_query_on_disk_is_mapped(fitted, tmp_path):
    query = new_chemistry()
    query.write_h5ad(tmp_path / "query.h5ad")
    stored = StoredCells(tmp_path / "query.h5ad", obs_keys=["batch"])
    mapped = fitted.map_query(stored, silent=True)
    assert mapped.score(query) > fitted.score(query, unseen="average") + 10
    assert fitted.map_query(tmp_path / "query.h5ad", silent=True).schema == mapped.schema


def test_what_cannot_be_mapped_is_said_before_any_work(fitted):
    query = new_chemistry()
    with pytest.raises(InputError, match="expected one of train, average"):
        fitted.map_query(query, unseen="error")
    with pytest.raises(InputError, match="no column 'donor' with the batches of the query"):
        fitted.map_query(query, batch_key="donor")
    query.obs["batch"] = [None] + ["c"] * 199
    with pytest.raises(InputError, match=r"empty for 1 cell\(s\) of the query"):
        fitted.map_query(query)
    without = sp.BetaVAE(epochs=1, batch_size=64).fit(cells(), silent=True)
    with pytest.raises(InputError, match=r"fitted without batch_key.*predict_labels.*sparcell predict"):
        without.map_query(query)
