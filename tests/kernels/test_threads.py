"""Blocks shared among threads: each is done once, by several threads at once, and the user's processes and settings stay as they are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from numba import prange

from sparcell.kernels import threads
from sparcell.kernels.threads import block_range, parallel_for, parallel_jit


@parallel_jit()
def count(n_blocks, block, count_n):
    for number in prange(n_blocks):
        first, last = block_range(number, block, count_n.shape[0])
        for n in range(first, last):
            count_n[n] += n + 1


@pytest.mark.parametrize("n_threads", [1, 2, 7])
@pytest.mark.parametrize(("n", "block"), [(103, 10), (3, 10), (0, 10), (4000, 1)])
def test_blocks_are_each_done_once(n, block, n_threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    count_n = np.zeros(n, np.int64)
    parallel_for(count, -(-n // block), block, count_n)
    np.testing.assert_array_equal(count_n, np.arange(n) + 1)


def test_several_threads_of_the_user_may_train_at_once():
    counts = [np.zeros(500, np.int64) for _ in range(4)]

    def work(count_n):
        for _ in range(200):
            parallel_for(count, 50, 10, count_n)

    workers = [threading.Thread(target=work, args=(count_n,)) for count_n in counts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    for count_n in counts:
        np.testing.assert_array_equal(count_n, 200 * (np.arange(500) + 1))


def python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


N_THREADS = """
import numpy as np, torch
from sparcell.kernels import linear, threads
from sparcell.protocols import SparseRows
rows = SparseRows(np.array([0]), np.array([2]), np.array([0, 3]), np.ones(2, np.float32), 4)
before = torch.get_num_threads()
linear.csr_matmul(rows, torch.ones(4, 3))
print(before, torch.get_num_threads(), threads.numba.get_num_threads())
"""


@pytest.mark.parametrize("n_threads", ["1", "2"])
def test_a_pinned_number_of_threads_is_respected(n_threads):
    assert python(N_THREADS, OMP_NUM_THREADS=n_threads, NUMBA_NUM_THREADS="4") == 3 * [n_threads]


FORK = """
import os
import numpy as np, torch
from sparcell.kernels import linear
from sparcell.protocols import SparseRows
rows = SparseRows(np.array([0]), np.array([2]), np.array([0, 3]), np.float32([1, 2]), 4)
weight_gh = torch.arange(12.0).reshape(4, 3)
before = linear.csr_matmul(rows, weight_gh)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(linear.csr_matmul(rows, weight_gh), before) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_can_use_the_loops():
    assert python(FORK) == ["0"]


FIT_IN_FORK = """
import os, signal, warnings
warnings.simplefilter("ignore")
import sparcell as sp, torch
torch.set_num_threads(2)
adata = sp.datasets.simulate_programs(n_cells=300)
fit = lambda: sp.BetaVAE(epochs=1, likelihood="nb").fit(adata, silent=True)
fit()
child = os.fork()
if child == 0:
    signal.alarm(120)
    fit()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_of_a_process_that_trained_can_train():
    assert python(FIT_IN_FORK, OMP_NUM_THREADS="2", NUMBA_NUM_THREADS="2") == ["0"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")],
)
def test_threads_do_not_spin_for_long_unless_the_user_says_so(environment, expected):
    code = "import os, sparcell; print(os.environ.get('GOMP_SPINCOUNT'))"
    others = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=others | environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_threads_are_started_once():
    parallel_for(count, 1, 1, np.zeros(1, np.int64))
    assert threads._PROCESS.is_launched
