"""Tables that the pages share: confusion, composition, settings, genes and markers."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers.results_fixture import full_results
from sparcell import report
from sparcell.report import sections
from sparcell.report.study_page import chart_store
from sparcell.results.expression import GeneExpression


def test_confusion_rows_sum_to_one():
    results = full_results(n=200)
    table = sections.confusion(results.rows[0], results.labels)
    shares = [[float(cell["value"]) for cell in line["cells"]] for line in table["lines"]]
    np.testing.assert_allclose(np.sum(shares, axis=1), 1, atol=0.01)


def test_composition_is_the_share_of_each_label_in_a_batch():
    labels = pd.Categorical(["B", "B", "NK", "NK", None], categories=["B", "NK"])
    batches = pd.Categorical(["donor 1", "donor 1", "donor 1", "donor 2", "donor 2"])
    table = sections.composition(labels, batches)
    assert table["columns"] == ["donor 1", "donor 2"]
    assert table["totals"] == ["3", "1"]
    assert [[cell["value"] for cell in line["cells"]] for line in table["lines"]] == [
        ["0.6667", "0.0000"],
        ["0.3333", "1.0000"],
    ]
    assert sections.composition(labels, None) is None
    texts = sections.heat_table([[0.0, 0.004, 0.996]], ["a"], ["x", "y", "z"], corner="")["lines"][0]["cells"]
    assert [cell["text"] for cell in texts] == ["", "<1", "100"]
    page = report.render_study(replace(full_results(n=60), batches=pd.Categorical(["a", "b"] * 30)))
    assert 'id="composition"' in page


def test_settings_that_differ_stand_first_and_equal_ones_are_folded():
    rows = full_results(n=60).rows[:2]
    one = replace(rows[0], settings={"epochs": 50, "max_steps": 1200, "genes_key": None, "beta": 2.0})
    two = replace(rows[1], settings={"epochs": "auto", "max_steps": 1200, "genes_key": None})
    table = sections.settings_table([one, two])
    assert table["differing"] == [
        {"key": "epochs", "values_": ["50", "auto"]},
        {"key": "max steps", "values_": ["not used", "1200"]},
    ]
    assert table["equal"] == [("genes key", "all genes"), ("beta", "2")]


def with_genes(results):
    n = len(results.labels)
    values = np.zeros((n, 2), dtype=np.float32)
    values[: n // 2, 0] = 4.0
    values[0, 1] = 1.0
    markers = (("B", "CD79A"), ("NK", "NKG7"))
    return replace(results, expression=GeneExpression(("CD79A", "NKG7"), values, markers=markers))


def test_genes_can_be_shown_on_the_maps():
    results = with_genes(full_results(n=60))
    store = chart_store(results)["genes"]
    assert store["names"] == ["CD79A", "NKG7"]
    assert store["highest"] == [4.0, 1.0]
    assert list(base64.b64decode(store["levels"][0])) == [255] * 30 + [0] * 30
    page = report.render_study(results)
    assert '<optgroup label="B"><option>CD79A</option></optgroup>' in page
    assert 'id="marker-table"' in page
    assert 'id="genes"' not in report.render_study(full_results(n=60))


def test_markers_are_drawn_by_fraction_and_mean():
    results = with_genes(full_results(n=60))
    plot = sections.marker_plot(results.expression, results.labels)
    assert plot["columns"] == ["CD79A", "NKG7"]
    codes = np.asarray(results.labels.codes)
    values = results.expression.values_ng[codes == 3, 0]
    cell = plot["lines"][3]["cells"][0]
    assert plot["lines"][3]["name"] == "B"
    assert cell["own"]
    assert cell["title"] == f"CD79A in B: {(values > 0).mean():.0%} of cells, mean {values.mean():.2f}"
    assert float(cell["size"]) == pytest.approx(sections.MAX_DOT * np.sqrt((values > 0).mean()), abs=0.1)
