"""Clusters that share a name, clusters that get names of their own, and clusters that may hold two populations."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import sparcell as sp
from sparcell.analysis import separation

N_GENES = 200


def cells(sizes, markers, seed=0):
    """Return cells of populations with their numbers; a population has the genes that `markers` names six times as often."""
    rng = np.random.default_rng(seed)
    kind_n = np.repeat(np.arange(len(sizes)), sizes)
    rate_ng = np.tile(rng.gamma(2.0, 0.4, N_GENES), (len(kind_n), 1))
    for kind, genes in markers.items():
        rate_ng[np.ix_(kind_n == kind, genes)] = 6 * rate_ng[np.ix_(kind_n == kind, genes)] + 1
    rate_ng *= rng.uniform(0.6, 1.6, (len(kind_n), 1))
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rng.gamma(5.0, rate_ng / 5.0)).astype(np.float32)))
    adata.var_names = [f"g{number}" for number in range(N_GENES)]
    sp.pp.lognormalize(adata)
    return adata, kind_n


def named(sets, names=None):
    clusters = [str(number) for number in range(len(sets))]
    return pd.DataFrame({"cluster": clusters, "name": names or sets, "set": sets})


def test_clusters_of_one_type_share_its_name_unless_genes_tell_them_apart():
    """Clusters 0, 1 and 3 are random parts of one population; cluster 2 has the same set and genes of its own."""
    adata, kind_n = cells([180, 60, 80], {0: range(10), 1: range(10, 20), 2: range(30, 40)})
    codes_n = np.select([kind_n == 1, kind_n == 2], [2, 4], np.arange(len(kind_n)) % 3)
    codes_n[(kind_n == 0) & (codes_n == 2)] = 3
    table, doubts = separation.separate(
        adata, codes_n, named(["T", "T", "T", "T", "B"], ["T", "T 2", "T 3", "T 4", "B"])
    )
    assert table["name"].nunique() == 3
    assert set(table["name"][[0, 1, 3]]) == {table["name"][0]}
    for name, genes in ((table["name"][0], range(10)), (table["name"][2], range(10, 20))):
        kind, listed = name.removesuffix(")").split(" (")
        assert kind in ("T 1", "T 2")
        assert set(listed.split(", ")) <= {f"g{number}" for number in genes}
    assert table["name"][4] == "B"
    assert table["title"].is_unique
    assert table["title"][1] == f"{table['name'][1]} [cluster 1]"
    assert table["title"][4] == "B"
    assert doubts == ()


def test_a_type_whose_clusters_do_not_differ_has_its_plain_name():
    adata, kind_n = cells([150, 80], {0: range(10), 1: range(30, 40)})
    codes_n = np.where(kind_n == 1, 2, np.arange(len(kind_n)) % 2)
    table, _ = separation.separate(adata, codes_n, named(["T", "T", "B"], ["T", "T 2", "B"]))
    assert table["name"].tolist() == ["T", "T", "B"]
    assert table["title"].tolist() == ["T [cluster 0]", "T [cluster 1]", "B"]


def test_different_names_without_different_genes_are_a_doubt():
    adata, kind_n = cells([150, 80], {0: range(10), 1: range(30, 40)})
    codes_n = np.where(kind_n == 1, 2, np.arange(len(kind_n)) % 2)
    table, doubts = separation.separate(adata, codes_n, named(["T", "Naive T", "B"]))
    assert table["name"].tolist() == ["T", "Naive T", "B"]
    assert [doubt.what for doubt in doubts] == ["1 pair of cell types that hardly any gene tells apart."]
    assert "Naive T and T" in doubts[0].why


def test_clusters_without_a_name_stay_as_they_are():
    adata, kind_n = cells([150], {})
    table, doubts = separation.separate(
        adata, np.arange(len(kind_n)) % 2, named(["", ""], ["unknown cluster 0", "unknown cluster 1"])
    )
    assert table["name"].tolist() == ["unknown cluster 0", "unknown cluster 1"]
    assert len(doubts) == 1


def test_groups_hold_no_two_clusters_that_differ():
    """A chain 0 - 1 - 2, whose ends differ, is no single group."""
    differ_cc = np.zeros((4, 4), dtype=bool)
    for one, other in ((0, 2), (0, 3), (1, 3), (2, 3)):
        differ_cc[one, other] = differ_cc[other, one] = True
    groups = separation.groups_of(differ_cc)
    assert groups[0] != groups[2]
    assert groups[1] in (groups[0], groups[2])
    assert len(set(groups)) == 3
    assert separation.groups_of(np.zeros((1, 1), dtype=bool)).tolist() == [0]


TABLE = pd.DataFrame({"name": ["mixed", "pure"], "title": ["mixed", "pure"]})


def test_a_cluster_of_two_populations_is_named_with_their_genes_and_no_other():
    adata, kind_n = cells([200, 40, 120], {0: range(10), 1: range(10, 20), 2: range(30, 40)})
    codes_n = np.where(kind_n == 2, 1, 0)
    finer_n = np.where(kind_n == 2, 2 + np.arange(len(kind_n)) % 2, kind_n)
    doubts = list(separation.about_splits(adata, codes_n, finer_n, TABLE, sp.AnalysisConfig()))
    assert [doubt.what for doubt in doubts] == ["1 cluster (mixed) that may hold two populations."]
    assert "40 of 240 cells have more g1" in doubts[0].why
    assert "At resolution 2" in doubts[0].why
    assert "pure" not in doubts[0].why


@pytest.mark.parametrize("n_markers", [0, 3])
def test_few_genes_and_few_cells_are_no_second_population(n_markers):
    adata, kind_n = cells([200, 40], {0: range(10), 1: [*range(10), *range(20, 20 + n_markers)]})
    codes_n = np.zeros(len(kind_n), dtype=int)
    assert list(separation.about_splits(adata, codes_n, kind_n, TABLE[:1], sp.AnalysisConfig())) == []
    adata, kind_n = cells([200, 19], {0: range(10), 1: range(10, 20)})
    codes_n = np.zeros(len(kind_n), dtype=int)
    assert list(separation.about_splits(adata, codes_n, kind_n, TABLE[:1], sp.AnalysisConfig())) == []


@pytest.mark.parametrize("seed", range(2))
def test_leiden_clusters_of_a_single_population_share_their_name_and_are_no_doubt(seed):
    """Cells are drawn from one profile, with gene frequencies and depths of PBMC3k. Clusters of their noise have no genes of their own."""
    rng, real = np.random.default_rng(seed), sp.datasets.pbmc3k()
    total_g = np.asarray(real.X.sum(axis=0), dtype=np.float64).ravel()
    depth_n = rng.choice(np.asarray(real.X.sum(axis=1)).ravel(), 500)
    gene_g = np.flatnonzero(total_g >= 30)
    counts_ng = rng.poisson(depth_n[:, None] * total_g[gene_g] / total_g.sum())
    adata = ad.AnnData(sparse.csr_matrix(counts_ng.astype(np.float32)))
    adata.var_names = real.var_names[gene_g]
    sp.pp.lognormalize(adata)
    x_ng = adata.layers["lognorm"].toarray()
    x_ng = x_ng[:, np.argsort(-x_ng.var(axis=0))[:1000]]
    left, values, _ = np.linalg.svd(x_ng - x_ng.mean(axis=0), full_matrices=False)
    graph = sp.pp.CellGraph((left * values)[:, :10])
    codes_n, finer_n = graph.leiden(1.0), graph.leiden(2.0)
    n_clusters = int(codes_n.max()) + 1
    assert n_clusters > 2
    table, _ = separation.separate(adata, codes_n, named(["T"] * n_clusters))
    assert (table["name"] == "T").all()
    assert list(separation.about_splits(adata, codes_n, finer_n, table, sp.AnalysisConfig())) == []


def many_clusters(n_of_t, coarser_of):
    """Return the doubts about clusters 0 … of type T, 30 cells each, and one of type B; `coarser_of` is the coarser cluster of each."""
    codes_n = np.repeat(np.arange(n_of_t + 1), 30)
    table = named(["T"] * n_of_t + ["B"])
    config = sp.AnalysisConfig(resolution=1.0)
    return list(separation.about_many_clusters(codes_n, np.array(coarser_of)[codes_n], table, config))


@pytest.mark.parametrize(
    ("coarser_of", "at_half", "tried"),
    [
        ([0, 0, 0, 1, 1, 2], "2 at resolution 0.5", "--resolution 0.5 --resume"),
        ([0, 1, 2, 3, 4, 5], "5 at resolution 0.5", "--resolution 0.25 --resume"),
    ],
)
def test_a_type_with_many_clusters_comes_with_the_resolution_that_merges_them(coarser_of, at_half, tried):
    (doubt,) = many_clusters(5, coarser_of)
    assert doubt.what == "5 of 6 clusters belong to one cell type (T)."
    assert f"T: 5 clusters, {at_half}." in doubt.why
    assert f"try {tried}, which" in doubt.why


def test_a_type_that_a_lower_resolution_mixes_with_another_has_no_cluster_of_its_own():
    codes_n = np.repeat(np.arange(5), [10, 10, 10, 10, 90])
    doubts = separation.about_many_clusters(
        codes_n, 0 * codes_n, named(["T"] * 4 + ["B"]), sp.AnalysisConfig()
    )
    assert "T: 4 clusters, none of its own at resolution 0.5." in next(doubts).why


def test_few_clusters_of_a_type_and_clusters_without_a_type_are_no_doubt():
    assert many_clusters(3, [0, 0, 0, 1]) == []
    codes_n = np.repeat(np.arange(6), 30)
    unnamed = named([""] * 6, [f"unknown cluster {number}" for number in range(6)])
    assert list(separation.about_many_clusters(codes_n, codes_n, unnamed, sp.AnalysisConfig())) == []
