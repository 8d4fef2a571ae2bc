"""Which columns of obs are taken for cell types or batches."""

from __future__ import annotations

import logging

import pandas as pd
import pytest

from sparcell.io import obs_columns

TYPES = ["B", "T", "NK", "B", "T", "NK", "B", "T"]


@pytest.mark.parametrize(
    "name",
    ["cell_type", "celltype", "cell_types", "CellType", "Cell type", "label", "Labels", "annotation"],
)
def test_a_column_of_types_is_found_by_its_name(name):
    obs = pd.DataFrame({"n_genes": range(8), name: TYPES})
    assert obs_columns.cell_type_columns(obs) == [name]


def test_the_clearest_name_wins_and_equal_groups_count_once():
    obs = pd.DataFrame({"label": TYPES, "CellType": TYPES, "cell_type": [f"type {one}" for one in TYPES]})
    assert obs_columns.cell_type_columns(obs) == ["cell_type"] or obs_columns.cell_type_columns(obs) == [
        "CellType"
    ]
    obs["cell_type"] = ["a", "a", "b", "b", "c", "c", "d", "d"]
    assert set(obs_columns.cell_type_columns(obs)) == {"cell_type", "CellType"}


@pytest.mark.parametrize(
    "values", [["B"] * 8, [f"c{i}" for i in range(8)] * 26, [0.5, 1.5] * 4, [None] * 8], ids=str
)
def test_what_is_no_grouping_is_not_taken(values):
    values = [f"{value}{i}" for i, value in enumerate(values)] if len(values) > 8 else values
    assert obs_columns.cell_type_columns(pd.DataFrame({"cell_type": values})) == []


@pytest.mark.parametrize(
    "name", ["batch", "donor", "sample", "patient", "orig.ident", "Condition", "chemistry"]
)
def test_a_batch_is_found_and_the_hint_says_what_to_type(name, caplog):
    obs = pd.DataFrame({name: pd.Categorical(["a", "b"] * 4), "x": range(8)})
    with caplog.at_level(logging.INFO, logger="sparcell"):
        obs_columns.log_batch_hint(obs, [None])
        obs_columns.log_batch_hint(obs, [name])
    (line,) = caplog.messages
    assert f"obs[{name!r}] looks like a batch (2 values: 'a', 'b')" in line
    assert f"--batch-key {name}" in line


def test_numbers_can_be_batches_but_not_one_for_each_cell():
    obs = pd.DataFrame({"lane": [1, 2] * 4, "sample": range(8)})
    assert obs_columns.batch_columns(obs) == ["lane"]
    assert obs_columns.cell_type_columns(obs) == []
