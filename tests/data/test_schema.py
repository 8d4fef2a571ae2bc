"""From AnnData to a model's units: genes, log-normalization, z-scores, and the schema as JSON.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import dataclasses
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from helpers.simulated import simulated_cells
from sparcell.config.data import DataConfig
from sparcell.data.covariates import Covariates
from sparcell.data.schema import MAX_ZSCORE, Schema
from sparcell.errors import InputError


def fit_schema(adata, **data):
    return Schema.fit(adata, DataConfig(**data))


def by_hand():
    """Two cells with totals 4 and 8."""
    adata = ad.AnnData(
        sparse.csr_matrix(np.array([[1, 3, 0], [0, 2, 6]], dtype=np.float32)),
        obs=pd.DataFrame(index=["a", "b"]),
        var=pd.DataFrame({"use": [True, False, True]}, index=["x", "y", "z"]),
    )
    expected = np.log1p([[2500, 7500, 0], [0, 2500, 7500]])
    return adata, expected


def test_counts_are_log_normalized_as_by_hand():
    adata, expected = by_hand()
    schema = fit_schema(adata)
    assert schema == Schema(("x", "y", "z"), None, counts=False, log_normalize=True)
    np.testing.assert_allclose(schema.matrix(adata).toarray(), expected, rtol=1e-6)


def test_a_cell_s_total_is_over_all_genes_also_those_not_chosen():
    adata, expected = by_hand()
    schema = fit_schema(adata, genes_key="use")
    assert schema.genes == ("x", "z")
    np.testing.assert_allclose(schema.matrix(adata).toarray(), expected[:, [0, 2]], rtol=1e-6)


def test_counts_are_log_normalized_as_by_scanpy():
    adata = simulated_cells()
    by_scanpy = ad.AnnData(adata.X.copy())
    sc.pp.normalize_total(by_scanpy, target_sum=1e4)
    sc.pp.log1p(by_scanpy)
    np.testing.assert_allclose(fit_schema(adata).matrix(adata).toarray(), by_scanpy.X.toarray(), rtol=1e-5)


def test_log_normalized_values_pass_unchanged():
    adata = simulated_cells()
    schema = fit_schema(adata, layer="lognorm")
    assert not schema.log_normalize
    np.testing.assert_array_equal(schema.matrix(adata).toarray(), adata.layers["lognorm"].toarray())


def test_integer_counts_are_no_different():
    adata = simulated_cells()
    whole = adata.copy()
    whole.X = adata.X.astype(np.int64)
    np.testing.assert_array_equal(
        fit_schema(whole).matrix(whole).toarray(), fit_schema(adata).matrix(adata).toarray()
    )


def test_scaling_is_numpy_s():
    adata = simulated_cells()
    schema = fit_schema(adata, layer="lognorm", scale=True)
    x_ng = adata.layers["lognorm"].toarray().astype(np.float64)
    np.testing.assert_allclose(schema.mean, x_ng.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(schema.sd, x_ng.std(axis=0, ddof=1), rtol=1e-5)
    z_ng = (x_ng - x_ng.mean(axis=0)) / x_ng.std(axis=0, ddof=1)
    np.testing.assert_allclose(schema.matrix(adata).toarray(), np.clip(z_ng, -10, 10), atol=1e-4)


def test_scaling_is_exact_for_a_gene_that_hardly_varies():
    """Mean 6, sd .001: squares in single precision would leave nothing of the difference."""
    rng = np.random.default_rng(0)
    x_ng = np.stack(
        [6 + 0.001 * rng.normal(size=5000), rng.gamma(2.0, size=5000), np.full(5000, 5.3)], axis=1
    )
    adata = ad.AnnData(x_ng.astype(np.float32))
    schema = fit_schema(adata, scale=True)
    np.testing.assert_allclose(schema.sd[:2], adata.X.astype(np.float64).std(axis=0, ddof=1)[:2], rtol=1e-3)
    assert np.abs(schema.matrix(adata).toarray()[:, 2]).max() < 1e-3


def test_z_scores_are_cut_where_seurat_cuts_them():
    x_ng = np.zeros((1000, 2), dtype=np.float32)
    x_ng[0, 0], x_ng[:, 1] = 5.5, np.linspace(0.1, 2, 1000)
    adata = ad.AnnData(x_ng)
    z_ng = fit_schema(adata, scale=True).matrix(adata).toarray()
    assert z_ng.max() == MAX_ZSCORE == 10


def test_inverse_zscore_undoes_zscore():
    adata = simulated_cells()
    schema = fit_schema(adata, layer="lognorm", scale=True)
    x_ng = adata.layers["lognorm"].toarray()
    np.testing.assert_allclose(schema.inverse_zscore(schema.zscore(x_ng)), x_ng, atol=1e-5)
    plain = fit_schema(adata, layer="lognorm")
    np.testing.assert_array_equal(plain.inverse_zscore(plain.zscore(x_ng)), x_ng)


def test_new_cells_are_scaled_with_the_constants_of_the_first():
    adata, other = simulated_cells(), simulated_cells(seed=9)
    schema = fit_schema(adata, layer="lognorm", scale=True)
    z_ng = (other.layers["lognorm"].toarray() - np.array(schema.mean)) / np.array(schema.sd)
    np.testing.assert_allclose(schema.matrix(other).toarray(), np.clip(z_ng, -10, 10), atol=1e-5)


def test_columns_follow_the_model_s_genes_not_the_data_s():
    adata = simulated_cells()
    schema = fit_schema(adata, layer="lognorm")
    order = np.random.default_rng(0).permutation(adata.n_vars)
    matrix, reordered = schema.matrix(adata), schema.matrix(adata[:, order].copy())
    np.testing.assert_array_equal(reordered.toarray(), matrix.toarray())
    # The kernels need the genes of a cell in order.
    np.testing.assert_array_equal(reordered.indices, matrix.indices)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"batch_key": "type", "covariates": ("depth", "batch")},
        {"layer": "lognorm", "scale": True},
        {"genes_key": "marked", "scale": True},
    ],
)
def test_a_schema_survives_json(data):
    adata = simulated_cells()
    adata.obs["batch"] = np.where(np.arange(adata.n_obs) % 3 == 0, "a", "b")
    schema = fit_schema(adata, **data)
    read = json.loads(json.dumps(dataclasses.asdict(schema)))
    read = {name: tuple(value) if isinstance(value, list) else value for name, value in read.items()}
    again = Schema(**{**read, "covariates": Covariates.from_json(read["covariates"])})
    assert again == schema


def test_counts_are_log_normalized_unless_the_setting_says_otherwise():
    adata = simulated_cells()
    assert fit_schema(adata).log_normalize
    assert not fit_schema(adata, layer="lognorm").log_normalize
    with pytest.raises(InputError, match="holds counts"):
        fit_schema(adata, log_normalize=False)
    with pytest.raises(InputError, match="expected counts"):
        fit_schema(adata, layer="lognorm", log_normalize=True)
