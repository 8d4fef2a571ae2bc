"""The benchmark: sparcell's models, baselines and models of other packages on the same cells and genes, with the same scores."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparcell import io
from sparcell.benchmark import split, write
from sparcell.benchmark.entries import (
    BenchmarkEntry,
    available,
    entries,
    installed,
    not_installed,
    with_epochs,
)
from sparcell.benchmark.scoring import Scorer
from sparcell.benchmark.worker import SubprocessRunner
from sparcell.benchmark.write import ScoredRun
from sparcell.config.experiments import BenchmarkConfig
from sparcell.errors import InputError, TrainingError
from sparcell.experiments import checks, runs
from sparcell.experiments.runs import Run, run_or_load
from sparcell.metrics import scib as scib_metrics
from sparcell.results.benchmark import BASELINE, MODEL, BenchmarkResults, Skipped

if TYPE_CHECKING:
    from sparcell.benchmark.split import BenchmarkData

log = logging.getLogger("sparcell")


@dataclass(frozen=True)
class BenchmarkContext:
    """What all runs of a benchmark share."""

    folder: Path
    digest: str
    config: BenchmarkConfig
    scorer: Scorer
    runner: SubprocessRunner


def run(
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    config: BenchmarkConfig | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    resume: bool = False,
    silent: bool = False,
    command: str = "",
) -> BenchmarkResults:
    """Compare sparcell's models with baselines and models of other packages on one data set, and write everything into a folder.

    Parameters
    ----------
    data
        Raw counts with cell types in obs, in any format that `sparcell.io.read` reads.
        Several files, such as one per donor, are joined by gene name; obs["file"] names the file of each cell.
    out
        Folder for the results: new or empty, or with `resume` the folder of an earlier benchmark.
    config
        What to compare; `labels_key` must be set.
    changes
        Settings of sparcell's models that differ from the preset counts (with `disentanglement`: from the preset programs).
    resume
        Keep the runs and scores in `out` that have the same data and settings, and compute only the others.
    silent, command
        Whether to hide progress; command line for the provenance.

    Returns
    -------
    The results that the page shows. Files in the folder: benchmark.html, scores.csv, summary.csv, ``figures/*.png``, benchmark.h5ad,
    provenance.json, ``runs/*.npz``, ``scores/*.npz``.

    Raises
    ------
    InputError
        Before any work, if data, names or settings do not fit.
    TrainingError
        If every run fails.

    Examples
    --------
    >>> config = sp.BenchmarkConfig(labels_key="cell_type", batch_key="donor")  # doctest: +SKIP
    >>> results = sp.benchmark.run("pbmc.h5ad", "benchmark", config)  # doctest: +SKIP
    """
    started, config = time.perf_counter(), config or BenchmarkConfig()
    with runs.open_folder(Path(out), resume, foreign="study.h5ad") as folder:
        rows, skipped = available(list(entries(config, changes or {})), batches=config.batch_key is not None)
        split_data = split.prepare(data, config)
        check_fits(rows, split_data, config)
        n_cells = split_data.cells.n_obs
        rows = with_epochs(rows, n_cells, n_cells - split_data.n_test)
        digest = split_data.digest
        runs.check_same_data(folder, digest, experiment="benchmark", parts="counts, genes or batches")
        has_scib = warn_skipped(skipped)
        scorer = Scorer.from_data(split_data, config.perplexity, scib=has_scib, silent=silent)
        with SubprocessRunner(split_data.cells, silent=silent) as runner:
            scored, failed = run_all(rows, BenchmarkContext(folder, digest, config, scorer, runner))
        record = write.provenance(command, split_data, config, time.perf_counter() - started)
        skipped += failed
        results = write.collect(split_data, scored, skipped, record, disentanglement=config.disentanglement)
        write.write(results, split_data.cells, folder)
        runs.remove_checkpoints(folder)
    return results


def warn_skipped(skipped: list[Skipped]) -> bool:
    """Log a warning for everything that is skipped, and return whether scib-metrics is installed; if not, it is added to the list."""
    has_scib = installed(scib_metrics.PACKAGE)
    if not has_scib:
        skipped.append(Skipped("scIB's metrics", not_installed(scib_metrics.PACKAGE, "benchmark")))
    for entry in skipped:
        log.warning("skipped: %s (%s)", entry.title, entry.reason)
    return has_scib


def check_fits(rows: Sequence[BenchmarkEntry], data: BenchmarkData, config: BenchmarkConfig) -> None:
    """Raise InputError for data that are too small for a minibatch, the components or k-means, or that cannot be written."""
    n_cells, n_genes = data.cells.n_obs, data.cells.n_vars
    sizes = [row.method.settings["settings"]["batch_size"] for row in rows if row.kind is MODEL]
    checks.check_minibatch(n_cells - data.n_test, sizes, cells="are left for training")
    smaller = min(n_cells, n_genes)
    if any(row.kind is BASELINE for row in rows) and config.components >= smaller:
        raise InputError(
            f"n_components is {config.components}; expected fewer than cells ({n_cells}) and genes ({n_genes}). "
            f"Set --n-components to {smaller - 1} or less."
        )
    checks.check_kmeans(n_cells, data.labels)
    io.check_writable(data.cells, "benchmark.h5ad")


def run_all(
    rows: Sequence[BenchmarkEntry], context: BenchmarkContext
) -> tuple[list[ScoredRun], list[Skipped]]:
    """Run and score all rows, seed by seed, so that a complete table exists early; return finished and failed runs.

    Raises TrainingError if every run fails.
    """
    planned = [(row, seed) for seed in range(context.config.seeds) for row in rows]
    scored: list[ScoredRun] = []
    failed: list[Skipped] = []
    try:
        for number, (row, seed) in enumerate(planned, 1):
            log.info("%d of %d: %s, seed %d", number, len(planned), row.title, seed)
            try:
                run = run_method(row, seed, context)
                scored.append(ScoredRun(row, seed, run, score_run(row, seed, context, run)))
            except TrainingError as error:
                failed.append(Skipped(row.title, f"failed with seed {seed}: {error}"))
                log.warning("%s %s", row.title, failed[-1].reason)
    except KeyboardInterrupt as stop:
        raise runs.interruption(stop, len(scored), len(planned), context.folder) from None
    if not scored:
        raise TrainingError(f"every run failed; the first: {failed[0].title}, {failed[0].reason}")
    return scored, failed


def run_method(row: BenchmarkEntry, seed: int, context: BenchmarkContext) -> Run:
    """Return one run, computed in a subprocess or loaded; it is on disk when the function returns."""
    path = context.folder / "runs" / f"{row.name}-seed{seed}.npz"
    fingerprint = row.fingerprint(context.digest, seed, context.config.n_samples)
    checkpoint = runs.checkpoint_dir(path, fingerprint)
    request = {
        "function": row.method.function,
        "settings": row.method.settings,
        "title": f"{row.title}, seed {seed}",
        "seed": seed,
        "n_samples": context.config.n_samples,
        "checkpoint_dir": str(checkpoint.absolute()),
    }
    compute = partial(_run_in_subprocess, context, request)
    return run_or_load(path, fingerprint, compute, checkpoint=checkpoint)


def _run_in_subprocess(context: BenchmarkContext, request: dict[str, Any]) -> Run:
    return Run(context.runner.run_in_subprocess(request))


def score_run(row: BenchmarkEntry, seed: int, context: BenchmarkContext, run: Run) -> Run:
    """Return the scores of one run, computed or loaded."""
    return run_or_load(
        context.folder / "scores" / f"{row.name}-seed{seed}.npz",
        context.scorer.fingerprint(run, seed),
        lambda: context.scorer.score(run, seed, f"{row.title}, seed {seed}"),
    )
