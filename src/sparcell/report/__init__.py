"""HTML pages of a study, a benchmark, and a model's gene programs. Each page is one file that needs no network."""

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
    "render_benchmark",
    "render_programs",
    "render_study",
    "write_benchmark",
    "write_programs",
    "write_study",
]


def __dir__() -> list[str]:
    return list(__all__)


_HERE = Path(__file__).parent


def write_study(results: StudyResults, path: Path) -> None:
    """Write the report of a study; the file is replaced as a whole.

    Parameters
    ----------
    results
        The results of a study.
    path
        The HTML file; its folder must exist.
    """
    files.write_text(path, render_study(results))


def write_benchmark(results: BenchmarkResults, path: Path) -> None:
    """Write the page of a benchmark, like `write_study`."""
    files.write_text(path, render_benchmark(results))


def write_programs(results: ProgramResults, path: Path) -> None:
    """Write the page of a model's gene programs, like `write_study`."""
    files.write_text(path, render_programs(results))


def render_study(results: StudyResults) -> str:
    """Return the report of a study as HTML."""
    return _page("study.html", study_page.page_context(results, _png_base64), study_page.chart_store(results))


def render_benchmark(results: BenchmarkResults) -> str:
    """Return the page of a benchmark as HTML."""
    context = benchmark_page.page_context(results, _png_base64)
    return _page("benchmark.html", context, benchmark_page.chart_store(results))


def render_programs(results: ProgramResults) -> str:
    """Return the page of a model's gene programs as HTML."""
    return _page("programs.html", programs_page.page_context(results), programs_page.chart_store(results))


def _page(template: str, context: dict[str, Any], charts: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    # Only files of this package, and JSON with escaped brackets, are marked as safe. All else is escaped.
    raw = {
        name: Markup((_HERE / file).read_text(encoding="utf-8"))
        for name, file in (("css", "style.css"), ("js", "page.js"))
    }
    return environment.get_template(template).render(
        **context, **raw, plotly=Markup(get_plotlyjs()), charts=Markup(json_for_script(charts))
    )


def json_for_script(value: object) -> str:
    """Return JSON with escaped brackets, which can neither end its script element nor start another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _png_base64(figure: Figure) -> str:
    from sparcell.pl import png

    return base64.b64encode(png(figure, dpi=110)).decode("ascii")
