"""Commands that compare or read cells take several files, such as one per donor, as if they were one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from helpers.shell import sparcell
from sparcell import analysis, benchmark, study
from sparcell.analysis.prepare import prepare as prepare_analysis
from sparcell.benchmark.split import prepare as prepare_benchmark
from sparcell.config.experiments import BenchmarkConfig


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two donors in files of their own, and both in one file."""
    folder = tmp_path_factory.mktemp("donors")
    cells = sp.datasets.pbmc3k()[:600].copy()
    cells = cells[:, np.asarray(cells.X.sum(axis=0)).ravel() > 60].copy()
    cells.obs["kind"] = np.where(np.asarray(cells[:, "LYZ"].X.todense()).ravel() > 3, "m", "l")
    cells.obs["file"] = pd.Categorical(["first"] * 300 + ["second"] * 300)
    cells.write_h5ad(folder / "both.h5ad")
    del cells.obs["file"]
    cells[:300].copy().write_h5ad(folder / "first.h5ad")
    cells[300:].copy().write_h5ad(folder / "second.h5ad")
    return folder


PREPARE = {
    "analyze": lambda data: (
        prepare_analysis(data, sp.AnalysisConfig(batch_key="file", n_top_genes=100)).adata
    ),
    "benchmark": lambda data: (
        prepare_benchmark(data, BenchmarkConfig(labels_key="kind", batch_key="file", n_top_genes=100)).cells
    ),
}


@pytest.mark.parametrize("command", PREPARE)
def test_several_files_are_prepared_as_one_file_with_the_same_cells(command, files):
    one = PREPARE[command](files / "both.h5ad")
    several = PREPARE[command]([files / "first.h5ad", files / "second.h5ad"])
    assert one.obs_names.tolist() == several.obs_names.tolist()
    assert one.var_names.tolist() == several.var_names.tolist()
    np.testing.assert_array_equal(one.X.toarray(), several.X.toarray())


def test_programs_of_two_files_are_those_of_one(files, tmp_path, monkeypatch):
    fit = f"--model beta-vsc --epochs 3 --batch-size 64 --n-latent 3 --beta 0.1 --model-dir {tmp_path / 'm'} --quiet"
    assert sparcell("fit", str(files / "both.h5ad"), *fit.split(), monkeypatch=monkeypatch) == 0
    tables = []
    for name, names in (("one", ["both"]), ("two", ["first", "second"])):
        inputs = [str(files / f"{stem}.h5ad") for stem in names]
        options = f"--model-dir {tmp_path / 'm'} --out {tmp_path / name} --seeds 1 --quiet"
        assert sparcell("programs", *inputs, *options.split(), monkeypatch=monkeypatch) == 0
        tables.append(pd.read_csv(tmp_path / name / "genes.csv"))
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize("run", [analysis.run, benchmark.run, study.run])
def test_no_file_is_one_error_before_anything_is_written(run, tmp_path):
    with pytest.raises(sp.InputError, match="no file is given"):
        run([], tmp_path / "out")
    assert not (tmp_path / "out").exists()
