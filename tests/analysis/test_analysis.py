"""An analysis as a whole: what it finds in cells whose types are known, what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import sparcell as sp
from helpers.analyses import CHANGES, KINDS, typed_cells
from helpers.shell import sparcell
from helpers.unchanged import assert_unchanged
from sparcell.analysis import representation
from sparcell.errors import InputError
from sparcell.report.next_steps import after_analysis


def test_clusters_get_the_names_of_their_types(finished):
    """Each cluster is named after the type of nearly all its cells, and no cluster after the set that no type has."""
    table = finished[1].cluster_table
    named = table[table["set"] != ""]
    assert set(named["set"]) == set(KINDS)
    assert (named["set"] == named["label"]).all()
    assert (named["label_share"] > 0.9).all()
    assert table["title"].is_unique
    for name, kind in zip(named["name"], named["set"], strict=True):
        assert name == kind or name.startswith((f"{kind} 1", f"{kind} 2"))
    for row in named.itertuples():
        assert len(row.set_genes) >= 3
        assert {gene[0] for gene in row.set_genes} == {row.set[0]}


def test_the_rarer_type_is_found_over_samples(finished):
    """One type was made rarer in treated cells: its share is lower in every sample, and no other type's as much."""
    results = finished[1]
    test = results.composition_test
    assert test.attrs["test"] == "paired t-test"
    first = test.iloc[0]
    kind_of = dict(zip(results.cluster_table["name"], results.cluster_table["label"], strict=True))
    assert kind_of[first["cell_type"]] == KINDS[0]
    assert first["difference"] < -0.5
    shares = results.composition.groupby("sample")["share"].sum()
    np.testing.assert_allclose(shares, 1)
    assert len(shares) == 8


def test_genes_of_the_conditions_are_compared_within_each_type(finished):
    """No gene was changed, so hardly any is called."""
    changes = finished[1].changes
    assert set(changes["within"]) <= set(finished[1].cluster_table["name"])
    assert changes["within"].nunique() >= 3
    assert set(changes["group"]) == {"treated"}
    assert set(changes["reference"]) == {"control"}
    assert changes["is_de"].mean() < 0.02


def test_a_gene_that_a_condition_raises_is_found(tmp_path, gmt):
    adata = typed_cells()
    treated_n = (adata.obs["condition"] == "treated").to_numpy()
    x_ng = adata.X.toarray()
    x_ng[treated_n, 100] += np.random.default_rng(0).poisson(12, treated_n.sum())
    adata.X = sparse.csr_matrix(x_ng)
    config = sp.AnalysisConfig(condition_key="condition", gmt=(gmt,), n_top_genes=120, programs=False)
    results = sp.analysis.run(adata, tmp_path / "out", config, changes=CHANGES, silent=True)
    called = results.changes[results.changes["is_de"]]
    assert set(called.groupby("within")["names"].first()) == {adata.var_names[100]}
    assert (called.loc[called["names"] == adata.var_names[100], "logfoldchanges"] > 1).all()


def test_three_conditions_are_a_doubt_and_no_table(tmp_path):
    adata = typed_cells(200)
    adata.obs["dose"] = [str(number % 3) for number in range(adata.n_obs)]
    config = sp.AnalysisConfig(condition_key="dose", n_top_genes=60, programs=False)
    results = sp.analysis.run(adata, tmp_path / "out", config, changes=CHANGES | {"epochs": 1}, silent=True)
    assert results.changes is None
    assert any("not compared" in doubt.what for doubt in results.doubts)


def test_it_writes_every_file(finished):
    folder, results = finished
    assert {entry.name for entry in folder.iterdir()} == {
        *(
            "report.html",
            "analysis.h5ad",
            "clusters.csv",
            "markers.csv",
            "composition.csv",
            "composition_test.csv",
            "changes.csv",
            "program_changes.csv",
            "fit.csv",
        ),
        *("provenance.json", "figures", "runs", "model", "programs_model", "programs"),
    }
    cells = anndata.read_h5ad(folder / "analysis.h5ad")
    assert (cells.obs["cluster"] == "of the user").all(), "the user's column stays"
    assert list(cells.obs["cell_type"].astype(str)) == [str(name) for name in results.cell_types]
    np.testing.assert_array_equal(cells.obsm["X_umap"], results.umap_n2)
    assert {"leiden_0.5", "leiden_1", "leiden_2"} <= set(cells.obs.columns)
    latents = sp.load(folder / "model").transform(cells)
    np.testing.assert_allclose(latents, cells.obsm["X_beta_vsc"], atol=1e-5)
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert record["command"] == "sparcell analyze x"
    assert record["config"]["batch_key"] == "donor"
    clusters = pd.read_csv(folder / "clusters.csv")
    assert clusters["n_cells"].sum() == cells.n_obs


def test_the_model_gives_the_cell_types_to_new_cells_as_the_report_says(finished, tmp_path, monkeypatch):
    folder, results = finished
    step = next(step for step in after_analysis(results) if "new cells" in step.what)
    command = step.code.splitlines()[0].split()
    for name in ("model", "analysis.h5ad"):
        source = folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    typed_cells().write_h5ad(tmp_path / "new_cells.h5ad")
    monkeypatch.chdir(tmp_path)
    assert sparcell(*command[1:], monkeypatch=monkeypatch) == 0
    predicted = anndata.read_h5ad("predicted.h5ad").obs["cell_type_predicted"].astype(str)
    known = anndata.read_h5ad("analysis.h5ad").obs["cell_type"].astype(str)
    assert (predicted == known).mean() > 0.9


def test_the_dots_of_markers_say_what_their_areas_and_shades_mean(finished):
    figure = sp.pl.marker_dots(finished[1])
    dots, bar = figure.axes
    assert [label.get_text() for label in bar.get_xticklabels()] == ["0", "highest of a cell type"]
    assert bar.get_title(loc="left") == "mean expression of the gene"
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "cells with the gene"
    areas = dots.collections[0].get_sizes()
    shown = {
        text.get_text(): mark.get_markersize() ** 2
        for text, mark in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    assert list(shown) == ["25%", "50%", "100%"]
    assert shown["50%"] == pytest.approx(shown["100%"] / 2)
    assert 0.5 * shown["100%"] < areas.max() <= shown["100%"] * (1 + 1e-9)


def test_the_report_tells_what_was_found(finished):
    folder, results = finished
    page = (folder / "report.html").read_text(encoding="utf-8").replace("\xa0", " ")
    for name in results.cluster_table["name"]:
        assert name in page
    for doubt in results.doubts:
        assert doubt.what in page
    for sentence in results.criticism.verdict:
        assert sentence in page
    assert "Does the model fit?" in page
    for text in ("programs/programs.html", "with donor as batch covariate", "paired t-test", "types.gmt"):
        assert text in page
    assert (folder / "programs" / "programs.html").is_file()


def test_resuming_trains_nothing_and_names_anew(finished, tmp_path, monkeypatch, gmt):
    folder, before = finished
    monkeypatch.setattr(representation, "train", lambda *_: pytest.fail("trained again"))
    config = sp.AnalysisConfig(
        batch_key="donor", condition_key="condition", labels_key="known", gmt=(gmt,), n_top_genes=100
    )
    adata = typed_cells()
    adata.obs["cluster"] = "of the user"
    again = sp.analysis.run(adata, folder, config, changes=CHANGES, resume=True, silent=True)
    pd.testing.assert_frame_equal(again.cluster_table, before.cluster_table)
    np.testing.assert_array_equal(again.umap_n2, before.umap_n2)


def test_another_resolution_trains_nothing(tmp_path, monkeypatch):
    adata, settings = typed_cells(200), {"programs": False, "n_top_genes": 60}
    changes = CHANGES | {"epochs": 2}
    few = sp.analysis.run(adata, tmp_path, sp.AnalysisConfig(**settings), changes=changes, silent=True)
    monkeypatch.setattr(representation, "train", lambda *_: pytest.fail("trained again"))
    config = sp.AnalysisConfig(**settings, resolution=6.0)
    many = sp.analysis.run(adata, tmp_path, config, changes=changes, resume=True, silent=True)
    assert len(many.cluster_table) > len(few.cluster_table)


def test_the_same_seed_gives_the_same_results_and_the_input_stays(tmp_path):
    adata = typed_cells(200)
    config = sp.AnalysisConfig(programs=False, n_top_genes=60)
    changes = CHANGES | {"epochs": 2}
    before = adata.copy()
    one, two = (
        sp.analysis.run(adata, tmp_path / name, config, changes=changes, silent=True) for name in "ab"
    )
    assert_unchanged(adata, before)
    np.testing.assert_array_equal(one.umap_n2, two.umap_n2)
    np.testing.assert_array_equal(one.tsne_n2, two.tsne_n2)
    pd.testing.assert_frame_equal(one.cluster_table, two.cluster_table)
    assert one.composition is None
    assert one.programs is None
    assert not (tmp_path / "a" / "programs").exists()
    assert all(str(name).startswith("unknown") for name in one.cell_types.categories), "no built-in set fits"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"batch_key": "dono"}, "obs has no column 'dono'"),
        ({"condition_key": "one"}, "holds one value; expected at least two conditions"),
        ({"labels_key": "missing"}, "obs has no column 'missing'"),
        ({"layer": "missing"}, "missing"),
    ],
)
def test_wrong_columns_are_one_error_before_any_work(config, message, tmp_path):
    adata = typed_cells(100)
    adata.obs["one"] = "a"
    with pytest.raises(InputError, match=message):
        sp.analysis.run(adata, tmp_path / "out", sp.AnalysisConfig(**config), silent=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "value"), [("resolution", 0), ("n_top_genes", 3), ("seed", -1)])
def test_wrong_settings_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        sp.AnalysisConfig(**{name: value})


def test_other_data_are_not_written_over(finished):
    folder, _ = finished
    with pytest.raises(InputError, match="analysis of other counts"):
        sp.analysis.run(
            typed_cells(120),
            folder,
            sp.AnalysisConfig(n_top_genes=100),
            changes=CHANGES,
            resume=True,
            silent=True,
        )
