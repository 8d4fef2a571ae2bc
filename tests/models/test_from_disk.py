"""Training, encoding and scoring of cells that stay on disk, beside the same in memory."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import sparcell as sp
from sparcell.errors import InputError
from sparcell.io import matrix_files
from sparcell.io.stored import StoredCells


@pytest.fixture(scope="module")
def cells():
    adata = sp.datasets.pbmc3k()[:700].copy()
    kept = np.argsort(-np.asarray(adata.X.sum(axis=0)).ravel())[:150]
    adata = adata[:, np.sort(kept)].copy()
    adata.obs["donor"] = pd.Categorical(
        np.where(np.arange(700) < 250, "a", "b")
    )  # the file is in the order of the donors
    return adata


@pytest.fixture
def path(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(matrix_files, "BLOCK_VALUES", 2000)
    cells.write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    return tmp_path / "cells.h5ad"


def fitted(data, **settings):
    estimator = sp.BetaVSC(epochs=3, batch_size=64, n_latent=4, encoder_widths=(16,), decoder_widths=(16,))
    return estimator.fit(data, batch_key="donor", silent=True, **settings)


def losses(model):
    return model.history[["loss", "validation_loss"]].to_numpy()


def test_training_from_disk_ends_where_training_in_memory_ends(path, cells):
    from_disk, in_memory = fitted(path, memory=1000), fitted(cells)
    assert from_disk.schema == in_memory.schema
    np.testing.assert_allclose(losses(from_disk)[-1], losses(in_memory)[-1], rtol=0.02)


def test_training_from_disk_repeats_to_the_last_bit(path):
    first, second = fitted(path, memory=1000), fitted(path, memory=1000)
    np.testing.assert_array_equal(losses(first), losses(second))
    np.testing.assert_array_equal(first.transform(path), second.transform(path))


def test_an_interrupted_training_from_disk_continues_to_the_same_bits(path, tmp_path):
    class Stop(Exception):
        pass

    def stop_after_one(record):
        if record.number == 1:
            raise Stop

    whole = fitted(path, memory=1000)
    with pytest.raises(Stop):
        fitted(path, memory=1000, checkpoint_dir=tmp_path / "c", on_epoch=stop_after_one)
    resumed = fitted(path, memory=1000, checkpoint_dir=tmp_path / "c")
    np.testing.assert_array_equal(losses(whole), losses(resumed))


def test_a_changed_file_is_not_the_run_of_the_checkpoint(path, cells, tmp_path):
    fitted(path, memory=1000, checkpoint_dir=tmp_path / "c")
    changed = cells.copy()
    changed.X = sparse.csr_matrix(changed.X + sparse.eye_array(*changed.shape, dtype=np.float32))
    changed.write_h5ad(path)
    with pytest.raises(InputError, match="different run"):
        fitted(path, memory=1000, checkpoint_dir=tmp_path / "c")


def test_encoding_from_disk_gives_the_latents_of_encoding_in_memory(path, cells):
    model, stored = fitted(cells), StoredCells(path, obs_keys=["donor"])
    np.testing.assert_array_equal(model.transform(stored), model.transform(cells))
    model.embed(stored)
    model.embed(cells)
    for key in ("X_beta_vsc", "beta_vsc_inclusion"):
        np.testing.assert_array_equal(stored.obsm[key], cells.obsm[key])
    assert model.score(stored) == pytest.approx(model.score(cells))


def test_interpolation_reads_the_two_cells_by_their_names(path, cells):
    model, stored = fitted(cells), StoredCells(path, obs_keys=["donor"])
    first, last = cells.obs_names[[600, 3]]
    expected = model.interpolate(cells, first, last, n_steps=3)
    for data in (stored, path, [path]):
        found = model.interpolate(data, first, last, n_steps=3)
        np.testing.assert_array_equal(found.X, expected.X)
    stored.keep_cells(np.arange(700) != 0)  # rows of the file and of the kept cells differ
    np.testing.assert_array_equal(model.interpolate(stored, first, last, n_steps=3).X, expected.X)
    with pytest.raises(InputError, match=f"no cell '{first}x' in the data; did you mean '{first}'"):
        model.interpolate(stored, f"{first}x", last)


@pytest.mark.parametrize("settings", [{"scale": True}, {"log_normalize": True}, {"genes_key": "some"}])
def test_units_and_genes_are_those_of_data_in_memory(path, cells, settings, monkeypatch):
    cells = cells.copy()
    cells.var["some"] = np.arange(cells.n_vars) % 3 > 0
    log_values = "scale" in settings
    if log_values:
        cells.X = (
            sp.pp.log_normalized(cells.X) if hasattr(sp.pp, "log_normalized") else np.log1p(cells.X.toarray())
        )
    cells.write_h5ad(path)
    stored = StoredCells(path, obs_keys=["donor"])
    from_disk, in_memory = fitted(stored, **settings), fitted(cells, **settings)
    np.testing.assert_allclose(from_disk.schema.mean or (0,), in_memory.schema.mean or (0,), rtol=1e-6)
    assert from_disk.schema.genes == in_memory.schema.genes
    np.testing.assert_allclose(in_memory.transform(stored), in_memory.transform(cells), atol=1e-6)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "missing or infinite"), (-1.0, "below 0"), (2e7, "at most 1e")]
)
def test_damage_in_the_last_block_is_found_before_training(path, cells, value, message):
    broken = cells.copy()
    broken.X = broken.X.copy()
    broken.X.data[-1] = value
    broken.write_h5ad(path)
    with pytest.raises(InputError, match=message):
        fitted(path, memory=1000)


def test_a_cell_without_counts_is_named(path, cells):
    empty = cells.copy()
    empty.X = sparse.csr_matrix(empty.X.multiply((np.arange(700) != 690)[:, None]))
    empty.write_h5ad(path)
    with pytest.raises(InputError, match=str(cells.obs_names[690])):
        fitted(path, memory=1000)


def test_the_gaussian_model_of_programs_starts_from_cells_on_disk(path, cells):
    changes = {"epochs": 2, "batch_size": 64, "n_latent": 4}
    from_disk = sp.BetaVSC.for_programs(**changes).fit(path, memory=1000, silent=True)
    in_memory = sp.BetaVSC.for_programs(**changes).fit(cells, silent=True)
    np.testing.assert_allclose(losses(from_disk), losses(in_memory), rtol=0.05)
