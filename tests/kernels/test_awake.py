"""Threads that stay awake in a training step: one makes the small operations, all make what is large, and nothing is left behind."""

from __future__ import annotations

import ctypes
import threading
import time

import numpy as np
import pytest
import scanpy as sc
import torch

import sparcell as sp
from helpers.telling_tasks import meeting, share_mark
from sparcell.kernels import awake, kept_awake, team
from sparcell.kernels.awake import together
from sparcell.likelihoods.negative_binomial import NegativeBinomial


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch):
    if not all(awake.openmp()):
        pytest.skip("torch comes without GNU's OpenMP here")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def alone():
    """Whether an operation of torch would be made by this thread alone, for it is in OpenMP's eyes in a task of several."""
    return bool(ctypes.CDLL(None).omp_in_parallel())


def test_small_operations_are_one_thread_s_and_what_is_together_has_all():
    inner = together(alone)
    outer = together(lambda: (alone(), inner(), alone()))
    assert not alone()
    with kept_awake(True):
        assert alone()
        assert outer() == (False, False, False)
        assert alone()
    assert not alone()
    assert not inner()


def test_not_wanted_or_without_another_thread_nothing_happens(monkeypatch):
    with kept_awake(False):
        assert not alone()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with kept_awake(True):
        assert not alone()


def test_tasks_are_shared_out_while_the_threads_are_kept_awake():
    share_meet, workers = meeting()
    team.share(share_meet, 2)  # compiled here: the threads would not wait for it
    workers.clear()
    with kept_awake(True):
        for _ in range(3):
            team.share(share_meet, 2)
        assert alone()
    assert len(workers) == 2


@pytest.mark.parametrize("within", [False, True], ids=["in a small operation", "in what is together"])
def test_an_error_lets_the_threads_go(within):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), kept_awake(True):
        (together(fail) if within else fail)()
    assert not alone()
    with kept_awake(True):
        assert alone()
    assert not alone()


def test_threads_that_fell_asleep_all_the_same_are_woken():
    a_nm = torch.rand(300, 200, generator=torch.Generator().manual_seed(0))
    with kept_awake(True):
        time.sleep(0.3)
        found = together(torch.mm)(a_nm, a_nm.t())
    torch.testing.assert_close(found, a_nm @ a_nm.t())


def test_threads_that_fell_asleep_are_woken_for_the_next_tasks():
    share_meet, workers = meeting()
    team.share(share_meet, 2)
    workers.clear()
    with kept_awake(True):
        time.sleep(0.3)
        assert awake.board()
        team.share(share_meet, 2)
    assert len(workers) == 2


@pytest.mark.parametrize("n_threads", [2, 5])
def test_each_task_of_many_short_jobs_is_done_once(n_threads, monkeypatch):
    """Threads come to a job when it is nearly over, or has been followed by the next."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    count_n, n_jobs = np.zeros(3, np.int64), 20_000
    with kept_awake(True):
        for _ in range(n_jobs):
            team.share(share_mark, 3, 1, count_n, -1)
    np.testing.assert_array_equal(count_n, n_jobs * (np.arange(3) + 1))


def test_a_task_that_fails_is_heard_of_while_the_threads_are_kept_awake():
    count_n = np.zeros(103, np.int64)
    with kept_awake(True):
        with pytest.raises(MemoryError):
            team.share(share_mark, 11, 10, count_n, 7)
        np.testing.assert_array_equal(count_n, np.arange(103) + 1)
        team.share(share_mark, 11, 10, count_n, -1)
    np.testing.assert_array_equal(count_n, 2 * (np.arange(103) + 1))


def test_a_thread_of_the_user_s_keeps_its_own_awake():
    seen = []
    with kept_awake(True):
        other = threading.Thread(target=lambda: seen.append((alone(), together(alone)())))
        other.start()
        other.join()
        assert alone()
    assert seen == [(False, False)]


def noted(monkeypatch, *names):
    """A list that gets, at each call of these methods of the likelihood, the name and whether it is one thread's."""
    seen = []
    for name in names:
        method = getattr(NegativeBinomial, name)
        monkeypatch.setattr(
            NegativeBinomial,
            name,
            lambda *given, name=name, method=method: (seen.append((name, alone())), method(*given))[1],
        )
    return seen


COUNTS = sc.AnnData(np.random.default_rng(0).poisson(0.2, (64, 40)).astype(np.float32))
BRIEF = {"held_out": 0.0, "epochs": 1, "batch_size": 32}


@pytest.mark.parametrize(
    ("settings", "small"),
    [
        ({}, True),
        ({"standardise": True}, False),
        ({"input_dropout": 0.1}, False),
        ({"encoder": (2**12,)}, True),
        ({"encoder": (2**12 + 1,)}, False),
        ({"decoder": (8, 2**12 + 1)}, False),
    ],
    ids=str,
)
def test_a_step_whose_torch_operations_are_all_small_is_one_thread_s(settings, small, monkeypatch):
    seen = noted(monkeypatch, "nll")
    sp.BetaVAE(likelihood="nb", **BRIEF | settings).fit(COUNTS, silent=True)
    assert seen == 2 * [("nll", small)]
    assert not alone()


def test_what_cells_look_like_in_other_batches_takes_all_threads(monkeypatch):
    seen = noted(monkeypatch, "expression", "nll")
    cells = COUNTS.copy()
    cells.obs["donor"] = ["a", "b"] * 32
    sp.BetaVAE(likelihood="nb", translate=True, **BRIEF).fit(cells, batch_key="donor", silent=True)
    assert seen == 2 * [("expression", False), ("expression", False), ("nll", True)]
