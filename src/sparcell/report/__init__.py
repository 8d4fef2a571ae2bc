"""HTML pages of an analysis, a study, a benchmark, and a model's gene programs. Each page is one file that needs no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparcell.io import files
from sparcell.report import analysis_page, benchmark_page, programs_page, study_page

if TYPE_CHECKING:
    from sparcell.results.analysis import AnalysisResults
    from sparcell.results.benchmark import BenchmarkResults
    from sparcell.results.programs import ProgramResults
    from sparcell.results.study import StudyResults

__all__ = [
    "render_analysis",
    "render_benchmark",
    "render_programs",
    "render_study",
    "write_analysis",
    "write_benchmark",
    "write_programs",
    "write_study",
]


def __dir__() -> list[str]:
    return list(__all__)


_HERE = Path(__file__).parent


def write_study(results: StudyResults, path: Path, title: str | None = None) -> None:
    """Write the report of a study; the file is replaced as a whole.

    Parameters
    ----------
    results
        The results of a study.
    path
        The HTML file; its folder must exist.
    title
        Title of the page. Default: the name of the data.

    Examples
    --------
    ::

        sp.report.write_study(results, Path("study.html"))
    """
    files.write_text(path, render_study(results, title))


def write_analysis(results: AnalysisResults, path: Path, title: str | None = None) -> None:
    """Write the report of an analysis, like `write_study`.

    Examples
    --------
    ::

        sp.report.write_analysis(results, Path("report.html"))
    """
    files.write_text(path, render_analysis(results, title))


def write_benchmark(results: BenchmarkResults, path: Path, title: str | None = None) -> None:
    """Write the page of a benchmark, like `write_study`.

    Examples
    --------
    ::

        sp.report.write_benchmark(results, Path("benchmark.html"))
    """
    files.write_text(path, render_benchmark(results, title))


def write_programs(results: ProgramResults, path: Path, title: str | None = None) -> None:
    """Write the page of a model's gene programs, like `write_study`.

    Examples
    --------
    ::

        sp.report.write_programs(results, Path("programs.html"))
    """
    files.write_text(path, render_programs(results, title))


def render_study(results: StudyResults, title: str | None = None) -> str:
    """Return the report of a study as HTML; `title` as for `write_study`.

    Examples
    --------
    ::

        html = sp.report.render_study(results)
    """
    return _page("study.html", study_page.page_context(results), study_page.chart_store(results), title)


def render_analysis(results: AnalysisResults, title: str | None = None) -> str:
    """Return the report of an analysis as HTML; `title` as for `write_study`.

    Examples
    --------
    ::

        html = sp.report.render_analysis(results)
    """
    context = analysis_page.page_context(results)
    return _page("analysis.html", context, analysis_page.chart_store(results), title)


def render_benchmark(results: BenchmarkResults, title: str | None = None) -> str:
    """Return the page of a benchmark as HTML; `title` as for `write_study`.

    Examples
    --------
    ::

        html = sp.report.render_benchmark(results)
    """
    context = benchmark_page.page_context(results)
    return _page("benchmark.html", context, benchmark_page.chart_store(results), title)


def render_programs(results: ProgramResults, title: str | None = None) -> str:
    """Return the page of a model's gene programs as HTML; `title` as for `write_study`.

    Examples
    --------
    ::

        html = sp.report.render_programs(results)
    """
    context = programs_page.page_context(results)
    return _page("programs.html", context, programs_page.chart_store(results), title)


def _page(template: str, context: dict[str, Any], charts: dict[str, Any], title: str | None) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    # Only files of this package, and JSON with escaped brackets, are marked as safe. All else is escaped.
    raw = {name: Markup(_code(*names)) for name, names in _CODE.items()}
    titled = context if title is None else {**context, "title": title}
    return environment.get_template(template).render(**titled, **raw, charts=Markup(json_for_script(charts)))


_CODE = {"css": ("style.css",), "js": ("maps.js", "page.js"), "plotly": ("vendor/plotly-basic.min.js",)}
"""Name in the templates → files of this package."""


def _code(*names: str) -> str:
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


def json_for_script(value: object) -> str:
    """Return JSON with escaped brackets, which can neither end its script element nor start another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
