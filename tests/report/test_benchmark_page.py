"""A benchmark's tables, sentences, figures and page, on planted numbers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from helpers.pages import Outline
from helpers.standings_fixture import bare_standings, full_standings
from sparcell import pl, report
from sparcell.pl.benchmark import best, in_units, places_of_ten, shade, written
from sparcell.report import benchmark_charts, study_charts
from sparcell.report.benchmark_page import LAST, chart_store
from sparcell.report.benchmark_words import conclusions, limits
from sparcell.results.benchmark import GROUPS, MEASURES, OVERALL, SCIB, measured, summary


def planted(**columns):
    """Scores of three methods and two seeds: {measure: {method: [one a seed]}}; all others missing."""
    standings = full_standings(n=60, seeds=(0, 1))
    kept = ("beta-vsc", "pca", "scvi-10x1")
    scores = standings.scores[standings.scores["method"].isin(kept)].copy()
    scores[list(MEASURES)] = np.nan
    for key, values in columns.items():
        for method, given in values.items():
            scores.loc[scores["method"] == method, key] = given
    rows = tuple(row for row in standings.rows if row.name in kept)
    return replace(standings, rows=rows, scores=scores)


def told(standings, heading):
    return next((passage.sentences for passage in conclusions(standings) if passage.heading == heading), ())


# ---------------------------------------------------------------- tables


def test_every_measure_stands_in_one_group_and_scib_s_have_their_names():
    assert sum(len(group.measures) for group in GROUPS) == len(MEASURES)
    assert len(SCIB) == 13
    assert set(SCIB.values()) <= set(MEASURES)


def test_means_and_spreads_are_over_seeds():
    numbers = summary(planted(total={"beta-vsc": [0.6, 0.8], "pca": [0.5, 0.5]}).scores)
    assert numbers.at["beta-vsc", "total"] == pytest.approx(0.7)
    assert numbers.at["beta-vsc", "total_sd"] == pytest.approx(0.1414, abs=1e-4)
    assert written(numbers, "beta-vsc", "total") == "0.700 ± 0.141"
    assert written(numbers, "scvi-10x1", "total") == "–"
    assert [measure.key for measure in measured(planted(total={"pca": [1, 1]}).scores, OVERALL)] == ["total"]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("total", 0.71249, "0.712"),
        ("log_likelihood", -1203.26, "−1,203.3"),
        ("train_seconds", 85.0, "1 min 25 s"),
        ("peak_mib", 1234.5, "1,234 MiB"),
        ("total", float("nan"), "–"),
    ],
)
def test_numbers_are_written_in_their_units(key, value, text):
    assert in_units(key, value) == text


def test_the_best_is_the_highest_or_of_costs_the_lowest_and_dark():
    numbers = summary(
        planted(
            total={"beta-vsc": [0.7, 0.7], "pca": [0.5, 0.5]},
            train_seconds={"beta-vsc": [9, 9], "scvi-10x1": [3, 3]},
            kbet={"pca": [0.5, 0.5]},
        ).scores
    )
    assert best(numbers, MEASURES["total"]) == "beta-vsc"
    assert best(numbers, MEASURES["train_seconds"]) == "scvi-10x1"
    assert best(numbers, MEASURES["kbet"]) is None  # nothing to compare with
    dark, light = (int(shade(numbers, name, MEASURES["total"])[1:3], 16) for name in ("beta-vsc", "pca"))
    assert dark < light
    assert shade(numbers, "scvi-10x1", MEASURES["total"]) is None


def test_where_neither_end_is_good_nothing_is_ranked():
    given = {"beta-vsc": [9, 9], "pca": [32, 32], "scvi-10x1": [10, 10]}
    standings = planted(live=given, on=given, hoyer=given)
    numbers = summary(standings.scores)
    for key in ("live", "on", "hoyer"):
        assert best(numbers, MEASURES[key]) is None
        assert shade(numbers, "pca", MEASURES[key]) is None
    assert conclusions(standings) == []
    assert written(numbers, "pca", "live") == "32.0 ± 0.0"


def test_ticks_stand_around_the_values():
    assert places_of_ten(np.array([30.0, 400.0, np.nan])) == [10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
    assert places_of_ten(np.array([0.01, 400.0])) == [0.01, 0.1, 1, 10, 100, 1000]


# ---------------------------------------------------------------- words


def test_a_lead_is_told_with_its_size_against_the_spread():
    standings = planted(total={"beta-vsc": [0.70, 0.72], "pca": [0.5, 0.5], "scvi-10x1": [0.69, 0.69]})
    assert told(standings, "Integration") == (
        "Total: β-VSC is first (0.710 ± 0.014), 0.020 ahead of scVI, 10 latents, 1 layer (0.690 ± 0.000); "
        "more than the spread over seeds (0.014).",
    )
    near = planted(total={"beta-vsc": [0.69, 0.73], "scvi-10x1": [0.69, 0.69]})
    assert told(near, "Integration")[0].endswith(
        "within the spread over seeds (0.028), so it decides nothing."
    )


def test_the_higher_likelihood_leads_and_the_lower_cost_among_the_trained():
    standings = planted(
        log_likelihood={"beta-vsc": [-1200, -1200], "scvi-10x1": [-1210, -1212]},
        train_seconds={"beta-vsc": [20, 22], "scvi-10x1": [30, 32], "pca": [0.1, 0.1]},
    )
    assert told(standings, "Counts explained") == (
        "Log-likelihood of held-out cells: β-VSC is first (−1,200.0 ± 0.0), 11.0 ahead of scVI, 10 latents, 1 layer "
        "(−1,211.0 ± 1.4); more than the spread over seeds (1.4).",
    )
    assert told(standings, "Cost of training")[0].startswith(
        "Training time: β-VSC is first (21 s ± 1.4 s), 10 s ahead of scVI"
    )


def test_a_model_is_set_against_each_peer_on_what_is_sure_only():
    standings = planted(
        total={"beta-vsc": [0.70, 0.70], "scvi-10x1": [0.60, 0.60]},
        map_nmi={"beta-vsc": [0.60, 0.60], "scvi-10x1": [0.64, 0.66]},
        code_nmi={"beta-vsc": [0.6, 0.7], "scvi-10x1": [0.6, 0.72]},
    )
    assert told(standings, "sparcell and its peers") == (
        "β-VSC against scVI, 10 latents, 1 layer: better on total (0.100); worse on NMI, map (0.050); "
        "within the spread on NMI, code.",
        "scVI, 10 latents, 1 layer: 400 epochs; the library's own rule says 400.",
        "A peer that made fewer epochs than usual might do better, or worse, with all of them.",
    )


def test_one_seed_claims_nothing():
    standings = full_standings(n=60, seeds=(0,))
    assert all("nothing is claimed" in sentence for sentence in told(standings, "Integration"))
    assert told(standings, "sparcell and its peers") == ()
    spread = next(passage for passage in limits(standings) if passage.heading == "Spread")
    assert "one seed" in spread.sentences[0]


def test_readability_is_told_and_limited():
    standings = planted(
        lms_smi={"beta-vsc": [0.8, 0.82], "pca": [0.6, 0.6]},
        reproduced={"beta-vsc": [0.5, 0.7], "pca": [1, 1]},
    )
    assert told(standings, "Readable codes") == (
        "LMS-SMI: β-VSC is first (0.810 ± 0.014), 0.210 ahead of PCA (0.600 ± 0.000); more than the spread over seeds (0.014).",
        "Found again: PCA is first (1.000 ± 0.000), 0.400 ahead of β-VSC (0.600 ± 0.141); more than the spread over seeds (0.141).",
    )
    assert "Readable codes" in [passage.heading for passage in limits(standings)]
    assert "Readable codes" not in [passage.heading for passage in limits(bare_standings())]


def test_a_busy_machine_is_told():
    standings = planted(
        train_seconds={"beta-vsc": [20, 20], "scvi-10x1": [90, 110], "pca": [9, 9]},
        cpu_seconds={"beta-vsc": [19, 19], "scvi-10x1": [50, 50], "pca": [1, 1]},
    )
    said = next(passage.sentences for passage in limits(standings) if passage.heading == "Time and memory")
    assert "for scVI, 10 latents, 1 layer (2.0 times): other work kept the machine busy" in said[1]
    calm = next(passage for passage in limits(full_standings(n=60)) if passage.heading == "Time and memory")
    assert len(calm.sentences) == 1


def test_what_cannot_be_compared_is_said():
    headings = {passage.heading: " ".join(passage.sentences) for passage in limits(full_standings(n=60))}
    assert "PCA and Harmony explain no counts by a probability, and have none." in headings["Likelihood"]
    assert "PCA and Harmony have no notion of held-out cells" in headings["Held-out cells"]
    assert "mixing removes biology" in headings["Batches"]
    bare = {passage.heading: " ".join(passage.sentences) for passage in limits(bare_standings())}
    assert "No batches were given" in bare["Batches"]
    assert "Likelihood" not in bare


# ---------------------------------------------------------------- figures and charts


@pytest.mark.parametrize("standings", [full_standings(n=80), bare_standings()], ids=["full", "bare"])
def test_every_figure_is_drawn(standings, tmp_path):
    saved = {path.stem for path in pl.save_standings(standings, tmp_path)}
    wanted = {f"map-{row.name}" for row in standings.rows} | {"clusters", "cost"}
    assert wanted <= saved
    full = {"scib", "trade-off", "likelihood", "readability", "one-latent-a-type"}
    assert (full <= saved) == (standings.batches is not None)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


@pytest.mark.parametrize("standings", [full_standings(n=80), bare_standings()], ids=["full", "bare"])
def test_every_chart_is_valid_plotly(standings):
    for value in chart_store(standings).values():
        for chart in [value] if "data" in value else value.values():
            go.Figure({"data": chart["data"], "layout": chart["layout"]})


def test_a_map_by_batch_draws_each_cell_once_in_the_colour_of_its_batch():
    standings = full_standings(n=80)
    (cloud,) = benchmark_charts.batch_map(standings.rows[0], standings.batches)["data"]
    assert len(cloud["x"]) == 80
    colours = dict(zip(cloud["text"], cloud["marker"]["color"], strict=True))
    assert set(colours) == {"v1", "v2"}
    places = {
        tuple(np.round(xy, 2)): name
        for xy, name in zip(standings.rows[0].tsne2d_n2, standings.batches, strict=True)
    }
    assert [places[x, y] for x, y in zip(cloud["x"], cloud["y"], strict=True)] == cloud["text"]


# ---------------------------------------------------------------- page


@pytest.fixture(scope="module")
def page():
    return report.render_standings(full_standings())


def test_the_page_has_every_section_and_no_outside_link(page):
    outline = Outline()
    outline.feed(page)
    wanted = {
        "conclusions",
        "scores",
        "tradeoff",
        "readability",
        "likelihood",
        "cost",
        "maps",
        "limits",
        "protocol",
        "settings",
        "skipped",
    }
    assert wanted <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.outside == []


def test_each_measure_stands_with_its_numbers_and_what_it_says(page):
    for measure in MEASURES.values():
        assert f"<dt>{measure.title}</dt>" in page
    cells = re.findall(r'<td class="number( best)?" data-value="([^"]+)"', page)
    assert len(cells) == len(MEASURES) * 4
    ranked = [measure for measure in MEASURES.values() if measure.higher is not None]
    assert sum(bool(mark) for mark, _ in cells) == len(ranked)
    assert sum(value == LAST for _, value in cells) == 2  # likelihoods of the baselines


def test_what_was_skipped_and_decided_is_told(page):
    assert (
        "scVI, 30 latents, 2 layers: scvi-tools is not installed; pip install &#39;sparcell[scvi]&#39;."
        in page
    )
    assert "400 epochs; the library&#39;s own rule says 400." in page


def test_a_bare_page_leaves_out_what_is_not_there_and_hostile_names_stay_text():
    page = report.render_standings(bare_standings())
    outline = Outline()
    outline.feed(page)
    assert not {"tradeoff", "readability", "likelihood"} & set(outline.ids)
    assert outline.tags.count("script") == 3
    assert "<b>scIB</b>" not in page
    assert "alert(1)</script>" not in page
    assert study_charts.plain("PCA <i>") == "PCA &lt;i&gt;"
