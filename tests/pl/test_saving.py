"""Figures that cannot be written are one error, and no half of a figure is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparcell import pl
from sparcell.errors import OutputError
from sparcell.pl.style import new_figure


def test_a_full_disk_is_one_error_and_earlier_figures_stay(tmp_path, monkeypatch):
    figures = tmp_path / "figures"
    pl._save([("first", new_figure(1, 1))], figures)
    before = (figures / "first.png").read_bytes()

    def full(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"figures could not be written to .*No space left on device"):
        pl._save([("first", new_figure(2, 2))], figures)
    assert [entry.name for entry in figures.iterdir()] == ["first.png"]
    assert (figures / "first.png").read_bytes() == before


def test_a_folder_below_a_file_is_the_same_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="give another folder"):
        pl._save([], tmp_path / "file" / "figures")
