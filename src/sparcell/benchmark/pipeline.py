"""Where sparcell stands: its models, baselines and other packages' models on the same cells and genes, scored alike.

Suffixes: n cells.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparcell.benchmark import split, write
from sparcell.benchmark.methods import BASELINES, EXTERNAL_MODELS, Method
from sparcell.benchmark.scoring import Scorer
from sparcell.benchmark.worker import SubprocessRunner
from sparcell.benchmark.write import BenchmarkEntry, ScoredRun, installed, not_installed
from sparcell.config.experiments import BenchmarkConfig
from sparcell.config.presets import PRESETS, TITLES
from sparcell.errors import InputError, TrainingError, did_you_mean
from sparcell.experiments import presets, runs
from sparcell.experiments.runs import Run
from sparcell.io import files
from sparcell.metrics import scib as scib_metrics
from sparcell.models import MODELS
from sparcell.results.benchmark import BASELINE, EXTERNAL, MODEL, BenchmarkResults, Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparcell.benchmark.split import BenchmarkData
    from sparcell.config.presets import Preset

log = logging.getLogger("sparcell")

NONE = "none"
"""Typed in place of names: no method of this kind."""

PRESET = PRESETS["counts"]
"""The settings that our models are trained with: those recommended for counts."""

PROGRAMS = PRESETS["programs"]
"""The settings with `disentanglement`: those for codes that can be read (docs/beta_vsc.md); suffix and title keep these rows apart."""

OURS = ("sparcell", "torch", "numpy")
OUR_FORMAT = 5
"""Of stored runs of our models; raise it whenever the same settings begin to give other results."""


@dataclass(frozen=True)
class BenchmarkContext:
    """What all runs of a benchmark share."""

    folder: Path
    ground: BenchmarkData
    digest: str
    config: BenchmarkConfig
    judge: Scorer
    shop: SubprocessRunner


def contenders(config: BenchmarkConfig, changes: dict[str, Any]) -> Iterator[BenchmarkEntry]:
    """List the rows in the order they are shown; names and settings are checked here."""
    ours = chosen(config.models, MODELS, "model")
    accepted = {field.name for name in ours for field in fields(MODELS[name])}
    for name in changes.keys() - accepted:
        raise InputError(
            f"{' and '.join(ours) or 'no model'}: no setting {name!r} there, so it would do nothing; "
            f"{did_you_mean(name, sorted(accepted))}"
        )
    if config.disentanglement:
        yield from (
            _ours(name, PROGRAMS, {"n_latent": config.components, **changes}, apart=True) for name in ours
        )
    else:
        yield from (_ours(name, PRESET, changes) for name in ours)
    for name in chosen(config.baselines_used, BASELINES, "baseline"):
        yield from (_with(method, BASELINE, n_components=config.components) for method in BASELINES[name])
    for name in chosen(config.external_models_used, EXTERNAL_MODELS, "peer"):
        for method in EXTERNAL_MODELS[name]:
            latents = {"n_latent": method.settings.get("n_latent", config.components)}
            yield _with(method, EXTERNAL, **latents, epochs=config.external_epochs)


def _ours(name: str, preset: Preset, changes: dict[str, Any], *, apart: bool = False) -> BenchmarkEntry:
    """Make a row of ours; `apart` names it after its preset, so that its runs stand beside those of the usual one."""
    estimator = presets.study_entry(name, preset, 0, changes).estimator
    settings = {key: value for key, value in asdict(estimator).items() if key != "seed"}
    method = Method(
        name + (preset.suffix if apart else ""),
        TITLES[name] + (preset.title if apart else ""),
        "model",
        {"model": name, "settings": settings},
        OURS,
        unit_prior=estimator.generative,
        format=OUR_FORMAT,
    )
    return BenchmarkEntry(method.name, method.title, MODEL, method)


def _with(method: Method, kind: str, **settings: Any) -> BenchmarkEntry:
    full = replace(method, settings={**method.settings, **settings})
    return BenchmarkEntry(method.name, method.title, kind, full)


def chosen(names: Sequence[str], known: Mapping[str, object], what: str) -> list[str]:
    """Give the chosen names, each once."""
    if tuple(names) == (NONE,):
        return []
    for name in names:
        if name not in known:
            raise InputError(f"no {what} {name!r}; {did_you_mean(name, [*known, NONE])}")
    return list(dict.fromkeys(names))


def run(
    data: str | Path,
    out: str | Path,
    config: BenchmarkConfig | None = None,
    *,
    changes: dict[str, Any] | None = None,
    resume: bool = False,
    silent: bool = False,
    command: str = "",
) -> BenchmarkResults:
    """Compare our models with baselines and other packages' models on one data set, and write everything into a folder.

    Parameters
    ----------
    data
        Raw counts with cell types in obs: anything `sparcell.io.read` reads.
    out
        Folder for the results: new or empty, or with `resume` one of an earlier benchmark.
    config
        What to compare; needs `labels_key`.
    changes
        Settings of our models that differ from the preset counts, or with `disentanglement` from READABLE.
    resume
        Take up the runs and scores that a benchmark of the same data left in `out`, and make only those that are missing.
    silent
        Show no progress.
    command
        What the user typed, for the record.

    Returns
    -------
    The standings, as they stand on the page. Written into the folder: benchmark.html, scores.csv, summary.csv, figures/*.png,
    benchmark.h5ad, provenance.json, runs/*.npz.

    Raises
    ------
    InputError
        Before any work, where data, names or settings do not fit.
    TrainingError
        Where not a single run came to its end.
    """
    started, config = time.perf_counter(), config or BenchmarkConfig()
    folder = runs.check_runs_folder(Path(out), resume, foreign="study.h5ad")
    fit, skipped = ready(list(contenders(config, changes or {})), batches=config.batch_key is not None)
    ground = split.prepare(data, config)
    check_fits(fit, ground, config)
    runs.check_same_data(folder, ground.digest, of="benchmark", parts="counts, genes or batches")
    judge = Scorer.of(ground, config.perplexity, scib=announce(skipped), silent=silent)
    with SubprocessRunner(ground.cells, silent=silent) as shop:
        outcomes, failed = run_all(fit, BenchmarkContext(folder, ground, ground.digest, config, judge, shop))
    if not outcomes:
        raise TrainingError(f"no run came to its end; the first: {failed[0].title}, {failed[0].reason}")
    record = write.provenance(command, ground, ground.digest, config, time.perf_counter() - started)
    skipped += failed
    standings = write.collect(ground, outcomes, skipped, record, disentanglement=config.disentanglement)
    write.write(standings, ground.cells, folder)
    return standings


def announce(skipped: list[Skipped]) -> bool:
    """Tell what is skipped; scIB's measures are added to it where their library is missing. Returns whether it is there."""
    scib = installed(scib_metrics.PACKAGE)
    if not scib:
        skipped.append(Skipped("scIB's measures", not_installed(scib_metrics.PACKAGE, "benchmark")))
    for entry in skipped:
        log.warning("skipped: %s (%s)", entry.title, entry.reason)
    return scib


def ready(rows: Sequence[BenchmarkEntry], *, batches: bool) -> tuple[list[BenchmarkEntry], list[Skipped]]:
    """Part the rows that can be run here from those that cannot, which are told with the reason."""
    hindrances = [(row, row.unavailable_reason(batches=batches)) for row in rows]
    fit = [row for row, reason in hindrances if not reason]
    skipped = [Skipped(row.title, reason) for row, reason in hindrances if reason]
    if not fit:
        told = "; ".join(f"{entry.title}: {entry.reason}" for entry in skipped)
        raise InputError(
            f"there is nothing to compare ({told or 'models, baselines and peers are all none'}); expected at least one method: "
            "name some with --models, --baselines or --peers."
        )
    return fit, skipped


def check_fits(rows: Sequence[BenchmarkEntry], ground: BenchmarkData, config: BenchmarkConfig) -> None:
    """Refuse data that is too small for a batch, for the components or for k-means."""
    n_cells, n_genes, n_types = ground.cells.n_obs, ground.cells.n_vars, len(ground.labels.categories)
    n_train = n_cells - ground.n_test
    sizes = [row.method.settings["settings"]["batch_size"] for row in rows if row.kind is MODEL]
    if sizes and n_train < max(sizes):
        raise InputError(
            f"{n_train} cells are left for training, fewer than a batch ({max(sizes)}); "
            f"expected at least one full batch: set --batch-size to {n_train} or less."
        )
    least = min(n_cells, n_genes)
    if any(row.kind is BASELINE for row in rows) and config.components >= least:
        raise InputError(
            f"n_components is {config.components}; expected fewer than there are cells and genes ({n_cells} and {n_genes}): "
            f"set --n-components to {least - 1} or less."
        )
    if n_cells <= n_types:
        raise InputError(
            f"{n_cells} cells for {n_types} labels; expected more cells than k-means has clusters: give coarser labels."
        )


def run_all(rows: Sequence[BenchmarkEntry], bench: BenchmarkContext) -> tuple[list[ScoredRun], list[Skipped]]:
    """Make and score every run, seed by seed, so that a first whole table is there early. A run that fails is told, the others go on."""
    tasks = [(row, seed) for seed in range(bench.config.seeds) for row in rows]
    outcomes: list[ScoredRun] = []
    failed: list[Skipped] = []
    try:
        for number, (row, seed) in enumerate(tasks, 1):
            log.info("%d of %d: %s, seed %d", number, len(tasks), row.title, seed)
            try:
                run = run_method(row, seed, bench, epochs_of(row, outcomes))
                outcomes.append(ScoredRun(row, seed, run, score_run(row, seed, bench, run)))
            except TrainingError as error:
                failed.append(Skipped(row.title, f"failed with seed {seed}: {error}"))
                log.warning("%s %s", row.title, failed[-1].reason)
    except KeyboardInterrupt:
        saved = f"{len(outcomes)} of {len(tasks)} runs are saved in {bench.folder}; the same command with --resume goes on from there."
        raise KeyboardInterrupt(saved) from None
    return outcomes, failed


def epochs_of(row: BenchmarkEntry, outcomes: Sequence[ScoredRun]) -> int | None:
    """Epochs of the same method's first run, so that all seeds make as many."""
    return next((int(one.run.arrays["n_epochs"]) for one in outcomes if one.contender is row), None)


def run_method(row: BenchmarkEntry, seed: int, bench: BenchmarkContext, decided: int | None) -> Run:
    """Make one run, or take it up where an earlier benchmark left it; it is on disk before this returns."""
    order = {
        "runner": row.method.runner,
        "settings": row.method.settings,
        "title": f"{row.title}, seed {seed}",
        "seed": seed,
        "n_samples": bench.config.n_samples,
        "decided": decided,
    }
    return kept(
        bench.folder / "runs" / f"{row.name}-seed{seed}.npz",
        row.fingerprint(bench.digest, seed, bench.config.n_samples),
        lambda: Run(bench.shop.run_in_subprocess(order)),
    )


def score_run(row: BenchmarkEntry, seed: int, bench: BenchmarkContext, run: Run) -> Run:
    """Score one run, or take its scores up."""
    return kept(
        bench.folder / "scores" / f"{row.name}-seed{seed}.npz",
        bench.judge.fingerprint(run, seed),
        lambda: bench.judge.score(run, seed),
    )


def kept(stored: Path, fingerprint: str, make: Callable[[], Run]) -> Run:
    """Take up what is stored under this fingerprint, or make it and store it."""
    found = Run.from_file(stored, fingerprint)
    if found is not None:
        log.info("taken up from %s", stored)
        return found
    if stored.exists():
        log.warning("%s is of other data, settings or versions: made anew", stored)
    found = make()
    stored.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(stored) as aside:
        aside.write_bytes(found.to_bytes(fingerprint))
    return found
