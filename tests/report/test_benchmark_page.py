"""A benchmark's tables, sentences, figures and page, with chosen numbers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from helpers.benchmark_results_fixture import bare_benchmark, full_benchmark
from helpers.pages import Outline
from sparcell import pl, report
from sparcell.pl.benchmark import best_method, format_mean, format_metric, log_ticks, shade, share_range
from sparcell.report.benchmark_page import LAST, chart_store
from sparcell.report.benchmark_text import conclusions, limits
from sparcell.results.benchmark import (
    GROUPS,
    LOCAL_MIXING,
    METRICS,
    OVERALL,
    SCIB_COLUMNS,
    available_metrics,
    summary,
)


def with_scores(**columns):
    """Return scores of three methods and two seeds: {metric: {method: [one for each seed]}}; all others are missing."""
    results = full_benchmark(n=60, seeds=(0, 1))
    methods = ("beta-vsc", "pca", "scvi-10x1")
    scores = results.scores[results.scores["method"].isin(methods)].copy()
    scores[list(METRICS)] = np.nan
    for key, values in columns.items():
        for method, numbers in values.items():
            scores.loc[scores["method"] == method, key] = numbers
    rows = tuple(row for row in results.rows if row.name in methods)
    return replace(results, rows=rows, scores=scores)


def sentences_of(results, heading):
    return next((one.sentences for one in conclusions(results) if one.heading == heading), ())


# ---------------------------------------------------------------- tables


def test_every_measure_stands_in_one_group_and_scib_s_have_their_names():
    keys = [metric.key for group in GROUPS for metric in group.metrics]
    assert sorted(keys) == sorted([*METRICS, "ilisi", "kbet"]), "local mixing also stands beside the total"
    assert [metric.key for metric in OVERALL.metrics][-2:] == ["kbet", "ilisi"]
    assert len(SCIB_COLUMNS) == 13
    assert set(SCIB_COLUMNS.values()) <= set(METRICS)


def test_means_and_spreads_are_over_seeds():
    numbers = summary(with_scores(total={"beta-vsc": [0.6, 0.8], "pca": [0.5, 0.5]}).scores)
    assert numbers.at["beta-vsc", "total"] == pytest.approx(0.7)
    assert numbers.at["beta-vsc", "total_sd"] == pytest.approx(0.1414, abs=1e-4)
    assert format_mean(numbers, "beta-vsc", "total") == "0.700 ± 0.141"
    assert format_mean(numbers, "scvi-10x1", "total") == "–"
    assert [
        metric.key for metric in available_metrics(with_scores(total={"pca": [1, 1]}).scores, OVERALL)
    ] == ["total"]


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
    assert format_metric(key, value) == text


def test_the_best_is_the_highest_or_of_costs_the_lowest_and_dark():
    numbers = summary(
        with_scores(
            total={"beta-vsc": [0.7, 0.7], "pca": [0.5, 0.5]},
            train_seconds={"beta-vsc": [9, 9], "scvi-10x1": [3, 3]},
            kbet={"pca": [0.5, 0.5]},
        ).scores
    )
    assert best_method(numbers, METRICS["total"]) == "beta-vsc"
    assert best_method(numbers, METRICS["train_seconds"]) == "scvi-10x1"
    assert best_method(numbers, METRICS["kbet"]) is None  # nothing to compare with
    dark, light = (shade(numbers, name, METRICS["total"]) for name in ("beta-vsc", "pca"))
    assert (dark, light) == (1, 0)
    assert shade(numbers, "scvi-10x1", METRICS["total"]) is None


def test_where_neither_end_is_good_nothing_is_ranked():
    counts = {"beta-vsc": [9, 9], "pca": [32, 32], "scvi-10x1": [10, 10]}
    results = with_scores(n_active=counts, mean_included=counts, hoyer=counts)
    numbers = summary(results.scores)
    for key in ("n_active", "mean_included", "hoyer"):
        assert best_method(numbers, METRICS[key]) is None
        assert shade(numbers, "pca", METRICS[key]) is None
    assert conclusions(results) == []
    assert format_mean(numbers, "pca", "n_active") == "32.0 ± 0.0"


def test_a_small_difference_of_scores_does_not_fill_the_axis():
    low, high = share_range(np.array([0.671, 0.676, np.nan]))
    assert high - low == pytest.approx(0.12)
    assert low < 0.671 < 0.676 < high
    wide = share_range(np.array([0.2, 0.9]))
    assert wide[0] < 0.2 < 0.9 < wide[1]


def test_ticks_stand_around_the_values():
    assert log_ticks(np.array([30.0, 400.0, np.nan])) == [10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
    assert log_ticks(np.array([0.01, 400.0])) == [0.01, 0.1, 1, 10, 100, 1000]


# ---------------------------------------------------------------- text


def test_a_lead_is_told_with_its_size_against_the_spread():
    results = with_scores(total={"beta-vsc": [0.70, 0.72], "pca": [0.5, 0.5], "scvi-10x1": [0.69, 0.69]})
    assert sentences_of(results, "Aggregate scores") == (
        "Total: β-VSC is best (0.710 ± 0.014). The lead over scVI, 10 latents, 1 layer (0.690 ± 0.000) is 0.020; "
        "this exceeds the spread over seeds (0.014).",
    )
    near = with_scores(total={"beta-vsc": [0.69, 0.73], "scvi-10x1": [0.69, 0.69]})
    assert sentences_of(near, "Aggregate scores")[0].endswith(
        "this is within the spread over seeds (0.028), so the order is open."
    )


def test_the_higher_likelihood_leads_and_the_lower_cost_among_the_trained():
    results = with_scores(
        log_likelihood={"beta-vsc": [-1200, -1200], "scvi-10x1": [-1210, -1212]},
        train_seconds={"beta-vsc": [20, 22], "scvi-10x1": [30, 32], "pca": [0.1, 0.1]},
    )
    assert sentences_of(results, "Held-out likelihood") == (
        "Held-out log-likelihood: β-VSC is best (−1,200.0 ± 0.0). The lead over scVI, 10 latents, 1 layer "
        "(−1,211.0 ± 1.4) is 11.0; this exceeds the spread over seeds (1.4).",
    )
    assert sentences_of(results, "Cost of training")[0].startswith(
        "Training time: β-VSC is best (21 s ± 1.4 s). The lead over scVI, 10 latents, 1 layer (31 s ± 1.4 s) is 10 s"
    )


def test_a_model_is_set_against_each_peer_on_what_is_sure_only():
    results = with_scores(
        total={"beta-vsc": [0.70, 0.70], "scvi-10x1": [0.60, 0.60]},
        map_nmi={"beta-vsc": [0.60, 0.60], "scvi-10x1": [0.64, 0.66]},
        latent_nmi={"beta-vsc": [0.6, 0.7], "scvi-10x1": [0.6, 0.72]},
    )
    assert sentences_of(results, "sparcell and external models") == (
        "β-VSC against scVI, 10 latents, 1 layer: better in total (0.100); worse in NMI, map (0.050); "
        "within the spread in NMI, latents.",
        "scVI, 10 latents, 1 layer: Trained for 400 epochs; the default of the library is 400.",
    )


def test_nothing_is_best_without_naming_the_models_with_fewer_epochs():
    results = with_scores(
        map_nmi={"beta-vsc": [0.9, 0.9], "pca": [0.8, 0.8], "scvi-10x1": [0.7, 0.7]},
        map_ari={"beta-vsc": [0.5, 0.5], "pca": [0.4, 0.4], "scvi-10x1": [0.6, 0.6]},
    )
    assert "Epochs of external models" not in {paragraph.heading for paragraph in conclusions(results)}
    results.scores.loc[results.scores["method"] == "scvi-10x1", "epochs"] = 100
    title = "scVI, 10 latents, 1 layer, 100 of 400 epochs"
    rows = tuple(replace(row, title=title) if row.name == "scvi-10x1" else row for row in results.rows)
    results = replace(results, rows=rows)
    nmi, ari = sentences_of(results, "Clusters and types")
    assert nmi.startswith("NMI, map: β-VSC is best")
    assert nmi.endswith(f"The comparison includes {title}.")
    assert ari.startswith(f"ARI, map: {title} is best")
    first = conclusions(results)[0]
    assert first.heading == "Epochs of external models"
    assert first.sentences[0].startswith(f"{title}: another number of epochs")


def test_mixing_of_treatments_is_no_merit():
    values = {"beta-vsc": [0.9, 0.9], "pca": [0.8, 0.8]}
    results = with_scores(total=values, bio_conservation=values, batch_correction=values, kbet=values)
    assert all("β-VSC is best" in text for text in sentences_of(results, "Aggregate scores")[:4])
    assert sentences_of(results, "Aggregate scores")[-1] == LOCAL_MIXING
    results = replace(results, batch_warning="The batches look like treatments.")
    assert conclusions(results)[0].sentences == ("The batches look like treatments.",)
    total, bio, batch, kbet, _ = sentences_of(results, "Aggregate scores")
    assert "has the highest total, which rewards mixing of treatments" in total
    assert "β-VSC is best" in bio
    assert all("mixes the batches most" in text for text in (batch, kbet))
    assert kbet.startswith("kBET: ")


def test_one_seed_claims_nothing():
    results = full_benchmark(n=60, seeds=(0,))
    assert all("spread" not in sentence for sentence in sentences_of(results, "Aggregate scores"))
    assert sentences_of(results, "sparcell and external models") == ()
    assert "Spread" not in [paragraph.heading for paragraph in limits(results)]
    page = report.render_benchmark(results)
    assert page.count("One seed gives no spread") == 1, "the page says it once"
    assert "One seed gives no spread" not in report.render_benchmark(full_benchmark(n=60))


def test_single_latents_are_reported_and_limited():
    results = with_scores(
        lms_smi={"beta-vsc": [0.8, 0.82], "pca": [0.6, 0.6]},
        reproduced={"beta-vsc": [0.5, 0.7], "pca": [1, 1]},
    )
    assert sentences_of(results, "Types in single latents") == (
        "LMS-SMI: β-VSC is best (0.810 ± 0.014). The lead over PCA (0.600 ± 0.000) is 0.210; "
        "this exceeds the spread over seeds (0.014).",
        "Reproduced: PCA is best (1.000 ± 0.000). The lead over β-VSC (0.600 ± 0.141) is 0.400; "
        "this exceeds the spread over seeds (0.141).",
    )
    assert "Types in single latents" in [paragraph.heading for paragraph in limits(results)]
    assert "Types in single latents" not in [paragraph.heading for paragraph in limits(bare_benchmark())]


def test_a_busy_machine_is_sentences_of():
    results = with_scores(
        train_seconds={"beta-vsc": [20, 20], "scvi-10x1": [90, 110], "pca": [9, 9]},
        cpu_seconds={"beta-vsc": [19, 19], "scvi-10x1": [50, 50], "pca": [1, 1]},
    )
    said = next(
        paragraph.sentences for paragraph in limits(results) if paragraph.heading == "Time and memory"
    )
    assert "for scVI, 10 latents, 1 layer (2.0 times): the machine did other work" in said[1]
    calm = next(
        paragraph for paragraph in limits(full_benchmark(n=60)) if paragraph.heading == "Time and memory"
    )
    assert len(calm.sentences) == 1


def test_what_cannot_be_compared_is_said():
    headings = {
        paragraph.heading: " ".join(paragraph.sentences) for paragraph in limits(full_benchmark(n=60))
    }
    assert "PCA and Harmony are no probability models of the counts" in headings["Held-out likelihood"]
    assert "PCA and Harmony use all cells, the held-out cells included." in headings["Held-out cells"]
    assert "mixing them removes biology" in headings["Batches"]
    bare = {paragraph.heading: " ".join(paragraph.sentences) for paragraph in limits(bare_benchmark())}
    assert "No batches are given" in bare["Batches"]
    assert "Held-out likelihood" not in bare


# ---------------------------------------------------------------- figures and charts


@pytest.mark.parametrize("results", [full_benchmark(n=80), bare_benchmark()], ids=["full", "bare"])
def test_every_figure_is_drawn(results, tmp_path):
    saved = {path.stem for path in pl.save_benchmark(results, tmp_path)}
    expected = {f"map-{row.name}" for row in results.rows} | {"clusters", "cost"}
    assert expected <= saved
    full = {"scib", "trade-off", "likelihood", "single-latents", "one-latent-per-type"}
    assert (full <= saved) == (results.batches is not None)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


@pytest.mark.parametrize("results", [full_benchmark(n=80), bare_benchmark()], ids=["full", "bare"])
def test_every_chart_is_valid_plotly(results):
    plotly = [chart for chart in chart_store(results).values() if "data" in chart]
    assert plotly
    for chart in plotly:
        go.Figure({"data": chart["data"], "layout": chart["layout"]})
        assert {trace["type"] for trace in chart["data"]} == {"scatter"}, "a type of the basic bundle"


def test_a_map_by_batch_has_the_batch_of_each_cell():
    results = full_benchmark(n=80)
    store, row = chart_store(results), results.rows[0]
    assert store["batches"][row.name] == {"xy": f"xy/{row.name}", "groups": "groups/batches"}
    groups = store["groups"]["batches"]
    assert groups["names"] == ["v1", "v2"]
    assert [groups["names"][code] for code in groups["codes"]] == list(results.batches)
    np.testing.assert_allclose(np.transpose(store["xy"][row.name]), np.round(row.tsne2d_n2, 2))


# ---------------------------------------------------------------- page


@pytest.fixture(scope="module")
def page():
    return report.render_benchmark(full_benchmark())


def test_the_page_has_every_section_and_no_outside_link(page):
    outline = Outline()
    outline.feed(page)
    sections = {
        "conclusions",
        "scores",
        "tradeoff",
        "single-latents",
        "likelihood",
        "cost",
        "maps",
        "limits",
        "protocol",
        "settings",
        "skipped",
        "next",
        "composition",
    }
    assert sections <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.outside == []


def test_each_measure_stands_with_its_numbers_and_what_it_says(page):
    for metric in METRICS.values():
        assert f"<dt>{metric.title}</dt>" in page
    cells = re.findall(r'<td class="number( best)?" data-value="([^"]+)"', page)
    shown = [metric for group in GROUPS for metric in group.metrics]
    assert len(cells) == len(shown) * 4
    ranked = [metric for metric in shown if metric.higher_is_better is not None]
    assert sum(bool(mark) for mark, _ in cells) == len(ranked)
    assert sum(value == LAST for _, value in cells) == 2  # likelihoods of the baselines


def test_what_was_skipped_and_decided_is_sentences_of(page):
    assert (
        "scVI, 30 latents, 2 layers: scvi-tools is not installed; pip install &#39;sparcell[scvi]&#39;."
        in page
    )
    assert "Trained for 400 epochs; the default of the library is 400." in page


def test_a_bare_page_leaves_out_what_is_not_there_and_hostile_names_stay_text():
    page = report.render_benchmark(bare_benchmark())
    outline = Outline()
    outline.feed(page)
    assert not {"tradeoff", "single-latents", "likelihood"} & set(outline.ids)
    assert outline.tags.count("script") == 3
    assert "<b>scIB</b>" not in page
    assert "alert(1)</script>" not in page
    assert "<i>" not in page[: page.index('id="charts"')].replace("<i style", "")
