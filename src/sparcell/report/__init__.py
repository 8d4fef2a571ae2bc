"""The report: one self-contained page that shows, compares and says in words what a study found."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sparcell import files
from sparcell.report.page import chart_store, page_context

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparcell.results import Results

__all__ = ["render", "write"]

_HERE = Path(__file__).parent


def write(results: Results, path: Path) -> None:
    """Write the report, aside first and then renamed, so that `path` never holds half a page.

    Parameters
    ----------
    results
        What the study found.
    path
        The HTML file; its folder must exist.
    """
    files.write_text(path, render(results))


def render(results: Results) -> str:
    """Build the page as a string."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    # Only files of this package and JSON with its brackets escaped are marked as safe; all else is escaped.
    raw = {
        name: Markup((_HERE / file).read_text(encoding="utf-8"))
        for name, file in (("css", "style.css"), ("js", "page.js"))
    }
    return environment.get_template("template.html").render(
        **page_context(results, _png_base64),
        **raw,
        plotly=Markup(get_plotlyjs()),
        charts=Markup(json_for_script(chart_store(results))),
    )


def json_for_script(value: object) -> str:
    """JSON that cannot end the script element it stands in, nor start another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _png_base64(figure: Figure) -> str:
    from sparcell.pl import png

    return base64.b64encode(png(figure, dpi=110)).decode("ascii")
