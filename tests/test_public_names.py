"""What a user sees by tab: public names only, each with a docstring whose example holds."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import types
from pathlib import Path

import pytest

import sparcell as sp
from helpers import snippets

MODULES = [name for name in sp.__all__ if isinstance(getattr(sp, name), types.ModuleType)]
SOURCE = Path(sp.__file__).parent
TABLES = ["models", "likelihoods"]
"""Modules below `sp` that authors of models and likelihoods use."""


def module_of(name):
    return importlib.import_module(f"sparcell.{name}")


def public_objects():
    """Every public name, and the public methods of classes: dotted name → object."""
    named = {f"sp.{name}": getattr(sp, name) for name in sp.__all__ if name not in MODULES}
    for module in MODULES:
        named |= {
            f"sp.{module}.{name}": getattr(module_of(module), name) for name in module_of(module).__all__
        }
    for name, value in list(named.items()):
        if inspect.isclass(value) and value.__module__.startswith("sparcell."):
            named |= {
                f"{name}.{method}": getattr(value, method)
                for method in dir(value)
                if not method.startswith("_") and callable(getattr(value, method))
            }
    return {
        name: value for name, value in named.items() if inspect.isclass(value) or inspect.isroutine(value)
    }


def examples():
    """Docstrings with examples, each once, however many names lead to it."""
    finder, found = doctest.DocTestFinder(recurse=False), {}
    for name, value in public_objects().items():
        module = importlib.import_module(getattr(value, "__module__", None) or "sparcell")
        for test in finder.find(value, name, module=module, globs={"sp": sp}):
            if test.examples:
                found.setdefault(test.docstring, test)
    return {test.name: test for test in found.values()}


OBJECTS, EXAMPLES = public_objects(), examples()
SLOW_EXAMPLES = {"sp.pp.seurat"}
"""Examples on all cells of PBMC3k."""


def test_the_package_shows_its_public_names_and_its_version():
    assert dir(sp) == sorted({*sp.__all__, "__version__"})
    assert sp.__all__ == sorted(sp.__all__)


@pytest.mark.parametrize("name", [*MODULES, *TABLES])
def test_a_public_module_shows_public_names_only(name):
    module = module_of(name)
    assert dir(module) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert not public.startswith("_")
        assert getattr(module, public) is not None


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_says_what_it_holds(name):
    assert module_of(name).__doc__


@pytest.mark.parametrize("name", OBJECTS)
def test_every_public_name_has_a_docstring(name):
    first = (inspect.getdoc(OBJECTS[name]) or "").partition("\n")[0]
    assert len(first) > 10, name
    assert "(self" not in first.partition(".")[0]


def test_every_public_name_has_an_example():
    inherited = {*dir(Exception), *dir(tuple)}
    own = [name for name in OBJECTS if name.rpartition(".")[2] not in inherited]
    assert [name for name in own if "Examples\n--------" not in (inspect.getdoc(OBJECTS[name]) or "")] == []


def code_of(name):
    return "".join(example.source for example in EXAMPLES[name].examples)


RUN = {name for name in EXAMPLES if "import sparcell" in code_of(name)}
"""Examples that stand by themselves; the others start from the reader's own data."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW_EXAMPLES)) for name in sorted(RUN)]
)
def test_the_example_of_a_docstring_gives_what_it_shows(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(EXAMPLES[name], clear_globs=False)
    assert runner.failures == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_names_and_arguments_in_the_example_of_a_docstring_exist(name):
    assert snippets.unknown_names(code_of(name)) + snippets.unknown_arguments(code_of(name)) == []


def test_a_name_or_an_argument_that_does_not_exist_is_found():
    assert snippets.unknown_names("sp.pp.seurat and sp.pp.sorat") == ["sp.pp.sorat"]
    code = "sp.pp.seurat(adata, nonsense=1)"
    assert snippets.unknown_arguments(code) == ["sp.pp.seurat(nonsense=)"]


def test_names_in_docstrings_exist():
    """An example that is not run, as one that trains, still calls what is there."""
    room = re.compile(rf"\bsp\.({'|'.join(MODULES)})\.(\w+)")
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    missing = {
        f"{path.relative_to(SOURCE)}: sp.{module}.{name}"
        for path, text in texts.items()
        for module, name in room.findall(text)
        if not hasattr(module_of(module), name)
    }
    assert missing == set()
