"""What is set for the process: freed memory is kept for the next step."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

BLOCK = """
import ctypes, sys
import torch
from sparcell import runtime

class Told(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena a b c mapped d e f g keep".split()]

c = ctypes.CDLL(None)
c.mallinfo2.restype = Told
if sys.argv[1] == "kept":
    runtime.keep_freed_memory()
before = c.mallinfo2().mapped
block = torch.empty(20 * 2**20, dtype=torch.uint8)
print(c.mallinfo2().mapped - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="of GNU's C library, from 2.33 on",
)
def test_a_large_block_comes_from_memory_that_is_kept():
    """One that is mapped for itself alone goes back to the system when it is freed, and is taken anew page by page."""
    mapped = {}
    for how in ("kept", "as it is"):
        done = subprocess.run(
            [sys.executable, "-c", BLOCK, how], capture_output=True, text=True, check=True, timeout=300
        )
        mapped[how] = int(done.stdout)
    assert mapped["kept"] == 0
    assert mapped["as it is"] >= 20 * 2**20, "the C library keeps it by itself: `keep_freed_memory` may go"
