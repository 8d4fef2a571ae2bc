"""The code that reports suggest fits what the command wrote."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sparcell.report.next_steps import after_analysis


@pytest.mark.parametrize("column", ["cell_type", "sparcell_cell_type"])
def test_the_map_in_scanpy_shows_the_column_that_the_analysis_wrote(column):
    results = SimpleNamespace(type_column=column, composition=None, composition_test=None)
    code = "\n".join(step.code for step in after_analysis(results))
    assert f'sc.pl.umap(adata, color=["{column}"])' in code
