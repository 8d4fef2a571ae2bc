from __future__ import annotations

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from helpers.pages import picture
from helpers.results_fixture import NASTY, bare_results, clouds, full_results
from sparcell import datasets, pl, pp
from sparcell.errors import InputError
from sparcell.pl.colors import (
    FAINT,
    INK,
    MISSING,
    cell_colors,
    cluster_colors,
    contrast,
    palette,
    row_styles,
    shade_behind_text,
)
from sparcell.pl.style import push_apart
from sparcell.pl.tables import (
    cluster_order,
    contingency,
    format_seconds,
    match_clusters,
    presets,
    score_summary,
)


@pytest.mark.parametrize("n", [1, 2, 9, 12, 13, 48])
def test_every_label_has_a_color_of_its_own(n):
    colors = palette(n)
    assert len(set(colors)) == n
    assert MISSING not in colors
    assert palette(48)[: min(n, 12)] == colors[:12], "a color does not change with the number of labels"


def test_far_colors_stay_apart_even_with_many_labels():
    values = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in palette(48)], dtype=float)
    distances = np.linalg.norm(values[:, None] - values[None], axis=-1) + np.eye(48) * 1e3
    assert distances.min() > 20


def test_missing_labels_are_grey():
    labels = pd.Categorical(["a", None, "b"], categories=["a", "b"])
    assert cell_colors(labels) == [palette(2)[0], MISSING, palette(2)[1]]


def test_contingency_counts_and_leaves_out_the_unlabeled():
    labels = pd.Categorical(["a", "a", "b", None], categories=["a", "b", "unused"])
    np.testing.assert_array_equal(contingency(labels, np.array([0, 1, 1, 1])), [[1, 1], [0, 1], [0, 0]])


def test_matching_finds_the_simulated_pairs_and_the_diagonal():
    table = np.array([[1, 90, 0], [80, 2, 3], [0, 5, 70]])
    match = match_clusters(table)
    np.testing.assert_array_equal(match, [1, 0, 2])
    np.testing.assert_array_equal(cluster_order(match), [1, 0, 2])


def test_a_forced_pair_is_no_match():
    # Cluster 1 would be left for the third label, of which it holds 2 of 14 cells.
    table = np.array([[300, 250], [2, 10], [12, 2]])
    np.testing.assert_array_equal(match_clusters(table)[1], -1)


def test_a_cluster_has_the_color_of_its_label_or_a_shade_of_it():
    labels = pd.Categorical(["a"] * 100 + ["b"] * 10)
    kmeans = np.array([2] * 60 + [0] * 40 + [1] * 10)
    colors = cluster_colors(labels, kmeans)
    assert colors[2] == palette(2)[0]
    assert colors[1] == palette(2)[1]
    assert colors[0] not in palette(2)


def test_text_is_readable_on_paper_and_on_every_shade():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(
        4.48, abs=0.01
    )  # WCAG's own example of a near miss
    assert contrast(FAINT, "#ffffff") >= 4.5
    assert min(contrast(INK, shade_behind_text(fraction)) for fraction in np.linspace(0, 1, 21)) >= 4.5


def test_summary_is_mean_and_sd_over_seeds():
    results = full_results(n=60)
    summary = score_summary(results.scores)
    own = results.scores.query("model == 'beta-vae' and space == 'tsne2d'")["nmi"]
    assert summary.at["beta-vae", "nmi"] == pytest.approx(own.mean())
    assert summary.at["beta-vae", "nmi_sd"] == pytest.approx(own.std(ddof=1))
    assert summary.at["beta-vae", "n_seeds"] == 2
    assert np.isnan(score_summary(bare_results().scores).at["autoencoder", "nmi_sd"])


def test_baselines_come_last_and_models_keep_their_color():
    rows = full_results(n=60).rows
    assert [preset for preset, _ in presets(rows[::-1])] == ["hvg", "study-2019", "baseline"]
    styles = row_styles(rows)
    assert styles["beta-vae"][0] == styles["beta-vae-hvg"][0] != styles["beta-vsc"][0]
    assert styles["beta-vae"][1] != styles["beta-vae-hvg"][1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.42, "0.4 s"), (9.97, "10 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7830, "2 h 10 min")],
)
def test_durations_as_people_write_them(seconds, words):
    assert format_seconds(seconds) == words


def test_names_are_pushed_apart():
    centres = np.array([[50.0, 50.0], [50.0, 50.0], [55.0, 52.0], [52.0, 49.0]])
    sizes = np.full((4, 2), [30.0, 10.0])
    moved = push_apart(centres, sizes, np.array([[0.0, 0.0], [200.0, 200.0]]))
    gaps = np.abs(moved[:, None] - moved[None]) - sizes
    np.fill_diagonal(gaps[..., 0], 1)
    assert (gaps.max(axis=-1) >= -0.5).all()
    assert (moved >= sizes / 2 - 1e-9).all()


def test_save_study_writes_every_figure_whole_and_leaves_no_scraps(tmp_path):
    before = dict(mpl.rcParams)
    written = pl.save_study(full_results(n=120), tmp_path / "figures")
    names = {path.name for path in written}
    assert {"scores.png", "scores-latent.png", "loss.png", "times.png", "qc.png"} <= names
    assert {
        "map2d-beta-vae.png",
        "generated-beta-vsc-hvg.png",
        "overview-study-2019.png",
    } <= names
    assert "generated-autoencoder.png" not in names
    assert not [name for name in names if name.startswith("map3d")], "a still of a 3-D map says little"
    assert set((tmp_path / "figures").iterdir()) == set(written)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert dict(mpl.rcParams) == before


def test_save_study_with_the_least_a_study_can_hand_over(tmp_path):
    names = {path.name for path in pl.save_study(bare_results(), tmp_path)}
    assert "qc.png" not in names
    assert {"map2d-autoencoder.png", "scores.png", "times.png", "loss.png"} <= names


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def broken(figure, dpi=150):
        raise OSError("disk full")

    monkeypatch.setattr(pl, "png", broken)
    with pytest.raises(OSError, match="disk full"):
        pl.save_study(bare_results(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("n", "n_labels"), [(60, 2), (3000, 48), (50_000, 9)])
def test_maps_of_all_sizes(n, n_labels):
    rng = np.random.default_rng(0)
    codes = rng.integers(-1, n_labels, n)
    labels = pd.Categorical.from_codes(codes, categories=[f"subtype {i}" for i in range(n_labels)])
    xy = clouds(np.maximum(codes, 0), n_labels, 2, rng)
    kmeans = np.maximum(codes, 0)
    centroids = np.array([xy[kmeans == c].mean(axis=0) for c in range(n_labels)])
    image = picture(pl.paired_map(xy, labels, kmeans, centroids, "title"))
    assert image.shape[1] == 1380
    assert (image[..., :3] < 0.95).mean() > 0.005, "something is drawn"


def test_hostile_names_and_unknown_scripts_are_only_text():
    results = bare_results()
    row = results.rows[0]
    labels = results.labels.rename_categories([NASTY[1], "単球 $\\frac{"])
    picture(pl.paired_map(row.tsne2d_n2, labels, row.kmeans_n, row.centroids_c2, "$x"))
    picture(pl.map_3d(row.tsne3d_n3, labels, "$x"))


def test_nothing_to_draw_is_said():
    results = bare_results()
    with pytest.raises(InputError, match="quality control"):
        pl.qc_histograms(results.qc)
    with pytest.raises(InputError, match="loss curves"):
        pl.loss_curves(results.history.iloc[:0], results.rows)


@pytest.mark.parametrize("times", [1, 10, 100])
def test_the_numbers_below_quality_control_stay_apart(times):
    qc = pp.quality_control(datasets.pbmc3k())
    figure = pl.qc_histograms(qc.assign(total_counts=times * qc["total_counts"]))
    picture(figure)
    for axes in figure.axes:
        ticks = [tick.label1.get_window_extent() for tick in axes.xaxis.get_major_ticks()]
        gaps = [right.x0 - left.x1 for left, right in pairwise(sorted(ticks, key=lambda box: box.x0))]
        assert min(gaps) > 15, "pixels"


def test_limits_of_quality_control_come_from_the_provenance():
    assert pl.qc_limits(full_results(n=60)) == {"n_genes": (200, 2500), "pct_mito": (None, 5)}
    assert pl.qc_limits(bare_results()) == {}
