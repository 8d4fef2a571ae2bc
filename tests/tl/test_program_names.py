"""Names of programs: sets that fit genes and cells name them; random programs, contradictions and weak ones stay unnamed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.programs_with_cells import N_CELLS, programs_with_cells, random_programs
from sparcell.errors import InputError
from sparcell.tl.gene_sets import GeneSets
from sparcell.tl.program_names import NAME_COLUMNS, name_programs

GENES = [f"G{i}" for i in range(300)]
T, NAIVE, B, PROCESS = GENES[:12], GENES[12:20], GENES[20:32], GENES[32:44]
SETS = GeneSets(
    {"T cell": tuple(T), "Naive T cell": tuple(NAIVE), "B cell": tuple(B), "MHC class II": tuple(PROCESS)},
    {
        "T cell": "many tissues: T", "Naive T cell": "blood, subtype of T cell: naive", "B cell": "blood: B",
        "MHC class II": "any tissue: process",
    },
)  # fmt: skip
REST = {"vsc_8+": GENES[100:125], "vsc_9+": GENES[130:155]}
REST_ON = {"vsc_8+": slice(200, 260), "vsc_9+": slice(240, 300)}


def named(raised, on, labels=None, **options):
    programs = programs_with_cells(GENES, raised | REST, on | REST_ON, labels, **options)
    return name_programs(programs, SETS)


def test_sets_name_programs_that_hold_and_express_their_genes():
    raised = {"vsc_1+": [*B[:7], *GENES[50:60]], "vsc_2+": [*PROCESS[:8], *GENES[60:70]]}
    names = named(raised, {"vsc_1+": slice(0, 60), "vsc_2+": slice(30, 150)})
    assert list(names.columns) == list(NAME_COLUMNS)
    assert names["name"].tolist()[:2] == ["B cell", "MHC class II"]
    assert names["source"].tolist() == ["gene set", "gene set", "", ""]
    first = names.iloc[0]
    assert set(B[:7]) <= set(first["set_genes"]) <= set(B)
    assert (first["set"], first["overlap"], first["set_size"]) == ("B cell", len(first["set_genes"]), 12)
    assert first["p_adjusted"] <= 0.01
    assert names["name"].iloc[2].startswith("unnamed (G1")
    assert (names["set"].iloc[2], names["set_genes"].iloc[2]) == ("", ())
    assert np.isnan(names["p_adjusted"].iloc[2])


def test_a_second_name_has_three_genes_of_its_own():
    raised = {"vsc_1+": [*B[:7], *PROCESS[:8], *GENES[50:55]]}
    raised |= {f"vsc_{i}+": GENES[20 * i : 20 * i + 18] for i in range(8, 14)}
    on = {"vsc_1+": slice(0, 60)} | {f"vsc_{i}+": slice(10 * i, 300, 3) for i in range(8, 14)}
    names = named(raised, on, expressed=on | REST_ON)
    assert names.iloc[0][["name", "second_name"]].tolist() == ["B cell", "MHC class II"]
    assert names["second_p"].iloc[0] <= 0.01


@pytest.mark.parametrize(
    ("on", "expressed"),
    [(slice(0, 60), slice(60, 120)), (slice(0, 120), slice(0, 20)), (slice(0, 200), slice(0, 200))],
    ids=["other cells express the genes", "most cells do not express them", "on in two thirds of all cells"],
)
def test_a_cell_type_that_contradicts_the_cells_is_refused(on, expressed):
    raised = {"vsc_1+": [*B[:7], *GENES[50:60]]}
    names = named(raised, {"vsc_1+": on}, expressed={"vsc_1+": expressed} | REST_ON)
    assert names["name"].iloc[0].startswith("unnamed (G2")


def test_a_program_on_in_all_cells_of_the_wider_type_gets_its_name():
    """Genes of all T cells are expressed in cells 0 to 119; the naive program is on in half or in all of them."""
    raised = {"vsc_1+": [*NAIVE[:6], *GENES[50:60]], "vsc_2+": [*T[:8], *GENES[60:70]]}
    half = named(raised, {"vsc_1+": slice(0, 60), "vsc_2+": slice(0, 120)})
    assert half["name"].tolist()[:2] == ["Naive T cell", "T cell"]
    all_cells = named(raised, {"vsc_1+": slice(0, 120), "vsc_2+": slice(0, 120)})
    assert all_cells["name"].str.partition(" (")[0].tolist()[:2] == ["T cell", "T cell"]
    assert all_cells["set"].iloc[0] == "Naive T cell"


def test_labels_take_the_place_of_cell_types_from_sets():
    labels = np.repeat(["B1", "B2", "other", "rest"], [50, 30, 120, 100])
    raised = {
        "vsc_1+": [*B[:7], *GENES[50:60]],
        "vsc_2+": [*PROCESS[:9], *GENES[60:66]],
        "vsc_3+": GENES[70:90],
        "vsc_4+": GENES[160:180],
    }
    on = {
        "vsc_1+": slice(0, 80),
        "vsc_2+": slice(0, 80),
        "vsc_3+": slice(80, 120),
        "vsc_4+": slice(0, 300, 3),
    }
    names = named(raised, on, labels)
    assert names["name"].tolist()[:3] == ["B1, B2", "MHC class II", "part of other"]
    assert names["source"].tolist()[:4] == ["cell type", "gene set", "cell type", ""]
    assert names["set"].iloc[0] == "B cell"
    assert names["name"].iloc[3].startswith("unnamed (")


@pytest.mark.parametrize(("on_in_small", "expected"), [(2, "part of large"), (8, "unnamed")])
def test_part_of_a_label_needs_a_program_that_is_on_there_most_often(on_in_small, expected):
    """Most on cells have the label that most cells have; in the small label the program is on in 10 or 40 % of the cells."""
    labels = np.repeat(["large", "small", "rest"], [120, 20, 160])
    on = np.concatenate([np.arange(40), np.arange(120, 120 + on_in_small)])
    name = named({"vsc_1+": GENES[50:70]}, {"vsc_1+": on}, labels)["name"].iloc[0]
    assert name.partition(" (")[0] == expected


def test_equal_names_are_told_apart_by_type_or_gene():
    labels = np.repeat(["A", "B", "rest"], [60, 60, 180])
    raised = {"vsc_1+": [*PROCESS[:8], *GENES[50:60]], "vsc_2+": [*PROCESS[2:10], *GENES[60:70]]}
    raised |= {f"vsc_{i}+": GENES[20 * i : 20 * i + 18] for i in range(8, 14)}
    on = {"vsc_1+": slice(0, 60), "vsc_2+": slice(60, 120)}
    on |= {f"vsc_{i}+": slice(10 * i, 300, 3) for i in range(8, 14)}
    expressed = (
        {key: on[key] for key in list(on)[2:]} | {"vsc_1+": slice(0, 120), "vsc_2+": slice(0, 120)} | REST_ON
    )
    with_labels = named(raised, on, labels, expressed=expressed)
    assert with_labels["name"].tolist()[:2] == ["MHC class II (A)", "MHC class II (B)"]
    without = named(raised, on, expressed=expressed)["name"].tolist()[:2]
    genes = [name.removeprefix("MHC class II (").removesuffix(")") for name in without]
    assert genes[0] in raised["vsc_1+"]
    assert genes[0] not in raised["vsc_2+"][:5]
    assert len(set(genes)) == 2


def test_random_programs_with_the_genes_of_real_ones_are_not_named():
    """Genes drawn as the programs hold them, effects and cells of real programs: at most 1 % of the draws get a name."""
    rng = np.random.default_rng(0)
    raised = {
        f"vsc_{i}+": [*GENES[12 * i : 12 * i + 9], *rng.choice(GENES, 9, replace=False)] for i in range(8)
    }
    on = {key: rng.choice(N_CELLS, 60, replace=False) for key in raised}
    raised = {key: list(dict.fromkeys(genes)) for key, genes in raised.items()}
    programs = programs_with_cells(GENES, raised, on)
    sets = GeneSets({f"set {i}": tuple(GENES[12 * i : 12 * i + 12]) for i in range(25)})
    assert (name_programs(programs, sets)["source"] != "").sum() >= 7
    sources = [name_programs(random_programs(rng, programs, 20), sets)["source"] for _ in range(15)]
    assert np.mean([source != "" for each in sources for source in each]) <= 0.01


def test_programs_without_cells_are_named_by_their_genes_alone():
    raised = {"vsc_1+": [*B[:7], *GENES[50:60]]}
    programs = programs_with_cells(GENES, raised | REST, {"vsc_1+": slice(0, 60)} | REST_ON)
    assert name_programs(replace(programs, cells=None), SETS)["name"].iloc[0] == "B cell"
    with pytest.raises(InputError, match="max_p=5"):
        name_programs(programs, SETS, max_p=5)
