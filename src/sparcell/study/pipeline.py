"""The whole comparison: counts in, a scored, drawn and reported folder out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sparcell.io import model_folder
from sparcell.io import files
from sparcell.experiments.provenance import digest_of, versions
from sparcell.study import write
from sparcell.experiments import presets
from sparcell.experiments import runs
from sparcell.config.experiments import StudyConfig
from sparcell.config.data import DataConfig
from sparcell.tl.embedding import affordable_perplexity
from sparcell.config.presets import PRESETS, TITLES
from sparcell.errors import InputError, did_you_mean
from sparcell.models import MODELS
from sparcell.study.prepare import StudyData, prepare
from sparcell.results.study import MEASURES, PRIMARY_SPACE, StudyResults, MethodResult
from sparcell.experiments.runs import FORMAT, Run, EmbeddingContext
from sparcell._utils.torch_runtime import resolve_device

if TYPE_CHECKING:
    from sparcell.experiments.presets import StudyEntry

log = logging.getLogger("sparcell")

BASELINES = {"pca-6": 6, "pca-10": 10}
"""Name → number of principal components: as many as the seed's latents, and as many as its labels were made from."""


@dataclass(frozen=True)
class StudyRunSpec:
    """One run that a study has to make: a model (`trained`) or a baseline, with one seed."""

    name: str
    title: str
    seed: int
    trained: StudyEntry | None
    n_components: int = 0

    def fingerprint(self, prepared: StudyData, config: StudyConfig) -> str:
        """Digest of everything the run's result depends on: a stored run is taken up again only where it is the same."""
        settings = (
            None if self.trained is None else (asdict(self.trained.estimator), asdict(self.trained.data))
        )
        given = (
            prepared.digest,
            [str(label) for label in prepared.labels],
            config.perplexity,
            config.n_top_genes,
        )
        limits = (config.min_genes, config.max_genes, config.max_pct_mito, prepared.batch_key)
        return digest_of(
            [FORMAT, versions(), self.name, self.seed, self.n_components, settings, given, limits]
        )


def run(
    data: str | Path | None,
    out: str | Path,
    config: StudyConfig | None = None,
    *,
    changes: dict[str, Any] | None = None,
    resume: bool = False,
    silent: bool = False,
    command: str = "",
) -> StudyResults:
    """Compare the models on one data set and write everything into a folder.

    Parameters
    ----------
    data
        Raw counts: anything `sparcell.io.read` reads; None for the PBMC3k counts that ship with the package.
    out
        Folder for the results: new or empty, or with `resume` one of an earlier study.
    config
        What to compare; `StudyConfig()` when not given.
    changes
        Settings of models (`n_latent`, `beta`, `epochs`, …) and of `DataConfig` that differ from the presets.
    resume
        Take up the runs that an interrupted study of the same data and settings left in `out`, and make only those that are missing.
    silent
        Show no progress.
    command
        What the user typed, for the record.

    Returns
    -------
    The results, as they stand in the report. Written into the folder: report.html, programs_<row>.html of each row with spikes,
    scores.csv, times.csv, history.csv, figures/*.png, study.h5ad, models/<model>/, provenance.json, runs/*.npz.

    Raises
    ------
    InputError
        Before any training and before anything is written, where data, labels or settings do not fit.
    """
    started = time.perf_counter()
    config = config or StudyConfig()
    tasks = list(plan_tasks(config, changes or {}))
    folder = runs.check_runs_folder(Path(out), resume, foreign="benchmark.h5ad")
    prepared = prepare(data, config, [task.trained for task in tasks if task.trained])
    check_fits(prepared, folder)
    scene = shared_scene(prepared, config, silent)
    fingerprint = partial(StudyRunSpec.fingerprint, prepared=prepared, config=config)
    try:
        made = {(task.name, task.seed): run for task, run in run_tasks(tasks, scene, folder, fingerprint)}
        spent = time.perf_counter() - started
        record = write.provenance(command, prepared.title, prepared.digest, config, spent)
        results = collect(prepared, tasks, made, record)
        write.write(results, prepared.adata, folder)
    except KeyboardInterrupt:
        kept = [Run.from_file(stored_in(folder, task), fingerprint(task)) for task in tasks]
        saved = f"{len(kept) - kept.count(None)} of {len(tasks)} runs are saved in {folder}"
        raise KeyboardInterrupt(f"{saved}; the same command with --resume goes on from there.") from None
    return results


def plan_tasks(config: StudyConfig, changes: dict[str, Any]) -> Iterator[StudyRunSpec]:
    """List the runs of a study; settings are checked here."""
    for choice, known, what in (
        (config.models, MODELS, "model"),
        (config.presets, PRESETS, "preset"),
    ):
        for name in choice:
            if name not in known:
                raise InputError(f"no {what} {name!r}; {did_you_mean(name, known)}")
    kinds: list[type] = [DataConfig, *(MODELS[model] for model in config.models)]
    names = {setting.name for kind in kinds for setting in fields(kind)}
    for name in changes.keys() - names:
        raise InputError(
            f"{' and '.join(config.models)}: no setting {name!r} there, so it would do nothing; {did_you_mean(name, sorted(names))}"
        )
    for preset in dict.fromkeys(config.presets):
        for model in dict.fromkeys(config.models):
            for seed in range(config.seeds):
                row = presets.study_entry(model, PRESETS[preset], seed, changes)
                resolve_device(row.estimator.device)
                yield StudyRunSpec(row.name, row.title, seed, row)
    for name, n_components in BASELINES.items():
        for seed in range(config.seeds):
            yield StudyRunSpec(name, f"PCA, {n_components} components", seed, None, n_components)


def check_fits(prepared: StudyData, folder: Path) -> None:
    """Refuse, before any training, data that is too small for k-means, or not that of the study in the folder."""
    runs.check_same_data(folder, prepared.digest, of="study", parts="counts")
    n_cells, n_types = prepared.adata.n_obs, len(prepared.labels.categories)
    if n_cells <= n_types:
        raise InputError(
            f"{n_cells} cells for {n_types} labels; expected more cells than k-means has clusters: give coarser labels."
        )


def shared_scene(prepared: StudyData, config: StudyConfig, silent: bool) -> EmbeddingContext:
    """Give what all runs share; a perplexity that is too large for the cells is lowered here, and told once."""
    perplexity = affordable_perplexity(config.perplexity, prepared.adata.n_obs)
    return EmbeddingContext(prepared.adata, prepared.labels, perplexity, silent)


def run_tasks(
    tasks: list[StudyRunSpec], scene: EmbeddingContext, folder: Path, fingerprint: Callable[[StudyRunSpec], str]
) -> Iterator[tuple[StudyRunSpec, Run]]:
    """Make the runs, or take them up where an earlier study left them; each is on disk before it is given."""
    for number, task in enumerate(tasks, 1):
        log.info("%d of %d: %s, seed %d", number, len(tasks), task.title, task.seed)
        made_from = fingerprint(task)
        earlier = taken_up(task, folder, made_from)
        yield task, make(task, scene, folder, made_from) if earlier is None else earlier


def stored_in(folder: Path, task: StudyRunSpec) -> Path:
    """Name the file of a run."""
    return folder / "runs" / f"{task.name}-seed{task.seed}.npz"


def taken_up(task: StudyRunSpec, folder: Path, fingerprint: str) -> Run | None:
    """Read a run that an earlier study left, if it is whole and of the same data, settings and versions."""
    path = stored_in(folder, task)
    run = Run.from_file(path, fingerprint)
    if run is not None and (
        task.trained is None or task.seed or model_folder.is_whole(folder / "models" / task.name)
    ):
        log.info("taken up from %s", path)
        return run
    if path.exists():
        log.warning("%s is of other data, settings or versions, or without its model: made anew", path)
    return None


def make(task: StudyRunSpec, scene: EmbeddingContext, folder: Path, fingerprint: str) -> Run:
    """Make a run and write it; a model of the first seed is kept too."""
    path = stored_in(folder, task)
    if task.trained is None:
        run = runs.baseline(scene, task.n_components, task.seed)
    else:
        first = task.seed == 0
        model, run = runs.trained(scene, task.trained, whole=first)
        if first:
            path.unlink(missing_ok=True)  # an earlier run vouches for the model that is replaced here
            model.save(folder / "models" / task.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as aside:
        aside.write_bytes(run.to_bytes(fingerprint))
    return run


def collect(
    prepared: StudyData, tasks: list[StudyRunSpec], runs: dict[tuple[str, int], Run], record: dict[str, object]
) -> StudyResults:
    """Put the runs together into tables and rows."""
    scores, times, histories, rows = [], [], [], []
    for task in tasks:
        run = runs[task.name, task.seed]
        for space, values in run.scores(prepared.labels).items():
            scores.append({"model": task.name, "seed": task.seed, "space": space, **values})
        if task.trained is not None:
            seconds = float(run.arrays["train_seconds"])
            times.append(
                {"model": task.name, "seed": task.seed, "epochs": len(run.history), "train_seconds": seconds}
            )
            histories.append(run.history.drop(columns="seconds").assign(model=task.name, seed=task.seed))
        if task.seed == 0:
            rows.append(as_row(task, run))
    history = pd.concat(histories, ignore_index=True)[["model", "seed", "epoch", "loss", "reconstruction_loss", "kl"]]
    return StudyResults(
        title=prepared.title,
        labels=prepared.labels,
        label_source=prepared.label_source,
        labels_from_pca=prepared.labels_from_pca,
        rows=tuple(rows),
        scores=pd.DataFrame(scores, columns=["model", "seed", "space", *MEASURES]),
        times=pd.DataFrame(times, columns=["model", "seed", "epochs", "train_seconds"]),
        history=history,
        qc=prepared.qc,
        provenance={**record, "n_cells": prepared.adata.n_obs, "n_genes": prepared.adata.n_vars},
    )


def as_row(task: StudyRunSpec, run: Run) -> MethodResult:
    """Describe the first seed's run of a method."""
    trained, names = task.trained, run.get("interpolated_labels")
    settings = {} if trained is None else {**asdict(trained.estimator), **asdict(trained.data)}
    return MethodResult(
        name=task.name,
        title=task.title,
        model=None if trained is None else trained.model,
        preset="baseline" if trained is None else trained.preset,
        settings=settings,
        latent_nk=run.arrays["latent_nk"],
        tsne2d_n2=run.arrays["tsne2d_n2"],
        kmeans_n=run.arrays["kmeans_n"],
        centroids_c2=run.arrays["centroids_c2"],
        tsne3d_n3=run.get("tsne3d_n3"),
        inclusion_nk=run.get("inclusion_nk"),
        kl_k=run.get("kl_k"),
        active_k=run.get("active_k"),
        generated_m2=run.get("generated_m2"),
        interpolated_s2=run.get("interpolated_s2"),
        interpolated_labels=None if names is None else (str(names[0]), str(names[1])),
    )


def show(results: StudyResults) -> None:
    """Print the scores on the 2-D map as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{results.title}: k-means on the 2-D map against {results.label_source}")
    for column in ("model", *MEASURES):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    primary = results.scores[results.scores["space"] == PRIMARY_SPACE].drop(columns=["seed", "space"])
    for name, group in primary.groupby("model", sort=False):
        spread = group[list(MEASURES)].std()
        cells = [
            _short(group[m].mean()) + (f" ± {_short(spread[m])}" if len(group) > 1 else "") for m in MEASURES
        ]
        table.add_row(str(name), *cells)
    Console().print(table)


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)
