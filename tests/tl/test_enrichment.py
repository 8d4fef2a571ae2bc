"""Over-representation: p-values and FDR agree with scipy's, and the background counts."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sparcell.errors import InputError
from sparcell.tl.enrichment import COLUMNS, benjamini_hochberg, enrich
from sparcell.tl.gene_sets import GeneSets

GENES = [f"G{i}" for i in range(200)]


def random_sets(rng, n_sets=30, background=GENES):
    sizes = rng.integers(1, 40, size=n_sets)
    return GeneSets(
        {f"set {s}": tuple(rng.choice(background, size=n, replace=False)) for s, n in enumerate(sizes)}
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_query=st.integers(1, 60), min_overlap=st.integers(1, 3))
def test_p_and_fdr_are_those_of_scipy(seed, n_query, min_overlap):
    rng = np.random.default_rng(seed)
    background = list(rng.permutation(GENES)[:120])
    sets = random_sets(rng)
    genes = list(rng.choice(background, size=n_query, replace=False))
    table = enrich(genes, sets, background, min_overlap=min_overlap)
    p_of, overlap_of = {}, {}
    for name, members in sets.genes.items():
        inside = set(members) & set(background)
        if len(inside) < min_overlap:
            continue
        overlap = len(inside & set(genes))
        rest = len(inside) - overlap, n_query - overlap, len(background) - n_query - len(inside) + overlap
        p_of[name] = stats.fisher_exact(
            [[overlap, rest[0]], [rest[1], rest[2]]], alternative="greater"
        ).pvalue
        overlap_of[name] = overlap
    fdr_of = dict(zip(p_of, stats.false_discovery_control(list(p_of.values())), strict=True)) if p_of else {}
    assert set(table["set"]) == {name for name, overlap in overlap_of.items() if overlap >= min_overlap}
    assert table.attrs["n_tested"] == len(p_of)
    np.testing.assert_allclose(table["p"], [p_of[name] for name in table["set"]], rtol=1e-9)
    np.testing.assert_allclose(table["fdr"], [fdr_of[name] for name in table["set"]], rtol=1e-9)
    np.testing.assert_allclose(table["fold"], table["overlap"] / table["expected"])
    assert table["p"].is_monotonic_increasing
    assert [len(shared) for shared in table["genes"]] == list(table["overlap"])


@settings(max_examples=100, deadline=None)
@given(
    p=st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.5, 1.0])), min_size=1, max_size=30)
)
def test_benjamini_hochberg_is_that_of_scipy(p):
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p), rtol=1e-12)


def test_benjamini_hochberg_by_hand():
    np.testing.assert_allclose(benjamini_hochberg([0.04, 0.01, 0.03, 0.5]), [0.16 / 3, 0.04, 0.16 / 3, 0.5])
    assert benjamini_hochberg([]).shape == (0,)


@pytest.mark.parametrize("n_background", [10, 20, 200])
def test_the_background_counts_by_hand(n_background):
    """3 of 3 genes in a set of 5: C(5, 3) / C(N, 3); what the model did not see counts nowhere."""
    sets = GeneSets({"five": (*GENES[:5], "unseen 1", "unseen 2"), "none seen": ("unseen 1", "unseen 3")})
    table = enrich(GENES[:3], sets, GENES[:n_background])
    row = table.iloc[0]
    assert len(table) == 1
    assert (row["set"], row["overlap"], row["set_size"]) == ("five", 3, 5)
    assert row["expected"] == pytest.approx(15 / n_background)
    assert row["fold"] == pytest.approx(n_background / 5)
    assert row["p"] == pytest.approx(float(Fraction(comb(5, 3), comb(n_background, 3))), rel=1e-12)
    assert row["fdr"] == row["p"]
    assert table.attrs == {"n_genes": 3, "n_background": n_background, "n_tested": 1, "matched": "exact"}


def test_tiny_p_values_keep_their_digits():
    background = [f"G{i}" for i in range(5000)]
    table = enrich(background[:60], GeneSets({"all": tuple(background[:60])}), background)
    assert table["p"].iloc[0] == pytest.approx(float(Fraction(1, comb(5000, 60))), rel=1e-6)
    assert table["p"].iloc[0] < 1e-100


def test_genes_stand_as_they_are_ranked_and_count_once():
    sets = GeneSets({"a": ("G1", "G2", "G3"), "b": ("G3", "G2", "G1")})
    table = enrich(["G3", "G9", "G1", "G3"], sets, [*GENES, "G1"])
    assert list(table["set"]) == ["a", "b"]  # the same p: by name
    assert list(table["genes"]) == [("G3", "G1")] * 2
    assert table.attrs["n_genes"] == 3
    assert table.attrs["n_background"] == len(GENES)


def test_small_overlaps_are_not_shown_but_were_tested():
    sets = GeneSets({"two": ("G0", "G1"), "one": ("G2", "G50"), "none": ("G60", "G61"), "small": ("G3",)})
    genes = ["G0", "G1", "G2", "G3"]
    two = enrich(genes, sets, GENES)
    assert list(two["set"]) == ["two"]
    assert two.attrs["n_tested"] == 3
    assert two["fdr"].iloc[0] == pytest.approx(3 * two["p"].iloc[0])
    assert set(enrich(genes, sets, GENES, min_overlap=1)["set"]) == {"two", "one", "small"}


def test_no_set_left_gives_an_empty_table_with_its_columns():
    for sets in (GeneSets({"small": ("G3", "G999")}), GeneSets({"apart": ("G3", "G4")})):
        table = enrich(["G0", "G1"], sets, GENES)
        assert list(table.columns) == list(COLUMNS)
        assert len(table) == 0
        assert [table[name].dtype.kind for name in COLUMNS] == ["O", "i", "i", "f", "f", "f", "f", "O"]


def test_case_and_dots_of_r_are_ignored_where_the_names_differ():
    mouse = ["Cd3e", "Cd3d", "Trac", "C3", "H2.Aa", *(f"Gm{i}" for i in range(100))]
    sets = GeneSets({"T cell": ("CD3E", "CD3D", "TRAC", "H2-Aa"), "Complement": ("C3", "C5", "CFB")})
    table = enrich(mouse[:5], sets, mouse)
    assert table.attrs["matched"] == "ignoring case"
    assert table["genes"].iloc[0] == ("Cd3e", "Cd3d", "Trac", "H2.Aa")


def test_exact_names_go_first():
    sets = GeneSets({"T cell": ("CD3E", "CD3D"), "Other case": ("cd3g", "cd3d")})
    table = enrich(["CD3E", "CD3D"], sets, ["CD3E", "CD3D", "CD3G", "MS4A1"])
    assert list(table["set"]) == ["T cell"]
    assert table.attrs["matched"] == "exact"


def test_genes_that_differ_in_case_only_stay_two_genes():
    background = ["Cd3e", "CD3e", "Cd3d", *(f"g{i}" for i in range(20))]
    row = enrich(background[:3], GeneSets({"T cell": ("CD3E", "CD3D")}), background).iloc[0]
    assert (row["overlap"], row["set_size"]) == (3, 3)


@pytest.mark.parametrize(
    ("background", "looks"),
    [
        ([f"ENSG0000012{i:04d}" for i in range(50)], "human Ensembl ids (ENSG00000120000, "),
        ([f"ENSMUSG0000012{i:04d}.3" for i in range(50)], "Ensembl ids (ENSMUSG"),
        ([str(i) for i in range(1, 50)], "numbers, as Entrez ids are (1, 10, 11, …)"),
        (["Xkr4", "Rp1", "Sox17", "0610005C13Rik"], "symbols with one capital, as for mouse (Rp1, Sox17, "),
    ],
)
def test_names_of_another_kind_raise_an_error_that_describes_both(background, looks):
    sets = GeneSets({"T cell": ("CD3E", "CD3D", "C10orf54", "HLA-DRA")})
    with pytest.raises(
        InputError, match=r"None of the 4 genes .* symbols in capitals, as for human"
    ) as error:
        enrich(background[:2], sets, background)
    assert looks in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"genes": []}, "genes: found no gene"),
        ({"genes": "G1"}, r"genes is the text 'G1'; expected a list"),
        ({"genes": ["G1", 3]}, r"found 3 \(int\)"),
        (
            {"genes": ["G1", "G900", "G901"]},
            r"genes: 2 of 3 are not in the background: G900, G901; .*genes of the model",
        ),
        ({"background": []}, "the background: found no gene"),
        ({"background": "G1"}, "the background is the text"),
        ({"min_overlap": 0}, "min_overlap=0; expected 1"),
    ],
)
def test_wrong_arguments_raise(arguments, message):
    sets = GeneSets({"a": ("G1", "G2")})
    with pytest.raises(InputError, match=message):
        enrich(**{"genes": ["G1"], "sets": sets, "background": GENES} | arguments)
