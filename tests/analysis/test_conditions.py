"""Programs between conditions in an analysis: what is compared, and what is said where nothing can be."""

from __future__ import annotations

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from helpers.analyses import CHANGES, typed_cells
from sparcell.analysis import conditions
from sparcell.report import analysis_text, sections
from sparcell.tl.sample_comparisons import sample_table


def cells(condition, donor):
    obs = pd.DataFrame({"condition": condition, "donor": donor}, index=[f"c{n}" for n in range(len(donor))])
    return ad.AnnData(np.zeros((len(obs), 1), np.float32), obs=obs)


@pytest.mark.parametrize(
    ("donor", "batch_key", "words"),
    [
        ("wxyz", None, "needs samples"),
        ("wxyz", "condition", "needs samples"),
        ("wxxx", "donor", "condition a has 2 and b has 1 samples; expected at least 2"),
    ],
)
def test_too_few_samples_are_a_doubt_and_no_table(donor, batch_key, words):
    """The model is not asked: the number of samples decides."""
    adata = cells(list("aabb"), list(donor))
    config = sp.AnalysisConfig(batch_key=batch_key, condition_key="condition")
    type_n = pd.Series(pd.Categorical(["T"] * 4), index=adata.obs_names)
    table, doubts = conditions.program_changes(adata, type_n, None, None, config)
    assert table is None
    assert [doubt.what for doubt in doubts] == ["Gene programs were not compared between conditions."]
    assert words in doubts[0].why


def test_without_two_conditions_nothing_is_said():
    adata = cells(list("abc"), list("xyz"))
    type_n = pd.Series(pd.Categorical(["T"] * 3), index=adata.obs_names)
    for config in (sp.AnalysisConfig(batch_key="donor"), sp.AnalysisConfig(condition_key="condition")):
        assert conditions.program_changes(adata, type_n, None, None, config) == (None, ())


@pytest.mark.parametrize(("donor", "n_doubts"), [("wxyz", 1), ("wxwx", 0), ("wxwy", 0)])
def test_batches_with_one_condition_each_are_a_doubt(donor, n_doubts):
    samples = sample_table(np.array(list(donor), dtype=object), np.array(list("aabb"), dtype=object))[1]
    config = sp.AnalysisConfig(batch_key="donor", condition_key="condition")
    found = list(conditions.nested_design(samples, ("a", "b"), config))
    assert len(found) == n_doubts
    assert all(doubt.what == "Conditions are confounded with batches." for doubt in found)


def test_programs_are_compared_in_the_analysis_and_no_program_was_changed(finished):
    """The conditions of these cells differ in the share of one type, not in any program."""
    folder, results = finished
    table = results.program_changes
    assert set(table["cell_type"]) <= set(results.cell_types.categories)
    assert table.attrs["test"] == "paired t-test"
    assert (table["p_adjusted"] >= 0.05).mean() >= 0.9
    written = pd.read_csv(folder / "program_changes.csv")
    assert len(written) == len(table)
    assert set(written["name"]) == set(table["name"])
    page = (folder / "report.html").read_text(encoding="utf-8").replace("\xa0", " ")
    assert 'id="program-change-heat"' in page
    assert "compared between conditions by a paired t-test" in page
    assert (folder / "figures" / "program_changes.png").is_file()


def table_of(effects):
    """Return a table with these effects: (type, program) → (effect, adjusted p)."""
    rows = [
        {
            "cell_type": kind,
            "program": program,
            "name": f"{program} name",
            "group": "b",
            "reference": "a",
            "mean_group": 1.0,
            "mean_reference": 0.5,
            "difference": effect,
            "effect": effect,
            "fraction_on": 0.5,
            "n_group": 4,
            "n_reference": 4,
            "p": p / 2,
            "p_adjusted": p,
        }
        for (kind, program), (effect, p) in effects.items()
    ]
    table = pd.DataFrame(rows).sort_values("p", ignore_index=True)
    table.attrs = {"test": "paired t-test", "paired": True}
    return table


TABLE = table_of({("T", "1+"): (0.8, 0.01), ("T", "2+"): (-0.4, 0.5), ("B", "1+"): (0.1, 0.9)})


def test_the_heat_map_of_the_page_has_the_sign_the_shade_and_the_star():
    heat = sections.program_changes(TABLE)
    lines = {line["name"]: dict(zip(heat["columns"], line["cells"], strict=True)) for line in heat["lines"]}
    assert lines["T"]["1+ name"]["text"] == "+0.8*"
    assert lines["T"]["1+ name"]["shade"] == "1.000"
    assert lines["T"]["2+ name"]["side"] == "down"
    assert lines["T"]["2+ name"]["shade"] == "0.500"
    assert lines["B"]["2+ name"] == {
        "shade": "0", "side": "", "text": "", "value": "", "title": "not compared",
    }  # fmt: skip
    assert heat["called"][0]["program"] == "1+ name"
    assert sections.program_changes(None) is None


def test_the_summary_names_what_differs():
    text = analysis_text.program_conditions(TABLE)[0]
    assert text.startswith("Gene programs that differ: 1+ name in T (higher in b)")
    assert "2+" not in text
    none = analysis_text.program_conditions(TABLE[1:].assign(p_adjusted=0.5))
    assert none[0].startswith("No gene program differs between a and b")


def test_the_figure_has_a_star_for_each_call():
    figure = sp.pl.program_conditions(TABLE)
    axes = figure.axes[0]
    stars = [text for text in axes.texts if text.get_text() == "*"]
    assert len(stars) == 1
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[int(stars[0].get_position()[1])] == "T"
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert columns[int(stars[0].get_position()[0])] == "1+ name"
    values = axes.collections[0].get_array()
    assert np.ma.count_masked(values) == 1
    with pytest.raises(sp.InputError, match="the table is empty"):
        sp.pl.program_conditions(TABLE[:0])


def test_a_batch_column_called_condition_stays_the_batch():
    """Each batch holds both treatments, so genes and programs can be compared."""
    adata = typed_cells(200)
    adata.obs["treatment"] = adata.obs["condition"].to_numpy()
    adata.obs["condition"] = pd.Categorical([f"run {number % 2}" for number in range(adata.n_obs)])
    settings = CHANGES | {"epochs": 10, "encode_covariates": True}
    model = sp.BetaVAE(**settings).fit(adata, batch_key="condition", silent=True)
    config = sp.AnalysisConfig(batch_key="condition", condition_key="treatment")
    type_n = adata.obs["known"]
    table, doubts = conditions.gene_changes(adata, type_n, config, model)
    assert doubts == ()
    assert {"Beta", "Delta", "Gamma"} <= set(table["within"])
    assert set(table["group"]) == {"treated"}
    programs = model.programs(adata.copy())
    results = SimpleNamespace(
        programs=programs.summary, genes=programs.genes, titles=programs.effects.columns.tolist()
    )
    table, doubts = conditions.program_changes(adata, type_n, results, model, config)
    assert doubts == ()
    assert table["n_group"].max() == 2
    assert list(table["name"]) == list(table["program"])
    assert sorted(adata.obs["condition"].unique()) == ["run 0", "run 1"]
