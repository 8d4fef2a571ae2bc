"""The site names everything: each public name on an API page, each page in a table of contents. Sphinx is not needed."""

from __future__ import annotations

import importlib
import re
import types
from pathlib import Path

import pytest

import sparcell as sp
from sparcell.cli.main import COMMANDS
from sparcell.config.model import MODEL_SETTINGS
from sparcell.config.options import settings_of
from sparcell.config.presets import PRESETS

DOCS = Path(__file__).parents[1] / "docs"
PARTS = {"_build", "_ext", "_static", "_templates", "generated", ".ipynb_checkpoints"}
"""Folders without pages; Sphinx writes `api/generated` from the names on the API pages."""
NOT_LISTED = {"__version__"}

BLOCK = re.compile(r"```\{eval-rst\}\n(?P<text>.*?)```", re.DOTALL)
TOCTREE = re.compile(r"```\{toctree\}\n(?P<text>.*?)```", re.DOTALL)
ENTRY = re.compile(r"^ {3}(?P<name>[A-Za-z]\w*(?:\.\w+)*)$", re.MULTILINE)
MODULE = re.compile(r"currentmodule:: (?P<name>\S+)")
SETTINGS = re.compile(r"```\{settings\} (?P<config>\S+)\n(?P<options>(?::\w+: .*\n)*)```")
BY_HAND = re.compile(r"^\| *(?:setting|option) *\| *(?:option|default) *\|", re.MULTILINE)
"""The head of a table of settings that is written on the page itself."""


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


def settings_tables(text):
    """The tables of settings on a page: the config class, names of settings, names of presets."""
    for table in SETTINGS.finditer(text):
        options = dict(re.findall(r":(\w+): (.*)\n", table["options"]))
        module, _, kind = table["config"].rpartition(".")
        config = (
            getattr(importlib.import_module(f"sparcell.config.{module}"), kind)
            if module
            else MODEL_SETTINGS[kind]
        )
        yield config, options.get("names", "").split(), options.get("presets", "").split()


GUIDE = sorted(page for part in ("guide", "howto", "start") for page in (DOCS / part).glob("*.md"))
each_guide_page = pytest.mark.parametrize("page", [*GUIDE, DOCS / "settings.md"], ids=lambda page: page.stem)


@each_guide_page
def test_tables_of_settings_name_settings_and_presets_that_exist(page):
    text = page.read_text(encoding="utf-8")
    tables = list(settings_tables(text))
    assert len(tables) == text.count("```{settings}")
    for config, names, presets in tables:
        assert set(names) <= {setting.name for setting in settings_of(config)}
        assert len(names) == len(set(names))
        assert set(presets) <= set(PRESETS)


@each_guide_page
def test_no_table_of_settings_is_written_by_hand(page):
    """Default and meaning stand in sparcell.config alone."""
    assert BY_HAND.findall(page.read_text(encoding="utf-8")) == []


def test_each_model_s_own_settings_are_in_a_table_of_the_guide():
    shown = {
        (config, name)
        for page in GUIDE
        for config, names, _ in settings_tables(page.read_text(encoding="utf-8"))
        for name in names
    }
    own = {
        (config, setting.name)
        for config in MODEL_SETTINGS.values()
        for setting in settings_of(config)
        if setting.owner is config
    }
    assert own - shown == set()


def test_the_page_of_settings_has_the_settings_of_every_command():
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    titles = set(re.findall(r"^## ([\w-]+)$", text, re.MULTILINE))
    assert set(COMMANDS) <= titles


def test_every_command_has_a_page():
    assert {f"cli/{name}" for name in COMMANDS} <= reached("cli/index")
    overview = (DOCS / "cli" / "index.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"[{name}]({name}.md)" in overview
        assert f"```{{command}} {name}\n```" in (DOCS / "cli" / f"{name}.md").read_text(encoding="utf-8")


def test_the_figure_of_the_home_page_is_explained_in_a_caption_and_for_those_who_cannot_see_it():
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    assert "![" not in text, "an image without a caption"
    figures = re.findall(r"```\{figure\} (\S+)\n:alt: ([^\n]+)\n\n(.+?)```", text, re.DOTALL)
    assert len(figures) == text.count("```{figure}") == 1
    (name, alt, caption), *_ = figures
    assert (DOCS / name).is_file()
    for words in (alt, caption):
        assert len(words.split()) > 40
        assert "colors are" in words


def test_a_table_of_settings_by_hand_is_found():
    assert BY_HAND.findall("| setting | default | meaning |\n|---|---|---|\n")
    assert not BY_HAND.findall("| option | row | method |\n| step | setting |\n")
