"""Figures: arrays in, a matplotlib Figure out; nothing is shown and no global state is touched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sparcell.pl.benchmark import (
    costs,
    likelihoods,
    measure_table,
    standing_figures,
    trade_off,
    type_and_batch,
    written,
)
from sparcell.pl.charts import QC_TITLES, loss_curves, qc_histograms, score_heatmap, training_times
from sparcell.pl.maps import generated_map, map_3d, overview, paired_map
from sparcell.pl.programs import (
    program_figures,
    program_genes,
    program_heatmap,
    program_map,
    program_maps,
    program_traversals,
)
from sparcell.pl.style import style
from sparcell.pl.tables import presets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparcell.results.benchmark import BenchmarkResults
    from sparcell.results.programs import ProgramResults
    from sparcell.results.study import MethodResult, StudyResults

__all__ = [
    "QC_TITLES",
    "costs",
    "figures",
    "generated_map",
    "likelihoods",
    "loss_curves",
    "map_3d",
    "measure_table",
    "overview",
    "paired_map",
    "png",
    "program_genes",
    "program_heatmap",
    "program_map",
    "program_maps",
    "program_traversals",
    "qc_histograms",
    "qc_limits",
    "save_all",
    "save_programs",
    "save_standings",
    "score_heatmap",
    "trade_off",
    "training_times",
    "type_and_batch",
    "written",
]


def figures(results: StudyResults) -> Iterator[tuple[str, Figure]]:
    """Yield every figure of a study with its file name (no ending), one at a time to spare memory."""
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
    if row.tsne3d_n3 is not None:
        yield f"map3d-{name}", map_3d(row.tsne3d_n3, labels, row.title)
    if row.generated_m2 is not None or row.interpolated_s2 is not None:
        walk, ends = row.interpolated_s2, row.interpolated_labels
        yield (
            f"generated-{name}",
            generated_map(row.tsne2d_n2, labels, row.generated_m2, walk, ends, row.title),
        )


def qc_limits(results: StudyResults) -> dict[str, tuple[float | None, float | None]]:
    """Read the limits of quality control from `provenance["qc_limits"]` (column → (lower, upper)), if they are there."""
    found = results.provenance.get("qc_limits")
    if not isinstance(found, dict):
        return {}
    return {str(name): (pair[0], pair[1]) for name, pair in found.items()}


def save_all(results: StudyResults, folder: Path) -> list[Path]:
    """Write every figure as PNG into `folder`; each is written aside and renamed, so none is ever half there.

    Parameters
    ----------
    results
        What the study found.
    folder
        Made if it is missing.

    Returns
    -------
    list of pathlib.Path
        The files, in the order they were drawn.
    """
    return _save(figures(results), folder)


def save_standings(standings: BenchmarkResults, folder: Path) -> list[Path]:
    """Write every figure of a benchmark as PNG into `folder`, as `save_all` does for a study."""
    return _save(standing_figures(standings), folder)


def save_programs(found: ProgramResults, folder: Path) -> list[Path]:
    """Write every figure of a catalogue of programs as PNG and PDF into `folder`, as `save_all` does for a study."""
    return _save(program_figures(found), folder, ("png", "pdf"))


def _save(
    drawn: Iterator[tuple[str, Figure]], folder: Path, formats: tuple[str, ...] = ("png",)
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for name, figure in drawn:
        for ending in formats:
            path = folder / f"{name}.{ending}"
            aside = folder / f".{name}.{os.getpid()}.part"
            try:
                aside.write_bytes(png(figure) if ending == "png" else pdf(figure))
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
            saved.append(path)
    return saved


def png(figure: Figure, dpi: float = 150) -> bytes:
    """Render a figure as PNG."""
    from io import BytesIO

    buffer = BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
    """Render a figure as PDF, its cells as an image and everything else as lines and letters; without a date, so the same each time."""
    from io import BytesIO

    buffer = BytesIO()
    with style():
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
