"""Data, and fixtures that keep runs inside the process of the tests."""

from __future__ import annotations

import anndata
import pytest

from helpers.benchmarks import OPTIONAL, counts
from helpers.fakes import remove
from sparcell.benchmark import pipeline, worker
from sparcell.benchmark.methods import MethodInput


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Return the file of small counts with labels and batches."""
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    counts().write_h5ad(path)
    return path


@pytest.fixture
def no_libraries(monkeypatch):
    """Hide all optional libraries."""
    remove(monkeypatch, *OPTIONAL)


@pytest.fixture
def in_process(monkeypatch, no_libraries):
    """Run methods in the process of the tests, which is faster and lets fakes reach them. Returns the list of requests."""
    requests = []

    def run_in_subprocess(runner, request):
        requests.append(request)
        fields = {name: value for name, value in request.items() if name != "function"}
        cells = anndata.read_h5ad(runner.folder / worker.CELLS)
        return worker.run_and_measure(MethodInput(cells=cells, silent=True, **fields), request["function"])

    monkeypatch.setattr(worker.SubprocessRunner, "run_in_subprocess", run_in_subprocess)
    return requests


@pytest.fixture
def no_output(monkeypatch):
    """Skip figures, tables and page, in tests that look at runs and results only."""
    monkeypatch.setattr(pipeline.write, "write", lambda *_: None)
