"""Code that a page or a docstring shows and no test runs: the public names and arguments in it must exist all the same."""

from __future__ import annotations

import ast
import inspect
import re

import sparcell as sp


def resolve(dotted):
    """Return what `sp.pp.seurat` or `model.embed` names; raise AttributeError if there is no such thing."""
    value = sp.Model if dotted.startswith("model.") else sp
    for name in dotted.split(".")[1:]:
        value = getattr(value, name)
    return value


def unknown_names(text):
    """Public names, such as `sp.pp.seurat`, that a text gives and that do not exist."""
    unknown = []
    for dotted in sorted(set(re.findall(r"(?<![\w.])sp(?:\.[A-Za-z]\w*)+", text))):
        try:
            resolve(dotted)
        except AttributeError:
            unknown.append(dotted)
    return unknown


def unknown_arguments(code):
    """Keyword arguments of calls to public names that those do not take: `sp.pp.seurat(nonsense=)`."""
    unknown = []
    for node in ast.walk(ast.parse(code)):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if re.fullmatch(r"sp(\.\w+)+|model\.\w+", called):
            known = inspect.signature(resolve(called)).parameters
            if all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in known.values()):
                unknown += [f"{called}({word.arg}=)" for word in node.keywords if word.arg not in known]
    return unknown
