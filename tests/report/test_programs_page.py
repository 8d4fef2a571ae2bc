"""Figures and page of gene programs: what they show, and that nothing a name holds can break them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from helpers.catalogue_fixture import bare_catalogue, empty_catalogue, full_catalogue
from helpers.pages import Outline, picture
from helpers.results_fixture import NASTY
from sparcell import pl, report
from sparcell.errors import InputError
from sparcell.pl.programs import colour_end, panel_titles, program_figures
from sparcell.report import programs_words as words
from sparcell.report.programs_page import chart_store

CATALOGUES = {"full": full_catalogue, "bare": bare_catalogue, "empty": empty_catalogue}


@pytest.mark.parametrize("made", CATALOGUES.values(), ids=CATALOGUES)
def test_every_figure_is_drawn(made, tmp_path):
    found = made()
    names = [name for name, _ in program_figures(found)]
    expected = ["program-maps", "program-genes", "program-traversals"]
    assert names == (
        [] if not len(found.programs) else ["program-labels"] * (found.shares is not None) + expected
    )
    saved = pl.save_programs(found, tmp_path / "figures")
    assert [path.name for path in saved] == [
        f"{name}.{ending}" for name in names for ending in ("png", "pdf")
    ]
    for path in saved:
        assert path.stat().st_size > 3_000
        assert path.suffix == ".png" or path.read_bytes().startswith(b"%PDF")
    assert {entry.name for entry in (tmp_path / "figures").iterdir()} == {path.name for path in saved}


def test_the_same_pdf_each_time(tmp_path):
    one, two = (pl.save_programs(bare_catalogue(), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_the_heat_map_is_darker_where_more_cells_are_on():
    shares = pd.DataFrame([[0.0, 1.0], [0.5, 0.0]], index=["a+", "b+"], columns=["x", "y"])
    figure = pl.program_heatmap(shares)
    fills = [np.mean(patch.get_facecolor()[:3]) for patch in figure.axes[0].patches]
    assert fills[1] < fills[2] < fills[0]
    assert [text.get_text() for text in figure.axes[0].texts] == ["100", "50"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a+", "b+"]
    with pytest.raises(InputError, match="table of shares is empty"):
        pl.program_heatmap(shares.iloc[:0])


def test_a_map_colours_the_cells_that_are_on_and_no_others():
    xy_m2 = np.random.default_rng(0).normal(size=(200, 2))
    amount_m = np.zeros(200)
    amount_m[:20] = np.linspace(1, 2, 20)
    figure = pl.program_map(xy_m2, amount_m, "a program")
    grey, coloured = figure.axes[0].collections
    assert (len(grey.get_offsets()), len(coloured.get_offsets())) == (180, 20)
    assert (np.diff(coloured.get_array()) >= 0).all(), "the strongest lie on top"
    assert picture(figure).std() > 0.01
    assert colour_end(amount_m) == pytest.approx(np.percentile(amount_m[:20], 99))
    assert picture(pl.program_map(xy_m2, np.zeros(200))).std() > 0, "a program that is on nowhere"


def test_bars_are_the_effects_and_the_genes_of_the_name_are_darker():
    found = full_catalogue()
    axes = pl.program_genes(found).axes[0]
    first = found.first_genes("beta_vsc_4+", 10)
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], first["effect"])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == first["gene"].tolist()
    shades = [np.mean(bar.get_facecolor()[:3]) for bar in axes.patches]
    assert max(shades[:5]) < min(shades[5:]), "the first five are in the set"


def test_unstable_programs_are_marked_in_figures():
    titles = panel_titles(full_catalogue())
    assert titles == ["4 B cell", "1 NK", "7 (unstable)", "2 (unstable)", "3 (unstable)"]
    assert panel_titles(bare_catalogue()) == ["1+", "1−"]


def test_more_programs_than_panels_are_cut_to_the_first(monkeypatch):
    monkeypatch.setattr(pl.programs, "N_DRAWN", 2)
    for figure in (pl.program_genes(full_catalogue()), pl.program_traversals(full_catalogue())):
        assert sum(bool(axes.get_title(loc="left")) for axes in figure.axes) == 2


# ---------------------------------------------------------------- words


def test_what_was_found_is_told_with_its_numbers():
    found = full_catalogue()
    assert words.lead(found) == (
        "5 of at most 8 latents are live, four programs explain a hundredth or more, among them B cell and NK."
    )
    told = {passage.heading: " ".join(passage.sentences) for passage in words.conclusions(found)}
    assert (
        "Of eight latents, an upper bound, 5 are live in these 600 cells; 4 of them explain"
        in told["Programs"]
    )
    assert "for Gaussian expression only, not for counts" in told["Expected before"]
    assert told["Names"].startswith("Two programs of 5 have a name")
    assert "of a hundredth or more, 2 are without a name" in told["Names"].replace("that explain ", "of ")
    assert told["Cell types"] == (
        "A program of its own, with an AUC of 0.95 or more, have B and NK. None that clear: CD8 T."
    )
    assert "2 of 5 programs are stable: at least four fifths of 3 seeds" in told["Other seeds"]
    assert "a hundredth or more, 2 of 4 are" in told["Other seeds"]
    assert "γ is ½ or more" in told["When one is on"]


def test_what_is_not_there_is_told_too():
    told = {passage.heading: " ".join(passage.sentences) for passage in words.conclusions(bare_catalogue())}
    assert "two programs, because codes above and below 0 are told apart" in told["Programs"]
    assert (
        "two latents were to be expected to live; 1 does. The theory is that of a linear"
        in told["Expected before"]
    )
    assert "programs have no names" in told["Names"]
    assert "--seeds 5" in told["Other seeds"]
    assert "Autoencoder has no spikes" in told["When one is on"]
    assert "Cell types" not in told
    exact = replace(bare_catalogue(), exact=True)
    assert "guide" not in " ".join(words.expected(exact))
    assert "no programs to show" in " ".join(words.counted(empty_catalogue()))


def test_rates_and_shares_are_written_as_they_are_read():
    assert [words.rate(value) for value in (0.04, 0.001, 3.2e-12, 0.0, np.nan)] == [
        "0.040",
        "0.001",
        "3·10⁻¹²",
        "1·10⁻³⁰⁰",
        "–",
    ]
    assert [words.share(value) for value in (0.5, 0.031, np.nan)] == ["50%", "3.1%", "–"]


# ---------------------------------------------------------------- charts and page


@pytest.mark.parametrize("made", CATALOGUES.values(), ids=CATALOGUES)
def test_every_chart_is_valid_plotly(made):
    found = made()
    for name, value in chart_store(found).items():
        for chart in value.values() if name in ("map", "bars", "walk") else [value]:
            go.Figure({"data": chart["data"], "layout": chart["layout"]})


def test_the_page_has_its_sections_and_no_outside_link():
    page = report.render_programs(full_catalogue())
    outline = Outline()
    outline.feed(page)
    wanted = {"conclusions", "programs", "program", "types", "stability", "method", "settings", "provenance"}
    assert wanted <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.outside == []
    assert page.count('<tr class="line') - page.count('<tr class="line"><th scope="row">') == 5
    assert len(re.findall(r'<tr class="line unstable">', page)) == 3
    assert page.count("data-choose=") >= 5
    assert "Drawn are 300 cells chosen at random of 600." in page


def test_a_page_leaves_out_what_is_not_there():
    outline = Outline()
    outline.feed(report.render_programs(bare_catalogue()))
    assert not {"types", "stability"} & set(outline.ids)
    assert {"programs", "program"} <= set(outline.ids)
    empty = Outline()
    empty.feed(report.render_programs(empty_catalogue()))
    assert not {"programs", "program", "types", "stability"} & set(empty.ids)


def test_hostile_names_stay_text():
    page = report.render_programs(bare_catalogue())
    assert "<b>cells</b>" not in page
    assert "alert(1)</script> $x$" not in page
    assert NASTY[1] not in page
