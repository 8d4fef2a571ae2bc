"""Zarr folders of results: complete or not there, and no other folder is ever replaced."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from helpers import killed_results
from sparcell import io
from sparcell.errors import InputError, OutputError
from sparcell.io import dense_layers, places, result_files, stored_writing
from sparcell.io.result_files import write_anndata, write_result

N_GENES = 40


def counts(n_cells, seed=0):
    rng = np.random.default_rng(seed)
    x_ng = sparse.random_array((n_cells, N_GENES), density=0.3, rng=rng, format="csr")
    x_ng.data[:] = rng.integers(1, 9, x_ng.nnz)
    obs = pd.DataFrame({"donor": pd.Categorical(rng.choice(["a", "b"], n_cells)), "age": rng.random(n_cells)})
    obs["barcode"] = [f"ACGTACGT-{number}" for number in range(n_cells)]
    obs["passed"] = pd.array(rng.integers(0, 2, n_cells), dtype="boolean")
    obs.index = [f"cell {number}" for number in range(n_cells)]
    return ad.AnnData(sparse.csr_matrix(x_ng, dtype=np.float32), obs=obs)


def write(path, n_cells=300, seed=0):
    counts(n_cells, seed).write_h5ad(path)
    return path


@pytest.fixture
def cells(tmp_path):
    cells = io.StoredCells(write(tmp_path / "cells.h5ad"))
    cells.obsm["X_model"] = np.arange(600.0).reshape(300, 2)
    cells.uns["model"] = {"kl": np.ones(2), "settings": {"beta": 2, "name": "x"}}
    return cells


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def snapshot(folder):
    """Return the content of all files of a folder and below."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_folder_is_read_again_by_anndata_and_here(cells, tmp_path):
    cells.write(tmp_path / "out.zarr", with_x=True)
    written, source = ad.io.read_zarr(tmp_path / "out.zarr"), ad.read_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(written.obs, source.obs)
    np.testing.assert_array_equal(written.X.toarray(), source.X.toarray())
    np.testing.assert_array_equal(written.obsm["X_model"], cells.obsm["X_model"])
    assert written.uns["model"]["settings"] == {"beta": 2, "name": "x"}
    again = io.StoredCells(tmp_path / "out.zarr", obs_keys=["donor"])
    np.testing.assert_array_equal(again.rows.read(10, 20).toarray(), source.X[10:20].toarray())
    np.testing.assert_array_equal(again.read_obsm("X_model"), cells.obsm["X_model"])
    assert list(again.obs_names[:2]) == ["cell 0", "cell 1"]
    again.write(tmp_path / "again.h5ad")  # from zarr to .h5ad
    pd.testing.assert_frame_equal(ad.read_h5ad(tmp_path / "again.h5ad").obs, source.obs)


@pytest.mark.parametrize("n_cells", [1, 70_000])
def test_chunks_are_the_blocks_that_training_reads(tmp_path, n_cells, monkeypatch):
    cells = io.StoredCells(write(tmp_path / "cells.h5ad", n_cells))
    cells.obsm["X_model"] = np.random.default_rng(0).random((n_cells, 10))
    cells.write(tmp_path / "out.zarr", with_x=True)
    root = zarr.open_group(tmp_path / "out.zarr", mode="r")
    chunks = {name: root[name].chunks for name in ("X/data", "X/indices", "obs/age", "obsm/X_model")}
    assert chunks == {
        "X/data": (65536,),
        "X/indices": (65536,),
        "obs/age": (65536,),
        "obsm/X_model": (6553, 10),
    }
    assert root["X/indptr"].dtype == np.int64
    if hasattr(root, "info"):
        assert root.metadata.zarr_format == 3
    again = io.StoredCells(tmp_path / "out.zarr")
    np.testing.assert_array_equal(again.read_obsm("X_model"), cells.obsm["X_model"])
    read = ad.io.read_zarr(tmp_path / "out.zarr")
    assert (read.X != ad.read_h5ad(tmp_path / "cells.h5ad").X).nnz == 0
    if n_cells > 1:  # a block is one chunk, up to the row that crosses its end
        assert abs(np.diff(again.rows.edges[:-1]) * again.rows.n_values / n_cells - 65536).max() < 1000


def test_data_in_memory_are_written_as_into_a_file(tmp_path):
    adata = counts(4000)
    adata.raw = adata.copy()
    adata.layers["dense"] = np.random.default_rng(0).random((4000, N_GENES)).astype(np.float32)
    adata.obsp["graph"] = sparse.eye_array(4000, format="csr")
    adata.varm["effects"] = np.ones((N_GENES, 2))
    adata.uns["nested"] = {"a": {"b": np.arange(3), "text": "x"}, "table": pd.DataFrame({"q": ["a", "b"]})}
    before = adata.copy()
    for name in ("out.zarr", "out.h5ad"):
        result_files.check_result(adata, tmp_path / name)
        write_anndata(adata, tmp_path / name)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    one, two = ad.io.read_zarr(tmp_path / "out.zarr"), ad.read_h5ad(tmp_path / "out.h5ad")
    pd.testing.assert_frame_equal(one.obs, two.obs)
    for of in (
        lambda a: a.X.toarray(),
        lambda a: a.raw.X.toarray(),
        lambda a: a.layers["dense"],
        lambda a: a.obsp["graph"].toarray(),
        lambda a: a.varm["effects"],
        lambda a: a.uns["nested"]["a"]["b"],
    ):
        np.testing.assert_array_equal(of(one), of(two))
    pd.testing.assert_frame_equal(one.uns["nested"]["table"], two.uns["nested"]["table"])
    assert zarr.open_group(tmp_path / "out.zarr", mode="r")["layers/dense"].chunks == (1638, N_GENES)


def test_what_cannot_be_written_is_named_before_any_work(tmp_path):
    adata = counts(20)
    adata.uns["settings"] = {1, 2}
    with pytest.raises(InputError, match=r"uns\['settings'\] cannot be written to out\.zarr"):
        result_files.check_result(adata, tmp_path / "out.zarr")


@pytest.mark.filterwarnings("ignore:Forward slashes")
def test_a_name_with_a_slash_is_named_before_any_work(tmp_path):
    adata = counts(20)
    adata.obs["a/b"] = 1.0
    result_files.check_result(adata, tmp_path / "out.h5ad")
    with pytest.raises(InputError, match=r"obs\['a/b'\] cannot be written to out\.zarr: '/' in a name"):
        result_files.check_result(adata, tmp_path / "out.zarr")
    adata.var["c/d"] = "text"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    cells = io.StoredCells(tmp_path / "cells.h5ad")
    with pytest.raises(InputError, match=r"var\['c/d'\] cannot be written to out\.zarr: '/' in a name"):
        result_files.check_result(cells, tmp_path / "out.zarr")
    del cells.var["c/d"]
    cells.write(tmp_path / "out.zarr")
    assert ad.io.read_zarr(tmp_path / "out.zarr").obs["a/b"].sum() == 20


def test_another_suffix_is_one_error(cells, tmp_path):
    with pytest.raises(InputError, match=r"out\.csv; expected a name that ends in \.h5ad or \.zarr"):
        cells.write(tmp_path / "out.csv")


def folder_of_the_user(path):
    (path / "figures").mkdir(parents=True)
    (path / "figures" / "thesis.png").write_text("work of weeks")


def store_of_anndata(path):
    counts(20).write_zarr(path)


def result_with_a_file_added(path):
    write_anndata(counts(20), path)
    (path / "uns" / "notes.txt").write_text("work of weeks")


def result_with_an_array_added(path):
    write_anndata(counts(20), path)
    ad.io.write_elem(zarr.open_group(path / "obsm", mode="r+"), "X_mine", np.ones((20, 2)))


def result_written_again(path):
    write_anndata(counts(20), path)
    ad.io.read_zarr(path).write_zarr(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "there",
    [
        *(folder_of_the_user, store_of_anndata, result_with_a_file_added, result_with_an_array_added),
        *(result_written_again, Path.mkdir),
    ],
)
def test_a_folder_that_sparcell_did_not_write_is_never_replaced(cells, tmp_path, there):
    there(tmp_path / "out.zarr")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"out\.zarr is a folder that sparcell did not write as a result"):
        cells.write(tmp_path / "out.zarr")
    assert snapshot(tmp_path) == before


def test_a_file_in_the_place_of_the_folder_is_an_error(cells, tmp_path):
    (tmp_path / "out.zarr").write_text("work of weeks")
    with pytest.raises(InputError, match=r"out\.zarr is a file; expected the name of a zarr folder"):
        cells.write(tmp_path / "out.zarr")
    assert (tmp_path / "out.zarr").read_text() == "work of weeks"


def test_no_folder_is_written_into_another_store(cells, tmp_path):
    cells.write(tmp_path / "out.zarr")
    with pytest.raises(InputError, match=r"is inside of the zarr store .*out\.zarr"):
        cells.write(tmp_path / "out.zarr" / "obsm" / "more.zarr")


def test_the_place_of_an_earlier_result_may_be_a_folder_of_the_user(cells, tmp_path):
    folder_of_the_user(tmp_path / ".out.zarr.earlier")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"\.out\.zarr\.earlier is not a result of sparcell"):
        cells.write(tmp_path / "out.zarr")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_earlier_result_and_nothing_else(cells, tmp_path, failure):
    cells.write(tmp_path / "out.zarr")
    before = snapshot(tmp_path)

    def fail_half_way():
        with write_result(tmp_path / "out.zarr") as writer:
            writer.put(writer.root, "var", cells.var)
            raise failure

    with pytest.raises(failure):
        fail_half_way()
    assert snapshot(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the size of files")
@pytest.mark.parametrize("n_bytes", [10, 1000, 3000])
def test_a_full_disk_is_one_error_and_leaves_the_earlier_result(tmp_path, monkeypatch, n_bytes):
    """A limit of the size of a file stands for the full disk: both make the system refuse a write."""
    import resource

    write_anndata(counts(20), tmp_path / "out.zarr")
    before, large = snapshot(tmp_path), counts(4000)
    monkeypatch.setattr(places, "PROBE_BYTES", 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"out\.zarr could not be written \(File too large.*Make room"):
            write_anndata(large, tmp_path / "out.zarr")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert snapshot(tmp_path) == before


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, killed_results.__file__, str(folder)], check=True, timeout=600)
    return json.loads((folder / "found.json").read_text())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize("moment", killed_results.MOMENTS)
def test_a_killed_process_leaves_the_earlier_or_the_new_result(found, moment):
    after = found[moment]
    assert after["status"] == [0, -9, 0]
    is_new = moment in ("after the renames", "while the earlier one is removed")
    assert after["before"] == (None if moment == "between the renames" else 2 if is_new else 1)
    assert after["checked"] == (2 if is_new else 1)
    assert (after["after"], after["names"]) == (3, ["out.zarr"])


def peak_bytes(do):
    tracemalloc.start()
    try:
        do()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def write_cells(cells, path):
    cells.write(path, with_x=True)


def write_denoised(cells, path):
    blocks = (
        np.ones((1024, N_GENES), np.float32)[: cells.n_obs - start] for start in range(0, cells.n_obs, 1024)
    )
    dense_layers.write_dense_layer(path, "denoised", blocks, cells, cells.var)


@pytest.mark.slow
@pytest.mark.parametrize("do", [write_cells, write_denoised])
def test_memory_does_not_grow_with_the_cells(tmp_path, monkeypatch, do):
    monkeypatch.setattr(stored_writing, "ROWS", 2048)
    monkeypatch.setattr(stored_writing, "VALUES", 1 << 15)
    monkeypatch.setattr("sparcell.results.large_arrays.ROWS_AT_ONCE", 2048)
    monkeypatch.setattr("sparcell.io.matrix_files.BLOCK_VALUES", 1 << 14)
    monkeypatch.setattr("sparcell.io.row_lengths.ROWS_AT_ONCE", 2048)
    monkeypatch.setattr(result_files, "CHUNK_VALUES", 1 << 12)  # names of one chunk are in memory
    peaks = []
    for n_cells in (4000, 8000, 24_000):
        cells = io.StoredCells(write(tmp_path / f"{n_cells}.h5ad", n_cells))
        cells.obsm["X_model"] = np.zeros((n_cells, 10))
        peaks.append(peak_bytes(lambda cells=cells: do(cells, tmp_path / f"{cells.n_obs}.zarr")))
    assert peaks[2] < 1.1 * peaks[1]  # the first run imports
    assert names(tmp_path / "24000.zarr") == names(tmp_path / "8000.zarr")
    assert (tmp_path / "24000.h5ad").stat().st_size > peaks[2]
