"""Ranges of rows of a file are the rows of its matrix, whatever the format; damage is told by one message that names the file."""

from __future__ import annotations

import multiprocessing
import os
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from sparcell.errors import InputError
from sparcell.io.matrix_files import MatrixFile

N_CELLS, N_GENES = 500, 40


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    x_ng = sparse.csr_matrix(rng.poisson(0.3, (N_CELLS, N_GENES)).astype(np.float32))
    obs = pd.DataFrame(
        {"donor": pd.Categorical(rng.choice(["a", "b"], N_CELLS)), "age": rng.normal(size=N_CELLS)},
        index=[f"cell {number}" for number in range(N_CELLS)],
    )
    var = pd.DataFrame(
        {"chosen": rng.random(N_GENES) < 0.5}, index=[f"gene {number}" for number in range(N_GENES)]
    )
    adata = ad.AnnData(x_ng, obs=obs, var=var)
    adata.layers["doubled"] = 2 * x_ng
    adata.raw = ad.AnnData(
        sparse.hstack([x_ng, x_ng], format="csr"),
        obs=obs,
        var=pd.DataFrame(index=[f"r{g}" for g in range(80)]),
    )
    return adata


def written(adata, path, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (adata.write_zarr if path.suffix == ".zarr" else adata.write_h5ad)(path, **settings)
    return path


def whole(file):
    bounds = zip(file.edges[:-1], file.edges[1:], strict=True)
    return sparse.vstack([file.read(int(start), int(stop)) for start, stop in bounds]).toarray()


@pytest.mark.parametrize("compression", [None, "lzf", "gzip"])
def test_blocks_of_an_h5ad_file_are_its_matrix(cells, tmp_path, compression, monkeypatch):
    monkeypatch.setattr("sparcell.io.matrix_files.BLOCK_VALUES", 300)
    file = MatrixFile(written(cells, tmp_path / "a.h5ad", compression=compression))
    assert len(file.edges) >= 3
    np.testing.assert_array_equal(whole(file), cells.X.toarray())


@pytest.mark.parametrize("version", [2, 3])
def test_blocks_of_a_zarr_folder_are_its_matrix(cells, tmp_path, version):
    with ad.settings.override(zarr_write_format=version):
        file = MatrixFile(written(cells, tmp_path / "a.zarr"))
    np.testing.assert_array_equal(whole(file), cells.X.toarray())


@pytest.mark.parametrize("chunk_values", [7, 100, 10**6])
def test_blocks_begin_where_chunks_begin(cells, tmp_path, chunk_values, monkeypatch):
    monkeypatch.setattr("sparcell.io.matrix_files.BLOCK_VALUES", 50)
    path = written(cells, tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as stored:
        for name in ("data", "indices"):
            values = stored["X"][name][:]
            del stored["X"][name]
            stored["X"].create_dataset(name, data=values, chunks=(min(chunk_values, len(values)),))
    file = MatrixFile(path)
    np.testing.assert_array_equal(whole(file), cells.X.toarray())
    unit = -(-50 // chunk_values) * chunk_values
    indptr = cells.X.indptr
    for row in file.edges[1:-1]:  # the first row that begins after a chunk has begun
        assert indptr[row - 1] // unit < indptr[row] // unit or indptr[row] % unit == 0


@pytest.mark.parametrize(
    ("layer", "expected"), [("doubled", lambda a: a.layers["doubled"]), ("raw", lambda a: a.raw.X)]
)
def test_layers_and_raw_are_read(cells, tmp_path, layer, expected):
    file = MatrixFile(written(cells, tmp_path / "a.h5ad"), layer)
    np.testing.assert_array_equal(whole(file), expected(cells).toarray())
    assert len(file.var) == file.shape[1]


@pytest.mark.parametrize("index_type", [np.int16, np.int64, np.uint32])
def test_indices_of_any_integer_type_in_any_order_are_read(cells, tmp_path, index_type):
    shuffled = cells.X.copy()
    for row in range(N_CELLS):
        part = slice(shuffled.indptr[row], shuffled.indptr[row + 1])
        shuffled.indices[part], shuffled.data[part] = (
            shuffled.indices[part][::-1].copy(),
            shuffled.data[part][::-1].copy(),
        )
    path = written(cells, tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as stored:
        del stored["X"]["indices"], stored["X"]["data"]
        stored["X"]["indices"], stored["X"]["data"] = shuffled.indices.astype(index_type), shuffled.data
    np.testing.assert_array_equal(whole(MatrixFile(path)), cells.X.toarray())


def test_a_dense_matrix_is_read_in_blocks(cells, tmp_path, monkeypatch):
    monkeypatch.setattr("sparcell.io.matrix_files.BLOCK_VALUES", 10 * N_GENES)
    dense = cells.copy()
    dense.X = dense.X.toarray()
    file = MatrixFile(written(dense, tmp_path / "a.h5ad"))
    assert len(file.edges) == 51
    np.testing.assert_array_equal(whole(file), dense.X)


def test_columns_of_obs_and_var_are_read_without_the_cell_names(cells, tmp_path):
    file = MatrixFile(written(cells, tmp_path / "a.h5ad"))
    obs, var = file.obs(["donor", "age"]), file.var
    assert list(obs["donor"]) == list(cells.obs["donor"])
    np.testing.assert_array_equal(obs["age"], cells.obs["age"])
    assert isinstance(obs.index, pd.RangeIndex)
    pd.testing.assert_frame_equal(var, cells.var, check_names=False, check_index_type=False)
    assert list(file.cell_names) == list(cells.obs_names)


def test_missing_columns_and_layers_are_named(cells, tmp_path):
    path = written(cells, tmp_path / "a.h5ad")
    with pytest.raises(InputError, match="did you mean 'donor'"):
        MatrixFile(path).obs(["doner"])
    with pytest.raises(InputError, match="did you mean 'doubled'"):
        MatrixFile(path, "doublet")


def test_a_matrix_stored_by_genes_is_refused_with_a_remedy(cells, tmp_path):
    by_genes = ad.AnnData(cells.X.tocsc())
    with pytest.raises(InputError, match=r"stored by genes \(CSC\).*tocsr"):
        MatrixFile(written(by_genes, tmp_path / "a.h5ad"))


def cut_short(stored):
    values = stored["X"]["indices"][: N_CELLS // 2]
    del stored["X"]["indices"]
    stored["X"]["indices"] = values


def outside(stored):
    stored["X"]["indices"][3] = 10**6


def falling(stored):
    stored["X"]["indptr"][5] = 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [(cut_short, "damaged"), (outside, "outside of its 40 genes"), (falling, "damaged")],
)
def test_damage_is_found(cells, tmp_path, damage, message):
    path = written(cells, tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as stored:
        damage(stored)
    with pytest.raises(InputError, match=message):
        whole(MatrixFile(path))


def test_a_flipped_byte_in_a_compressed_chunk_is_found(cells, tmp_path):
    path = written(cells, tmp_path / "a.h5ad", compression="gzip")
    with h5py.File(path) as stored:
        chunk = stored["X"]["data"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        whole(MatrixFile(path))


def test_a_file_that_changes_while_it_is_read_is_noticed(cells, tmp_path):
    path = written(cells, tmp_path / "a.h5ad")
    file = MatrixFile(path)
    file.read(0, 10)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="changed while it was read"):
        file.read(0, 10)


def test_the_identity_changes_with_the_file(cells, tmp_path):
    path = written(cells, tmp_path / "a.h5ad")
    first = MatrixFile(path).identity
    assert first == MatrixFile(path).identity
    os.utime(path, ns=(1, 1))
    assert first != MatrixFile(path).identity


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_forked_child_reads_with_a_handle_of_its_own(cells, tmp_path):
    file = MatrixFile(written(cells, tmp_path / "a.h5ad"))
    file.read(0, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(file.read(10, 20).toarray(), cells.X[10:20].toarray()) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_zarr_folder_in_one_shard_has_many_blocks(cells, tmp_path, monkeypatch):
    """Else the cells of a shard, which can be a whole file, would be shuffled and held in memory together."""
    monkeypatch.setattr("sparcell.io.matrix_files.BLOCK_VALUES", 300)
    with ad.settings.override(zarr_write_format=3):
        path = written(cells, tmp_path / "a.zarr")
    root = zarr.open_group(path, mode="r+", use_consolidated=False)
    del root["X"]
    shard = 100 * (cells.X.nnz // 100 + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ad.io.write_elem(root, "X", cells.X, dataset_kwargs={"chunks": (100,), "shards": (shard,)})
        zarr.consolidate_metadata(path)
    file = MatrixFile(path)
    assert len(file.edges) > 5
    np.testing.assert_array_equal(whole(file), cells.X.toarray())


def test_zarr_of_the_newest_library_version_opens(cells, tmp_path):
    path = written(cells, tmp_path / "a.zarr")
    assert zarr.open_group(path, mode="r")["X"].attrs["encoding-type"] == "csr_matrix"
    assert MatrixFile(path).shape == (N_CELLS, N_GENES)


def in_older_layout(path):
    """Write obs of an .h5ad file as anndata 0.7 did: numbers of categories, and the categories in a group beside the columns."""
    with h5py.File(path, "a") as file:
        obs = file["obs"]
        codes, names = obs["donor/codes"][:], obs["donor/categories"].asstr()[:].astype(object)
        del obs["donor"]
        stored = obs.create_group("__categories").create_dataset(
            "donor", data=names, dtype=h5py.string_dtype()
        )
        obs.create_dataset("donor", data=codes).attrs["categories"] = stored.ref
        obs.attrs["encoding-version"] = "0.1.0"
    return path


def test_categories_of_older_files_have_their_names(cells, tmp_path):
    file = MatrixFile(in_older_layout(written(cells, tmp_path / "old.h5ad")))
    assert file.obs_columns == ["age", "donor"]
    obs = file.obs(["donor", "age"])
    assert obs["donor"].tolist() == cells.obs["donor"].tolist()
    np.testing.assert_array_equal(obs["age"], cells.obs["age"])


def test_files_of_a_layout_without_parts_are_named(cells, tmp_path):
    path = written(cells, tmp_path / "older.h5ad")
    with h5py.File(path, "a") as file:
        del file["obs"]
        file["obs"] = np.zeros(N_CELLS, dtype=[("index", "i8"), ("age", "f8")])
    with pytest.raises(InputError, match=r"older\.h5ad was written by anndata before 0\.7"):
        MatrixFile(path)
