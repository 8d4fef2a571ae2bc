"""Files that are damaged, replaced, grown or deleted while they are read end a run with one message; processes and memory stay in order."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
import warnings
from pathlib import Path

import anndata as ad
import h5py
import joblib
import numpy as np
import pytest
import torch
from scipy import sparse

import sparcell as sp
from sparcell.data.blocks import RowUnits
from sparcell.data.covariates import Covariates
from sparcell.data.loader import Loader
from sparcell.data.sources import CellsOnDisk
from sparcell.data.streaming import StreamedTrainingData
from sparcell.errors import InputError

SETTINGS = {"epochs": 3, "batch_size": 64, "n_latent": 3, "encoder_widths": (16,), "decoder_widths": (16,)}
N_CELLS, N_GENES = 600, 40


def counts():
    x_ng = np.random.default_rng(0).poisson(0.6, (N_CELLS, N_GENES)).astype(np.float32)
    x_ng[:, 0] += 1
    return sparse.csr_matrix(x_ng)


@pytest.fixture(params=["h5ad", "zarr"])
def path(request, tmp_path, monkeypatch):
    monkeypatch.setattr("sparcell.io.matrix_files.BLOCK_VALUES", 500)
    return write(tmp_path / f"cells.{request.param}")


def write(path, x_ng=None):
    adata = ad.AnnData(counts() if x_ng is None else x_ng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".zarr":
            adata.write_zarr(path)
        else:
            adata.write_h5ad(path, compression="gzip")
    return path


def fit(path, on_epoch=None):
    return sp.BetaVAE(**SETTINGS).fit(path, memory=1, silent=True, on_epoch=on_epoch)


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, r"1 missing or infinite value.*nan in cell '599', gene '\d+'"), (-1, "1 of them below 0")],
)
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_bad_value_of_the_last_cell_is_found_before_training(tmp_path, suffix, value, message):
    model = fit(write(tmp_path / "good.h5ad"))
    bad = counts()
    bad.data[-1] = value
    path = write(tmp_path / f"bad.{suffix}", bad)
    for read in (fit, lambda path: model.transform(sp.io.StoredCells(path))):
        with pytest.raises(InputError, match=message):
            read(path)


def replaced(path):
    other = write(path.with_name(f"other{path.suffix}"), counts() * 2)
    if path.is_dir():
        shutil.rmtree(path)
    other.replace(path)


def grown(path):
    target = path / "X/data/99" if path.is_dir() else path
    with target.open("ab") as file:
        file.write(b"more")


def deleted(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def truncated(path):
    if path.is_dir():
        (path / "X/data/0").unlink()
    else:
        os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced, "changed while it was read"),
        (grown, "changed while it was read"),
        (deleted, "is gone|changed while it was read"),
        (truncated, "changed while it was read"),
    ],
)
def test_a_file_that_changes_during_training_ends_it(path, change, message):
    with pytest.raises(InputError, match=message):
        fit(path, on_epoch=lambda record: change(path) if record.number == 1 else None)


def test_a_truncated_file_is_not_opened(tmp_path):
    path = write(tmp_path / "cells.h5ad")
    truncated(path)
    with pytest.raises(InputError, match=r"cells\.h5ad cannot be opened.*truncated file"):
        fit(path)


def test_a_lost_chunk_of_zarr_is_found(tmp_path):
    path = write(tmp_path / "cells.zarr")
    truncated(path)
    with pytest.raises(InputError, match=r"cannot be read.*damaged"):
        fit(path)


def test_damage_amid_a_file_ends_all_threads(tmp_path, monkeypatch):
    monkeypatch.setattr("sparcell.io.matrix_files.BLOCK_VALUES", 500)
    monkeypatch.setattr("sparcell.io.selection.torch.get_num_threads", lambda: 3)
    path = tmp_path / "cells.h5ad"
    write(path)
    with h5py.File(path, "r+") as file:
        values = file["X/data"][:]
        del file["X/data"]
        stored = file["X"].create_dataset("data", data=values, chunks=(500,), compression="gzip")
        stored.id.write_direct_chunk((5000,), b"no deflated data")
    before = threading.active_count()
    cells = sp.io.StoredCells(path)
    with pytest.raises(InputError, match="cannot be read"):
        cells.file.select(np.arange(N_CELLS), RowUnits.unchanged(N_GENES))
    assert threading.active_count() == before


def read_some(file):
    return file.select(np.arange(100, 200), RowUnits.unchanged(N_GENES)).matrix().toarray()


@pytest.mark.parametrize("trained", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_process_that_forks_reads_and_encodes_in_the_child(path, trained):
    cells = sp.io.StoredCells(path)
    expected = read_some(cells.file)
    model = fit(path) if trained else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Python warns of any fork beside threads
        with multiprocessing.get_context("fork").Pool(1) as pool:
            np.testing.assert_array_equal(pool.apply_async(read_some, [cells.file]).get(60), expected)
            if model is not None:
                found = pool.apply_async(model.transform, [path]).get(60)
                np.testing.assert_array_equal(found, model.transform(path))


@pytest.mark.slow
def test_workers_of_joblib_are_given_an_open_file(path):
    cells = sp.io.StoredCells(path)
    read = joblib.delayed(cells.file.select)  # a worker cannot import the functions of this file
    with joblib.parallel_config("loky", n_jobs=2):
        found = joblib.Parallel()(read(np.arange(100, 200), RowUnits.unchanged(N_GENES)) for _ in range(2))
    np.testing.assert_array_equal(found[0].matrix().toarray(), read_some(cells.file))


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory of a process is read as on Linux")
def test_memory_is_flat_over_epochs(tmp_path):
    x_ng = sparse.random_array((20_000, 500), density=0.1, rng=np.random.default_rng(0), format="csr")
    x_ng.data[:] = 1
    file = sp.io.StoredCells(write(tmp_path / "cells.h5ad", sparse.csr_matrix(x_ng, dtype=np.float32))).file
    loader = Loader(
        CellsOnDisk(file, RowUnits.unchanged(500)), Covariates().average(20_000), 500, torch.device("cpu")
    )
    data = StreamedTrainingData(loader, np.arange(20_000), np.empty(0, np.int64), 128, 0, 4)
    memory = []
    for epoch in range(1, 21):
        assert sum(len(batch) for batch in data.batches(epoch, 0, data.n_steps)) == 20_000
        memory.append(resident_mb())
    assert (
        max(memory[15:]) - max(memory[:10]) < 8
    )  # all cells once are 8 MB; the allocator may keep a window more
