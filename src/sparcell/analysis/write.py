"""Output of an analysis: cells, tables, figures, the page of gene programs, provenance, and the report."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pandas as pd

from sparcell import pl, report
from sparcell import programs as programs_room
from sparcell.analysis.conditions import program_changes
from sparcell.config.experiments import ProgramsConfig
from sparcell.errors import MissingLabelsWarning, NoProgramsWarning
from sparcell.experiments import writing
from sparcell.experiments.provenance import qc_limits, record
from sparcell.io import places
from sparcell.models import load
from sparcell.report.programs_text import lead
from sparcell.tl.stability import copy_without_results

if TYPE_CHECKING:
    from pathlib import Path

    from sparcell.analysis.prepare import AnalysisData
    from sparcell.config.analysis import AnalysisConfig
    from sparcell.results.analysis import AnalysisResults
    from sparcell.results.programs import ProgramResults


def write(
    results: AnalysisResults,
    data: AnalysisData,
    config: AnalysisConfig,
    folder: Path,
    command: str,
    started: float,
) -> AnalysisResults:
    """Write everything except the models into the folder, the report last; return the results with programs and provenance."""
    if config.programs:
        found = write_programs(results, data, config, folder)
        type_n = pd.Series(results.cell_types, index=data.adata.obs_names)
        table, reasons = program_changes(data.adata, type_n, found, load(folder / "programs_model"), config)
        page = ("programs/programs.html", lead(found))
        results = replace(results, programs=page, program_changes=table, doubts=(*results.doubts, *reasons))
    results = replace(results, provenance=provenance(command, data, config, time.perf_counter() - started))
    writing.write_tables(tables(results), folder)
    pl.save_analysis(results, folder / "figures")
    writing.write_record(data.adata, folder / "analysis.h5ad", results.provenance)
    report.write_analysis(results, folder / "report.html")
    return results


def tables(results: AnalysisResults) -> dict[str, pd.DataFrame]:
    """Return the tables by the names of their files, with lists of genes as text."""
    clusters = results.cluster_table.copy()
    for column in ("genes", "set_genes"):
        clusters[column] = [" ".join(genes) for genes in clusters[column]]
    named = {"clusters": clusters, "markers": results.markers}
    more = {
        "composition": results.composition,
        "composition_test": results.composition_test,
        "changes": results.changes,
        "program_changes": results.program_changes,
        "fit": None if results.criticism is None else results.criticism.genes,
    }
    return named | {name: table for name, table in more.items() if table is not None}


def write_programs(
    results: AnalysisResults, data: AnalysisData, config: AnalysisConfig, folder: Path
) -> ProgramResults:
    """Write the page of gene programs and its tables, by known labels if there are any; return the programs."""
    cells = copy_without_results(data.adata)
    known = config.labels_key
    cells.obs["cell type"] = pd.Categorical(results.cell_types) if known is None else data.adata.obs[known]
    cells.obsm["X_tsne"] = results.tsne_n2
    out = folder / "programs"
    places.remove(out)
    settings = ProgramsConfig(
        labels_key="cell type", seeds=1, gmt=config.gmt, seed=config.seed, title=f"{results.title}: programs"
    )
    with warnings.catch_warnings():
        for category in (MissingLabelsWarning, NoProgramsWarning):
            warnings.simplefilter("ignore", category)
        return programs_room.run(cells, folder / "programs_model", out, settings, silent=True)


def provenance(command: str, data: AnalysisData, config: AnalysisConfig, seconds: float) -> dict[str, object]:
    """Return the provenance of an analysis, with the limits of quality control."""
    described = record(command, data.title, data.digest, n_seeds=1, config=asdict(config), seconds=seconds)
    sizes = {"n_cells": data.adata.n_obs, "n_genes": data.adata.n_vars}
    sampled = {"sampled": data.sampled} if data.sampled else {}
    return described | {"seeds": [config.seed], "qc_limits": qc_limits(data.qc)} | sizes | sampled
