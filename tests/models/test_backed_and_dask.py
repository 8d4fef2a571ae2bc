"""AnnData that a file backs, and AnnData with a Dask array, given to every verb of a model."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from sparcell.errors import InputError
from sparcell.io import backed, matrix_files
from sparcell.io.backed import leave_on_disk
from sparcell.io.stored import StoredCells
from sparcell.io.stored_rows import DaskRows

SETTINGS = {"epochs": 30, "batch_size": 64, "n_latent": 3, "encoder_widths": (8,), "decoder_widths": (8,)}


@pytest.fixture(scope="module")
def cells():
    adata = sp.datasets.pbmc3k()[:500].copy()
    kept = np.argsort(-np.asarray(adata.X.sum(axis=0)).ravel())[:120]
    adata = adata[:, np.sort(kept)].copy()
    adata.obs["donor"] = pd.Categorical(np.where(np.arange(500) < 200, "a", "b"))
    adata.layers["twice"] = adata.X * 2
    adata.raw = adata
    return adata


@pytest.fixture
def path(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(matrix_files, "BLOCK_VALUES", 2000)
    cells.write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    return tmp_path / "cells.h5ad"


def as_kind(kind, path):
    if kind == "backed":
        return ad.read_h5ad(path, backed="r")
    da = pytest.importorskip("dask.array")
    adata = ad.read_h5ad(path)
    adata.X = da.from_array(adata.X if kind == "dask" else adata.X.toarray(), chunks=(130, -1))
    return adata


def fitted(data, **how):
    return sp.BetaVSC(**SETTINGS, beta=0.1).fit(data, batch_key="donor", silent=True, **how)


KINDS = pytest.mark.parametrize("kind", ["backed", "dask", "dense dask"])


@KINDS
def test_training_reads_by_blocks_and_ends_where_training_in_memory_ends(kind, cells, path):
    model, in_memory = fitted(as_kind(kind, path), memory="1KB"), fitted(cells)
    assert model.schema == in_memory.schema
    np.testing.assert_allclose(model.history["loss"].iloc[-1], in_memory.history["loss"].iloc[-1], rtol=0.05)
    if kind == "backed":  # the same blocks as those of the file
        np.testing.assert_array_equal(model.history["loss"], fitted(path, memory="1KB").history["loss"])


@KINDS
def test_encoding_and_programs_are_those_in_memory(kind, cells, path, monkeypatch):
    monkeypatch.setattr(backed, "BYTES_PER_VALUE", 1e9)  # every file is larger than the limit
    model, data, in_memory = fitted(cells), as_kind(kind, path), cells.copy()
    assert isinstance(leave_on_disk(data, None), StoredCells)
    np.testing.assert_array_equal(model.transform(data), model.transform(cells))
    model.embed(data)
    model.embed(in_memory)
    np.testing.assert_array_equal(data.obsm["X_beta_vsc"], in_memory.obsm["X_beta_vsc"])
    found, expected = model.programs(data, labels_key="donor"), model.programs(in_memory, labels_key="donor")
    pd.testing.assert_frame_equal(found.summary, expected.summary)
    pd.testing.assert_frame_equal(found.genes, expected.genes)
    np.testing.assert_array_equal(data.varm["beta_vsc_effects"], in_memory.varm["beta_vsc_effects"])
    assert model.score(data) == pytest.approx(model.score(cells))


def test_raw_and_layers_of_a_backed_object(cells, path):
    data = as_kind("backed", path)
    for layer in ("raw", "twice"):
        model = fitted(data, layer=layer, memory="1KB")
        np.testing.assert_array_equal(model.transform(data), model.transform(cells))


def test_names_and_columns_are_those_of_the_object(cells, path):
    data = as_kind("backed", path)
    data.var["some"] = np.arange(120) % 2 == 0
    data.obs["donor"] = "one"
    model = sp.BetaVSC(**SETTINGS).fit(data, genes_key="some", batch_key="donor", memory="1KB", silent=True)
    assert model.schema.genes == tuple(cells.var_names[::2])
    assert model.schema.covariates.batch.names == ("one",)


def test_a_view_of_a_backed_object_is_read_into_memory(cells, path, monkeypatch):
    monkeypatch.setattr(backed, "BYTES_PER_VALUE", 1e9)
    view = as_kind("backed", path)[:300]
    assert leave_on_disk(view, None) is view
    model = fitted(cells)
    np.testing.assert_array_equal(model.transform(view), model.transform(cells[:300]))


def test_a_file_stored_by_genes_is_read_into_memory(cells, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="sparcell")
    monkeypatch.setattr(backed, "BYTES_PER_VALUE", 1e9)
    by_genes = cells.copy()
    by_genes.X = by_genes.X.tocsc()
    by_genes.write_h5ad(tmp_path / "csc.h5ad")
    data = ad.read_h5ad(tmp_path / "csc.h5ad", backed="r")
    assert leave_on_disk(data, None) is data
    assert "the matrix is read into memory: X of csc.h5ad is stored by genes" in caplog.text


def test_an_interrupted_training_on_dask_continues_to_the_same_bits(path, tmp_path):
    class Stop(Exception):
        pass

    def stop(record):
        raise Stop

    data = as_kind("dask", path)
    whole = fitted(data)
    with pytest.raises(Stop):
        fitted(data, checkpoint_dir=tmp_path / "c", on_epoch=stop)
    resumed = fitted(as_kind("dask", path), checkpoint_dir=tmp_path / "c")  # another name of the same values
    np.testing.assert_array_equal(whole.history["loss"], resumed.history["loss"])


def test_chunks_of_unknown_size_are_one_error():
    da = pytest.importorskip("dask.array")
    array = da.ones((10, 4), chunks=(5, -1))
    with pytest.raises(InputError, match=r"call its compute_chunk_sizes\(\) first"):
        DaskRows(array[array[:, 0] > 0], "X")
