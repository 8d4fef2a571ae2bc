"""The pages: each self-contained, they show, compare and say in words what a study or a benchmark found, or a model's programs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparcell.io import files
from sparcell.report import benchmark_page, programs_page, study_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparcell.results.benchmark import BenchmarkResults
    from sparcell.results.programs import ProgramResults
    from sparcell.results.study import StudyResults

__all__ = [
    "render",
    "render_programs",
    "render_standings",
    "write",
    "write_programs",
    "write_standings",
]

_HERE = Path(__file__).parent


def write(results: StudyResults, path: Path) -> None:
    """Write the report, aside first and then renamed, so that `path` never holds half a page.

    Parameters
    ----------
    results
        What the study found.
    path
        The HTML file; its folder must exist.
    """
    files.write_text(path, render(results))


def write_standings(standings: BenchmarkResults, path: Path) -> None:
    """Write the page of a benchmark, as `write` does that of a study."""
    files.write_text(path, render_standings(standings))


def write_programs(found: ProgramResults, path: Path) -> None:
    """Write the page of a model's programs, as `write` does that of a study."""
    files.write_text(path, render_programs(found))


def render(results: StudyResults) -> str:
    """Build the page as a string."""
    return _page("study.html", study_page.page_context(results, _png_base64), study_page.chart_store(results))


def render_standings(standings: BenchmarkResults) -> str:
    """Build the page of a benchmark as a string."""
    context = benchmark_page.page_context(standings, _png_base64)
    return _page("benchmark.html", context, benchmark_page.chart_store(standings))


def render_programs(found: ProgramResults) -> str:
    """Build the page of a model's programs as a string."""
    return _page("programs.html", programs_page.page_context(found), programs_page.chart_store(found))


def _page(template: str, context: dict[str, Any], charts: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    # Only files of this package and JSON with its brackets escaped are marked as safe; all else is escaped.
    raw = {
        name: Markup((_HERE / file).read_text(encoding="utf-8"))
        for name, file in (("css", "style.css"), ("js", "page.js"))
    }
    return environment.get_template(template).render(
        **context, **raw, plotly=Markup(get_plotlyjs()), charts=Markup(json_for_script(charts))
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
