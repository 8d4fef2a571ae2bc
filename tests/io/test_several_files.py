"""Cell i of several files is cell i, whatever the order of genes, the type of indices and the blocks; on disk as in memory."""

from __future__ import annotations

import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from sparcell.data.blocks import RowUnits
from sparcell.data.sources import CellsOnDisk
from sparcell.errors import InputError
from sparcell.io.joining import join_obs
from sparcell.io.stored import StoredCells, open_cells
from sparcell.models import BetaVAE

INDEX_TYPES = [np.int16, np.int32, np.int64, np.uint32, np.uint64]


def cells(n_cells, genes, seed=0, names="c", **columns):
    rng = np.random.default_rng(seed)
    x_ng = sparse.csr_matrix(rng.poisson(2, (n_cells, len(genes))).astype(np.float32))
    obs = pd.DataFrame(columns, index=[f"{names}{number}" for number in range(n_cells)])
    return ad.AnnData(x_ng, obs=obs, var=pd.DataFrame(index=list(genes)))


def written(adata, path, index_type=np.int32, compression="gzip"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".zarr":
            adata.write_zarr(path)
            return path
        adata.write_h5ad(path, compression=compression)
    with h5py.File(path, "r+") as file:
        if isinstance(file["X"], h5py.Group):
            indices = file["X/indices"][:].astype(index_type)
            del file["X/indices"]
            file["X"].create_dataset("indices", data=indices, chunks=(max(1, len(indices) // 3),))
    return path


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_row_i_of_several_files_is_row_i(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("several")
    n_files = data.draw(st.integers(2, 4))
    dense, paths, orders = [], [], []
    for number in range(n_files):
        genes = [f"g{g}" for g in data.draw(st.permutations(range(9)))]
        adata = cells(data.draw(st.integers(1, 30)), [*genes, f"only {number}"], number, f"f{number}-")
        kind = data.draw(st.sampled_from(["csr", "dense", "zarr"]))
        path = folder / f"{number}.{'zarr' if kind == 'zarr' else 'h5ad'}"
        orders.append(genes)
        dense.append(adata[:, orders[0]].X.toarray())
        if kind == "dense":
            adata.X = adata.X.toarray()
        paths.append(written(adata, path, data.draw(st.sampled_from(INDEX_TYPES))))
    whole = np.concatenate(dense)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparcell.io.matrix_files.BLOCK_VALUES", data.draw(st.integers(1, 60)))
        stored = StoredCells(paths)
    assert list(stored.var_names) == orders[0]
    index = np.array(
        data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=40, unique=True)), dtype=np.int64
    )
    n_threads = data.draw(st.integers(1, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparcell.io.selection.torch.get_num_threads", lambda: n_threads)
        found = CellsOnDisk(stored.file, RowUnits.unchanged(9)).rows(index)
    np.testing.assert_array_equal(found.matrix().toarray(), whole[index])
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole)))))
    np.testing.assert_array_equal(stored.file.read(start, stop).toarray(), whole[start:stop])
    assert stored.file.facts.total_n.tolist() == whole.sum(axis=1).tolist()


@pytest.fixture
def donors(tmp_path):
    first = cells(20, "ABCDE", 1, site=pd.Categorical(["x"] * 20), age=40, only_here=1)
    second = cells(30, "FEDCB", 2, site=pd.Categorical(["y"] * 30), age="old")
    return written(first, tmp_path / "one.h5ad"), written(second, tmp_path / "two.h5ad")


def test_in_memory_and_on_disk_are_the_same_cells(donors, caplog):
    caplog.set_level("INFO", logger="sparcell")
    memory, disk = open_cells(donors), open_cells(donors, memory=1, obs_keys=["site"])
    assert isinstance(memory, ad.AnnData)
    assert isinstance(disk, StoredCells)
    assert list(memory.var_names) == list(disk.var_names) == list("BCDE")
    np.testing.assert_array_equal(memory.X.toarray(), disk.X.read(0, 50).toarray())
    pd.testing.assert_frame_equal(memory.obs, disk.file.table("obs"))
    assert list(memory.obs.columns) == ["site", "age", "file"]
    assert memory.obs["file"].value_counts().to_dict() == {"one": 20, "two": 30}
    assert list(disk.obs.columns) == ["site", "file"]
    assert "4 genes are in all 2 files; genes left out: 1 of one, 1 of two" in caplog.text
    assert "columns of obs that some files lack are left out: only_here" in caplog.text


def test_names_that_two_files_share_are_followed_by_the_file(donors, caplog):
    caplog.set_level("INFO", logger="sparcell")
    memory = open_cells(donors)
    assert memory.obs_names[0] == "c0-one"
    assert memory.obs_names[20] == "c0-two"
    assert list(StoredCells(donors).obs_names[:]) == list(memory.obs_names)
    assert "files share names of cells" in caplog.text


def test_columns_of_categories_and_of_mixed_types_are_joined(donors):
    obs = open_cells(donors).obs
    assert list(obs["site"].cat.categories) == ["x", "y"]
    assert set(obs["age"]) == {"40", "old"}


def test_results_of_several_files_are_written_into_one(donors, tmp_path):
    stored = StoredCells(donors)
    stored.obsm["X_model"] = np.arange(50.0)[:, None]
    stored.write(tmp_path / "out.h5ad", with_x=True)
    result, memory = ad.read_h5ad(tmp_path / "out.h5ad"), open_cells(donors)
    np.testing.assert_array_equal(result.X.toarray(), memory.X.toarray())
    assert list(result.obs["file"]) == list(memory.obs["file"])


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    paths = []
    for donor in ("d1", "d2"):
        (tmp_path / donor).mkdir()
        paths.append(written(cells(5, "AB", names=donor), tmp_path / donor / "counts.h5ad"))
    assert list(open_cells(paths).obs["file"].cat.categories) == ["d1/counts", "d2/counts"]


def test_a_column_called_file_stays(tmp_path):
    paths = [
        written(cells(4, "AB", number, f"f{number}-", file="mine"), tmp_path / f"{number}.h5ad")
        for number in (0, 1)
    ]
    for obs in (open_cells(paths).obs, StoredCells(paths, obs_keys=["file"]).obs):
        assert set(obs["file"]) == {"mine"}
        assert list(obs["sparcell_file"].cat.categories) == ["0", "1"]


def refused(paths, message, **settings):
    for memory in ("4GB", 1):
        with pytest.raises(InputError, match=message):
            open_cells(paths, memory=memory, **settings)


def test_files_with_few_common_genes_are_refused(tmp_path):
    paths = [
        written(cells(5, ["A", "B", "C"]), tmp_path / "a.h5ad"),
        written(cells(5, ["C", "E1", "E2"]), tmp_path / "b.h5ad"),
    ]
    refused(paths, "only 1 of the 3 genes of a are in all 2 files, such as 'A' in a, 'C' in b")


def test_a_file_that_is_given_twice_is_refused(donors):
    refused([donors[0], donors[0]], "given twice")


def test_a_column_that_one_file_lacks_is_named(donors):
    with pytest.raises(InputError, match="obs of two has no column 'only_here'"):
        StoredCells(donors, obs_keys=["only_here"])


def test_repeated_genes_are_refused(tmp_path, donors):
    adata = cells(5, "BCDE")
    adata.var_names = ["B", "C", "C", "E"]
    path = written(adata, tmp_path / "three.h5ad")
    with pytest.raises(InputError, match="three has more than one gene named 'C'"):
        StoredCells([donors[0], path])


def test_training_on_several_files_resumes_from_its_checkpoint(donors, tmp_path):
    settings = {"epochs": 2, "batch_size": 16, "n_latent": 2, "encoder_widths": (8,), "decoder_widths": (8,)}
    how = {"memory": 1, "silent": True, "batch_key": "file"}
    first = BetaVAE(**settings).fit(list(donors), checkpoint_dir=tmp_path / "c", **how)
    again = BetaVAE(**settings).fit(list(donors), checkpoint_dir=tmp_path / "c", **how)
    assert list(first.history["seconds"]) == list(again.history["seconds"])  # nothing was trained anew
    np.testing.assert_array_equal(first.transform(list(donors)), again.transform(list(donors)))


def test_files_of_one_name_and_two_formats_in_two_folders_have_three_labels(tmp_path):
    paths = []
    for name in ("d1/counts.h5ad", "d1/counts.zarr", "d2/counts.h5ad"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        paths.append(written(cells(5, "AB", names=name), tmp_path / name))
    labels = ["d1/counts.h5ad", "d1/counts.zarr", "d2/counts.h5ad"]
    assert list(open_cells(paths).obs["file"].cat.categories) == labels


@pytest.mark.parametrize(
    ("first", "second", "values"),
    [
        (pd.Categorical([1, 2]), pd.Categorical(["1", "x"]), ["1", "2", "1", "x"]),
        (pd.Categorical([None, None]), pd.Categorical(["1", "x"]), [None, None, "1", "x"]),
        (pd.Categorical([1.0, None]), ["1", "x"], ["1", None, "1", "x"]),
        ([1.0, np.nan], ["1", "x"], ["1", None, "1", "x"]),
    ],
)
def test_categories_of_numbers_and_of_text_become_text(first, second, values):
    joined = join_obs([pd.DataFrame({"c": first}), pd.DataFrame({"c": second})], ["a", "b"])["c"]
    assert joined.astype(object).where(joined.notna(), None).tolist() == values
