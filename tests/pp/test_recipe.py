"""The recipe against Seurat's own labels, against hand-computed values, and against slow plain code."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from sparcell import datasets, pp
from sparcell.errors import InputError
from sparcell.pp.graph import louvain

DATA = Path(__file__).parents[3] / "shared" / "data"


def toy(n_cells=120, n_genes=60, seed=0):
    """Three planted groups, each with ten genes of its own, and two mitochondrial genes."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n_cells) % 3
    rate_ng = np.full((n_cells, n_genes), 0.5)
    for group in range(3):
        rate_ng[groups == group, group * 10 : group * 10 + 10] = 6
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate_ng).astype(np.float32)))
    adata.obs_names = [f"cell{i}" for i in range(n_cells)]
    adata.var_names = [f"g{i}" for i in range(n_genes - 2)] + ["MT-1", "mt-2"]
    adata.obs["group"] = pd.Categorical([str(group) for group in groups])
    return adata


def prepared(**kwargs):
    adata = toy(**kwargs)
    adata.layers["counts"] = adata.X.copy()
    pp.lognormalize(adata)
    pp.variable_genes(adata, n_top_genes=adata.n_vars)
    return adata


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
    given_types = adata.obs["cell_type"].copy()
    adata.var_names = adata.var_names.str.upper()  # now the genes are called like blood's
    adata.var_names_make_unique()
    pp.seurat(adata, max_genes=None)
    assert adata.obs["cell_type"].equals(given_types)  # the user's own column stays
    assert adata.uns["sparcell_pp"]["keys"]["cell_type"] == "sparcell_cell_type"
    assert all(name.startswith("cluster ") for name in adata.obs["sparcell_cell_type"].cat.categories)
    assert adjusted_rand_score(given_types, adata.obs["cluster"]) > 0.5


# ---------------------------------------------------------------------------------------------- quality control


@pytest.mark.filterwarnings("ignore:Quality control removed")
def test_quality_control_by_hand():
    x_ng = np.array(
        [  # g0 g1 g2 mt-a rare
            [1, 1, 1, 1, 0],  # 4 genes, 25 % mitochondrial
            [2, 1, 0, 0, 0],  # 2 genes
            [9, 9, 1, 1, 0],  # 4 genes, 5 %
            [1, 0, 0, 0, 5],  # 1 gene that stays
            [3, 1, 1, 0, 0],  # 3 genes
            [0, 0, 0, 0, 0],
        ]
    )
    adata = ad.AnnData(sparse.csr_matrix(x_ng, dtype=np.float32))
    adata.var_names = ["g0", "g1", "g2", "mt-a", "rare"]
    qc = pp.quality_control(adata, min_cells=2, min_genes=1, max_genes=4, max_pct_mito=None)
    assert qc["n_genes"].tolist() == [4, 2, 4, 1, 3, 0]
    assert qc["total_counts"].tolist() == [4, 3, 20, 1, 5, 0]
    assert qc["pct_mito"].tolist() == [25, 0, 5, 0, 0, 0]
    assert qc["kept"].tolist() == [False, True, False, False, True, False]
    assert adata.var_names.tolist() == ["g0", "g1", "g2", "mt-a"]
    np.testing.assert_array_equal(adata.X.toarray(), x_ng[[1, 4], :4])


@pytest.mark.filterwarnings("ignore:Quality control removed")
@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=2, max_size=8),
    min_cells=st.integers(0, 3),
    min_genes=st.integers(0, 3),
    max_genes=st.one_of(st.none(), st.integers(2, 6)),
    max_pct=st.one_of(st.none(), st.floats(1, 100)),
)
def test_quality_control_against_plain_loops(values, min_cells, min_genes, max_genes, max_pct):
    x_ng = np.array(values, dtype=np.float32)
    adata = ad.AnnData(sparse.csr_matrix(x_ng))
    adata.var_names = ["a", "b", "c", "MT-d", "Mt-e"]
    genes = [j for j in range(5) if sum(row[j] > 0 for row in values) >= min_cells]
    cells = []
    for i, row in enumerate(values):
        n_genes, total = sum(row[j] > 0 for j in genes), sum(row[j] for j in genes)
        share = 100 * sum(row[j] for j in genes if j >= 3) / total if total else 0
        few = n_genes > min_genes and (max_genes is None or n_genes < max_genes)
        if few and (max_pct is None or share < max_pct):
            cells.append(i)
    limits = {"min_cells": min_cells, "min_genes": min_genes, "max_genes": max_genes, "max_pct_mito": max_pct}
    if not genes or not cells:
        with pytest.raises(InputError, match=r"expected|Expected"):
            pp.quality_control(adata, **limits)
        np.testing.assert_array_equal(adata.X.toarray(), x_ng)
        return
    qc = pp.quality_control(adata, **limits)
    assert np.flatnonzero(qc["kept"]).tolist() == cells
    np.testing.assert_array_equal(adata.X.toarray(), x_ng[np.ix_(cells, genes)])


def test_nothing_left_says_which_limit_and_what_would_do():
    adata = toy()
    with pytest.raises(
        InputError,
        match=r"min_genes=200 removes 120.*keep most: min_genes=(\d+) \(in a shell: --min-genes \1\)",
    ) as caught:
        pp.quality_control(adata, max_pct_mito=None)
    assert adata.shape == (120, 60)
    advice = int(str(caught.value).split("min_genes=")[-1].split(" ")[0])
    assert pp.quality_control(adata, min_genes=advice, max_pct_mito=None)["kept"].mean() > 0.9


def test_many_cells_removed_is_a_warning():
    with pytest.warns(UserWarning, match=r"removed \d+ of 120 cells: max_pct_mito=2 removes"):
        pp.quality_control(toy(), min_genes=0, max_pct_mito=2)


def test_a_view_can_be_filtered():
    adata = toy()
    view = adata[:60]
    pp.quality_control(view, min_genes=0, max_pct_mito=None)
    assert view.n_obs == 60
    assert adata.n_obs == 120


# ---------------------------------------------------------------------------------------------- normalisation, genes


def test_lognormalize_by_formula():
    adata = toy()
    adata.X = sparse.csr_matrix(adata.X.toarray() * (np.arange(120) != 5)[:, None])  # one empty cell
    before = adata.X.copy()
    pp.lognormalize(adata, key_added="ln", target_sum=100)
    dense = before.toarray().astype(float)
    total = dense.sum(axis=1, keepdims=True)
    want = np.log1p(100 * np.divide(dense, total, out=np.zeros_like(dense), where=total > 0))
    np.testing.assert_allclose(adata.layers["ln"].toarray(), want, rtol=1e-5)
    assert (before != adata.X).nnz == 0
    assert not adata.uns


def test_steps_need_counts_and_layers():
    adata = prepared()
    adata.X = adata.layers["lognorm"].copy()
    for step in (pp.lognormalize, pp.quality_control, pp.seurat):
        with pytest.raises(InputError, match="X holds log-normalised"):
            step(adata)
    with pytest.raises(InputError, match="did you mean 'counts'"):
        pp.variable_genes(adata, layer="count")
    with pytest.raises(InputError, match=r"layers\['lognorm'\] holds log"):
        pp.variable_genes(adata, layer="lognorm")
    with pytest.raises(InputError, match="variable_genes"):
        pp.cluster(toy())
    bare = toy()
    bare.var["highly_variable"] = True
    with pytest.raises(InputError, match="lognormalize"):
        pp.cluster(bare)


def test_other_counts_in_the_layer_are_not_overwritten():
    adata = toy()
    adata.layers["counts"] = adata.X * 2
    with pytest.raises(InputError, match="differs from X"):
        pp.seurat(adata)
    assert adata.shape == (120, 60)


# ---------------------------------------------------------------------------------------------- clusters


def test_cluster_recovers_planted_groups_and_changes_no_values():
    adata = prepared()
    before = adata.copy()
    pp.cluster(adata, n_pcs=5)
    assert adjusted_rand_score(adata.obs["group"], adata.obs["cluster"]) == 1
    assert adata.obsm["X_pca"].shape == (120, 50)
    assert (before.X != adata.X).nnz == 0
    assert (adata.layers["lognorm"] != before.layers["lognorm"]).nnz == 0
    again = prepared()
    pp.cluster(again, n_pcs=5)
    np.testing.assert_array_equal(adata.obsm["X_pca"], again.obsm["X_pca"])
    assert adata.obs["cluster"].equals(again.obs["cluster"])


def test_principal_components_are_those_of_the_scaled_values():
    """Oracle: the singular values of the same matrix, made with numpy alone."""
    adata = prepared()
    x_ng = adata.layers["lognorm"].toarray().astype(np.float64)
    sd_g = x_ng.std(axis=0, ddof=1)
    scaled_ng = np.clip((x_ng - x_ng.mean(axis=0)) / np.where(sd_g == 0, 1, sd_g), -10, 10)
    left_nd, size_d, _ = np.linalg.svd(scaled_ng - scaled_ng.mean(axis=0), full_matrices=False)
    pp.cluster(adata, n_pcs=5)
    found_nd = adata.obsm["X_pca"]
    assert found_nd.dtype == np.float32
    expected_nd = (left_nd * size_d)[:, : found_nd.shape[1]]
    signs_d = np.sign((expected_nd * found_nd).sum(axis=0))
    assert found_nd == pytest.approx(expected_nd * signs_d, rel=1e-4, abs=1e-4)


def test_clusters_of_few_cells_and_odd_settings():
    adata = prepared(n_cells=6)
    with pytest.warns(UserWarning, match="10 principal components were asked for and there are 5"):
        pp.cluster(adata)
    assert adata.obs["cluster"].nunique() >= 1
    with pytest.raises(InputError, match="There are 2 cells"):
        pp.cluster(adata[:2].copy())
    with pytest.raises(InputError, match="resolution is 0"):
        pp.cluster(adata, resolution=0)


def test_the_users_cluster_column_stays():
    adata = prepared()
    adata.obs["cluster"] = adata.obs["group"]
    pp.cluster(adata, n_pcs=5)
    assert adata.obs["cluster"].equals(adata.obs["group"])
    assert adjusted_rand_score(adata.obs["group"], adata.obs["sparcell_cluster"]) == 1
    pp.cluster(adata, n_pcs=5, seed=1)  # a second run writes its own column again
    assert adata.uns["sparcell_pp"]["keys"]["cluster"] == "sparcell_cluster"


# ---------------------------------------------------------------------------------------------- names


MARKERS = pd.DataFrame(
    [("one", f"g{i}") for i in range(10)] + [("two", f"g{i}") for i in range(10, 20)] + [("two", "absent")],
    columns=["cell_type", "gene"],
)


def test_clusters_are_named_by_what_stands_out(tmp_path):
    adata = prepared()
    scores = pp.name_clusters(adata, MARKERS, cluster_key="group")
    assert adata.obs["cell_type"].tolist()[:3] == ["one", "two", "cluster 2"]
    assert adata.obs["cell_type"].cat.categories.tolist() == ["one", "two", "cluster 2"]
    assert scores.idxmax(axis=1).tolist()[:2] == ["one", "two"]
    assert scores.to_numpy() == pytest.approx(by_hand(adata, MARKERS), abs=1e-5)
    MARKERS.to_csv(tmp_path / "markers.csv", index=False)
    pd.testing.assert_frame_equal(
        pp.name_clusters(adata, tmp_path / "markers.csv", cluster_key="group", key_added="k"), scores
    )
    assert adata.obs["k"].tolist() == adata.obs["cell_type"].tolist()
    adata.write_h5ad(tmp_path / "named.h5ad")
    assert list(ad.read_h5ad(tmp_path / "named.h5ad").uns["sparcell_pp"]["marker_scores"]["names"]) == [
        "one",
        "two",
        "cluster 2",
    ]


def by_hand(adata, markers):
    lognorm = adata.to_df("lognorm")
    means = lognorm.groupby(adata.obs["group"].astype(str).to_numpy()).mean()
    z = (means - means.mean()) / means.std(ddof=0)
    return np.array(
        [
            [
                z.loc[group, [g for g in table["gene"] if g in z]].mean()
                for _, table in markers.groupby("cell_type")
            ]
            for group in means.index
        ]
    )


def test_two_clusters_of_one_type_are_told_apart():
    adata = prepared()
    halves = adata.obs["group"].astype(str).to_numpy(dtype=object)
    halves[(halves == "0") & (np.arange(120) < 60)] = "3"
    adata.obs["half"] = pd.Categorical(halves)
    pp.name_clusters(adata, MARKERS, cluster_key="half")
    named = dict(zip(adata.obs["half"], adata.obs["cell_type"], strict=True))
    assert named == {"0": "one", "3": "one 2", "1": "two", "2": "cluster 2"}
    assert adata.obs["cell_type"].cat.categories.tolist() == ["one", "one 2", "two", "cluster 2"]


def test_marker_tables_that_do_not_fit(tmp_path):
    adata = prepared()
    with pytest.raises(InputError, match=r"None of the 1 marker genes.*the data write 'g0'"):
        pp.name_clusters(adata, pd.DataFrame({"cell_type": ["x"], "gene": ["G0"]}), cluster_key="group")
    with pytest.raises(InputError, match="no column 'gene': did you mean 'genes'"):
        pp.name_clusters(adata, MARKERS.rename(columns={"gene": "genes"}), cluster_key="group")
    with pytest.raises(InputError, match="did you mean 'group'"):
        pp.name_clusters(adata, MARKERS, cluster_key="grupo")
    with pytest.raises(InputError, match="There is no file"):
        pp.name_clusters(adata, tmp_path / "none.csv", cluster_key="group")
    (tmp_path / "empty.csv").write_text("cell_type,gene\n,\n")
    with pytest.raises(InputError, match="has no rows"):
        pp.name_clusters(adata, tmp_path / "empty.csv", cluster_key="group")
    (tmp_path / "broken.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="expected"):
        pp.name_clusters(adata, tmp_path / "broken.csv", cluster_key="group")
