"""The committed notebooks of docs/tutorials hold the outputs of one whole run, are light, and show nothing of the machine they ran on.

`make tutorials` executes the notebooks.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from helpers import snippets

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
MAX_BYTES = 400_000

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(path, kind):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == kind]


def code_of(cell):
    """The Python of a cell; nothing for a cell that a shell runs."""
    text = "".join(cell["source"])
    return "" if text.startswith("%%bash") else text


def test_there_are_tutorials():
    assert len(NOTEBOOKS) >= 6


@each_notebook
def test_all_cells_ran_in_order_without_errors_and_messages(path):
    cells = cells_of(path, "code")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@each_notebook
def test_a_notebook_is_light_and_shows_no_folder_of_a_machine(path):
    assert path.stat().st_size <= MAX_BYTES
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
    assert re.findall(r"(?<![\w.:/<])/(?:home|root|tmp|work|usr|Users|var)/", text) == []
    assert "Warning" not in text


@each_notebook
def test_a_notebook_says_how_long_it_takes_and_what_to_read_next(path):
    first, *_, last = ["".join(cell["source"]) for cell in cells_of(path, "markdown")]
    assert first.startswith("# ")
    assert "**Time:**" in first
    assert "## What to read next" in last


@each_notebook
def test_names_and_arguments_of_a_notebook_exist(path):
    for cell in cells_of(path, "code"):
        code = code_of(cell)
        ast.parse(code)
        assert snippets.unknown_names(code) == []
        assert snippets.unknown_arguments(code) == []
    for cell in cells_of(path, "markdown"):
        assert snippets.unknown_names("".join(cell["source"])) == []
