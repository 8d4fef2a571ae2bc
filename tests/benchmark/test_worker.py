"""Runs in a separate process: results, failures, time and memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from helpers.benchmarks import CONFIG
from sparcell.benchmark import split, worker
from sparcell.benchmark.methods import MethodInput
from sparcell.errors import TrainingError
from sparcell.io import model_folder

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


PARENT = """
import sys
from sparcell.benchmark import split, worker
sys.path.insert(0, sys.argv[1])
from helpers.benchmarks import CONFIG
settings = {"likelihood": "nb", "epochs": 800, "encoder_widths": [16], "batch_size": 32}
request = {"function": "model", "settings": {"model": "beta-vae", "settings": settings}, "title": "", "seed": 0, "n_samples": 3,
           "checkpoint_dir": sys.argv[3]}
with worker.SubprocessRunner(split.prepare(sys.argv[2], CONFIG).cells) as runner:
    runner.run_in_subprocess(request)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_worker_ends_with_its_killed_parent_and_leaves_a_checkpoint(data, tmp_path):
    """The parent's standard error, which the worker shares, closes when both have ended."""
    words = [Path(__file__).parents[1], data, tmp_path / "checkpoint"]
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, *map(str, words)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "/800" in line:  # the worker trains
            break
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    process.stderr.read()
    process.stderr.close()
    assert model_folder.is_whole(tmp_path / "checkpoint")
    left = {entry.name for entry in tmp_path.iterdir()} - {"checkpoint"}
    assert left == set()
