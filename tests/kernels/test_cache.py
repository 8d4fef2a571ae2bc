"""Compiled loops on disk: outdated by any change of a kernel file, and not needed where nothing can be written."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest
from numba.core import config

import sparcell
from sparcell.kernels import jit

CODE = """
import numpy as np
from sparcell.kernels.linear import log_scaled
from sparcell.protocols import SparseRows
rows = SparseRows(np.array([0]), np.array([1]), np.array([0]), np.ones(1, np.float64), 1)
print(float(log_scaled(rows, np.ones(1)).value[0]))
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package, without stored code."""
    ignored = shutil.ignore_patterns("__pycache__", "*.h5ad", "*.gz")
    shutil.copytree(Path(sparcell.__file__).parent, tmp_path / "lib" / "sparcell", ignore=ignored)
    return tmp_path / "lib" / "sparcell"


def start(package, **environment):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    variables |= {"PYTHONPATH": str(package.parent)} | environment
    return subprocess.Popen(
        [sys.executable, "-c", CODE], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result(process):
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return float(out)


def test_stored_code_is_outdated_when_an_inlined_helper_has_changed(package):
    assert result(start(package)) == pytest.approx(0.6931, abs=1e-4)
    assert list(package.rglob("*.nbc")), "nothing was stored"
    helper = package / "kernels" / "float_bits.py"
    text = helper.read_text(encoding="utf-8")
    assert "chosen = _log1p32 if x == types.float32 else math.log1p" in text
    helper.write_text(text.replace("else math.log1p", "else math.sqrt"), encoding="utf-8")
    assert result(start(package)) == 1.0


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_damaged_stored_code_is_compiled_again(tmp_path, monkeypatch, suffix):
    """One loop in this process: an empty file, a cut one, and other bytes."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))

    def double(x):
        return 2 * x

    def used():
        loop = jit.cached_jit()(FunctionType(double.__code__, globals(), "double"))
        return loop(21), sum(loop.stats.cache_hits.values())

    assert used() == (42, 0)
    assert used() == (42, 1)
    (stored,) = tmp_path.rglob(f"*.{suffix}")
    whole = stored.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\xff" * len(whole)):
        stored.write_bytes(content)
        assert used() == (42, 0)
        assert used() == (42, 1)


def test_code_that_cannot_be_stored_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))

    def refuse(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_index", refuse)

    @jit.cached_jit()
    def double(x):
        return 2 * x

    assert double(21) == 42


def test_two_first_uses_at_once(package):
    processes = [start(package) for _ in range(2)]
    assert [result(process) for process in processes] == 2 * [pytest.approx(0.6931, abs=1e-4)]


@pytest.mark.parametrize("home", ["missing", "unset"])
def test_first_use_in_a_read_only_installation_without_a_home(package, tmp_path, home):
    """A file stands where numba would make its folders: permissions do not stop root."""
    (package / "kernels" / "__pycache__").write_text("")
    (tmp_path / "file").write_text("")
    places = {"XDG_CACHE_HOME": str(tmp_path / "file" / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    places["HOME"] = str(tmp_path / "file" / "home") if home == "missing" else ""
    assert result(start(package, **places)) == pytest.approx(0.6931, abs=1e-4)
    assert not list(tmp_path.rglob("*.nbc"))
