"""Data on disk have the attributes of an AnnData that models read; results are written beside the annotations of the file."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sparcell.errors import InputError
from sparcell.io.stored import StoredCells, open_cells


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"donor": ["a", "b"] * 50, "age": np.arange(100.0)}, index=[f"cell {n}" for n in range(100)]
    )
    var = pd.DataFrame(
        {
            "symbol": [f"S{g}" for g in range(30)],
            "feature_types": ["Gene Expression"] * 25 + ["Antibody Capture"] * 5,
        },
        index=[f"ENSG{g}" for g in range(30)],
    )
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(0.5, (100, 30)).astype(np.float32)), obs=obs, var=var)
    adata.layers["other"] = adata.X * 3
    adata.write_h5ad(tmp_path / "a.h5ad", compression="gzip")
    return tmp_path / "a.h5ad"


def test_only_genes_remain_as_for_files_that_are_read_whole(path):
    cells = StoredCells(path, gene_symbols="symbol")
    assert (cells.n_obs, cells.n_vars, cells.X.shape) == (100, 25, (100, 25))
    assert list(cells.var_names) == [f"S{g}" for g in range(25)]
    np.testing.assert_array_equal(cells.X.read(3, 9).toarray(), ad.read_h5ad(path).X[3:9, :25].toarray())


def test_only_the_columns_asked_for_are_read(path):
    assert list(StoredCells(path, obs_keys=["donor"]).obs.columns) == ["donor"]
    with pytest.raises(InputError, match="did you mean 'donor'"):
        StoredCells(path, obs_keys=["donner"])


def test_a_layer_takes_the_place_of_x(path):
    cells = StoredCells(path, "other")
    assert cells.X is None
    np.testing.assert_array_equal(
        cells.layers["other"].read(0, 5).toarray(), ad.read_h5ad(path).layers["other"][:5, :25].toarray()
    )


def test_a_sample_holds_cells_from_all_over_the_file(path):
    sample = StoredCells(path, obs_keys=["age"]).sample(max_values=100)
    assert 5 < sample.n_obs < 20
    rows = sample.obs["age"].astype(int).to_numpy()
    assert rows.min() < 30
    assert rows.max() > 70
    np.testing.assert_array_equal(sample.X.toarray(), ad.read_h5ad(path).X[rows, :25].toarray())
    assert StoredCells(path).sample().n_obs == 100


@pytest.mark.parametrize("with_x", [True, False])
def test_results_are_written_beside_the_annotations(path, tmp_path, with_x):
    cells = StoredCells(path)
    cells.obsm["X_model"] = np.arange(200.0).reshape(100, 2)
    cells.uns["model"] = {"kl": np.ones(2)}
    cells.write(tmp_path / "out.h5ad", with_x=with_x)
    written, source = ad.read_h5ad(tmp_path / "out.h5ad"), ad.read_h5ad(path)
    pd.testing.assert_frame_equal(written.obs, source.obs)
    assert list(written.var_names) == list(source.var_names[:25])
    np.testing.assert_array_equal(written.obsm["X_model"], cells.obsm["X_model"])
    if with_x:
        np.testing.assert_array_equal(written.X.toarray(), source.X[:, :25].toarray())
    else:
        assert written.X is None


def test_the_size_of_the_matrix_decides_whether_a_file_stays_on_disk(path):
    assert isinstance(open_cells(path), ad.AnnData)
    assert isinstance(open_cells(path, memory=1000), StoredCells)
