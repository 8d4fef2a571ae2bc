"""Draw the figures of the documentation from the code on its pages: `python docs/make_gallery.py`, about two minutes on two cores.

A page is one program, as a reader types it. Where an image follows a block, the last line of the block is the figure of this image.
"""

from __future__ import annotations

import ast
import builtins
import os
import re
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_png import light_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parent
PAGES = (DOCS / "gallery.md", DOCS / "start" / "ten_minutes.md")
BLOCK = re.compile(
    r"(?P<skipped><!-- not run: .*? -->\n)?```python\n(?P<code>.*?)```"
    r"(?:\n+!\[[^\]]*\]\((?P<image>(?:\.\./)?images/gallery/[^)]+)\))?",
    re.DOTALL,
)
WIDTH = 1100
"""Widest image in pixels."""


def draw(page: Path) -> None:
    """Run the blocks of a page one after the other, and write the figures that its images show."""
    names: dict[str, Any] = {"__builtins__": builtins}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["skipped"]:
            continue
        *body, last = ast.parse(block["code"]).body
        exec(compile(ast.Module(body, []), page.name, "exec"), names)
        if block["image"] is None or not isinstance(last, ast.Expr):
            exec(compile(ast.Module([last], []), page.name, "exec"), names)
        else:
            write(
                eval(compile(ast.Expression(last.value), page.name, "eval"), names),
                page.parent / block["image"],
            )


def write(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG of few colors."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", bbox_inches="tight")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(light_png(buffer.getvalue(), WIDTH))
    print(f"{path.resolve().relative_to(DOCS)}: {path.stat().st_size / 1000:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for each in PAGES:
            draw(each)
