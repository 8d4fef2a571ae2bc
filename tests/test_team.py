"""Work shared out over threads: each piece is done once, by several threads at once, and what goes wrong is heard of."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numba import njit

from sparcell.kernels import team
from sparcell.kernels.tasks import each, part


@njit
def mark(number, given):
    block, count_n, fails = given
    first, last = part(number, block, count_n.shape[0])
    for n in range(first, last):
        count_n[n] += n + 1
    if number == fails:
        raise ValueError("from a task")


@njit
def share_mark(team, span, given):
    return each(team, span, mark, given)


@pytest.fixture(params=["torch", "own"])
def threads(request, monkeypatch):
    """Torch's, and those that are taken where it comes without OpenMP."""
    if request.param == "own":
        monkeypatch.setattr(team, "openmp", lambda: None)
        monkeypatch.setattr(team, "_address", lambda: 0)
    elif team.openmp() is None:
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
def test_a_team_does_each_block_once_and_passes_errors_on(monkeypatch):
    monkeypatch.setattr(team, "n_threads", lambda: 4)
    done, lock = [], threading.Lock()

    def work(first, last):
        with lock:
            done.extend(range(first, last))

    team.over(103, 10, work)
    assert sorted(done) == [*range(103)]

    def fail(first, last):
        raise ValueError("from a block")

    def interrupted(first, last):
        raise KeyboardInterrupt

    with pytest.raises(ValueError, match="from a block"):
        team.over(20, 10, fail)
    with pytest.raises(KeyboardInterrupt):
        team.over(20, 10, interrupted)


def test_blocks_are_shared_out_over_the_threads_of_torch(monkeypatch):
    if team.openmp() is None:
        pytest.skip("torch comes without OpenMP here")
    monkeypatch.setattr(team, "n_threads", lambda: 2)
    met, workers = threading.Barrier(2, timeout=60), set()

    def work(first, last):
        met.wait()  # passed only if two threads are here at once
        workers.add(threading.get_ident())

    team.over(2, 1, work)
    assert len(workers) == 2
