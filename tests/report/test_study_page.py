from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from helpers.benchmark_results_fixture import bare_benchmark
from helpers.pages import Outline
from helpers.program_results_fixture import bare_results as bare_programs
from helpers.results_fixture import NASTY, bare_results, full_results
from sparcell import report
from sparcell.report import charts, maps, study_text
from sparcell.report.study_page import chart_store
from sparcell.report.text import format_value, join_words, non_breaking, pluralize
from sparcell.results.study import CLUSTERING_METRICS

# ---------------------------------------------------------------- text


def with_scores(results, values):
    """Replace the scores: {row: {metric or "all": [one for each seed]}}, the same in both spaces."""
    lines = []
    for name, metrics in values.items():
        for seed in range(len(next(iter(metrics.values())))):
            for space in ("tsne2d", "latent"):
                line = {m: metrics.get(m, metrics.get("all"))[seed] for m in CLUSTERING_METRICS}
                lines.append({"model": name, "seed": seed, "space": space, **line})
    rows = tuple(row for row in results.rows if row.name in values)
    return replace(results, rows=rows, scores=pd.DataFrame(lines))


def partitioned(labels, kmeans):
    row = bare_results().rows[0]
    return pd.Categorical(labels), replace(row, kmeans_n=np.asarray(kmeans))


def test_a_lead_beyond_the_spread_is_claimed():
    results = with_scores(full_results(n=60), {
        "autoencoder": {"all": [0.60, 0.62]}, "beta-vae": {"all": [0.70, 0.72]}, "beta-vsc": {"all": [0.65, 0.67]},
    })  # fmt: skip
    assert study_text.best_methods(results) == [
        "Preset study-2019: β-VAE has the highest NMI on the 2-D map, 0.710 ± 0.014. "
        "The lead over β-VSC (0.660 ± 0.014) is 0.050; this exceeds the spread over seeds (0.020). "
        "β-VAE also has the highest ARI, homogeneity and completeness. "
        "β-VAE also has the highest NMI on the latents, 0.710 ± 0.014. "
        "The lead over β-VSC (0.660 ± 0.014) is 0.050; this exceeds the spread over seeds (0.020)."
    ]


def test_a_lead_within_the_spread_decides_nothing():
    results = with_scores(full_results(n=60), {
        "autoencoder": {"all": [0.60, 0.70], "ari": [0.8, 0.8]}, "beta-vae": {"all": [0.62, 0.72]},
    })  # fmt: skip
    (sentence,) = study_text.best_methods(results)
    assert "The lead over Autoencoder (0.650 ± 0.071) is 0.020" in sentence
    assert "this is within the spread over seeds (0.100), so the order is open" in sentence
    assert (
        "The highest means of the other metrics are those of Autoencoder (on ARI) and β-VAE (on homogeneity and completeness)."
        in sentence
    )
    assert study_text.against_autoencoder(results) == [
        "Preset study-2019: Autoencoder has NMI 0.650 ± 0.071 on the 2-D map. "
        "β-VAE is 0.020 above Autoencoder (within the spread)."
    ]


def test_one_seed_claims_nothing():
    results = with_scores(full_results(n=60), {"autoencoder": {"all": [0.5]}, "beta-vae": {"all": [0.9]}})
    (sentence,) = study_text.best_methods(results)
    assert "spread" not in sentence
    assert "seed" not in " ".join(study_text.against_autoencoder(results) + study_text.caveats(results))
    page = report.render_study(results)
    assert page.count("One seed gives no spread") == 1, "the page says it once, before the summary"
    assert page.index("One seed gives no spread") < page.index('id="conclusions"')
    assert "One seed gives no spread" not in report.render_study(full_results(n=60))


def test_equal_scores_are_level():
    results = with_scores(
        full_results(n=60), {"autoencoder": {"all": [0.5, 0.6]}, "beta-vae": {"all": [0.6, 0.5]}}
    )
    assert "level with" in study_text.best_methods(results)[0]


def test_pca_is_compared_with_its_caveat():
    scores = {"beta-vae": {"all": [0.7, 0.71]}, "pca-10": {"all": [0.8, 0.81]}}
    first, caveat = study_text.against_pca(with_scores(full_results(n=60), scores))
    assert first == (
        "The best baseline on the 2-D map is PCA, 10 components (NMI 0.805 ± 0.007). "
        "The best trained model is β-VAE (NMI 0.705 ± 0.007). "
        "The baseline leads by 0.100; this exceeds the spread over seeds (0.010)."
    )
    assert "PCA therefore has an advantage by construction" in caveat
    _, fair = study_text.against_pca(with_scores(replace(full_results(n=60), labels_from_pca=False), scores))
    assert "no advantage by construction" in fair


def test_a_merge_is_reported():
    labels, row = partitioned(["a"] * 10 + ["b"] * 10 + ["c"] * 10, [0] * 10 + [0] * 9 + [1] + [1] * 10)
    assert study_text.confusions(labels, row) == ["Merged: a and b share cluster 0."]


def test_a_split_is_reported():
    labels, row = partitioned(["a"] * 20 + ["b"] * 10, [0] * 9 + [1] * 11 + [2] * 10)
    assert study_text.confusions(labels, row) == ["Split (percentage in the largest cluster): a (55%)."]


def test_a_clean_partition_is_reported():
    labels, row = partitioned(["a"] * 10 + ["b"] * 10 + [None], [1] * 10 + [0] * 10 + [0])
    assert study_text.confusions(labels, row)[0].startswith("No label is merged or split")


def test_inactive_latents_are_named():
    row = replace(
        full_results(n=60).rows[2], active_k=np.array([True, False, True, False]), inclusion_nk=None
    )
    results = replace(full_results(n=60), rows=(row,))
    assert study_text.inactive_latents(results) == ["β-VSC: 2 of 4 latents are inactive (2 and 4)."]
    one = replace(row, active_k=np.array([False, True]), inclusion_nk=np.tile([0.2, 0.6], (60, 1)))
    assert study_text.inactive_latents(replace(results, rows=(one,))) == [
        "β-VSC: latent 1 of 2 is inactive; 0.6 of the 1 active latents are on in the average cell."
    ]


def test_a_model_that_did_not_become_sparse_is_called_so():
    row = replace(
        full_results(n=60).rows[2],
        active_k=np.array([True, True, False]),
        inclusion_nk=np.tile([1.0, 0.95, 0.2], (60, 1)),
    )
    results = replace(
        full_results(n=60), rows=(row,), program_pages={"beta-vsc": ("p.html", "Two programs.")}
    )
    warning = "The model did not become sparse: 2 of its 2 active latents are on in nearly every cell"
    assert warning in study_text.inactive_latents(results)[0]
    assert f'<a href="p.html">β-VSC</a>: Two programs.<strong> {warning}' in report.render_study(results)
    sparse = replace(
        row, inclusion_nk=np.tile([0.3, 0.95, 0.2], (60, 1)), active_k=np.array([True, False, False])
    )
    assert study_text.not_sparse(sparse) == ""
    assert study_text.not_sparse(replace(row, inclusion_nk=None)) == ""


def test_generated_cells_are_placed_by_their_nearest_real_cell():
    row = replace(
        bare_results().rows[0],
        title="β-VAE",
        tsne2d_n2=np.array([[0.0, 0.0], [10.0, 10.0]]),
        generated_m2=np.array([[0.1, 0.0], [0.0, 0.2], [0.3, 0.3]]),
    )
    results = replace(bare_results(), rows=(row,), labels=pd.Categorical(["B", "NK"]))
    assert study_text.generated_cells(results) == [
        "β-VAE: 3 cells sampled from the prior fall on 1 of 2 labels. Labels without generated cells: NK. "
        "The largest difference is in B: 100% of generated cells, 50% of real cells."
    ]


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [
        ([20.0, 50.0], "trained in 20 s; β-VAE in 50 s, 2.5 times as long."),
        ([69.0, 72.0], "trained in 1 min 09 s; β-VAE in 1 min 12 s, about as long."),
    ],
)
def test_times_are_compared_within_a_preset(seconds, ends):
    times = pd.DataFrame(
        {"model": ["autoencoder", "beta-vae"], "seed": 0, "epochs": 5, "train_seconds": seconds}
    )
    assert study_text.training_times(replace(full_results(n=60), times=times)) == [
        f"Preset study-2019: Autoencoder {ends}"
    ]


def test_unlabelled_cells_are_counted():
    assert "Seven cells of 60 have no label and are not scored." in study_text.caveats(full_results(n=60))
    results = replace(bare_results(), labels=pd.Categorical(["a", "b", None]))
    assert "One cell of 3 has no label and is not scored." in study_text.caveats(results)


def test_lists_and_numbers_read_as_english():
    assert join_words(["a"]) == "a"
    assert join_words(["a", "b", "c"]) == "a, b and c"
    assert join_words(["B, T", "NK", "c"]) == "B, T; NK; and c"
    assert join_words([str(i) for i in range(20)], limit=2) == "0, 1 and 18 more"
    assert (pluralize(1, "latent"), pluralize(12, "cell")) == ("one latent", "12 cells")
    assert non_breaking("β-VAE 0.1 ± 0.2") == "β-\u2060VAE 0.1\u00a0±\u00a00.2"


# ---------------------------------------------------------------- charts


@pytest.mark.parametrize("results", [full_results(n=80), bare_results()], ids=["full", "bare"])
def test_every_chart_is_valid_plotly(results):
    plotly = [
        chart
        for name, chart in chart_store(results).items()
        if name.startswith(("times", "loss:", "qc:")) and chart is not None
    ]
    assert plotly
    for chart in plotly:
        go.Figure({"data": chart["data"], "layout": chart["layout"]})
        assert {trace["type"] for trace in chart["data"]} <= {"bar", "scatter"}, "types of the basic bundle"


def test_a_map_has_a_position_and_a_group_for_each_cell():
    results = full_results(n=80)
    store = chart_store(results)
    chart, groups = store["labels"]["beta-vae"], store["groups"]["labels"]
    assert chart["xy"] == "xy/beta-vae"
    assert [len(axis) for axis in store["xy"]["beta-vae"]] == [80, 80]
    assert [len(axis) for axis in store["xyz"]["beta-vae"]] == [80, 80, 80]
    assert len(groups["codes"]) == 80
    assert groups["names"][-1] == "no label"
    assert groups["codes"][-1] == len(groups["names"]) - 1, "the last cells have no label"
    assert max(store["partition"]["beta-vae"]["groups"]["codes"]) < len(
        store["partition"]["beta-vae"]["groups"]["names"]
    )


def test_the_name_of_a_small_group_is_above_the_group():
    rng = np.random.default_rng(0)
    xy = np.concatenate([rng.normal(0, 15, (200, 2)), rng.normal((8, 0), 0.1, (10, 2))])
    labels = pd.Categorical(["many"] * 200 + ["few"] * 10, categories=["many", "few"])
    (_, _, many), (x, y, few) = maps.label_map("row", xy, labels)["names"]
    assert (many, few) == ("many", "few")
    assert abs(x - 8) < 4
    assert y > xy[200:, 1].max() + 0.3


def test_large_maps_are_thinned_and_the_page_says_so(monkeypatch):
    monkeypatch.setattr(maps, "MAX_CELLS", 50)
    results = full_results(n=80)
    store = chart_store(results)
    assert len(store["xy"]["beta-vae"][0]) == len(store["groups"]["labels"]["codes"]) == 50
    assert "The map shows a random subset of 50 of 80 cells." in report.render_study(results)


def test_the_first_map_of_generated_cells_has_generated_cells(full_page):
    section = full_page[full_page.index('<section id="generated">') :]
    assert re.search(r'data-row="([^"]+)"', section)[1] == "beta-vae"
    rows = list(full_results(n=60).rows)
    rows[0] = replace(rows[0], interpolated_s2=rows[1].interpolated_s2)
    page = report.render_study(replace(full_results(n=60), rows=tuple(rows)))
    section = page[page.index('<section id="generated">') :]
    names = re.findall(r'data-row="([^"]+)"', section[: section.index("</div>")])
    assert names[0] == "beta-vae"
    assert names[-1] == "autoencoder"
    assert "This model has no prior" in section


@pytest.mark.parametrize("render", [report.render_study, report.render_benchmark, report.render_programs])
def test_a_title_replaces_the_name_of_the_data(render):
    results = {
        report.render_study: bare_results,
        report.render_benchmark: bare_benchmark,
        report.render_programs: bare_programs,
    }[render]()
    page = render(results, title="Blood <of> six donors")
    assert "<h1>Blood &lt;of&gt; six donors</h1>" in page
    assert "<title>Blood &lt;of&gt; six donors · sparcell</title>" in page


# ---------------------------------------------------------------- page


@pytest.fixture(scope="module")
def full_page():
    return report.render_study(full_results())


def test_page_has_every_section_and_no_outside_link(full_page):
    outline = Outline()
    outline.feed(full_page)
    sections = (
        "conclusions",
        "scores",
        "maps",
        "space",
        "confusion",
        "generated",
        "latents",
        "training",
        "qc",
        "next",
    )
    assert set(sections) | {"settings", "provenance", "caveat"} <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.outside == []
    assert len(full_page) < 2e6


def test_page_shows_scores_with_spread_and_marks_the_best(full_page):
    best = re.findall(r'<td class="number best"[^>]*>(\d\.\d{3})<span class="sd"> ± (\d\.\d{3})', full_page)
    assert len(best) == 2 * 3 * 4, "one for each metric in each of three groups of two spaces"
    for text in ("Preset study-2019", "Preset hvg", "Baselines", "0.721", "scores of the 2019 study"):
        assert text in full_page


def test_the_report_links_pages_of_gene_programs():
    pages = {"beta-vsc": ("programs_beta-vsc.html", "Five <programs>.")}
    page = report.render_study(replace(full_results(n=60), program_pages=pages))
    outline = Outline()
    outline.feed(page)
    assert outline.outside == ["programs_beta-vsc.html"]
    assert "gene-programs" in outline.ids
    assert "Five &lt;programs&gt;." in page
    assert 'href="#gene-programs"' in page


def test_bare_page_leaves_out_what_is_not_there():
    outline = Outline()
    outline.feed(report.render_study(bare_results()))
    assert not {"generated", "qc", "caveat"} & set(outline.ids)


def test_hostile_names_stay_text():
    page = report.render_study(bare_results())
    outline = Outline()
    outline.feed(page)
    assert outline.tags.count("script") == 3
    assert "<b>cells</b>" not in page
    assert "alert(1)</script>" not in page
    stored = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.S)
    assert json.loads(stored[1])["groups"]["labels"]["names"] == list(NASTY), "the maps write names as text"
    assert charts.plain(NASTY[1]) == "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; &#36;x&#36;"


def test_nan_in_the_numbers_does_not_break_the_page():
    results = full_results(n=60)
    row = replace(
        results.rows[0], tsne2d_n2=np.where(np.arange(60)[:, None] == 3, np.nan, results.rows[0].tsne2d_n2)
    )
    history = results.history.assign(kl=np.nan)
    assert "</html>" in report.render_study(replace(results, rows=(row, *results.rows[1:]), history=history))


def test_write_is_whole_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    report.write_study(bare_results(), path)
    first = path.read_text(encoding="utf-8")
    assert first.rstrip().endswith("</html>")

    def broken(results, title=None):
        raise RuntimeError("no")

    monkeypatch.setattr(report, "render_study", broken)
    with pytest.raises(RuntimeError):
        report.write_study(bare_results(), path)
    assert path.read_text(encoding="utf-8") == first
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_data_without_mitochondrial_counts_have_no_limit_and_no_chart_of_them():
    full = full_results(n=60)
    provenance = dict(full.provenance) | {"qc_limits": {"n_genes": (107.0, None), "pct_mito": (None, None)}}
    results = replace(full, qc=full.qc.assign(pct_mito=0.0), provenance=provenance)
    page = report.render_study(results)
    assert "Limits: genes in a cell above 107. No cell has counts of mitochondrial genes." in page
    assert "qc:n_genes" in page
    assert "qc:pct_mito" not in page


def test_the_settings_of_a_command_are_told_apart_and_unset_limits_are_called_so():
    config = {"models": ["beta-vae", "beta-vsc"], "max_genes": None, "seeds": 1}
    assert format_value(config) == "models beta-vae, beta-vsc; max_genes not set; seeds 1"
