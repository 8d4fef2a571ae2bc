"""What all tests share: which files are slow, and one compilation of the loops for all workers."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread for each worker, before torch and numba are imported: workers with several threads each wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")

TESTS = Path(__file__).parent
KERNELS = TESTS.parent / "src" / "sparcell" / "kernels"

SLOW = {
    "benchmark/test_benchmark_methods.py": "whole benchmarks",
    "benchmark/test_benchmark_output.py": "whole benchmarks",
    "benchmark/test_benchmark_resume.py": "whole benchmarks",
    "benchmark/test_single_latents.py": "whole benchmarks",
    "benchmark/test_worker.py": "starts processes",
    "cli/test_killed.py": "starts processes",
    "models/test_program_recovery.py": "trains to convergence",
    "models/test_recovery.py": "trains to convergence",
    "programs/test_real_markers.py": "trains on PBMC3k",
    "report/test_browser.py": "starts a browser",
    "study/test_study_input.py": "whole studies",
    "study/test_study_output.py": "whole studies",
    "study/test_study_resume.py": "whole studies",
    "training/test_distributed.py": "starts processes",
}
"""File → why all of its tests are slow. Single slow tests elsewhere are marked where they stand."""

COMPILE = """
import sparcell as sp
adata = sp.datasets.simulate_programs(n_cells=200)
for likelihood in ("nb", "zinb"):
    sp.BetaVSC(likelihood=likelihood, epochs=1).fit(adata, silent=True)
"""


@pytest.fixture(autouse=True)
def level_of_the_log():
    """A command with --quiet, run in the tests' own process, would silence the tests after it."""
    log = logging.getLogger("sparcell")
    before = log.level
    yield
    log.setLevel(before)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.relative_to(TESTS).as_posix() in SLOW:
            item.add_marker(pytest.mark.slow)


def pytest_addoption(parser):
    parser.addoption(
        "--device", default="cpu", help="where the models of the tests are trained, such as cuda"
    )


def pytest_configure(config):
    """Pass the device on. Compile the loops before several workers would each do it; they find them on disk."""
    os.environ["SPARCELL_TEST_DEVICE"] = config.getoption("--device")
    missing = [name for name in SLOW if not (TESTS / name).is_file()]
    if missing:
        raise pytest.UsageError(f"tests/conftest.py names slow files that are not there: {missing}")
    several = getattr(config.option, "numprocesses", None)
    if several and "PYTEST_XDIST_WORKER" not in os.environ and not any(KERNELS.rglob("*.nbi")):
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", COMPILE], check=False, stderr=subprocess.DEVNULL
        )
