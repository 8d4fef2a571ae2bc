"""Parts of an analysis beside simple oracles: stability, shares in samples, doubts."""

from __future__ import annotations

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import sparcell as sp
from sparcell.analysis import doubts, samples, write
from sparcell.analysis.clusters import most_frequent, stability
from sparcell.report import analysis_text
from sparcell.results.criticism import Criticism


def test_stability_is_the_best_jaccard_index_with_another_run():
    codes_n = np.array([0, 0, 0, 0, 1, 1, 2])
    others_sn = np.array([[5, 5, 5, 5, 6, 6, 7], [0, 0, 0, 1, 1, 1, 1]])
    np.testing.assert_allclose(
        stability(codes_n, others_sn), [(1 + 3 / 4) / 2, (1 + 2 / 4) / 2, (1 + 1 / 4) / 2]
    )


def test_cells_without_a_label_are_no_label():
    labels = pd.Series(["B", "B", None, "T", None, None, None], dtype="category")
    names, shares = most_frequent(labels, np.array([0, 0, 0, 1, 1, 1, 2]), np.array([3, 3, 1]))
    assert names == ["B", "T", ""]
    np.testing.assert_allclose(shares, [2 / 3, 1 / 3, 0])


def cells_of(n_per_sample, *, paired):
    """Cells of two types in samples; the number of cells of each type is the row of a table."""
    obs = [
        {"donor": donor if paired else f"{donor}{condition}", "condition": condition, "type": kind}
        for (donor, condition), numbers in n_per_sample.items()
        for kind, number in zip("xy", numbers, strict=True)
        for _ in range(number)
    ]
    frame = pd.DataFrame(obs, index=[f"c{number}" for number in range(len(obs))])
    return ad.AnnData(np.zeros((len(frame), 1), np.float32), obs=frame)


NUMBERS = {
    ("a", "0"): (30, 70), ("a", "1"): (60, 40), ("b", "0"): (20, 80), ("b", "1"): (55, 45), ("c", "0"): (35, 65), ("c", "1"): (50, 50),
}  # fmt: skip


@pytest.mark.parametrize("paired", [True, False])
def test_shares_are_compared_over_samples_on_centered_log_ratios(paired):
    adata = cells_of(NUMBERS, paired=paired)
    config = sp.AnalysisConfig(batch_key="donor", condition_key="condition")
    shares = samples.composition(adata, adata.obs["type"], config)
    assert shares["n_cells"].sum() == adata.n_obs
    test = samples.composition_test(shares).set_index("cell_type")
    ratio = {key: 0.5 * np.log2((x + 0.5) / (y + 0.5)) for key, (x, y) in NUMBERS.items()}
    first, second = ([ratio[donor, condition] for donor in "abc"] for condition in "01")
    expected = stats.ttest_rel(second, first) if paired else stats.ttest_ind(second, first, equal_var=False)
    assert test.attrs["test"] == ("paired t-test" if paired else "Welch's t-test")
    assert test.loc["x", "p"] == pytest.approx(expected.pvalue)
    assert test.loc["x", "difference"] == pytest.approx(np.mean(second) - np.mean(first))
    assert test.loc["x", "share_1"] == pytest.approx(np.mean([0.6, 0.55, 0.5]))


def test_one_sample_per_condition_is_not_tested():
    adata = cells_of({("a", "0"): (5, 5), ("a", "1"): (9, 1)}, paired=True)
    config = sp.AnalysisConfig(batch_key="donor", condition_key="condition")
    shares = samples.composition(adata, adata.obs["type"], config)
    assert samples.composition_test(shares) is None
    assert samples.composition(adata, adata.obs["type"], sp.AnalysisConfig()) is None


TABLE = pd.DataFrame(
    {
        "cluster": ["0", "1"],
        "name": ["B cell", "NK"],
        "set": ["B cell", "NK"],
        "set_genes": [("CD19", "CD79A", "CD79B", "MS4A1", "PAX5")] * 2,
        "second": ["", ""],
        "n_cells": [100, 100],
        "stability": [1.0, 1.0],
        "largest_batch": ["a", "b"],
        "batch_share": [0.55, 0.55],
    }
)
BATCH = sp.AnalysisConfig(batch_key="donor")


def with_value(column, value):
    table = TABLE.copy()
    table.at[1, column] = value
    return table


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("name", "unknown cluster 1", "without a name"),
        ("set_genes", ("NKG7", "GNLY", "KLRD1"), "weak name"),
        ("n_cells", 12, "fewer than 20 cells"),
        ("stability", 0.4, "not firm"),
        ("second", "T cell", "two cell types"),
        ("batch_share", 0.95, "of one batch"),
    ],
)
def test_each_rule_finds_the_cluster_that_breaks_it_and_no_other(column, value, word):
    assert list(doubts.about_clusters(TABLE, BATCH)) == []
    found = list(doubts.about_clusters(with_value(column, value), BATCH))
    assert len(found) == 1
    assert word in found[0].what
    assert found[0].what.startswith("1 cluster (")


def quality(n_genes, counts, mito):
    """Quality control of two clusters of ten cells; the second one has the values."""
    names = [f"c{number}" for number in range(20)]
    values = {"n_genes": n_genes, "total_counts": counts, "pct_mito": mito}
    usual = {"n_genes": 1000.0, "total_counts": 3000.0, "pct_mito": 3.0}
    qc = pd.DataFrame({name: [usual[name]] * 10 + [values[name]] * 10 for name in usual}, index=names)
    more = pd.concat([qc.iloc[:10]] * 3).set_axis([f"m{number}" for number in range(30)], axis=0)
    qc = pd.concat([qc, more])
    cluster_n = pd.Series(["0"] * 10 + ["1"] * 10 + ["0"] * 30, index=qc.index, dtype="category")
    return cluster_n, qc


@pytest.mark.parametrize(
    ("values", "second", "words"),
    [
        ((1000, 3000, 3), "", []),
        ((400, 3000, 3), "", ["low quality"]),
        ((1000, 3000, 9), "", ["low quality"]),
        ((1000, 5000, 3), "", []),
        ((1000, 5000, 3), "T cell", ["doublets"]),
    ],
)
def test_clusters_of_damaged_cells_and_of_doublets_are_named(values, second, words):
    found = list(doubts.about_quality(quality(*values)[0], with_value("second", second), quality(*values)[1]))
    assert len(found) == len(words)
    for doubt, word in zip(found, words, strict=True):
        assert word in doubt.what
        assert "(NK)" in doubt.what


def test_doubts_about_all_cells():
    adata = ad.AnnData(
        np.zeros((4, 1), np.float32), obs=pd.DataFrame({"donor": list("aabb")}, index=list("wxyz"))
    )
    qc = pd.DataFrame({"kept": [True] * 4 + [False] * 6})
    steady, falling = (pd.DataFrame({"loss": np.linspace(100, last, 10)}) for last in (99.9, 80))
    found = [doubt.what for doubt in doubts.about_all(adata, qc, falling, sp.AnalysisConfig())]
    assert [
        any(word in what for what in found) for word in ("removed many", "Batches", "still learning")
    ] == [True] * 3
    same = sp.AnalysisConfig(batch_key="donor", condition_key="donor")
    assert [doubt.what for doubt in doubts.about_all(adata, qc[:4], steady, same)] == [
        "Batch and condition are the same column."
    ]


@pytest.mark.parametrize(
    ("share_found", "inside", "n_doubts"), [(0.1, 0.91, 0), (0.3, 0.91, 1), (0.0, 0.8, 1), (0.0, 0.97, 1)]
)
def test_a_model_that_does_not_fit_is_a_doubt(share_found, inside, n_doubts):
    findings = ["more variance than expected"] * round(10 * share_found)
    genes = pd.DataFrame({"finding": findings + [""] * (10 - len(findings))})
    overall = pd.DataFrame({"check": ["coverage_90"], "observed": [inside]})
    criticism = Criticism(genes, overall, None, ("First.", "Last."), 10, 10, 1)
    found = list(doubts.about_fit(criticism))
    assert len(found) == n_doubts
    assert all(doubt.why.startswith("Last.") for doubt in found)


@pytest.mark.parametrize(("known", "expected"), [(None, ["B cell", "NK"]), ("label", ["mine", "yours"])])
def test_the_page_of_programs_shows_known_labels_where_there_are_some(monkeypatch, tmp_path, known, expected):
    adata = sp.datasets.simulate_programs(40, 30, seed=0)[:2].copy()
    adata.obs["label"] = ["mine", "yours"]
    shown = []
    monkeypatch.setattr(
        write.programs_room, "run", lambda cells, *_, **__: shown.extend(cells.obs["cell type"])
    )
    results = SimpleNamespace(cell_types=np.array(["B cell", "NK"]), tsne_n2=np.zeros((2, 2)), title="cells")
    write.write_programs(results, SimpleNamespace(adata=adata), sp.AnalysisConfig(labels_key=known), tmp_path)
    assert shown == expected


NAMES = {
    "plain": (["B cell", "NK"], ["B cell", "NK"], []),
    "counted": (
        ["T cell 1 (CD8A)", "T cell 2"],
        ["T cell"] * 2,
        ["as in T cell 2;", "follows the word cluster"],
    ),
    "shared": (["T cell", "T cell"], ["T cell"] * 2, ["follows the word cluster"]),
    "without a set": (["unknown cluster 3", "B cell"], ["", "B cell"], ["follows the word cluster"]),
    "a digit of the type": (["CD4 T cell", "6 Alpha"], ["CD4 T cell", "6 Alpha"], []),
}


@pytest.mark.parametrize("case", NAMES)
def test_the_report_says_what_numbers_in_names_mean(case):
    names, sets, expected = NAMES[case]
    table = pd.DataFrame({"cluster": ["0", "1"], "name": names, "set": sets})
    repeated = table["name"].duplicated(keep=False)
    table["title"] = table["name"].where(~repeated, table["name"] + " [cluster " + table["cluster"] + "]")
    text = analysis_text.numbers(SimpleNamespace(cluster_table=table))
    assert bool(text) == bool(expected)
    assert all(words in text for words in expected)
    assert ("counts the cell types" in text) == (case == "counted")
