"""Sphinx extension: formulas as MathML, which browsers show by themselves, without scripts, fonts or a network.

docutils translates LaTeX to MathML. Select the renderer with ``html_math_renderer = "mathml"``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

log = logging.getLogger(__name__)


def mathml(tex: str, block: bool, node: nodes.Node) -> str:
    """Return a formula as a ``<math>`` element; LaTeX that cannot be translated is a warning."""
    try:
        return spaced(latex2mathml.tex2mathml(tex, as_block=block))
    except Exception as error:
        log.warning("formula %r has no MathML: %s", tex, error, location=node, type="mathml")
        return f"<code>{nodes.unescape(tex)}</code>"


def spaced(text: str) -> str:
    """Return MathML with TeX's thin spaces around the names of functions, as in "β log p"."""
    thin = '<mspace width="0.17em"></mspace>'
    text = re.sub(r"(<mo>&ApplyFunction;</mo>)(?!\s*<mo)", rf"\1{thin}", text)
    return re.sub(
        r"(</m(?:i|n|sub|sup|subsup|row|frac)>)(\s*<mi>[a-z]{2,}</mi>\s*<mo>&ApplyFunction)",
        rf"\1{thin}\2",
        text,
    )


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula inside a line."""
    self.body.append(mathml(node.astext(), False, node))
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own line, which scrolls by itself where the page is too narrow."""
    self.body.append(f'<div class="formula">{mathml(node.astext(), True, node)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(visit_math, None), block_renderers=(visit_math_block, None)
    )
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
