"""What users do by mistake, or in an order nobody planned: told before any training, and nothing of theirs is lost."""

from __future__ import annotations

import sys

import pytest

import small
from sparcell import cli

SHORT = ("--epochs", "1", "--batch-size", "64", "--encoder", "32", "16")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    small.counts(200).write_h5ad(path)
    return path


def sparcell(*words, monkeypatch):
    """Run a command in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["sparcell", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code or 0


@pytest.mark.parametrize("target", ["notes.txt/model", "coded.h5ad"])
def test_a_place_for_the_model_is_checked_before_training(data, tmp_path, monkeypatch, capfd, target):
    (tmp_path / "notes.txt").write_text("mine")
    words = (
        "fit",
        data,
        "--model",
        "beta-vae",
        "--out",
        tmp_path / "coded.h5ad",
        "--save",
        tmp_path / target,
    )
    assert sparcell(*words, *SHORT, monkeypatch=monkeypatch) == 1
    assert capfd.readouterr().err.startswith("Error: ")
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]
