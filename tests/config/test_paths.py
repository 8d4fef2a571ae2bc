"""Settings that are files take text as well as paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparcell import AnalysisConfig, ProgramsConfig, StudyConfig


@pytest.mark.parametrize(
    ("kind", "name"),
    [(AnalysisConfig, "markers"), (StudyConfig, "markers"), (StudyConfig, "labels")],
    ids=str,
)
def test_a_file_can_be_text(kind, name):
    assert getattr(kind(**{name: "folder/file.csv"}), name) == Path("folder/file.csv")
    assert getattr(kind(**{name: Path("file.csv")}), name) == Path("file.csv")
    assert getattr(kind(), name) is None


@pytest.mark.parametrize("kind", [AnalysisConfig, ProgramsConfig])
def test_several_files_can_be_text_or_a_single_file(kind):
    expected = (Path("a.gmt"), Path("b.gmt"))
    assert kind(gmt=["a.gmt", "b.gmt"]).gmt == kind(gmt=expected).gmt == expected
    assert kind(gmt="a.gmt").gmt == kind(gmt=Path("a.gmt")).gmt == (Path("a.gmt"),)
    assert kind().gmt == ()
