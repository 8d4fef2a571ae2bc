"""Two processes that torchrun starts train as one process does; they end together whatever happens to one of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import in_ranks
from sparcell.io import model_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
SCRIPT = Path(in_ranks.__file__)
RUNS = (
    *("in_memory", "again", "tails", "from_file", "of_one", "file_of_one", "begun", "amid_an_epoch"),
    *("not_finite", "other_settings", "few_cells", "embedded", "killed"),
)


def torchrun(*words, **keywords):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.Popen([*launcher, *map(str, words)], text=True, env=environment, **keywords)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder in which two processes have made all runs of `in_ranks`; the last one kills one of them."""
    folder = tmp_path_factory.mktemp("ranks")
    in_ranks.prepare(folder)
    process = torchrun(SCRIPT, ",".join(RUNS), folder, stderr=subprocess.PIPE)
    (folder / "stderr").write_text(process.communicate(timeout=300)[1])
    assert process.returncode != 0
    return folder


def found(folder, run, rank=0):
    return json.loads((folder / f"{run}-{rank}.json").read_text())


def assert_same_curve(one, other, rtol):
    for name, values in one["curve"].items():
        np.testing.assert_allclose(values, other["curve"][name], rtol=rtol, err_msg=name)


def test_two_processes_have_the_losses_of_one(folder):
    assert_same_curve(found(folder, "in_memory"), in_ranks.in_memory(folder), 1e-4)


def test_a_step_with_fewer_cells_than_processes_has_the_loss_of_one_process(folder):
    assert_same_curve(found(folder, "tails"), in_ranks.tails(folder), 1e-4)


def test_the_same_processes_give_the_same_bits(folder):
    assert found(folder, "in_memory") == found(folder, "again")


@pytest.mark.parametrize("run", ["in_memory", "from_file", "file_of_one", "not_finite"])
def test_all_processes_hold_the_same_model(folder, run):
    assert found(folder, run, 0) == found(folder, run, 1)


def test_two_processes_continue_a_run_of_one(folder):
    assert_same_curve(found(folder, "of_one"), in_ranks.in_memory(folder), 1e-4)
    assert_same_curve(found(folder, "file_of_one"), in_ranks.from_file(folder), 1e-4)


def test_one_process_continues_a_run_of_two(folder):
    assert_same_curve(
        in_ranks.in_memory(folder, checkpoint_dir=folder / "memory-2"), found(folder, "in_memory"), 1e-4
    )
    assert_same_curve(
        in_ranks.from_file(folder, checkpoint_dir=folder / "file-2"), found(folder, "from_file"), 1e-4
    )


@pytest.mark.parametrize("run", ["memory-amid", "file-amid"])
def test_two_processes_stopped_amid_an_epoch_continue_to_the_same_bits(folder, run):
    runs = found(folder, "amid_an_epoch")
    assert runs[run] == runs[f"whole {run}"]
    assert runs["steps"] == 4 * 5 - 12


def test_a_loss_that_is_not_finite_in_one_process_takes_all_back(folder):
    curve, plain = (found(folder, run)["curve"]["loss"] for run in ("not_finite", "in_memory"))
    assert np.isfinite(curve).all()
    assert curve[0] == plain[0]
    assert curve[1] != plain[1]  # that epoch was repeated with a lower learning rate


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_are_asked_for_different_models_say_so(folder, rank):
    error = found(folder, "other_settings", rank)["error"]
    assert error.startswith("rank 1 has other settings or data than rank 0")


def test_a_minibatch_has_a_cell_for_each_process(folder):
    assert "batch_size is 1, fewer than the 2 processes" in found(folder, "few_cells")["error"]


def test_one_process_alone_encodes_after_training(folder):
    assert found(folder, "embedded", 0)["shape"] == [in_ranks.N_CELLS, 6]


def test_a_killed_process_ends_the_others_which_name_it(folder):
    end = found(folder, "killed", 0)
    assert end["error"].startswith("rank 1 ended or does not answer, so rank 0 ends too")
    assert end["seconds"] < 60
    report = (folder / "stderr").read_text()
    assert "exitcode: -9" in report
    assert "local_rank: 1" in report


def test_ctrl_c_saves_one_checkpoint_and_ends_all(tmp_path):
    """The command line, from a file that stays on disk. One process writes, and one message says so."""
    in_ranks.two_batches(in_ranks.N_CELLS).write_h5ad(tmp_path / "cells.h5ad")
    options = ["--model", "beta-vsc", "--epochs", "400", "--early-stopping-patience", "0", "--memory", "1KB"]
    targets = ["--model-dir", tmp_path / "model", "--checkpoint-dir", tmp_path / "run"]
    command = ["-m", "sparcell", "fit", tmp_path / "cells.h5ad", *options, *targets]
    process = torchrun(*command, stderr=subprocess.PIPE, start_new_session=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "epoch" in line and "/400," in line:
            break
    process.send_signal(signal.SIGINT)
    lines += process.communicate(timeout=60)[1].splitlines(keepends=True)
    report = "".join(lines)
    assert report.count("Stopped. Epoch") == 1
    assert report.count("cells × ") == 1
    assert "Error" not in report
    assert "exit code" not in report
    described, _ = model_folder.load(tmp_path / "run")
    assert described["numbers"]["epoch"] >= 40
    assert described["numbers"]["n_lanes"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "run"]
