"""Latents of many cells lie in a temporary file, and everything said about them is what is said of arrays in memory.

Suffixes: n cells, k latents.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparcell.metrics import active_latents, sparsity_summary
from sparcell.results import large_arrays
from sparcell.results.large_arrays import RowsOfPieces, row_blocks
from sparcell.results.latents import LatentRepresentation


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(large_arrays, "MIN_BYTES", 400)
    monkeypatch.setattr(large_arrays, "ROWS_AT_ONCE", 7)


def filled(values_nk, *, on_disk):
    rows = RowsOfPieces(len(values_nk), on_disk=on_disk)
    for start in range(0, len(values_nk), 9):
        rows.add(values_nk[start : start + 9])
    return rows.finish()


def values(seed=0):
    return np.random.default_rng(seed).normal(size=(40, 5)).astype(np.float32)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("on_disk", [True, False])
def test_rows_come_back_and_may_be_changed(on_disk):
    array = filled(values(), on_disk=on_disk)
    np.testing.assert_array_equal(array, values())
    array[3] = 7.0
    for _ in range(2):  # what was read is forgotten, what was changed is not
        np.testing.assert_array_equal(np.concatenate([block for (block,) in row_blocks(array)]), array)
    assert (array[3] == 7.0).all()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("inclusion", [True, False])
def test_what_is_said_of_latents_on_disk_is_what_is_said_in_memory(inclusion):
    mean_nk = values()
    mean_nk[:, 1] = 1000 + 0.05 * mean_nk[:, 1]  # not active: a variance of 0.0025, far from 0
    mean_nk[:, 2] = np.where(np.arange(40) < 3, 5.0, 0.0)
    gamma_nk = (values(1) > 0.3).astype(np.float32) if inclusion else None
    if gamma_nk is not None:
        gamma_nk[:, 2] = np.arange(40) < 3
    parts = [filled(part, on_disk=True) if part is not None else None for part in (mean_nk, gamma_nk)]
    found = LatentRepresentation(parts[0], np.zeros(5), parts[1])
    on_nk = gamma_nk >= 0.5 if inclusion else mean_nk**2.0 >= (mean_nk.astype(np.float64) ** 2).mean(axis=0)
    np.testing.assert_array_equal(found.on_nk, on_nk)
    variance_k = mean_nk.astype(np.float64).var(axis=0)
    assert (variance_k > 0.01).tolist() == [True, False, True, True, True]
    np.testing.assert_array_equal(found.active_k, active_latents(mean_nk, on_nk if inclusion else None))
    assert found.active_k.tolist() == [True, False, True, True, True]
    expected = sparsity_summary(gamma_nk, found.active_k) if inclusion else None
    if inclusion:
        assert found.sparsity.n_sparse == expected.n_sparse
        assert found.sparsity.mean_inclusion == pytest.approx(expected.mean_inclusion, rel=1e-6)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of a process is read as on Linux")
def test_an_array_on_disk_takes_no_memory_while_it_is_not_read():
    def resident_mb():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

    rows, before = RowsOfPieces(3_000_000, on_disk=True), resident_mb()
    for _ in range(30):
        rows.add(np.ones((100_000, 10), np.float32))
    array = rows.finish()  # 114 MB
    assert sum(float(block.sum()) for (block,) in row_blocks(array)) == 3e7
    assert resident_mb() - before < 40
