"""The recipe against Seurat's own labels of PBMC3k; what each step needs."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from helpers.three_groups import log_normalized_groups, three_groups
from sparcell import datasets, pp
from sparcell.errors import InputError
from sparcell.pp.graph import louvain

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def pbmc():
    adata = datasets.pbmc3k()
    qc = pp.seurat(adata)
    return adata, qc


# ---------------------------------------------------------------------------------------------- the reference


def test_pbmc3k_has_the_size_and_parts_of_the_tutorial(pbmc):
    adata, qc = pbmc
    assert adata.shape == (2638, 13714)
    assert (len(qc), qc["kept"].sum()) == (2700, 2638)
    assert qc.index[qc["kept"]].equals(pd.Index(adata.obs_names, name="barcode"))
    assert adata.var["highly_variable"].sum() == 2000
    assert adata.obs["cluster"].cat.categories.tolist() == [str(i) for i in range(9)]
    sizes = adata.obs["cluster"].value_counts(sort=False).to_numpy()
    assert (np.diff(sizes) <= 0).all()
    assert (adata.layers["counts"] != adata.X).nnz == 0
    assert adata.X.dtype == adata.layers["lognorm"].dtype == np.float32
    assert adata.X.nnz == adata.layers["lognorm"].nnz


def test_pbmc3k_agrees_with_the_reference_labels(pbmc):
    if not (DATA / "pbmc3k_labels.csv").exists():
        pytest.skip("the reference labels are not here")
    adata, _ = pbmc
    labels = pd.read_csv(DATA / "pbmc3k_labels.csv", index_col="barcode")["seurat"]
    assert set(labels.index) == set(adata.obs_names)
    labels = labels[adata.obs_names]
    # It is .940; Louvain has optima of nearly the same modularity from .93 to .97.
    assert adjusted_rand_score(labels, adata.obs["cluster"]) >= 0.935
    assert (adata.obs["cell_type"].astype(str) == labels).mean() >= 0.97
    assert set(adata.obs["cell_type"].cat.categories) == set(labels)


def test_other_seeds_find_the_same_partition_of_pbmc3k(pbmc):
    adata, _ = pbmc
    for seed in (1, 2):
        again = louvain(adata.obsp["snn"], 0.5, 10, seed)
        assert adjusted_rand_score(again, adata.obs["cluster"]) >= 0.98


def test_the_last_bit_of_the_values_does_not_move_a_cell_of_pbmc3k(pbmc):
    """Processors differ by as much. Components in single precision then differ by .001, and up to a thousand cells change clusters."""
    adata, _ = pbmc
    shaken = adata.copy()
    values = shaken.layers["lognorm"].data
    steps = np.random.default_rng(0).choice([-1, 0, 1], len(values))
    values *= (1 + steps * 2.0**-23).astype(np.float32)
    pp.cluster(shaken)
    assert np.abs(shaken.obsm["X_pca"] - adata.obsm["X_pca"]).max() < 1e-4
    assert shaken.obs["cluster"].equals(adata.obs["cluster"])


def test_other_tissues_keep_cluster_numbers():
    if not (DATA / "baron_mouse.h5ad").exists():
        pytest.skip("the mouse data are not here")
    adata = ad.read_h5ad(DATA / "baron_mouse.h5ad")
    user_types = adata.obs["cell_type"].copy()
    adata.var_names = adata.var_names.str.upper()  # now the genes are called like blood's
    adata.var_names_make_unique()
    pp.seurat(adata, max_genes=None)
    assert adata.obs["cell_type"].equals(user_types)  # the user's own column stays
    assert adata.uns["sparcell_pp"]["keys"]["cell_type"] == "sparcell_cell_type"
    assert all(name.startswith("cluster ") for name in adata.obs["sparcell_cell_type"].cat.categories)
    assert adjusted_rand_score(user_types, adata.obs["cluster"]) > 0.5


def test_each_step_is_a_line_and_the_level_of_the_logger_hides_the_lines(capsys, caplog):
    pp.cell_types(three_groups(), n_top_genes=30)
    lines = capsys.readouterr().err.splitlines()
    steps = ("normalizing the counts of 120 cells", "choosing variable genes", "clustering")
    assert [line for line in lines if line in steps] == list(steps)
    assert any("Louvain clusters of 120 cells" in line for line in lines)
    with caplog.at_level("WARNING", logger="sparcell"):
        pp.cell_types(three_groups(), n_top_genes=30)
    assert capsys.readouterr().err == ""


def test_steps_need_counts_and_layers():
    adata = log_normalized_groups()
    adata.X = adata.layers["lognorm"].copy()
    for step in (pp.lognormalize, pp.quality_control, pp.seurat):
        with pytest.raises(InputError, match="X holds log-normalized"):
            step(adata)
    with pytest.raises(InputError, match="did you mean 'counts'"):
        pp.variable_genes(adata, layer="count")
    with pytest.raises(InputError, match=r"layers\['lognorm'\] holds log"):
        pp.variable_genes(adata, layer="lognorm")
    with pytest.raises(InputError, match="variable_genes"):
        pp.cluster(three_groups())
    bare = three_groups()
    bare.var["highly_variable"] = True
    with pytest.raises(InputError, match="lognormalize"):
        pp.cluster(bare)


def test_other_counts_in_the_layer_are_not_overwritten():
    adata = three_groups()
    adata.layers["counts"] = adata.X * 2
    with pytest.raises(InputError, match="differs from X"):
        pp.seurat(adata)
    assert adata.shape == (120, 60)
