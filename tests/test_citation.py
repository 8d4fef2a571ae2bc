"""The citation file has the fields that CFF 1.2.0 requires, and the version and license of the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

from sparcell._utils.version import VERSION

ROOT = Path(__file__).parents[1]


def test_citation_file_fits_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["title"] == project["name"]
    assert citation["version"] == project["version"] == VERSION
    assert citation["license"] == project["license"]
    assert all({"type", "title", "authors"} <= reference.keys() for reference in citation["references"])


def test_every_reference_of_the_citation_file_stands_in_the_readme_or_the_docs():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = " ".join(" ".join(page.read_text(encoding="utf-8").split()) for page in pages).casefold()
    missing = [entry["title"] for entry in citation["references"] if entry["title"].casefold() not in text]
    assert missing == []
