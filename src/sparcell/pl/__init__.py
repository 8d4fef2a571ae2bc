"""Figures: arrays in, a matplotlib Figure out. No figure is shown, and no global state is changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sparcell.errors import OutputError
from sparcell.pl.analysis import analysis_figures, marker_dots, two_maps
from sparcell.pl.benchmark import (
    benchmark_figures,
    costs,
    format_mean,
    likelihoods,
    metric_table,
    trade_off,
    type_and_batch,
)
from sparcell.pl.charts import QC_TITLES, loss_curves, qc_histograms, qc_limits, score_heatmap, training_times
from sparcell.pl.conditions import program_conditions
from sparcell.pl.criticism import model_fit
from sparcell.pl.history import history_curves
from sparcell.pl.maps import generated_map, label_maps, map_3d, overview, paired_map
from sparcell.pl.programs import (
    program_figures,
    program_genes,
    program_heatmap,
    program_map,
    program_maps,
    program_traversals,
)
from sparcell.pl.stored_programs import program, programs
from sparcell.pl.style import style
from sparcell.pl.tables import presets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparcell.results.analysis import AnalysisResults
    from sparcell.results.benchmark import BenchmarkResults
    from sparcell.results.programs import ProgramResults
    from sparcell.results.study import MethodResult, StudyResults

__all__ = [
    "QC_TITLES",
    "analysis_figures",
    "benchmark_figures",
    "costs",
    "format_mean",
    "generated_map",
    "history_curves",
    "label_maps",
    "likelihoods",
    "loss_curves",
    "map_3d",
    "marker_dots",
    "metric_table",
    "model_fit",
    "overview",
    "paired_map",
    "png",
    "program",
    "program_conditions",
    "program_figures",
    "program_genes",
    "program_heatmap",
    "program_map",
    "program_maps",
    "program_traversals",
    "programs",
    "qc_histograms",
    "qc_limits",
    "save_analysis",
    "save_benchmark",
    "save_programs",
    "save_study",
    "score_heatmap",
    "study_figures",
    "trade_off",
    "training_times",
    "two_maps",
    "type_and_batch",
]


def __dir__() -> list[str]:
    return list(__all__)


def study_figures(results: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Yield all figures of a study with their file names (no ending), one at a time to save memory.

    Examples
    --------
    ::

        for name, figure in sp.pl.study_figures(results):
            figure.savefig(f"{name}.png")
    """
    for row in results.rows:
        yield from _row_figures(results, row)
    for preset, rows in presets(results.rows):
        yield _file_name(f"overview-{preset}"), overview(rows, results.labels)
    if len(results.scores):
        yield "scores", score_heatmap(results.scores, results.rows)
        yield "scores-latent", score_heatmap(results.scores, results.rows, space="latent")
    names = {row.name for row in results.rows}
    if len(results.history) and names & set(results.history["model"]):
        yield "loss", loss_curves(results.history, results.rows)
    if len(results.times) and names & set(results.times["model"]):
        yield "times", training_times(results.times, results.rows)
    if not results.qc.empty:
        yield "qc", qc_histograms(results.qc, qc_limits(results))


def _row_figures(results: StudyResults, row: MethodResult) -> Iterator[tuple[str, Figure]]:
    name = _file_name(row.name)
    labels = results.labels
    yield f"map2d-{name}", paired_map(row.tsne2d_n2, labels, row.kmeans_n, row.centroids_c2, row.title)
    if row.generated_m2 is not None or row.interpolated_s2 is not None:
        walk, ends = row.interpolated_s2, row.interpolated_labels
        yield (
            f"generated-{name}",
            generated_map(row.tsne2d_n2, labels, row.generated_m2, walk, ends, row.title),
        )


def save_study(results: StudyResults, folder: Path) -> list[Path]:
    """Write all figures of a study as PNG into a folder; each file is replaced as a whole.

    Parameters
    ----------
    results
        The results of a study.
    folder
        Created if it is missing.

    Returns
    -------
    The files, in the order they were drawn.

    Examples
    --------
    ::

        sp.pl.save_study(results, Path("figures"))
    """
    return _save(study_figures(results), folder)


def save_analysis(results: AnalysisResults, folder: Path) -> list[Path]:
    """Write all figures of an analysis as PNG into a folder, like `save_study`.

    Examples
    --------
    ::

        sp.pl.save_analysis(results, Path("figures"))
    """
    return _save(analysis_figures(results), folder)


def save_benchmark(results: BenchmarkResults, folder: Path) -> list[Path]:
    """Write all figures of a benchmark as PNG into a folder, like `save_study`.

    Examples
    --------
    ::

        sp.pl.save_benchmark(results, Path("figures"))
    """
    return _save(benchmark_figures(results), folder)


def save_programs(results: ProgramResults, folder: Path) -> list[Path]:
    """Write all figures of a model's gene programs as PNG and PDF into a folder, like `save_study`.

    Examples
    --------
    ::

        sp.pl.save_programs(results, Path("figures"))
    """
    return _save(program_figures(results), folder, ("png", "pdf"))


def _save(
    figures: Iterable[tuple[str, Figure]], folder: Path, formats: tuple[str, ...] = ("png",)
) -> list[Path]:
    saved = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures:
            for ending in formats:
                path = folder / f"{name}.{ending}"
                _write(path, png(figure) if ending == "png" else pdf(figure))
                saved.append(path)
    except OSError as error:
        raise OutputError(
            f"figures could not be written to {folder} ({error.strerror or error}). Figures under final names are whole. Make room there, "
            "or give another folder."
        ) from error
    return saved


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole."""
    aside = path.with_name(f".{path.stem}.{os.getpid()}.part")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def png(figure: Figure, dpi: float = 150) -> bytes:
    """Return a figure as PNG; `dpi` is dots per inch.

    Examples
    --------
    ::

        Path("costs.png").write_bytes(sp.pl.png(sp.pl.costs(results), dpi=300))
    """
    from io import BytesIO

    buffer = BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
    """Return a figure as PDF: cells as an image, all else as vectors. Without a date, so equal figures give equal files."""
    from io import BytesIO

    buffer = BytesIO()
    with style():
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
