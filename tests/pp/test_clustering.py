"""Clusters and their names against simulated groups, numpy alone, and pandas."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from helpers.three_groups import log_normalized_groups
from sparcell import pp
from sparcell.errors import InputError
from sparcell.pp.markers import table_order


def test_cluster_recovers_simulated_groups_and_changes_no_values():
    adata = log_normalized_groups()
    before = adata.copy()
    pp.cluster(adata, n_pcs=5)
    assert adjusted_rand_score(adata.obs["group"], adata.obs["cluster"]) == 1
    assert adata.obsm["X_pca"].shape == (120, 50)
    assert (before.X != adata.X).nnz == 0
    assert (adata.layers["lognorm"] != before.layers["lognorm"]).nnz == 0
    again = log_normalized_groups()
    pp.cluster(again, n_pcs=5)
    np.testing.assert_array_equal(adata.obsm["X_pca"], again.obsm["X_pca"])
    assert adata.obs["cluster"].equals(again.obs["cluster"])


def test_principal_components_are_those_of_the_scaled_values():
    """Oracle: the singular values of the same matrix, made with numpy alone."""
    adata = log_normalized_groups()
    x_ng = adata.layers["lognorm"].toarray().astype(np.float64)
    sd_g = x_ng.std(axis=0, ddof=1)
    scaled_ng = np.clip((x_ng - x_ng.mean(axis=0)) / np.where(sd_g == 0, 1, sd_g), -10, 10)
    left_nd, size_d, _ = np.linalg.svd(scaled_ng - scaled_ng.mean(axis=0), full_matrices=False)
    pp.cluster(adata, n_pcs=5)
    pca_nd = adata.obsm["X_pca"]
    assert pca_nd.dtype == np.float32
    expected_nd = (left_nd * size_d)[:, : pca_nd.shape[1]]
    signs_d = np.sign((expected_nd * pca_nd).sum(axis=0))
    assert pca_nd == pytest.approx(expected_nd * signs_d, rel=1e-4, abs=1e-4)


def test_clusters_of_few_cells_and_odd_settings():
    adata = log_normalized_groups(n_cells=6)
    with pytest.warns(UserWarning, match="n_pcs is 10, but there are only 5"):
        pp.cluster(adata)
    assert adata.obs["cluster"].nunique() >= 1
    with pytest.raises(InputError, match="There are 2 cells"):
        pp.cluster(adata[:2].copy())
    with pytest.raises(InputError, match="resolution is 0"):
        pp.cluster(adata, resolution=0)


def test_the_users_cluster_column_stays():
    adata = log_normalized_groups()
    adata.obs["cluster"] = adata.obs["group"]
    pp.cluster(adata, n_pcs=5)
    assert adata.obs["cluster"].equals(adata.obs["group"])
    assert adjusted_rand_score(adata.obs["group"], adata.obs["sparcell_cluster"]) == 1
    pp.cluster(adata, n_pcs=5, seed=1)  # a second run writes its own column again
    assert adata.uns["sparcell_pp"]["keys"]["cluster"] == "sparcell_cluster"


MARKERS = pd.DataFrame(
    [("one", f"g{i}") for i in range(10)] + [("two", f"g{i}") for i in range(10, 20)] + [("two", "absent")],
    columns=["cell_type", "gene"],
)


def test_clusters_are_named_by_what_stands_out(tmp_path):
    adata = log_normalized_groups()
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


def test_two_clusters_of_one_type_are_numbered():
    adata = log_normalized_groups()
    halves = adata.obs["group"].astype(str).to_numpy(dtype=object)
    halves[(halves == "0") & (np.arange(120) < 60)] = "3"
    adata.obs["half"] = pd.Categorical(halves)
    pp.name_clusters(adata, MARKERS, cluster_key="half")
    named = dict(zip(adata.obs["half"], adata.obs["cell_type"], strict=True))
    assert named == {"0": "one", "3": "one 2", "1": "two", "2": "cluster 2"}
    assert adata.obs["cell_type"].cat.categories.tolist() == ["one", "one 2", "two", "cluster 2"]


def test_numbered_names_are_in_the_order_of_their_numbers():
    names = dict(enumerate(["cluster 10", "two 10", "cluster 2", "two 2", "two", "one"]))
    assert table_order(names, MARKERS) == ["one", "two", "two 2", "two 10", "cluster 2", "cluster 10"]


def test_marker_tables_that_do_not_fit(tmp_path):
    adata = log_normalized_groups()
    with pytest.raises(InputError, match=r"None of the 1 marker genes.*the data have 'g0'"):
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
