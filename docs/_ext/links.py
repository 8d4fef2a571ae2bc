"""Sphinx extension: Markdown of the repository on the site, with links that work in both places.

Pages of the site link to files beside `docs/`, such as ``../../benchmarks/speed.md``, and include some of those files. On the site the
files are pages of their own, and links lead to these pages.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAGES = {
    "README.md": "docs/index.md",
    "CONTRIBUTING.md": "docs/contributing.md",
    "CHANGELOG.md": "docs/changelog.md",
    "SECURITY.md": "docs/security.md",
    "CITATION.cff": "docs/citation.md",
}
"""File of the repository → page of the site. A file of benchmarks/ has the page of the same name in docs/benchmarks/."""

INCLUDE = re.compile(
    r"^```\{include\} (?P<path>(?:\.\./)+\S+)\n(?P<options>(?::[\w-]+:.*\n)*)```$", re.MULTILINE
)
LINK = re.compile(r"\]\((?P<path>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")


def to_site(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put included files in place of their directives, and point links to the pages of the site."""
    root = Path(app.srcdir).parent
    page = PurePosixPath("docs", docname)

    def included(directive: re.Match[str]) -> str:
        path = os.path.normpath(page.parent / directive["path"])
        app.env.note_dependency(root / path)
        options = dict(re.findall(r":([\w-]+): \"?(.*?)\"?\n", directive["options"]))
        text = (root / path).read_text(encoding="utf-8")
        if "start-after" in options:
            text = text.partition(options["start-after"])[2]
        if "end-before" in options:
            text = text.partition(options["end-before"])[0]
        return with_links(text, PurePosixPath(path).parent, page.parent)

    if page.suffix != ".ipynb" and docname not in app.env.included:
        text = with_links(source[0], page.parent, page.parent) if "](../" in source[0] else source[0]
        source[0] = INCLUDE.sub(included, text)


def with_links(text: str, written_in: PurePosixPath, shown_in: PurePosixPath) -> str:
    """Return Markdown whose relative links, written in one folder of the repository, work in another one of the site."""

    def moved(link: re.Match[str]) -> str:
        target = os.path.normpath(written_in / link["path"])
        if target.startswith("benchmarks/"):
            target = f"docs/{target}"
        target = PAGES.get(target, target)
        if not target.startswith("docs/"):
            raise ExtensionError(f"link to {target}, which has no page on the site; name it as code instead")
        return f"]({os.path.relpath(target, shown_in)}{link['anchor'] or ''})"

    return LINK.sub(
        moved, re.sub(r"\[docs/[\w/]+\.md\]\(", "[](", text)
    )  # a page's path gives way to its title


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the handler."""
    app.connect("source-read", to_site)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
