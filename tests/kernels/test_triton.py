"""The kernels for a GPU, without one: compiled for several, and run on the CPU by Triton's interpreter, in processes of their own.

Whether Triton interprets or compiles is settled when its kernels are first imported, so the cases stand in `triton_cases.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is for Linux")

CASES = Path(__file__).parents[1] / "helpers" / "triton_cases.py"


@pytest.mark.parametrize("how", ["interpreted", "compiled"])
def test_kernels_of_a_gpu(how):
    environment = {**os.environ, "TRITON_INTERPRET": str(int(how == "interpreted"))}
    command = [sys.executable, "-m", "pytest", str(CASES), "-k", how, "-p", "no:cacheprovider"]
    command += ["-W", "default::DeprecationWarning"]  # those of Triton's interpreter
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_without_a_gpu_triton_is_not_even_imported():
    code = "import sys, sparcell.kernels, sparcell.models; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["False"], done.stderr
