"""The site names everything: each public name on an API page, each page in a table of contents. Sphinx is not needed."""

from __future__ import annotations

import importlib
import re
import types
from pathlib import Path

import sparcell as sp

DOCS = Path(__file__).parents[1] / "docs"
PARTS = {"_build", "_ext", "_static", "_templates", "generated", ".ipynb_checkpoints"}
"""Folders without pages; Sphinx writes `api/generated` from the names on the API pages."""
NOT_LISTED = {"__version__"}

BLOCK = re.compile(r"```\{eval-rst\}\n(?P<text>.*?)```", re.DOTALL)
TOCTREE = re.compile(r"```\{toctree\}\n(?P<text>.*?)```", re.DOTALL)
ENTRY = re.compile(r"^ {3}(?P<name>[A-Za-z]\w*(?:\.\w+)*)$", re.MULTILINE)
MODULE = re.compile(r"currentmodule:: (?P<name>\S+)")


def public_names():
    names = set()
    for name in set(sp.__all__) - NOT_LISTED:
        value = getattr(sp, name)
        if isinstance(value, types.ModuleType):
            names |= {f"sparcell.{name}.{each}" for each in importlib.import_module(value.__name__).__all__}
        else:
            names.add(f"sparcell.{name}")
    return names


def listed(text):
    """Names in the summaries of a page, each with the module that the lines above it set."""
    module, names = "", []
    for block in BLOCK.finditer(text):
        if found := MODULE.search(block["text"]):
            module = found["name"]
        names += [f"{module}.{entry['name']}" for entry in ENTRY.finditer(block["text"])]
    return names


def listed_on_all_pages():
    return [
        name
        for page in sorted((DOCS / "api").glob("*.md"))
        for name in listed(page.read_text(encoding="utf-8"))
    ]


def pages():
    found = {
        path.relative_to(DOCS).with_suffix("").as_posix()
        for suffix in ("*.md", "*.ipynb")
        for path in DOCS.rglob(suffix)
        if not PARTS & set(path.relative_to(DOCS).parts)
    }
    return found - {"index"}


def children(page):
    """Pages in the tables of contents of a page."""
    path = DOCS / f"{page}.md"
    if not path.exists():
        return set()
    found = set()
    for toctree in TOCTREE.finditer(path.read_text(encoding="utf-8")):
        for line in filter(None, toctree["text"].splitlines()):
            if line.startswith(":"):
                continue
            if "*" in line or "[" in line:
                matches = [each for each in path.parent.glob(line) if each.suffix in (".md", ".ipynb")]
            else:
                matches = [path.parent / f"{line}.md"]
            found |= {each.relative_to(DOCS).with_suffix("").as_posix() for each in matches}
    return found


def reached(page):
    seen, waiting = set(), [page]
    while waiting:
        for child in children(waiting.pop()) - seen:
            seen.add(child)
            waiting.append(child)
    return seen


def test_every_public_name_is_on_an_api_page():
    missing = public_names() - set(listed_on_all_pages())
    assert not missing, f"add these names to a page in docs/api: {sorted(missing)}"


def test_api_pages_list_only_public_names_and_each_once():
    names = listed_on_all_pages()
    gone = set(names) - public_names()
    assert not gone, f"docs/api lists names that are not public: {sorted(gone)}"
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"docs/api lists these names twice: {sorted(twice)}"


def test_every_page_is_in_a_table_of_contents():
    lost = pages() - reached("index")
    assert not lost, f"add these pages to a toctree: {sorted(lost)}"


def test_tables_of_contents_name_pages_that_exist():
    gone = reached("index") - pages()
    assert not gone, f"toctrees name pages that are not there: {sorted(gone)}"


def test_names_are_read_below_their_module_only():
    text = "```{eval-rst}\n.. currentmodule:: sparcell.tl\n\n.. autosummary::\n   :toctree: generated\n\n   tsne\n```\n   kmeans\n"
    assert listed(text) == ["sparcell.tl.tsne"]
