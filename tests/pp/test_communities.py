"""Clusters and maps of a latent representation, and marker genes of groups."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

import sparcell as sp
from helpers.simulated import simulated_cells
from sparcell.errors import InputError


def blobs(n=60):
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(center, 0.3, (n, 3)) for center in (0, 5, 10)]).astype(np.float32)


def test_separate_groups_are_clusters_and_islands_of_the_map():
    graph = sp.pp.CellGraph(blobs())
    cluster_n = graph.leiden(0.05)
    for first in (0, 60, 120):
        assert len(set(cluster_n[first : first + 60])) == 1
    assert len(set(cluster_n)) == 3
    assert len(set(graph.leiden(3.0))) > 3, "a higher resolution gives more clusters"
    map_n2 = graph.umap()
    assert map_n2.shape == (180, 2)
    distance_nn = np.linalg.norm(map_n2[:, None] - map_n2[None], axis=2) + np.diag(np.full(180, np.inf))
    assert (distance_nn.argmin(axis=1) // 60 == np.arange(180) // 60).all(), (
        "the nearest cell is of the same group"
    )


def test_the_same_seed_gives_the_same_clusters_and_map():
    one, two = (sp.pp.CellGraph(blobs()) for _ in range(2))
    np.testing.assert_array_equal(one.leiden(seed=3), two.leiden(seed=3))
    np.testing.assert_array_equal(one.umap(seed=3), two.umap(seed=3))


def test_two_cells_are_too_few():
    with pytest.raises(InputError, match="at least 3"):
        sp.pp.CellGraph(np.zeros((2, 3)))


def test_markers_have_the_shares_changes_and_test_of_their_definitions():
    adata = simulated_cells(200)
    table = sp.pp.rank_markers(adata, "type")
    x_ng, type_n = adata.layers["lognorm"].toarray(), adata.obs["type"].to_numpy()
    for kind in ("type 0", "type 3"):
        rows = table[table["group"] == kind].set_index("gene")
        assert list(rows["lead"]) == sorted(rows["lead"], reverse=True)
        for gene in ("gene4", "gene50", "gene100"):
            g = adata.var_names.get_loc(gene)
            inside, outside = x_ng[type_n == kind, g], x_ng[type_n != kind, g]
            row = rows.loc[gene]
            assert row["share_in"] == pytest.approx((inside > 0).mean())
            assert row["share_out"] == pytest.approx((outside > 0).mean())
            change = np.log2((np.expm1(inside.mean()) + 1e-9) / (np.expm1(outside.mean()) + 1e-9))
            assert row["log2_fold_change"] == pytest.approx(change, rel=1e-3, abs=1e-3)
            assert row["t"] == pytest.approx(
                stats.ttest_ind(inside, outside, equal_var=False).statistic, rel=1e-3
            )
            assert row["lead"] == pytest.approx(
                row["log2_fold_change"] * (row["share_in"] - row["share_out"])
            )
    first = table.groupby("group").head(10)
    for number in range(4):
        own = {f"gene{g}" for g in range(number * 15, number * 15 + 15)}
        assert set(first.loc[first["group"] == f"type {number}", "gene"]) <= own
    assert len(sp.pp.rank_markers(adata, "type", n_genes=5)) == 20


def test_groups_of_one_or_two_cells_have_no_markers():
    adata = simulated_cells(60)
    adata.obs["kind"] = pd.Categorical(["a"] * 30 + ["b"] * 28 + ["c"] * 2)
    assert set(sp.pp.rank_markers(adata, "kind")["group"]) == {"a", "b"}
    adata.obs["kind"] = "one"
    assert sp.pp.rank_markers(adata, "kind").empty
    with pytest.raises(InputError, match="kin'"):
        sp.pp.rank_markers(adata, "kin")
    with pytest.raises(InputError, match="no layer"):
        sp.pp.rank_markers(ad.AnnData(sparse.csr_matrix((5, 2)), obs=adata.obs[:5]), "kind")


def test_groups_may_be_whole_numbers():
    """As `CellGraph.leiden` returns them."""
    adata, numbered = simulated_cells(200), simulated_cells(200)
    types = numbered.obs["type"].astype("category")
    numbered.obs["type"] = types.cat.codes.to_numpy()
    table, same = (sp.pp.rank_markers(cells, "type") for cells in (adata, numbered))
    name_of = dict(enumerate(types.cat.categories))
    assert [name_of[int(group)] for group in same["group"]] == table["group"].tolist()
    assert same["gene"].tolist() == table["gene"].tolist()
