"""Programs of cells that stay on disk are those of the same cells in memory."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from helpers.shell import sparcell
from sparcell import pl, report
from sparcell.io import matrix_files
from sparcell.io.stored import StoredCells
from sparcell.programs import prediction

SETTINGS = {"epochs": 40, "batch_size": 64, "n_latent": 4, "encoder_widths": (16,), "decoder_widths": (16,)}
RTOL = 1e-6
"""Sums over cells are those of the same numbers in the same order."""


@pytest.fixture(scope="module")
def cells():
    adata = sp.datasets.pbmc3k()[:700].copy()
    kept = np.argsort(-np.asarray(adata.X.sum(axis=0)).ravel())[:150]
    adata = adata[:, np.sort(kept)].copy()
    adata.obs["type"] = pd.Categorical(
        np.where(np.asarray(adata[:, "LYZ"].X.todense()).ravel() > 3, "m", "l")
    )
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(700, 2))
    return adata


@pytest.fixture
def path(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(matrix_files, "BLOCK_VALUES", 2000)
    cells.write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    return tmp_path / "cells.h5ad"


@pytest.fixture(scope="module", params=["counts", "expression"])
def model(request, cells):
    return trained(cells, request.param)


def trained(cells, values):
    """Return a model with active latents."""
    if values == "counts":
        return sp.BetaVSC(**SETTINGS, beta=0.1).fit(cells, silent=True)
    return sp.BetaVSC.for_programs(epochs=20, batch_size=64, n_latent=4).fit(cells, silent=True)


def test_tables_are_those_in_memory(model, cells, path):
    stored, in_memory = StoredCells(path), cells.copy()
    found = model.programs(stored, labels_key="type")
    expected = model.programs(in_memory, labels_key="type")
    for name in ("summary", "genes", "effects", "label_fractions", "label_shares"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name), rtol=RTOL)
    np.testing.assert_array_equal(found.cells.on_np, expected.cells.on_np)
    np.testing.assert_allclose(
        found.cells.expression_ng.toarray(), expected.cells.expression_ng.toarray(), rtol=RTOL
    )
    effects = f"{model.settings.name}_effects"
    np.testing.assert_allclose(stored.varm[effects], in_memory.varm[effects], rtol=RTOL)
    assert len(found.summary) > 0


def test_results_map_and_prediction_are_those_in_memory(model, cells, path):
    results = [
        sp.programs.collect(model, data, sp.ProgramsConfig(labels_key="type", seeds=1))
        for data in (StoredCells(path), cells)
    ]
    found, expected = results
    pd.testing.assert_frame_equal(found.programs, expected.programs, rtol=RTOL)
    assert found.embedding.source == "obsm['X_umap'] of the data"
    np.testing.assert_array_equal(found.embedding.xy_m2, expected.embedding.xy_m2)
    np.testing.assert_array_equal(
        found.embedding.expression.values_ng, expected.embedding.expression.values_ng
    )
    assert found.n_active_predicted == expected.n_active_predicted
    for key, traversal in found.traversals.items():
        np.testing.assert_allclose(traversal.expected_sg, expected.traversals[key].expected_sg, rtol=RTOL)


def test_a_prediction_from_some_cells_is_said_on_the_page(cells, path, monkeypatch):
    from sparcell.report.programs_text import prediction_sentences

    model = trained(cells, "expression")
    monkeypatch.setattr(StoredCells, "sample", lambda cells: cells[:200])
    found = prediction.predict_active(model, StoredCells(path))
    assert found.n_cells == 200
    results = sp.programs.collect(model, StoredCells(path))
    assert "covariance in 200 random cells predict" in prediction_sentences(results)[0]


def test_the_command_reads_a_large_file_by_blocks(model, path, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="sparcell")
    model.save(tmp_path / "model")
    for name, options in (("disk", ["--memory", "1KB"]), ("memory", [])):
        typed = ["programs", path, "--model-dir", tmp_path / "model", "--out", tmp_path / name]
        assert (
            sparcell(
                *map(str, typed), "--labels-key", "type", "--seeds", "2", *options, monkeypatch=monkeypatch
            )
            == 0
        )
    assert caplog.text.count("the matrix stays on disk, since it would take more than 1KB") == 1
    disk, memory = (pd.read_csv(tmp_path / name / "programs.csv") for name in ("disk", "memory"))
    same = [
        name for name in disk.columns if name not in ("n_reproduced", "n_others", "median_match", "stable")
    ]
    pd.testing.assert_frame_equal(disk[same], memory[same], rtol=RTOL)
    assert (disk["n_others"] == 1).all()  # the other seed was trained from disk


def test_gene_symbols_name_the_genes_of_objects_too(model, cells, path, tmp_path, monkeypatch):
    """In memory and on disk; the objects do not change."""
    monkeypatch.setattr(pl, "save_programs", lambda *_: None)
    monkeypatch.setattr(report, "write_programs", lambda *_: None)
    renamed = cells.copy()
    renamed.var["symbol"] = renamed.var_names.to_numpy()
    renamed.var_names = [f"ENSG{number}" for number in range(renamed.n_vars)]
    renamed.write_h5ad(path)
    config = sp.ProgramsConfig(gene_symbols="symbol", seeds=1)
    stored = StoredCells(path, model.schema.layer)
    found = [
        sp.programs.run(data, model, tmp_path / f"out{number}", config, silent=True)
        for number, data in enumerate((renamed, stored))
    ]
    expected = sp.programs.run(cells, model, tmp_path / "expected", sp.ProgramsConfig(seeds=1), silent=True)
    for one in found:
        pd.testing.assert_frame_equal(one.programs, expected.programs, rtol=RTOL)
    assert renamed.var_names[0] == stored.var_names[0] == "ENSG0"
