"""The files of a benchmark, and what it prints."""

from __future__ import annotations

import json
from dataclasses import replace

import anndata
import pandas as pd
import pytest

from helpers.benchmark_results_fixture import full_benchmark
from helpers.benchmarks import CONFIG, MODELS_AND_PCA, run
from helpers.fakes import fake_harmony, fake_scib
from helpers.shell import sparcell as shell
from sparcell.benchmark import split
from sparcell.benchmark.write import show
from sparcell.results.benchmark import METRICS


def test_it_writes_tables_figures_page_and_provenance(data, tmp_path, in_process, monkeypatch):
    fake_scib(monkeypatch), fake_harmony(monkeypatch)
    config = replace(MODELS_AND_PCA, baselines=("pca", "harmony"), external_models=("scvi",), seeds=2)
    results = run(data, tmp_path / "b", config, command="sparcell benchmark counts.h5ad")
    assert {entry.name for entry in (tmp_path / "b").iterdir()} == {
        *("benchmark.html", "scores.csv", "summary.csv", "provenance.json", "benchmark.h5ad"),
        *("figures", "runs", "scores"),
    }
    scores = pd.read_csv(tmp_path / "b" / "scores.csv")
    assert list(scores) == ["method", "seed", "epochs", "own_epochs", *METRICS]
    names = ("beta-vsc", "pca", "harmony")
    seeds = scores.groupby("method", sort=False)["seed"].apply(list).to_dict()
    assert seeds == {name: [0, 1] for name in names}
    assert (scores["clisi"] == 0.5).all()
    assert scores["total"].between(0.1, 1).all()
    summary = pd.read_csv(tmp_path / "b" / "summary.csv").set_index("method")
    of_vsc = scores[scores["method"] == "beta-vsc"]
    assert summary.at["beta-vsc", "map_nmi"] == pytest.approx(of_vsc["map_nmi"].mean())
    assert summary.at["beta-vsc", "map_nmi_sd"] == pytest.approx(of_vsc["map_nmi"].std(ddof=1))
    record = json.loads((tmp_path / "b" / "provenance.json").read_text())
    assert record["command"] == "sparcell benchmark counts.h5ad"
    assert record["n_test"] == split.prepare(data, CONFIG).n_test
    assert record["versions"]["scib-metrics"] == "0.0.fake"
    assert [(entry.title, entry.reason) for entry in results.skipped] == [
        (title, "scvi-tools is not installed; pip install 'sparcell[scvi]'")
        for title in ("scVI, 10 latents, 1 layer", "scVI, 30 latents, 2 layers")
    ]
    page = (tmp_path / "b" / "benchmark.html").read_text(encoding="utf-8")
    assert "scvi-tools is not installed" in page
    assert all(png.read_bytes().startswith(b"\x89PNG") for png in (tmp_path / "b" / "figures").iterdir())
    obsm = anndata.read_h5ad(tmp_path / "b" / "benchmark.h5ad").obsm
    arrays = {f"{kind}_{name.replace('-', '_')}" for name in names for kind in ("X", "tsne2d")}
    assert set(obsm) == {*arrays, "beta_vsc_inclusion"}


def test_from_a_shell(data, tmp_path, in_process, monkeypatch, capsys):
    options = {
        "--labels-key": "program",
        "--batch-key": "batch",
        "--models": "none",
        "--external-models": "none",
        "--seeds": "1",
        "--n-top-genes": "60",
        "--n-components": "5",
    }
    words = ("benchmark", data, *(word for option in options.items() for word in option))
    assert shell(*words, "--baselines", "pca", "--out", tmp_path / "b", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr()
    assert "pca" in printed.out.lower()
    assert "Skipped: scIB's metrics (scib-metrics is not installed" in printed.out
    assert "benchmark.html" in printed.out
    several = ("--baselines", "pca", "nmf", "--out", tmp_path / "d", "--disentanglement")
    assert shell(*words, *several, monkeypatch=monkeypatch) == 0
    assert "single latents" in capsys.readouterr().out
    scores = pd.read_csv(tmp_path / "d" / "scores.csv")
    assert scores["method"].tolist() == ["pca", "nmf"]
    assert scores["lms_smi"].notna().all()
    assert shell("benchmark", data, "--out", tmp_path / "c", monkeypatch=monkeypatch) == 1
    assert "Error: no labels are named" in capsys.readouterr().err


def test_terminal_tables_fit_80_columns_and_qualify_what_they_show(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    results = full_benchmark(n=60)
    results.scores.loc[results.scores["method"] == "scvi-10x1", ["epochs", "own_epochs"]] = [100, 400]
    show(replace(results, batch_warning="The batches look like treatments."))
    printed = capsys.readouterr().out
    tables = [line for line in printed.splitlines() if set(line) & set("┃│┏┡└")]
    assert max(map(len, tables)) <= 80
    assert "…" not in printed
    assert "kBET" in printed
    assert "iLISI" in printed
    assert "scvi-10x1, 100 of 400 epochs" in printed
    assert "Local mixing of the batches is kBET and iLISI." in printed
    assert "Warning: The batches look like treatments." in printed
    mean = pd.Series(results.scores.loc[results.scores["method"] == "pca", "ilisi"]).mean()
    assert f"{mean:.3f} ± " in printed
