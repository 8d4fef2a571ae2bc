"""Random cells of files that are too large to be read as a whole."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sparcell.errors import InputError
from sparcell.io import read
from sparcell.io.samples import read_sample


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"donor": pd.Categorical(["a", "b"] * 100)}, index=[f"cell {n}" for n in range(200)])
    var = pd.DataFrame({"symbol": [f"S{g}" for g in range(20)]}, index=[f"ENSG{g}" for g in range(20)])
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(1.0, (200, 20)).astype(np.float32)), obs=obs, var=var)
    adata.layers["other"] = adata.X * 3
    adata.write_h5ad(tmp_path / "a.h5ad")
    return tmp_path / "a.h5ad"


def test_without_a_number_all_cells_are_read(path):
    adata, sampled = read_sample(path)
    assert sampled == ""
    np.testing.assert_array_equal(adata.X.toarray(), read(path).X.toarray())


def test_a_sample_is_the_same_whether_the_file_fits_into_memory_or_not(path):
    small, text = read_sample(path, 50, gene_symbols="symbol")
    large, same_text = read_sample(path, 50, gene_symbols="symbol", memory=9000)
    assert text == same_text == "50 of 200 cells, drawn at random"
    np.testing.assert_array_equal(small.X.toarray(), large.X.toarray())
    for part in ("obs", "var"):
        pd.testing.assert_frame_equal(getattr(small, part), getattr(large, part))
    numbers = small.obs_names.str.removeprefix("cell ").astype(int)
    assert numbers.is_monotonic_increasing
    assert numbers.min() < 40
    assert numbers.max() > 160


def test_a_layer_of_a_large_file_is_read(path):
    adata, _ = read_sample(path, 50, layer="other", memory=9000)
    expected = read(path)[adata.obs_names].layers["other"]
    np.testing.assert_array_equal(adata.layers["other"].toarray(), expected.toarray())


def test_a_file_that_does_not_fit_is_one_error_with_a_number_that_does(path):
    with pytest.raises(
        InputError, match=r"X of a.h5ad holds 200 cells, and all of them would take .* --n-cells (\d+)"
    ) as raised:
        read_sample(path, memory=9000)
    n_cells = int(str(raised.value).split("--n-cells ")[1].split(")")[0])
    assert read_sample(path, n_cells, memory=9000)[0].n_obs == n_cells
    with pytest.raises(InputError, match="and 199 of them would take"):
        read_sample(path, 199, memory=9000)


@pytest.fixture
def donors(path, tmp_path):
    """Two files of the same kind, the second one without one gene and with its genes in another order."""
    second = read(path)[:120, ::-1][:, :19].copy()
    second.write_h5ad(tmp_path / "b.h5ad")
    return [path, tmp_path / "b.h5ad"]


def test_several_files_are_joined_by_gene_name(donors):
    adata, sampled = read_sample(donors)
    assert sampled == ""
    assert adata.shape == (320, 19)
    assert adata.obs["file"].value_counts().to_dict() == {"a": 200, "b": 120}
    genes = adata.var_names
    for label, path in zip("ab", donors, strict=True):
        own = adata[(adata.obs["file"] == label).to_numpy()]
        np.testing.assert_array_equal(own.X.toarray(), read(path)[:, genes].X.toarray())


def test_a_sample_of_several_files_is_the_same_whether_they_fit_into_memory_or_not(donors):
    small, text = read_sample(donors, 60)
    large, same_text = read_sample(donors, 60, memory=9000)
    assert text == same_text == "60 of 320 cells, drawn at random"
    np.testing.assert_array_equal(small.X.toarray(), large[:, small.var_names].X.toarray())
    assert small.obs["file"].astype(str).tolist() == large.obs["file"].astype(str).tolist()
    assert small.obs_names.tolist() == large.obs_names.tolist()


def test_files_that_do_not_fit_together_are_one_error(donors):
    with pytest.raises(InputError, match="holds 320 cells, and all of them would take"):
        read_sample(donors, memory=9000)
