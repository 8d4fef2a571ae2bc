"""Work shared out over threads: each piece is done once, by several threads at once, and what goes wrong is heard of."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.telling_tasks import meeting, share_mark
from sparcell.kernels import team


@pytest.fixture(params=["torch", "own"])
def threads(request, monkeypatch):
    """Torch's, and those that are taken where it comes without OpenMP."""
    if request.param == "own":
        monkeypatch.setattr(team, "openmp", lambda: 0)
    elif not team.openmp():
        pytest.skip("torch comes without OpenMP here")


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("n_threads", [1, 2, 7])
@pytest.mark.parametrize(("n", "block"), [(103, 10), (3, 10), (0, 10), (4000, 1)])
def test_compiled_tasks_are_each_done_once(n, block, n_threads, monkeypatch):
    monkeypatch.setattr(team, "n_threads", lambda: n_threads)
    count_n = np.zeros(n, np.int64)
    team.share(share_mark, -(-n // block), block, count_n, -1)
    np.testing.assert_array_equal(count_n, np.arange(n) + 1)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("n_threads", [1, 4])
def test_a_compiled_task_that_fails_is_heard_of_and_the_others_are_done(n_threads, monkeypatch):
    monkeypatch.setattr(team, "n_threads", lambda: n_threads)
    count_n = np.zeros(103, np.int64)
    with pytest.raises(MemoryError):
        team.share(share_mark, 11, 10, count_n, 7)
    np.testing.assert_array_equal(count_n, np.arange(103) + 1)
    team.share(share_mark, 11, 10, count_n, -1)  # and the next round is not hindered


@pytest.mark.usefixtures("threads")
def test_tasks_are_done_at_the_same_time(monkeypatch):
    monkeypatch.setattr(team, "n_threads", lambda: 2)
    share_meet, workers = meeting()
    team.share(share_meet, 2)
    assert len(workers) == 2
