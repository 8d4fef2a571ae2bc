"""Runs in a separate process: results, failures, time and memory."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from helpers.benchmarks import CONFIG
from sparcell.benchmark import split, worker
from sparcell.benchmark.methods import MethodInput
from sparcell.errors import TrainingError

REQUEST = {
    "function": "pca",
    "settings": {"n_components": 5},
    "title": "PCA",
    "seed": 0,
    "n_samples": 3,
}


def test_a_run_in_a_separate_process_gives_the_same_result(data, no_libraries):
    prepared = split.prepare(data, CONFIG)
    with worker.SubprocessRunner(prepared.cells, silent=True) as runner:
        arrays = runner.run_in_subprocess(REQUEST)
        with pytest.raises(TrainingError, match="KeyError"):
            runner.run_in_subprocess({**REQUEST, "settings": {}})
    fields = {name: value for name, value in REQUEST.items() if name != "function"}
    expected = worker.run_and_measure(MethodInput(cells=prepared.cells, **fields), "pca")
    assert np.allclose(arrays["latent_nk"], expected["latent_nk"], atol=1e-4)
    assert not runner.folder.exists()


def test_a_process_that_is_killed_is_reported(data, monkeypatch, no_libraries):
    def raises(error):
        def run_and_measure(*_):
            raise error

        return run_and_measure

    with worker.SubprocessRunner(split.prepare(data, CONFIG).cells, silent=True) as runner:
        (runner.folder / worker.REQUEST).write_text(json.dumps(REQUEST), encoding="utf-8")
        monkeypatch.setattr(worker.logging, "basicConfig", lambda **_: None)
        with warnings.catch_warnings():
            monkeypatch.setattr(worker, "run_and_measure", raises(SystemExit))
            assert worker.main(runner.folder) == 143
            monkeypatch.setattr(worker, "run_and_measure", raises(KeyboardInterrupt))
            assert worker.main(runner.folder) == 130
        assert not (runner.folder / worker.RESULT).exists()
        monkeypatch.setattr(worker, "run_worker", lambda _: -9)
        with pytest.raises(TrainingError, match=r"the process was killed \(status -9\)"):
            runner.run_in_subprocess(REQUEST)


def test_time_and_memory_are_those_of_training_alone(monkeypatch):
    def hungry(inputs):
        loaded = np.ones(10_000_000)  # before training: not counted

        def train():
            used = np.ones(25_000_000)
            return worker.MethodOutput(encode=lambda: np.ones((3, 1)) * used[0] * loaded[0])

        return train

    monkeypatch.setitem(worker.FUNCTIONS, "hungry", hungry)
    arrays = worker.run_and_measure(MethodInput(cells=None, settings={}, seed=0, n_samples=1), "hungry")
    assert arrays["peak_bytes"] == pytest.approx(200e6, rel=0.2)
    assert 0 < arrays["train_seconds"] < 60
