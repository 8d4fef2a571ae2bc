"""Sphinx extension: links of the repository's Markdown that work on the site too.

Pages of the site link to files beside `docs/`, such as ``../../benchmarks/speed.md``. On the site those files are pages of their own,
which include them.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
"""File of the repository → page of the site. Files of benchmarks/ have pages of the same name."""


def to_site(app: Sphinx, docname: str, source: list[str]) -> None:
    """Point links to files outside docs/ to the pages that include them."""
    folder = PurePosixPath("docs") / PurePosixPath(docname).parent

    def moved(link: re.Match[str]) -> str:
        target = os.path.normpath(folder / link["path"])
        page = PAGES.get(target, target if target.startswith("benchmarks/") else None)
        if page is None:
            return link[0]
        return f"]({os.path.relpath(PurePosixPath('docs') / page, folder)}{link['anchor'] or ''})"

    source[0] = re.sub(r"\]\((?P<path>\.\./[^)#\s]+\.md)(?P<anchor>#[^)]*)?\)", lambda link: moved(link), source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the handler."""
    app.connect("source-read", to_site)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
