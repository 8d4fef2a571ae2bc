"""What runs of a benchmark come to: the rows, their tables, and all that is written.

Suffixes: n cells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell import io, pl, report
from sparcell.benchmark.scoring import line, readable, reproduced_fractions
from sparcell.experiments.provenance import digest_of, record
from sparcell.io import files
from sparcell.results.benchmark import MEASURES, BenchmarkResults, Skipped, summary
from sparcell.results.study import MethodResult

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from sparcell.benchmark.methods import Method
    from sparcell.benchmark.split import BenchmarkData
    from sparcell.config.experiments import BenchmarkConfig
    from sparcell.experiments.runs import Run


@dataclass(frozen=True)
class BenchmarkEntry:
    """A row of the benchmark: a method with all its settings."""

    name: str
    title: str
    kind: str
    """One of those in `standings`."""
    method: Method

    def unavailable_reason(self, *, batches: bool) -> str:
        """Say why this row cannot be run here; nothing where it can."""
        gone = [name for name in self.method.needs if not installed(name)]
        if gone:
            return not_installed(" and ".join(gone), self.method.extra)
        if self.method.needs_batch and not batches:
            return "it removes batches, and none are given (--batch-key)"
        return ""

    def fingerprint(self, ground_digest: str, seed: int, n_samples: int) -> str:
        """Digest of everything that a run depends on: of a peer its own settings and versions, not ours."""
        versions = {name: metadata.version(name) for name in self.method.packages}
        method = self.method
        return digest_of(
            [
                method.format,
                method.name,
                method.runner,
                method.settings,
                versions,
                ground_digest,
                seed,
                n_samples,
            ]
        )


@dataclass(frozen=True)
class ScoredRun:
    """One run and its scores."""

    contender: BenchmarkEntry
    seed: int
    run: Run
    scored: Run


def installed(distribution: str) -> bool:
    """Tell whether a distribution is there."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def not_installed(what: str, extra: str) -> str:
    """Say how to get it."""
    return f"{what} is not installed; pip install 'sparcell[{extra}]'"


def collect(
    ground: BenchmarkData,
    outcomes: Sequence[ScoredRun],
    skipped: Sequence[Skipped],
    record: dict[str, object],
    *,
    disentanglement: bool = False,
) -> BenchmarkResults:
    """Put the runs together into tables and rows; the order is that of the rows, then of the seeds. `disentanglement`: with readability."""
    order = list(dict.fromkeys(one.contender.name for one in outcomes))
    by_row = sorted(outcomes, key=lambda one: order.index(one.contender.name))
    lines = [
        {"method": one.contender.name, "seed": one.seed, **line(one.run, one.scored, ground.labels)}
        for one in by_row
    ]
    if disentanglement:
        for found, more in zip(lines, readings(by_row, ground.labels), strict=True):
            found.update(more)
    first = {one.contender.name: one for one in reversed(by_row)}
    notes = {name: str(first[name].run.arrays["note"]) for name in order}
    unscored = [
        Skipped(f"scIB's measures of {one.contender.title}, seed {one.seed}", str(trouble))
        for one in by_row
        if (trouble := one.scored.arrays.get("scib_trouble", ""))
    ]
    return BenchmarkResults(
        title=ground.title,
        labels=ground.labels,
        batches=ground.batches,
        rows=tuple(as_row(first[name]) for name in order),
        scores=pd.DataFrame(lines, columns=["method", "seed", "epochs", *MEASURES]),
        skipped=(*skipped, *unscored),
        notes={name: note for name, note in notes.items() if note},
        provenance=record,
    )


def readings(outcomes: Sequence[ScoredRun], labels: pd.Categorical) -> Iterator[dict[str, float]]:
    """Give the readability of each run; outcomes of a method stand together."""
    for _, group in groupby(outcomes, lambda one: one.contender.name):
        seeds = list(group)
        unit_prior = seeds[0].contender.method.unit_prior
        again = reproduced_fractions([one.run for one in seeds], unit_prior=unit_prior)
        for one, share in zip(seeds, again, strict=True):
            yield readable(one.run, labels, unit_prior=unit_prior) | {"reproduced": share}


def as_row(one: ScoredRun) -> MethodResult:
    """Describe a method by its first run."""
    given = dict(one.contender.method.settings)
    name, settings = given.pop("model", None), given.pop("settings", {})
    return MethodResult(
        name=one.contender.name,
        title=one.contender.title,
        model=name,
        preset=one.contender.kind,
        settings={**given, **settings},
        latent_nk=one.run.arrays["latent_nk"],
        tsne2d_n2=one.scored.arrays["tsne2d_n2"],
        kmeans_n=one.scored.arrays["kmeans_n"],
        centroids_c2=one.scored.arrays["centroids_c2"],
    )


def provenance(
    command: str, ground: BenchmarkData, digest: str, config: BenchmarkConfig, seconds: float
) -> dict[str, object]:
    """Record how a benchmark was made."""
    optional = ("scib-metrics", "harmonypy", "scvi-tools", "drvi-py", "jax", "lightning")
    used = {
        "baselines": config.baselines_used,
        "external_models": config.external_models_used,
        "n_components": config.components,
    }
    made = record(
        command,
        ground.title,
        digest,
        n_seeds=config.seeds,
        config=asdict(config) | used,
        seconds=seconds,
        optional_versions={name: metadata.version(name) for name in optional if installed(name)},
    )
    return made | {
        "n_cells": ground.cells.n_obs,
        "n_genes": ground.cells.n_vars,
        "n_genes_before": ground.n_genes_before,
        "n_test": ground.n_test,
        "n_dropped": ground.n_dropped,
    }


def write(standings: BenchmarkResults, cells: AnnData, folder: Path) -> None:
    """Write tables, figures, AnnData, record and page, each file aside and renamed; the page comes last."""
    tables = {"scores": standings.scores, "summary": summary(standings.scores).reset_index()}
    for name, table in tables.items():
        files.write_text(folder / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    drawn = pl.save_standings(standings, folder / "figures")
    for figure in (folder / "figures").glob("*.png"):
        if figure not in drawn:
            figure.unlink()  # of an earlier benchmark in this folder, which had other rows
    io.write_h5ad(annotated(standings, cells), folder / "benchmark.h5ad")
    files.write_text(
        folder / "provenance.json", json.dumps(standings.provenance, indent=1, default=str) + "\n"
    )
    report.write_standings(standings, folder / "benchmark.html")


def annotated(standings: BenchmarkResults, cells: AnnData) -> AnnData:
    """Return the cells as every method got them, with ``obs["label"]`` and of each row ``obsm["X_<row>"]``, ``obsm["tsne2d_<row>"]``."""
    made = cells.copy()
    made.obs["label"] = standings.labels
    for row in standings.rows:
        key = row.name.replace("-", "_")
        made.obsm[f"X_{key}"], made.obsm[f"tsne2d_{key}"] = (
            np.asarray(row.latent_nk),
            np.asarray(row.tsne2d_n2),
        )
    rows = {row.name: {"title": row.title, "settings": row.settings} for row in standings.rows}
    made.uns["sparcell_benchmark"] = json.dumps(rows, default=str)
    return made


SHOWN = {
    "scIB": ("total", "bio_conservation", "batch_correction"),
    "clusters and types": ("map_nmi", "map_ari", "code_nmi", "code_ari"),
    "readable codes": ("lms_smi", "lms_spn", "msas_smi", "msgs_smi", "live", "on", "reproduced"),
    "held-out cells and cost": ("log_likelihood", "train_seconds", "peak_mib"),
}
"""What the terminal shows, table by table; the page and the files have all."""


def show(standings: BenchmarkResults) -> None:
    """Print the main numbers, and what was skipped."""
    from rich.console import Console
    from rich.table import Table

    console, numbers = Console(), summary(standings.scores)
    for title, every in SHOWN.items():
        keys = [key for key in every if numbers[key].notna().any()]
        if not keys:
            continue
        table = Table(title=f"{standings.title}: {title}", title_justify="left")
        table.add_column("method", no_wrap=True)
        for key in keys:
            table.add_column(SHORT.get(key, MEASURES[key].title), justify="right", no_wrap=True)
        for row in standings.rows:
            table.add_row(row.name, *(pl.written(numbers, row.name, key) for key in keys))
        console.print(table)
    for entry in standings.skipped:
        console.print(
            f"Skipped: {entry.title} ({entry.reason})", markup=False, highlight=False, soft_wrap=True
        )


SHORT = {"log_likelihood": "log-likelihood", "live": "live", "on": "on", "reproduced": "again"}
"""Titles that are too long for a terminal."""
