"""Cells mapped onto a saved model: what is trained and predicted, what is written, what is refused before any work."""

from __future__ import annotations

import html
import json

import anndata
import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from helpers.analyses import CHANGES, KINDS, typed_cells, write_sets
from sparcell.analysis import predictions, representation
from sparcell.errors import InputError
from sparcell.results.analysis import ReferenceMapping

SETTINGS = {"n_top_genes": 60, "programs": False}


@pytest.fixture(scope="module")
def all_cells():
    return typed_cells(900)


@pytest.fixture(scope="module")
def reference_dir(tmp_path_factory, all_cells):
    """Return the folder of a model of three types and two donors, which has learned their labels."""
    obs = all_cells.obs
    adata = all_cells[(obs["known"] != "Delta") & obs["donor"].isin(["donor 0", "donor 1"])].copy()
    model = sp.BetaVSC(seed=0, **CHANGES).fit(adata, batch_key="donor", silent=True)
    folder = tmp_path_factory.mktemp("reference") / "atlas"
    model.fit_labels(adata, "known").save(folder)
    return folder


@pytest.fixture(scope="module")
def query(all_cells):
    """Return cells of all four types, from two other donors and one that the model knows."""
    return all_cells[all_cells.obs["donor"] != "donor 0"][:400].copy()


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, reference_dir, query):
    """Return the folder and the results of an analysis with a reference that lacks one type. Tests only read them."""
    folder = tmp_path_factory.mktemp("mapped")
    sets = write_sets(tmp_path_factory.mktemp("sets") / "types.gmt")
    config = sp.AnalysisConfig(reference=reference_dir, batch_key="donor", gmt=(sets,), **SETTINGS)
    return folder, sp.analysis.run(query, folder, config, silent=True), config


def test_known_types_are_predicted_and_a_new_type_is_unknown(mapped, query):
    predicted = pd.Series(np.asarray(mapped[1].reference.predicted.astype(str)))
    known = query.obs["known"].astype(str).to_numpy()
    for kind in KINDS[:3]:
        assert (predicted[known == kind] == kind).mean() > 0.75
    assert (predicted[known == "Delta"] == "unknown").mean() > 0.75
    table = mapped[1].cluster_table
    delta = table[table["name"].str.startswith("Delta")]
    assert (delta["unknown_share"] > 0.75).all()
    assert (table["predicted_share"] + table["unknown_share"] <= 1 + 1e-9).all()
    what = [doubt.what for doubt in mapped[1].doubts if "unknown to the reference" in doubt.what]
    assert any("Delta" in text for text in what)


def test_only_the_new_batches_are_trained_and_old_cells_stay(mapped, reference_dir, all_cells):
    folder, results, _ = mapped
    mapping = results.reference
    assert set(mapping.batches) == {"donor 1", "donor 2", "donor 3"}
    assert set(mapping.new) == set(mapping.trained) == {"donor 2", "donor 3"}
    old, new = sp.load(reference_dir), sp.load(folder / "model")
    cells = all_cells[all_cells.obs["donor"] == "donor 0"].copy()
    cells.layers["counts"] = cells.X
    np.testing.assert_array_equal(old.transform(cells), new.transform(cells))
    assert results.history.empty
    assert new.label_classifiers.keys() == {"known"}


def test_cells_hold_latents_and_types(mapped):
    folder, results, _ = mapped
    cells = anndata.read_h5ad(folder / "analysis.h5ad")
    latents = sp.load(folder / "model").transform(cells)
    np.testing.assert_allclose(latents, cells.obsm["X_beta_vsc"], atol=1e-5)
    assert list(cells.obs["known_predicted"]) == list(results.reference.predicted)
    assert cells.obs["known_probability"].between(0, 1).all()
    assert list(cells.obsm["known_probabilities"].columns) == sorted(KINDS[:3])
    clusters = pd.read_csv(folder / "clusters.csv")
    assert {"predicted", "predicted_share", "unknown_share"} <= set(clusters.columns)


def test_page_and_methods_say_what_was_mapped_onto_what(mapped):
    folder, _, _ = mapped
    page = (folder / "report.html").read_text(encoding="utf-8").replace("\xa0", " ")
    for text in (
        "The cells were mapped onto the saved model atlas (BetaVSC, which was trained on",
        "donor 2 and donor 3 (donor) are new to the model; the model knows one other batch.",
        "Only the parameters of donor 2 and donor 3 were trained.",
        "is missing in the data",
        "encoded by a saved BetaVSC",
        "with parameters of two new batches trained on them and all others fixed",
        "Predicted type",
    ):
        assert text in page
    assert "was trained on the raw counts" not in page
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert record["config"]["reference"].endswith("atlas")


def test_resuming_maps_nothing_and_another_reference_is_noticed(mapped, query, tmp_path, monkeypatch, caplog):
    folder, before, config = mapped
    mapping = representation.map_cells
    monkeypatch.setattr(representation, "map_cells", lambda *_: pytest.fail("mapped again"))
    again = sp.analysis.run(query, folder, config, resume=True, silent=True)
    pd.testing.assert_frame_equal(again.cluster_table, before.cluster_table)
    adata = query[query.obs["donor"] == "donor 1"].copy()
    other = sp.BetaVSC(seed=1, **CHANGES | {"epochs": 1}).fit(adata, batch_key="donor", silent=True)
    other.save(tmp_path / "other")
    monkeypatch.setattr(representation, "map_cells", mapping)
    sp.analysis.run(query, tmp_path / "out", config, silent=True)
    changed = sp.AnalysisConfig(reference=tmp_path / "other", batch_key="donor", **SETTINGS)
    with caplog.at_level("WARNING", logger="sparcell"):
        results = sp.analysis.run(query, tmp_path / "out", changed, resume=True, silent=True)
    assert "inputs changed: reference" in caplog.text
    assert results.reference.name == "other"
    assert results.reference.predicted is None
    assert "predicted" not in results.cluster_table


def test_few_missing_genes_count_as_0_and_many_are_an_error_before_any_work(reference_dir, query, tmp_path):
    config = sp.AnalysisConfig(reference=reference_dir, batch_key="donor", **SETTINGS)
    few = query[:, 3:].copy()
    results = sp.analysis.run(few, tmp_path / "few", config, silent=True)
    assert results.reference.missing == tuple(query.var_names[:3])
    page = html.unescape((tmp_path / "few" / "report.html").read_text(encoding="utf-8")).replace("\xa0", " ")
    assert "3 of the model's 160 genes are not in the data and count as 0, such as A0, A1 and A2." in page
    with pytest.raises(InputError, match="at most 20% may be missing, and here it is 25%"):
        sp.analysis.run(query[:, 40:].copy(), tmp_path / "many", config, silent=True)
    assert not (tmp_path / "many").exists()


def test_genes_that_quality_control_leaves_out_are_not_missing(reference_dir, query, tmp_path):
    """A gene in fewer than three cells is left out of the analysis, but the saved model reads it."""
    adata = query.copy()
    x_ng = adata.X.toarray()
    x_ng[:, 60:120] = 0
    x_ng[0, 60:120] = 1
    adata.X = x_ng
    config = sp.AnalysisConfig(reference=reference_dir, batch_key="donor", **SETTINGS)
    results = sp.analysis.run(adata, tmp_path / "out", config, silent=True)
    assert results.reference.missing == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference": "nowhere"}, "nowhere is not a sparcell model"),
        ({"batch_key": "dono"}, "obs has no column 'dono'"),
    ],
)
def test_wrong_input_is_one_error_before_any_work(settings, message, reference_dir, query, tmp_path):
    config = sp.AnalysisConfig(**{"reference": reference_dir, **SETTINGS, **settings})
    with pytest.raises(InputError, match=message):
        sp.analysis.run(query, tmp_path / "out", config, silent=True)
    assert not (tmp_path / "out").exists()


def test_the_model_s_own_column_of_batches_is_the_default(reference_dir, query, tmp_path):
    adata = query.copy()
    adata.obs = adata.obs.rename(columns={"donor": "person"})
    with pytest.raises(InputError, match="obs has no column 'donor'"):
        sp.analysis.run(
            adata, tmp_path / "out", sp.AnalysisConfig(reference=reference_dir, **SETTINGS), silent=True
        )


def test_a_model_without_batches_encodes_and_refuses_a_column_of_batches(query, tmp_path):
    adata = query.copy()
    sp.BetaVSC(seed=0, **CHANGES | {"epochs": 1}).fit(adata, silent=True).save(tmp_path / "plain")
    settings = {"reference": tmp_path / "plain", **SETTINGS}
    with pytest.raises(InputError, match="fitted without batch_key"):
        sp.analysis.run(
            adata, tmp_path / "out", sp.AnalysisConfig(batch_key="donor", **settings), silent=True
        )
    results = sp.analysis.run(adata, tmp_path / "out", sp.AnalysisConfig(**settings), silent=True)
    assert results.reference.batches == ()
    inside = sp.AnalysisConfig(reference=tmp_path / "out" / "model", **SETTINGS)
    with pytest.raises(InputError, match="lies in the output folder"):
        sp.analysis.run(adata, tmp_path / "out", inside, resume=True, silent=True)
    with pytest.raises(InputError, match="would have no effect"):
        sp.analysis.run(
            adata, tmp_path / "new", sp.AnalysisConfig(**settings), changes={"epochs": 3}, silent=True
        )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Monocyte", "CD14 Mono", True),
        ("B cell", "B", True),
        ("NK cell", "NK cells", True),
        ("T cell", "B cell", False),
        ("Platelet", "Megakaryocytes", False),
        ("CD8 T cell", "CD8 B", False),
    ],
)
def test_names_agree_if_they_share_a_word(one, other, same):
    assert predictions.share_a_word(one, other) is same


def test_labels_get_the_gene_set_that_the_decoder_expects(reference_dir, tmp_path):
    """The sets have other names than the labels: a cluster of another type than predicted is the only disagreement."""
    model, sets = sp.load(reference_dir), sp.tl.read_gmt(write_sets(tmp_path / "sets.gmt"))
    renamed = {f"set of {name[:1]}": genes for name, genes in sets.genes.items()}
    other_words = sp.tl.GeneSets(renamed, dict.fromkeys(renamed, "blood: x"))
    found = predictions.sets_of_labels(model, "known", other_words)
    assert found == {kind: f"set of {kind[:1]}" for kind in KINDS[:3]}
    table = pd.DataFrame(
        {
            "set": ["set of A", "set of B", "", "set of G"],
            "predicted": ["Alpha", "Alpha", "Alpha", "Beta"],
            "predicted_share": [0.9, 0.9, 0.9, 0.3],
        }
    )
    mapping = ReferenceMapping("atlas", "BetaVSC", 1, 1, (), None, (), (), (), "known")
    assert predictions.disagreements(table, mapping, model, other_words).tolist() == [
        False,
        True,
        False,
        False,
    ]
    same_words = table.assign(set=["Alpha", "Beta", "", "Gamma"])
    assert predictions.disagreements(same_words, mapping, model, None).tolist() == [False, True, False, False]
