"""Figures and page of gene programs: what they show, and that no name can break them."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from helpers.pages import Outline, picture
from helpers.program_results_fixture import bare_results, empty_results, full_results
from helpers.results_fixture import NASTY
from sparcell import pl, report
from sparcell.errors import InputError
from sparcell.pl.programs import (
    COLOR_BAR,
    bent_traversals,
    color_limit,
    panel_titles,
    program_figures,
    where_on,
)
from sparcell.report import programs_charts as charts
from sparcell.report import programs_text
from sparcell.report.programs_page import chart_store

RESULTS = {"full": full_results, "bare": bare_results, "empty": empty_results}


@pytest.mark.parametrize("results_of", RESULTS.values(), ids=RESULTS)
def test_every_figure_is_drawn(results_of, tmp_path):
    results = results_of()
    names = [name for name, _ in program_figures(results)]
    expected = ["program-maps", "program-genes"]  # the traversals are straight lines
    assert names == (
        []
        if not len(results.programs)
        else ["program-labels"] * (results.label_fractions is not None) + expected
    )
    saved = pl.save_programs(results, tmp_path / "figures")
    assert [path.name for path in saved] == [
        f"{name}.{ending}" for name in names for ending in ("png", "pdf")
    ]
    for path in saved:
        assert path.stat().st_size > 3_000
        assert path.suffix == ".png" or path.read_bytes().startswith(b"%PDF")
    assert {entry.name for entry in (tmp_path / "figures").iterdir()} == {path.name for path in saved}


def test_the_same_pdf_each_time(tmp_path):
    one, two = (pl.save_programs(bare_results(), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_the_heat_map_is_darker_where_more_cells_are_on():
    fractions = pd.DataFrame([[0.0, 1.0], [0.5, 0.0]], index=["a+", "b+"], columns=["x", "y"])
    figure = pl.program_heatmap(fractions)
    fills = [np.mean(patch.get_facecolor()[:3]) for patch in figure.axes[0].patches]
    assert fills[1] < fills[2] < fills[0]
    assert [text.get_text() for text in figure.axes[0].texts] == ["100", "50"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a+", "b+"]
    with pytest.raises(InputError, match="table of label fractions is empty"):
        pl.program_heatmap(fractions.iloc[:0])


def test_a_map_colors_the_cells_that_are_on_and_no_others():
    xy_m2 = np.random.default_rng(0).normal(size=(200, 2))
    activity_m = np.zeros(200)
    activity_m[:20] = np.linspace(1, 2, 20)
    figure = pl.program_map(xy_m2, activity_m, "a program")
    grey, colored = figure.axes[0].collections
    assert (len(grey.get_offsets()), len(colored.get_offsets())) == (180, 20)
    assert (np.diff(colored.get_array()) >= 0).all(), "the strongest lie on top"
    assert picture(figure).std() > 0.01
    assert color_limit(activity_m) == pytest.approx(np.percentile(activity_m[:20], 99))
    assert picture(pl.program_map(xy_m2, np.zeros(200))).std() > 0, "a program that is on nowhere"


def test_a_color_bar_says_what_the_colors_of_a_map_mean():
    activity_m = np.zeros(200)
    activity_m[:100] = np.linspace(1, 3, 100)
    for activity, end in ((activity_m, "3 or more"), (np.minimum(activity_m, 2), "2"), (0 * activity_m, "1")):
        figure = pl.program_map(np.random.default_rng(0).normal(size=(200, 2)), activity)
        (bar,) = (axes for axes in figure.axes if axes.get_label() == COLOR_BAR)
        assert [text.get_text() for text in bar.texts] == ["0", end, "activity; gray: off"]
        shades = bar.images[0].cmap(bar.images[0].norm(bar.images[0].get_array()))[0, :, :3].mean(axis=1)
        assert (np.diff(shades) < 0).all(), "from pale to dark, as on the map"


def test_bars_show_the_effects_and_the_genes_of_the_naming_set_are_darker():
    results = full_results()
    axes = pl.program_genes(results).axes[0]
    first = results.top_genes("beta_vsc_4+", 10)
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], first["effect"])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == first["gene"].tolist()
    shades = [np.mean(bar.get_facecolor()[:3]) for bar in axes.patches]
    assert max(shades[:5]) < min(shades[5:]), "the first five are in the set"


def test_unstable_programs_are_marked_in_figures():
    titles = panel_titles(full_results())
    assert titles == [
        "4 B cell",
        "1 NK",
        "7 (GENE1) (unstable)",
        "2 (GENE1) (unstable)",
        "3 (GENE1) (unstable)",
    ]
    assert panel_titles(bare_results()) == ["1+ (GENE1)", "1− (GENE1)"]


def test_straight_traversals_repeat_the_bars_and_are_left_out():
    results = full_results()
    assert bent_traversals(results) == [], "the traversals of the fixture are straight"
    path = results.traversals["beta_vsc_1+"]
    curved = replace(path, expected_sg=np.log1p(np.exp(2 * path.expected_sg)) ** 2)
    bent = replace(results, traversals={**results.traversals, "beta_vsc_1+": curved})
    assert bent_traversals(bent) == ["beta_vsc_1+"]
    assert [
        axes.get_title(loc="left") for axes in pl.program_traversals(bent).axes if axes.get_title(loc="left")
    ] == ["1 NK"]
    assert "program-traversals" in [name for name, _ in program_figures(bent)]
    assert 'data-chart="traversal"' in report.render_programs(bent)
    assert 'data-chart="traversal"' not in report.render_programs(results)


def test_a_panel_says_where_the_program_is_on():
    results = full_results()
    fractions = results.label_fractions.iloc[0].sort_values(ascending=False)
    expected = ", ".join(f"{label} {part:.0%}" for label, part in fractions.head(2).items() if part >= 0.2)
    assert where_on(results, 0) == f"on in 60%: {expected}"
    assert where_on(bare_results(), 0) == "on in 60% of cells"


def test_more_programs_than_panels_are_cut_to_the_first(monkeypatch):
    monkeypatch.setattr(importlib.import_module("sparcell.pl.programs"), "MAX_PANELS", 2)
    for figure in (pl.program_genes(full_results()), pl.program_traversals(full_results())):
        assert sum(bool(axes.get_title(loc="left")) for axes in figure.axes) == 2


# ---------------------------------------------------------------- sentences


def paragraphs_of(results):
    paragraphs = programs_text.conclusions(results)
    return {paragraph.heading: " ".join(paragraph.sentences) for paragraph in paragraphs}


def test_the_sentences_hold_the_numbers_of_the_results():
    results = full_results()
    assert programs_text.lead(results) == (
        "5 of 8 latents are active, and four programs explain 1% or more, among them B cell and NK."
    )
    text = paragraphs_of(results)
    assert "5 of 8 latents are active in these 600 cells." in text["Programs"]
    assert "Four programs explain 1% or more of what all latents together explain." in text["Programs"]
    assert "The first 3 latents, set to 0 together, explain 65%." in text["Programs"]
    assert "for Gaussian expression only, not for counts" in text["Prediction"]
    assert text["Names"].startswith("Two programs of 5 have a name.")
    assert "the program's 20 most specific genes" in text["Names"]
    assert "The test used the 96 built-in gene sets for human and mouse." in text["Names"]
    assert "Two programs that explain 1% or more have no name" in text["Names"]
    assert text["Cell types"] == (
        "B and NK each have a program with AUC ≥ 0.95. Cell types without such a program: CD8 T."
    )
    assert "2 of 5 programs are stable: at least four fifths of 3 seeds have them." in text["Other seeds"]
    assert "2 of the 4 programs that explain 1% or more are stable." in text["Other seeds"]
    assert "inclusion probability is ½ or more" in text["On and off"]


def test_the_sentences_name_what_is_missing():
    text = paragraphs_of(bare_results())
    assert "values below 0 are separate programs, so there are two programs" in text["Programs"]
    assert "predict two active latents; 1 is active. The theory covers a linear" in text["Prediction"]
    assert "programs have no names" in text["Names"]
    assert "--seeds 5" in text["Other seeds"]
    assert "Autoencoder has no spikes" in text["On and off"]
    assert "Cell types" not in text
    exact = replace(bare_results(), prediction_exact=True)
    assert "guide" not in " ".join(programs_text.prediction_sentences(exact))
    assert "no programs to show" in " ".join(programs_text.active_sentences(empty_results()))


def test_one_program_is_described_in_sentences():
    results = full_results()
    first, last = (programs_text.program_sentences(results, results.programs.iloc[row]) for row in (0, 4))
    assert first == [
        "The program is on in 60.0% of the cells.",
        "The program explains 40% of what all latents together explain.",
        "The label B stands out most (AUC 1.000); the program is on in 100% of its cells, which have 90% of the program's activity.",
        f"Best gene set: B cell ({', '.join(results.programs['set_genes'].iloc[0])}; p = 1·10⁻¹²).",
        "Second gene set: MHC class II (p = 3·10⁻⁴).",
        "2 of 2 other seeds reproduce the program (median match 0.93); it is stable.",
    ]
    assert "No gene set fits both its genes and the cells in which it is on." in last
    wider = results.programs.iloc[0].copy()
    wider["name"], wider["source"], wider["set"] = "Myeloid cell", "gene set", "Macrophage"
    reason = "The name is the wider type, because the program is on in nearly all of its cells."
    assert reason in programs_text.program_sentences(results, wider)
    assert last[-1] == "0 of 2 other seeds reproduce the program (median match 0.00); it is not stable."


def test_rates_and_fractions_are_formatted():
    assert [programs_text.format_rate(value) for value in (0.04, 0.001, 3.2e-12, 0.0, np.nan)] == [
        "0.040",
        "0.001",
        "3·10⁻¹²",
        "1·10⁻³⁰⁰",
        "–",
    ]
    assert [programs_text.format_fraction(value) for value in (0.5, 0.031, -0.0002, np.nan)] == [
        "50%",
        "3.1%",
        "0.0%",
        "–",
    ]


# ---------------------------------------------------------------- charts and page


@pytest.mark.parametrize("results_of", RESULTS.values(), ids=RESULTS)
def test_every_chart_is_valid_plotly(results_of):
    results = results_of()
    store = chart_store(results)
    for chart in [
        *store["bars"].values(),
        *(charts.traversal(results, position) for position in range(len(results.programs))),
        *(chart for chart in store["on"].values() if chart),
        *([store["matches"]] if "matches" in store else []),
    ]:
        go.Figure({"data": chart["data"], "layout": chart["layout"]})
        assert {trace["type"] for trace in chart["data"]} <= {"bar", "scatter"}, "types of the basic bundle"


def test_the_map_of_a_program_has_a_value_for_the_cells_in_which_it_is_on():
    results = full_results()
    store = chart_store(results)
    values = store["map"]["beta_vsc_4+"]["values"]
    activity_m = results.embedding.activity_mp[:, 0]
    assert values["top"] == pytest.approx(color_limit(activity_m), abs=1e-3)
    assert set(values["at"]) <= set(np.flatnonzero(activity_m))
    np.testing.assert_allclose(values["of"], activity_m[values["at"]], atol=0.006)
    assert len(store["xy"]["map"][0]) == 300


def test_the_page_has_its_sections_and_no_outside_link():
    page = report.render_programs(full_results())
    outline = Outline()
    outline.feed(page)
    sections = {
        "conclusions",
        "programs",
        "program",
        "types",
        "stability",
        "method",
        "settings",
        "provenance",
    }
    assert sections <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.outside == []
    assert page.count('<tr class="line') - page.count('<tr class="line"><th scope="row">') == 5
    assert len(re.findall(r'<tr class="line unstable">', page)) == 3
    assert page.count("data-choose=") >= 5
    assert "The map shows a random sample of 300 of the 600 cells." in page


def test_a_page_leaves_out_what_is_not_there():
    outline = Outline()
    outline.feed(report.render_programs(bare_results()))
    assert not {"types", "stability"} & set(outline.ids)
    assert {"programs", "program"} <= set(outline.ids)
    empty = Outline()
    empty.feed(report.render_programs(empty_results()))
    assert not {"programs", "program", "types", "stability"} & set(empty.ids)


def test_hostile_names_stay_text():
    page = report.render_programs(bare_results())
    assert "<b>cells</b>" not in page
    assert "alert(1)</script> $x$" not in page
    assert NASTY[1] not in page
