"""Sphinx extension: docstrings of sparcell for autodoc, and links from every `sp.name` to the page of the name.

- The settings of config classes, which `help` shows for models only, are added to the docstrings of those classes.
- A section Returns holds prose here. napoleon would take its first line for a type, so it becomes a field first.
- Code such as ``sp.pp.seurat``, ``BetaVSC`` or, in a docstring, ``quality_control`` becomes a link if there is such a page.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

import sparcell as sp
from sparcell.models.display import document

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

CONFIGS = ("AnalysisConfig", "BenchmarkConfig", "FitConfig", "ProgramsConfig", "StudyConfig")
RULE = re.compile(r"-{3,}")


def returns_as_field(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn a section Returns or Yields into a field; a bare type is left to the annotation."""
    for start, line in enumerate(lines[:-1]):
        if line in ("Returns", "Yields") and RULE.fullmatch(lines[start + 1]):
            body = start + 2
            end = (
                next((i for i in range(body + 1, len(lines)) if RULE.fullmatch(lines[i])), len(lines) + 1) - 1
            )
            text = lines[body:end]
            is_type = re.fullmatch(r"[\w.]+", text[0]) and not any(text[1:])
            field = [f":{line.lower()}: {text[0]}", *(f"    {more}" if more else "" for more in text[1:])]
            lines[start:end] = [""] if is_type else ["", *field, ""]
            return


def value_as_doc(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Show the value of a constant in place of the docstring of its type."""
    if what == "data" and (not any(lines) or (type(obj).__doc__ or "").partition("\n")[0] in lines):
        lines[:] = [f"``{obj!r}``", ""]


def short_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Return a signature without the settings, which a list below describes."""
    hints = app.env.current_document.autodoc_annotations
    if hints.get(name, {}).get("return") == "None":
        del hints[name]["return"]
    if what != "class" or not name.startswith("sparcell."):
        return None
    hints.pop(name, None)  # docstrings describe arguments, or fields do
    if obj is sp.Model:
        return "", returns  # `fit` and `sp.load` return models
    return ("(**settings)", returns) if hasattr(obj, "__dataclass_fields__") else None


def public_page(
    app: Sphinx, env: BuildEnvironment, node: Element, content: Element
) -> nodes.reference | None:
    """Return a link from a type or an error, such as ``sparcell.models.fitted.Model``, to the page of its public name."""
    objects = env.domains.python_domain.objects
    name = node.get("reftarget", "").rpartition(".")[2]
    modules = ("sparcell", *(f"sparcell.{module}" for module in ("tl", "pp", "metrics", "io")))
    found = next((f"{module}.{name}" for module in modules if f"{module}.{name}" in objects), None)
    if node.get("refdomain") != "py" or found is None:
        return None
    entry = objects[found]
    return make_refnode(app.builder, node.get("refdoc", ""), entry.docname, entry.node_id, content, found)


class LinkPublicNames(SphinxPostTransform):
    """Link code that is the name of a documented object."""

    default_priority = 5

    def run(self, **given: Any) -> None:
        """Wrap each such piece of code into a reference."""
        objects = self.env.domains.python_domain.objects
        for node in list(self.document.findall(nodes.literal)):
            if in_link_or_title(node):
                continue
            found = next((full for full in candidates(node) if full in objects), None)
            if found is None:
                continue
            entry = objects[found]
            if entry.docname == self.env.docname and enclosing(node)[0] == found:
                continue
            inside = nodes.literal("", node.astext(), classes=[*node["classes"], "xref", "py"])
            link = make_refnode(
                self.app.builder, self.env.docname, entry.docname, entry.node_id, inside, found
            )
            node.replace_self(link)


def in_link_or_title(node: nodes.Node) -> bool:
    """Return whether the node is inside a link or a heading."""
    parent = node.parent
    while parent is not None:
        if isinstance(parent, nodes.reference | nodes.title | addnodes.pending_xref):
            return True
        parent = parent.parent
    return False


def enclosing(node: nodes.Node) -> tuple[str, str]:
    """Return full name and module of the documented object whose docstring the node is in, or empty texts."""
    parent = node.parent
    while parent is not None:
        if isinstance(parent, addnodes.desc) and parent.get("domain") == "py" and "module" in parent[0]:
            return f"{parent[0]['module']}.{parent[0]['fullname']}", parent[0]["module"]
        parent = parent.parent
    return "", ""


def candidates(node: nodes.Node) -> list[str]:
    """Return the full names that a piece of code may mean, the likeliest first."""
    match = re.fullmatch(r"(?:sp\.)?([A-Za-z]\w*(?:(?:\(\))?\.[A-Za-z]\w*)*)(?:\(.*\))?", node.astext())
    if match is None:
        return []
    name = match[1].replace("()", "")
    if node.astext().startswith("sp."):
        return [f"sparcell.{name}"]
    full, module = enclosing(node)
    if full:
        around = full.rpartition(".")[0]
        return [
            f"{full}.{name}",
            f"{around}.{name}",
            f"{module}.{name}",
            f"sparcell.{name}",
            f"sparcell.Model.{name}",
        ]
    return [f"sparcell.{name}"] if name[0].isupper() else []


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the handlers."""
    for name in CONFIGS:
        document(getattr(sp, name))
    app.connect("autodoc-process-docstring", returns_as_field, priority=400)
    app.connect("autodoc-process-docstring", value_as_doc)
    app.connect("autodoc-process-signature", short_signature, priority=900)
    app.connect("missing-reference", public_page)
    app.add_post_transform(LinkPublicNames)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
