"""Output of a study: tables, figures, AnnData, provenance, pages of gene programs, and the report."""

from __future__ import annotations

import logging
import warnings
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from sparcell import pl, report
from sparcell.config.experiments import ProgramsConfig
from sparcell.errors import InputError, MissingLabelsWarning, NoProgramsWarning
from sparcell.experiments import writing
from sparcell.experiments.provenance import qc_limits, record
from sparcell.metrics.sparsity import sparsity_summary
from sparcell.models import load
from sparcell.programs import pipeline
from sparcell.report.programs_text import lead
from sparcell.tl.stability import copy_without_results

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from sparcell.config.experiments import StudyConfig
    from sparcell.results.study import MethodResult, StudyResults
    from sparcell.study.prepare import StudyData

log = logging.getLogger("sparcell")

FIGURES_OF_ROWS = ("overview-*.png", "map2d-*.png", "map3d-*.png", "generated-*.png")
"""File names of the figures that depend on which rows a study has."""


def write(results: StudyResults, adata: AnnData, folder: Path) -> None:
    """Write everything except the models into the folder. Each file is replaced as a whole; the report comes last."""
    tables = {"scores": results.scores, "times": results.times, "history": results.history}
    writing.write_tables(tables, folder)
    figures = pl.save_study(results, folder / "figures")
    writing.remove_stale(folder / "figures", FIGURES_OF_ROWS, figures)
    cells = writing.annotated(adata, results.labels, results.rows, uns_key="sparcell_study")
    writing.write_record(cells, folder / "study.h5ad", results.provenance)
    pages = write_programs(results, adata, folder)
    report.write_study(replace(results, program_pages=pages), folder / "report.html")


def write_programs(results: StudyResults, adata: AnnData, folder: Path) -> dict[str, tuple[str, str]]:
    """Write a page of gene programs for each row with spikes that became sparse: a latent that is on in every cell is no gene program.

    Parameters
    ----------
    results
        The results, whose maps the pages show.
    adata
        The cells.
    folder
        Output folder of the study, with the models of the first seed.

    Returns
    -------
    Name of the row → (file of the page, summary of the page in a sentence).
    """
    pages = {}
    for row in results.rows:
        if is_sparse(row):
            name = f"programs_{row.name}.html"
            pages[row.name] = name, write_page(results, row, adata, folder / name)
    writing.remove_stale(folder, ("programs_*.html",), (folder / name for name, _ in pages.values()))
    return pages


def is_sparse(row: MethodResult) -> bool:
    """Return whether a row has spikes and became sparse; a log line names a row with spikes that did not."""
    if row.inclusion_nk is None or row.active_k is None:
        return False
    summary = sparsity_summary(row.inclusion_nk, row.active_k)
    if summary.n_active and not summary.is_sparse:
        log.info(
            "%s did not become sparse (mean inclusion probability of active latents %.2f): no page of gene programs",
            *(row.title, summary.mean_inclusion),
        )
    return summary.n_active > 0 and summary.is_sparse


def write_page(results: StudyResults, row: MethodResult, adata: AnnData, path: Path) -> str:
    """Write the page of one row's programs, and return its summary."""
    cells, model = copy_without_results(adata), load(path.parent / "models" / row.name)
    cells.obs["label"] = results.labels
    with warnings.catch_warnings():
        # The user has seen the first warning before training, and reads the second one on the page.
        for category in (MissingLabelsWarning, NoProgramsWarning):
            warnings.simplefilter("ignore", category)
        try:
            config = ProgramsConfig(labels_key="label", seeds=1)
            programs = pipeline.collect(model, cells, config, map_n2=row.tsne2d_n2)
        except InputError:  # a single label, or a different label for each cell
            programs = pipeline.collect(model, cells, map_n2=row.tsne2d_n2)
    embedding = replace(programs.embedding, source="that of the report")
    programs = replace(programs, title=f"{results.title}: {row.title}", embedding=embedding)
    report.write_programs(programs, path)
    return lead(programs)


def provenance(command: str, data: StudyData, config: StudyConfig, seconds: float) -> dict[str, object]:
    """Return the provenance of a study, with the limits of quality control."""
    settings = asdict(config)
    described = record(
        command, data.title, data.digest, n_seeds=config.seeds or 1, config=settings, seconds=seconds
    )
    return described | {"qc_limits": qc_limits(data.qc)} | ({"sampled": data.sampled} if data.sampled else {})
