"""Names of clusters from gene sets."""

from __future__ import annotations

import numpy as np
import pandas as pd

import sparcell as sp
from sparcell.tl.cluster_names import N_MARKERS, cell_type_sets

GENES = [f"g{number}" for number in range(1000)]
SETS = sp.tl.GeneSets(
    {"T cell": tuple(GENES[:20]), "Naive T cell": tuple(GENES[10:25]), "B cell": tuple(GENES[40:55]), "Stress": tuple(GENES[60:70])},
    {"T cell": "blood: a", "Naive T cell": "blood, subtype of T cell: b", "B cell": "blood: c", "Stress": "any tissue: d"},
)  # fmt: skip


def markers(**of_cluster):
    """Markers in the order given, all strong; further genes are weak."""
    rows = [
        (cluster, gene, 10.0 - 0.01 * rank, 2.0, 1e-6)
        for cluster, genes in of_cluster.items()
        for rank, gene in enumerate(genes)
    ]
    return pd.DataFrame(rows, columns=["group", "gene", "lead", "log2_fold_change", "p_adjusted"])


def named(table):
    return sp.tl.name_clusters_by_sets(table, SETS, GENES).set_index("cluster")


def test_a_cluster_gets_the_set_that_shares_most_beyond_chance():
    found = named(markers(a=GENES[40:50] + GENES[900:920], b=GENES[0:9] + GENES[800:820], c=GENES[500:540]))
    assert found["name"].to_dict() == {"a": "B cell", "b": "T cell", "c": "unknown cluster c"}
    assert found.loc["a", "genes"] == tuple(GENES[40:50])
    assert found.loc["c", "set"] == ""


def test_the_second_cluster_of_a_type_is_numbered_and_a_relative_is_no_second_type():
    found = named(markers(a=GENES[0:25], b=GENES[0:20], c=[*GENES[0:12], *GENES[40:52]]))
    assert list(found["name"]) == ["T cell", "T cell 2", "B cell"] or list(found["name"])[:2] == [
        "T cell",
        "T cell 2",
    ]
    assert found.loc["a", "second"] == ""
    assert found.loc["c", "second"] in {"T cell", "B cell"}


def test_weak_genes_and_genes_after_the_first_fifty_do_not_count():
    weak = markers(a=GENES[40:50])
    weak["log2_fold_change"] = 0.1
    assert named(weak).loc["a", "set"] == ""
    late = markers(a=[*GENES[500 : 500 + N_MARKERS], *GENES[40:50]])
    assert named(late).loc["a", "set"] == ""


def test_random_markers_are_hardly_ever_named():
    rng = np.random.default_rng(0)
    table = markers(**{f"c{number}": list(rng.permutation(GENES)[:50]) for number in range(300)})
    assert (named(table)["set"] != "").mean() <= 0.02


def test_only_cell_types_name_clusters():
    assert list(cell_type_sets(SETS).genes) == ["T cell", "Naive T cell", "B cell"]
    plain = sp.tl.GeneSets({"x": ("a", "b")})
    assert cell_type_sets(plain) is plain


FAMILY = sp.tl.GeneSets(
    {"Myeloid": tuple(GENES[:30]), "Mono": tuple(GENES[100:115]), "DC": tuple(GENES[120:135]), "B cell": tuple(GENES[40:55])},
    {"Myeloid": "blood: a", "Mono": "blood, subtype of Myeloid: b", "DC": "blood, subtype of Myeloid: c", "B cell": "blood: d"},
)  # fmt: skip


def first_names():
    table = markers(
        **{name: [*GENES[0:12], *GENES[400:430]] for name in "abc"}, d=GENES[40:50], e=GENES[500:540]
    )
    return sp.tl.name_clusters_by_sets(table, FAMILY, GENES)


def test_clusters_of_a_wider_type_get_the_subtype_whose_genes_tell_them_apart():
    asked = []

    def among(clusters):
        asked.append(clusters)
        return markers(
            a=[*GENES[100:106], *GENES[600:620]],
            b=[*GENES[120:124], *GENES[620:640]],
            c=GENES[640:660],
        )

    first = first_names()
    assert list(first["name"])[:3] == ["Myeloid", "Myeloid 2", "Myeloid 3"]
    found = sp.tl.name_subtypes(first, FAMILY, GENES, among).set_index("cluster")
    assert asked == [["a", "b", "c"]], (
        "only clusters of the same wider type are compared, and B cells have no subtypes"
    )
    assert found["name"].to_dict() == {
        "a": "Mono",
        "b": "DC",
        "c": "Myeloid",
        "d": "B cell",
        "e": "unknown cluster e",
    }
    assert found.loc["a", "genes"] == (*GENES[100:106], *GENES[0:12])
    assert found.loc["c", "genes"] == first.set_index("cluster").loc["c", "genes"]
    assert list(found.columns) == list(first.columns[1:])


def test_two_genes_of_a_subtype_are_too_few():
    def among(clusters):
        return markers(**{name: [*GENES[100:102], *GENES[600:620]] for name in clusters})

    first = first_names()
    pd.testing.assert_frame_equal(sp.tl.name_subtypes(first, FAMILY, GENES, among), first)


def test_one_cluster_of_a_wider_type_keeps_its_name():
    first = first_names()
    first = first[first["cluster"].isin(["a", "d", "e"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(sp.tl.name_subtypes(first, FAMILY, GENES, lambda clusters: 1 / 0), first)
