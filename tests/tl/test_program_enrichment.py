"""Gene sets in programs: p-values against random draws, specific effects by hand, and programs built from sets.

Suffixes: g genes, s gene sets.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.programs_with_cells import programs_with_cells
from sparcell.errors import InputError
from sparcell.tl.gene_sets import GeneSets
from sparcell.tl.program_enrichment import (
    SET_COLUMNS,
    enrich_programs,
    inclusion_probabilities,
    specific_effects,
)

GENES = [f"G{i}" for i in range(200)]
SETS = GeneSets({"one": tuple(GENES[:10]), "two": tuple(GENES[10:20]), "none": tuple(GENES[150:160])})


def two_programs():
    raised = {"vsc_1+": [*GENES[:8], *GENES[40:50]], "vsc_2+": [*GENES[10:16], *GENES[60:72]]}
    return programs_with_cells(GENES, raised, {"vsc_1+": slice(0, 80), "vsc_2+": slice(60, 150)})


def test_specific_effects_by_hand():
    effects = pd.DataFrame({"a": [2.0, 1.0, -1.0, 0.0], "b": [0.0, 3.0, 4.0, 0.0]}, index=list("wxyz"))
    np.testing.assert_allclose(specific_effects(effects), [[2, 0], [1 / 4, 9 / 4], [0, 4], [0, 0]])


def test_inclusion_probabilities_are_close_to_those_of_draws():
    rng = np.random.default_rng(0)
    weight_g = rng.gamma(0.5, size=60)
    weight_g /= weight_g.sum()
    drawn = np.zeros(60)
    for _ in range(4000):
        drawn[rng.choice(60, size=15, replace=False, p=weight_g)] += 1
    found = inclusion_probabilities(weight_g, 15)
    assert found.sum() == pytest.approx(15)
    np.testing.assert_allclose(found, drawn / 4000, atol=0.04)
    np.testing.assert_array_equal(inclusion_probabilities(np.array([0.5, 0.5, 0]), 2), [1, 1, 0])


def test_sets_of_a_program_come_first_with_their_shared_genes():
    table = enrich_programs(two_programs(), SETS, n_genes=20)
    assert list(table.columns) == list(SET_COLUMNS)
    assert list(table[["key", "set"]].itertuples(index=False, name=None)) == [
        ("vsc_1+", "one"),
        ("vsc_2+", "two"),
    ]
    first = table.iloc[0]
    assert set(first["genes"]) == set(GENES[:8])
    assert (first["overlap"], first["set_size"]) == (8, 10)
    assert first["p_adjusted"] == pytest.approx(3 * first["p"])
    assert first["p"] < 1e-3
    assert first["fold"] == pytest.approx(8 / first["expected"])
    assert 0.5 < first["effect_share"] < 0.9
    assert table.attrs == {"n_tested": 3, "matched": "exact"}
    only = enrich_programs(two_programs(), SETS, n_genes=20, keys=["vsc_2+"])
    assert only["p"].tolist() == [table["p"].iloc[1]]


def test_p_is_the_smallest_of_three_poisson_tails_times_three():
    programs = two_programs()
    row = enrich_programs(programs, SETS, n_genes=20).iloc[0]
    specific = specific_effects(programs.effects)
    order = specific["vsc_1+"].sort_values(ascending=False).index
    mean_g = np.asarray(programs.cells.expression_ng.mean(axis=0)).ravel()
    bins = pd.Series(np.argsort(np.argsort(mean_g, kind="stable"), kind="stable") * 20 // 200, index=GENES)
    other = specific["vsc_2+"] / specific["vsc_2+"].sum()
    smooth = other.groupby(bins).transform("mean")
    tails = []
    for n in (5, 10, 20):
        found = [inclusion_probabilities((w / w.sum()).to_numpy(), n) for w in (other, smooth)]
        expected = max(pd.Series(each, GENES)[GENES[:10]].sum() for each in found)
        tails.append(stats.poisson.sf(len(set(order[:n]) & set(GENES[:10])) - 1, expected))
    assert row["p"] == pytest.approx(3 * min(tails), rel=1e-6)


def test_two_shared_genes_are_no_row_and_wrong_arguments_raise():
    raised = {"vsc_1+": [*GENES[:2], *GENES[40:60]], "vsc_2+": [*GENES[70:90]]}
    programs = programs_with_cells(GENES, raised, {"vsc_1+": slice(0, 50), "vsc_2+": slice(50, 90)})
    assert enrich_programs(programs, SETS, n_genes=20).empty
    with pytest.raises(InputError, match="n_genes"):
        enrich_programs(programs, SETS, n_genes=2)
    with pytest.raises(InputError, match="None of the 3 genes"):
        enrich_programs(programs, GeneSets({"a": ("X1", "X2", "X3")}))
