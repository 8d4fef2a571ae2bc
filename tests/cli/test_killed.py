"""`sparcell fit` killed in each phase: what the user had stays, results are the old or the new ones, and the same command goes on."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from helpers import killed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
MOMENTS = list(killed.MOMENTS)
RESULTS = ["cells.h5ad", "model", "notes.txt", "out.h5ad", "run"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    environment = {**killed.os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    subprocess.run([sys.executable, killed.__file__, str(folder)], check=True, env=environment, timeout=300)
    return json.loads((folder / "found.json").read_text())


def test_the_earlier_and_the_new_results_can_be_told_apart(found):
    earlier, whole = found["earlier"]["results"], found["whole"]["results"]
    assert earlier["model"] != whole["model"]
    assert earlier["output"] != whole["output"]
    assert found["whole"]["names"] == RESULTS
    assert found["whole"]["n_steps"] == killed.N_STEPS


@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_of_the_user_is_lost(found, moment):
    after = found[moment]["killed"]
    assert after["status"] == -9
    assert after["digests"] == found["earlier"]["digests"] == found[moment]["next"]["digests"]
    for name, number in after["results"].items():
        assert number in (found["earlier"]["results"][name], found["whole"]["results"][name])


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_same_command_goes_on_to_the_same_results_and_leaves_nothing_else(found, moment):
    before, after = found[moment]["killed"], found[moment]["next"]
    assert (after["status"], after["message"]) == (0, "")
    assert after["results"] == found["whole"]["results"]
    assert after["names"] == RESULTS
    n_again = before["n_steps"] + after["n_steps"] - killed.N_STEPS
    assert n_again <= 2 if before["has_checkpoint"] else after["n_steps"] == killed.N_STEPS


def test_a_checkpoint_is_there_from_the_first_rename_on(found):
    without = [moment for moment in MOMENTS if not found[moment]["killed"]["has_checkpoint"]]
    assert without == ["while the facts are read", "before the first checkpoint is renamed"]
