"""What a study decides by itself: labels, seeds, models of a preset, pages of programs, width of its table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers import small
from helpers.studies import ONE
from sparcell.config.experiments import StudyConfig
from sparcell.config.presets import PRESETS
from sparcell.experiments import writing
from sparcell.experiments.presets import study_entry
from sparcell.results.study import MethodResult
from sparcell.study import duration, pipeline, prepare, write


def with_columns(**columns):
    adata = small.counts(120)
    for name, values in columns.items():
        adata.obs[name] = values
    return adata


def test_the_one_column_of_cell_types_is_taken_and_a_line_says_so(caplog):
    adata = with_columns(CellType=["a", "b", "c"] * 40, n=range(120))
    with caplog.at_level("INFO", logger="sparcell"):
        assert prepare.use_labels_of_data(adata, ONE).labels_key == "CellType"
    assert caplog.messages == [
        "cell types: obs column CellType (3 values: 'a', 'b', …). --labels-key takes another column."
    ]
    assert prepare.use_labels_of_data(adata, replace(ONE, labels_key="n")).labels_key == "n"
    adata.uns["sparcell_pp"] = {"keys": {"cell_type": "CellType"}}  # sparcell's own names of clusters
    assert prepare.use_labels_of_data(adata, ONE).labels_key is None


def test_of_several_columns_none_is_taken_and_all_are_named(caplog):
    adata = with_columns(cell_type=["a", "b", "c"] * 40, CellType=["x", "y"] * 60)
    with caplog.at_level("INFO", logger="sparcell"):
        assert prepare.use_labels_of_data(adata, ONE).labels_key is None
    (line,) = caplog.messages
    assert "cell_type (3 values: 'a', 'b', …); CellType (2 values: 'x', 'y')" in line
    assert "--labels-key" in line


def test_clusters_without_names_are_called_clusters():
    adata = with_columns(cell_type=["cluster 0", "cluster 1"] * 60)
    _labels, source = prepare.choose_labels(adata, ONE, None, "cell_type")
    assert source == "Louvain clusters of 10 principal components"
    adata.obs["cell_type"] = ["B cell", "cluster 1"] * 60
    assert prepare.choose_labels(adata, ONE, None, "cell_type")[1].startswith("markers on Louvain clusters")


@pytest.mark.parametrize(
    ("n_cells", "presets", "n_seeds"), [(2638, ("hvg", "programs"), 3), (2638, ("study-2019", "hvg"), 1)]
)
def test_three_seeds_are_the_default_where_they_take_under_four_minutes(n_cells, presets, n_seeds, caplog):
    entries = [
        study_entry(model, PRESETS[preset], 0, {})
        for preset in presets
        for model in pipeline.models_of(PRESETS[preset], StudyConfig().models)
    ]
    with caplog.at_level("INFO", logger="sparcell"):
        assert duration.seeds_within_limit(entries, n_cells, (13_714, 2000)) == n_seeds
    assert "two cores" in caplog.messages[0]


def test_the_estimate_of_pbmc3k_is_near_what_was_measured():
    entries = [
        spec.entry
        for spec in pipeline.plan_runs(StudyConfig(presets=("study-2019", "hvg")), {})
        if spec.entry
    ]
    assert sum(duration.estimate_seconds(entries, 2638, (13_714, 2000))) == pytest.approx(213, rel=0.25)


def test_the_preset_programs_trains_the_model_with_spikes_only():
    names = [spec.name for spec in pipeline.plan_runs(StudyConfig(), {})]
    assert [name for name in names if "programs" in name] == ["beta-vsc-programs"]
    only = StudyConfig(models=("beta-vae",), presets=("programs",))
    assert next(spec.name for spec in pipeline.plan_runs(only, {})) == "beta-vae-programs"


def test_a_row_that_is_on_in_every_cell_gets_no_page_of_programs(caplog):
    def row(inclusion):
        return MethodResult(
            *("beta-vsc", "β-VSC", "beta-vsc", "study-2019", {}),
            *(np.ones((9, 2)), np.ones((9, 2)), np.zeros(9, dtype=int), np.ones((1, 2))),
            inclusion_nk=np.full((9, 2), inclusion),
            active_k=np.array([True, True]),
        )

    with caplog.at_level("INFO", logger="sparcell"):
        assert write.is_sparse(row(0.3))
        assert not write.is_sparse(row(1.0))
    assert caplog.messages == [
        "β-VSC did not become sparse (mean inclusion probability of active latents 1.00): no page of gene programs"
    ]


def test_a_wide_table_goes_on_below_and_no_line_is_cut(capsys):
    columns = ["model", *("nmi", "ari", "homogeneity", "completeness")]
    writing.print_table("title", columns, [["beta-vsc-programs", *(["0.712 ± 0.010"] * 4)]])
    shown = capsys.readouterr().out
    assert shown.count("0.712 ± 0.010") == 4
    assert shown.count("beta-vsc-programs") == 2
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
