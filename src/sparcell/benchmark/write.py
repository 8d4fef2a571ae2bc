"""Results of a benchmark: tables and rows from its runs, the files it writes, and the tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import groupby
from typing import TYPE_CHECKING

import pandas as pd

from sparcell import pl, report
from sparcell.benchmark.entries import installed
from sparcell.benchmark.scoring import reproduced_fractions, score_line, single_latent_metrics
from sparcell.experiments import writing
from sparcell.experiments.embedding import method_result
from sparcell.experiments.provenance import record
from sparcell.experiments.runs import Run
from sparcell.results.benchmark import (
    LOCAL_MIXING,
    METRICS,
    BenchmarkResults,
    Skipped,
    epochs_text,
    other_epochs,
    summary,
)

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from sparcell.benchmark.entries import BenchmarkEntry
    from sparcell.benchmark.split import BenchmarkData
    from sparcell.config.experiments import BenchmarkConfig
    from sparcell.results.study import MethodResult


@dataclass(frozen=True)
class ScoredRun:
    """One run of a row, and its scores."""

    entry: BenchmarkEntry
    seed: int
    run: Run
    scores: Run


def collect(
    data: BenchmarkData,
    scored: Sequence[ScoredRun],
    skipped: Sequence[Skipped],
    record: dict[str, object],
    *,
    disentanglement: bool = False,
) -> BenchmarkResults:
    """Return the tables and rows of all runs, ordered by row, then by seed; `disentanglement` adds the metrics of single latents."""
    order = list(dict.fromkeys(one.entry.name for one in scored))
    ordered = sorted(scored, key=lambda one: order.index(one.entry.name))
    lines = [
        {
            "method": one.entry.name,
            "seed": one.seed,
            "own_epochs": one.entry.own_epochs or float("nan"),
            **score_line(one.run, one.scores, data.labels),
        }
        for one in ordered
    ]
    if disentanglement:
        for line, metrics in zip(lines, single_latent_lines(ordered, data.labels), strict=True):
            line.update(metrics)
    first = {one.entry.name: one for one in reversed(ordered)}
    notes = {name: str(first[name].run.arrays["note"]) for name in order}
    not_scored = [
        Skipped(f"scIB's metrics of {one.entry.title}, seed {one.seed}", str(error))
        for one in ordered
        if (error := one.scores.arrays.get("scib_error", ""))
    ]
    return BenchmarkResults(
        title=data.title,
        labels=data.labels,
        batches=data.batches,
        rows=tuple(row_of(first[name]) for name in order),
        scores=pd.DataFrame(lines, columns=["method", "seed", "epochs", "own_epochs", *METRICS]),
        skipped=(*skipped, *not_scored),
        notes={name: note for name, note in notes.items() if note},
        batch_warning=data.batch_warning,
        provenance=record,
    )


def single_latent_lines(scored: Sequence[ScoredRun], labels: pd.Categorical) -> Iterator[dict[str, float]]:
    """Yield the metrics of single latents of each run; the runs of a method must be adjacent."""
    for _, group in groupby(scored, lambda one: one.entry.name):
        seeds = list(group)
        unit_prior = seeds[0].entry.method.unit_prior
        reproduced = reproduced_fractions([one.run for one in seeds], unit_prior=unit_prior)
        for one, fraction in zip(seeds, reproduced, strict=True):
            metrics = single_latent_metrics(one.run, labels, unit_prior=unit_prior)
            yield metrics | {"reproduced": fraction}


def row_of(one: ScoredRun) -> MethodResult:
    """Return the result of a method from its first run and the map and clusters of its scores."""
    settings = dict(one.entry.method.settings)
    model, model_settings = settings.pop("model", None), settings.pop("settings", {})
    return method_result(
        one.entry.name,
        one.entry.title,
        Run({**one.run.arrays, **one.scores.arrays}),
        model=model,
        preset=one.entry.kind,
        settings={**settings, **model_settings},
    )


def provenance(
    command: str, data: BenchmarkData, config: BenchmarkConfig, seconds: float
) -> dict[str, object]:
    """Return the provenance of a benchmark."""
    optional = ("scib-metrics", "harmonypy", "scvi-tools", "drvi-py", "jax", "lightning")
    used = {
        "baselines": config.baselines_used,
        "external_models": config.external_models_used,
        "n_components": config.components,
    }
    described = record(
        command,
        data.title,
        data.digest,
        n_seeds=config.seeds,
        config=asdict(config) | used,
        seconds=seconds,
        optional_versions={name: metadata.version(name) for name in optional if installed(name)},
    )
    return described | {
        "n_cells": data.cells.n_obs,
        "n_genes": data.cells.n_vars,
        "n_genes_before": data.n_genes_before,
        "n_test": data.n_test,
        "n_dropped": data.n_dropped,
        **({"sampled": data.sampled} if data.sampled else {}),
    }


def write(results: BenchmarkResults, cells: AnnData, folder: Path) -> None:
    """Write tables, figures, AnnData, provenance and page into the folder. Each file is replaced as a whole; the page comes last."""
    tables = {"scores": results.scores, "summary": summary(results.scores).reset_index()}
    writing.write_tables(tables, folder)
    figures = pl.save_benchmark(results, folder / "figures")
    writing.remove_stale(folder / "figures", ("*.png",), figures)
    annotated = writing.annotated(cells, results.labels, results.rows, uns_key="sparcell_benchmark")
    writing.write_record(annotated, folder / "benchmark.h5ad", results.provenance)
    report.write_benchmark(results, folder / "benchmark.html")


TERMINAL_TABLES = {
    "aggregate scores": ("total", "bio_conservation", "batch_correction", "kbet", "ilisi"),
    "clusters and types": ("map_nmi", "map_ari", "latent_nmi", "latent_ari"),
    "single latents": ("lms_smi", "lms_spn", "msas_smi", "msgs_smi", "n_active", "mean_included", "reproduced"),
    "held-out likelihood and cost": ("log_likelihood", "train_seconds", "peak_mib"),
}  # fmt: skip
"""Title → metrics of the tables in the terminal; the page and the files hold all metrics."""

SHORT_TITLES = {
    "bio_conservation": "bio",
    "batch_correction": "batch",
    "log_likelihood": "log-likelihood",
    "n_active": "active",
    "mean_included": "on",
}
"""Titles of metrics whose usual titles are too long for a terminal."""


def show(results: BenchmarkResults) -> None:
    """Print the main metrics as tables, what limits their meaning, and what was skipped.

    Examples
    --------
    ::

        results = sp.benchmark.run("counts.h5ad", "benchmark", sp.BenchmarkConfig(labels_key="cell_type"))
        sp.benchmark.show(results)
    """
    means, others = summary(results.scores), other_epochs(results.scores)
    names = {
        row.name: f"{row.name}, {epochs_text(*others[row.name])}" if row.name in others else row.name
        for row in results.rows
    }
    for title, metrics in TERMINAL_TABLES.items():
        keys = [key for key in metrics if means[key].notna().any()]
        if keys:
            columns = ["method", *(SHORT_TITLES.get(key, METRICS[key].title) for key in keys)]
            lines = [
                [names[row.name], *(pl.format_mean(means, row.name, key) for key in keys)]
                for row in results.rows
            ]
            writing.print_table(f"{results.title}: {title}", columns, lines)
    if means["batch_correction"].notna().any():
        writing.print_line(LOCAL_MIXING)
    if results.batch_warning:
        writing.print_line(f"Warning: {results.batch_warning}")
    for entry in results.skipped:
        writing.print_line(f"Skipped: {entry.title} ({entry.reason})")
