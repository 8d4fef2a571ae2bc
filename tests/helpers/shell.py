"""The command line, run in the tests' own process."""

from __future__ import annotations

import sys

import pytest

from sparcell.cli import main


def sparcell(*words, monkeypatch):
    """Run a command; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["sparcell", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main.main()
    return stop.value.code or 0
