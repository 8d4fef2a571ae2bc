"""A matrix of all droplets is recognized, and no limit is advised that would keep the empty ones."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sparcell import pp
from sparcell.errors import InputError
from sparcell.pp.quality import ManyCellsRemovedWarning, is_unfiltered


def droplets(n_empty, n_cells, n_genes=600, per_cell=2000, per_empty=3):
    rng = np.random.default_rng(0)
    weight_g = rng.gamma(0.5, 2, n_genes)
    size_n = np.concatenate([np.full(n_empty, per_empty), rng.gamma(4, per_cell / 4, n_cells)])
    x_ng = rng.poisson(size_n[:, None] * weight_g / weight_g.sum()).astype("f4")
    names = [f"c{i}" for i in range(len(x_ng))]
    genes = [f"G{i}" for i in range(n_genes)]
    return ad.AnnData(sparse.csr_matrix(x_ng), obs=pd.DataFrame(index=names), var=pd.DataFrame(index=genes))


def test_the_unfiltered_matrix_is_recognized():
    adata = droplets(2000, 100)
    with pytest.warns(
        ManyCellsRemovedWarning, match="This looks like the unfiltered matrix of all droplets: 20"
    ) as caught:
        pp.quality_control(adata, min_genes=100, max_genes=0)
    assert "min_genes" not in str(caught[0].message)
    with pytest.raises(
        InputError, match="Give the filtered one"
    ):  # limits from the data would keep the empty ones
        pp.quality_control(droplets(2000, 100))
    with pytest.raises(InputError, match="Give the filtered one"):
        pp.quality_control(droplets(2000, 100), min_genes=599, max_genes=0)


@pytest.mark.parametrize(
    "adata",
    [droplets(0, 300), droplets(50, 300), droplets(0, 300, per_cell=60), droplets(0, 300, n_genes=40)],
)
def test_cells_of_any_depth_are_not_taken_for_droplets(adata):
    x_ng = adata.X
    qc = pd.DataFrame({"n_genes": np.diff(x_ng.indptr), "total_counts": np.asarray(x_ng.sum(axis=1)).ravel()})
    assert not is_unfiltered(qc)
