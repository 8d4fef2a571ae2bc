"""Data and a finished study that several tests read."""

from __future__ import annotations

import pytest

from helpers import small
from helpers.studies import CHANGES, CONFIG
from sparcell.study import pipeline


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Return the file of some cells of PBMC3k."""
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    small.counts().write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def out(data, tmp_path_factory):
    """Return the folder of a study of all models with two presets. Tests only read it."""
    folder = tmp_path_factory.mktemp("study")
    pipeline.run(data, folder, CONFIG, changes=CHANGES, silent=True, command="sparcell study counts.h5ad")
    return folder


@pytest.fixture
def no_output(monkeypatch):
    """Skip figures, tables and pages, in tests that look at runs and results only; `out` is written as a whole."""
    monkeypatch.setattr(pipeline.write, "write", lambda *_: None)
