"""The study: train the models on raw counts, score them, and write figures and a report into a folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sparcell import io
from sparcell._utils import progress
from sparcell._utils.torch_runtime import resolve_device
from sparcell.config.data import DataConfig
from sparcell.config.experiments import StudyConfig
from sparcell.config.presets import PRESETS, Preset
from sparcell.data.normalize import log_normalized
from sparcell.experiments import checks, embedding, presets, runs
from sparcell.experiments.embedding import EmbeddingContext, method_result
from sparcell.experiments.provenance import digest_of_columns, versions
from sparcell.experiments.runs import Fingerprint, Run, fingerprint_of, run_or_load
from sparcell.experiments.writing import print_table
from sparcell.io import model_folder
from sparcell.models import MODELS
from sparcell.results.study import CLUSTERING_METRICS, PRIMARY_SPACE, MethodResult, StudyResults
from sparcell.study import write
from sparcell.study.duration import seeds_within_limit
from sparcell.study.prepare import StudyData, columns_of, prepare
from sparcell.tl.embedding import cap_perplexity
from sparcell.tl.markers import MAX_GENES, gene_expression, marker_genes

if TYPE_CHECKING:
    from sparcell.experiments.presets import StudyEntry
    from sparcell.results.expression import GeneExpression

log = logging.getLogger("sparcell")

FORMAT = 8
"""Format of stored runs of a study. Raise it whenever the same settings begin to give other results."""

BASELINES = {"pca-6": 6, "pca-10": 10}
"""Name → number of principal components: the number of latents in the 2019 study, and the number its labels were made from."""


@dataclass(frozen=True)
class StudyRunSpec:
    """One run of a study: a model (`entry`) or a PCA baseline, with one seed."""

    name: str
    title: str
    seed: int
    entry: StudyEntry | None
    n_components: int = 0

    def fingerprint(self, data: StudyData, config: StudyConfig) -> Fingerprint:
        """Return the digests of all inputs that the result of the run depends on."""
        entry = self.entry
        read = () if entry is None else columns_of(entry.data)
        return fingerprint_of(
            format=FORMAT,
            versions=versions(),
            method=(self.name, self.n_components),
            seed=self.seed,
            settings=None if entry is None else (asdict(entry.estimator), asdict(entry.data)),
            data=data.digest,
            columns=digest_of_columns(data.adata.obs, [data.batch_key, *read]),
            labels=[str(label) for label in data.labels],
            perplexity=config.perplexity,
            genes=(config.n_top_genes, config.flavor, data.batch_key),
            quality_control=data.qc.attrs["limits"],
        )

    def path(self, folder: Path) -> Path:
        """Return the file of the run in the output folder of a study."""
        return folder / "runs" / f"{self.name}-seed{self.seed}.npz"


def run(
    data: str | Path | Sequence[str | Path] | None,
    out: str | Path,
    config: StudyConfig | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    resume: bool = False,
    silent: bool = False,
    command: str = "",
) -> StudyResults:
    """Compare the models on one data set, and write everything into a folder.

    Parameters
    ----------
    data
        Raw counts in any format that `sparcell.io.read` reads. None: the PBMC3k counts that ship with the package.
        Several files, such as one per donor, are joined by gene name; obs["file"] names the file of each cell.
    out
        Folder for the results: new or empty, or with `resume` the folder of an earlier study.
    config
        What to compare; default `StudyConfig()`.
    changes
        Settings of models (`n_latent`, `beta`, `epochs`, …) and of `DataConfig` that differ from the presets.
    resume
        Keep the runs in `out` that have the same data and settings, and compute only the others.
    silent, command
        Whether to hide progress; command line for the provenance.

    Returns
    -------
    The results that the report shows. Files in the folder: report.html, programs_<row>.html for each row with spikes, scores.csv,
    times.csv, history.csv, ``figures/*.png``, study.h5ad, models/<row>/, provenance.json, ``runs/*.npz``.

    Raises
    ------
    InputError
        Before any training, and before anything is written, if data, labels or settings do not fit.

    Examples
    --------
    >>> results = sp.study.run(None, "pbmc3k", sp.StudyConfig(models=("beta-vsc",)))  # doctest: +SKIP
    """
    started = time.perf_counter()
    config = config or StudyConfig()
    specs = list(plan_runs(config, changes or {}))
    with runs.open_folder(Path(out), resume, foreign="benchmark.h5ad") as folder:
        with progress.messages(silent=silent):
            study_data = prepare(data, config, [spec.entry for spec in specs if spec.entry])
        check_fits(study_data, folder)
        if config.seeds is None:
            entries = [spec.entry for spec in specs if spec.entry]
            n_genes = (study_data.adata.n_vars, min(config.n_top_genes, study_data.adata.n_vars))
            config = replace(config, seeds=seeds_within_limit(entries, study_data.adata.n_obs, n_genes))
            specs = list(plan_runs(config, changes or {}))
        context = embedding_context(study_data, config, silent)
        fingerprint = partial(StudyRunSpec.fingerprint, data=study_data, config=config)
        try:
            pairs = run_all(specs, context, folder, fingerprint)
            finished = {(spec.name, spec.seed): run for spec, run in pairs}
            record = write.provenance(command, study_data, config, time.perf_counter() - started)
            results = collect(study_data, specs, finished, record)
            write.write(results, study_data.adata, folder)
        except KeyboardInterrupt as stop:
            saved = [Run.from_file(spec.path(folder), fingerprint(spec)) for spec in specs]
            n_saved = len(saved) - saved.count(None)
            raise runs.interruption(stop, n_saved, len(specs), folder) from None
        runs.remove_checkpoints(folder)
    return results


def check_fits(data: StudyData, folder: Path) -> None:
    """Raise InputError if the folder holds a study of other data, if cells are too few for k-means or data cannot be written."""
    runs.check_same_data(folder, data.digest, experiment="study", parts="counts")
    checks.check_kmeans(data.adata.n_obs, data.labels)
    io.check_writable(data.adata, "study.h5ad")


def plan_runs(config: StudyConfig, changes: Mapping[str, Any]) -> Iterator[StudyRunSpec]:
    """Yield the runs of a study; raise InputError for unknown models, presets and settings."""
    presets.require_names(config.models, MODELS, "model")
    presets.require_names(config.presets, PRESETS, "preset")
    presets.require_settings(changes, [DataConfig, *(MODELS[name] for name in config.models)], config.models)
    n_seeds = config.seeds or 1
    for preset in dict.fromkeys(config.presets):
        for model in models_of(PRESETS[preset], config.models):
            for seed in range(n_seeds):
                entry = presets.study_entry(model, PRESETS[preset], seed, changes)
                resolve_device(entry.estimator.device)
                yield StudyRunSpec(entry.name, entry.title, seed, entry)
    for name, n_components in BASELINES.items():
        for seed in range(n_seeds):
            yield StudyRunSpec(name, f"PCA, {n_components} components", seed, None, n_components)


def models_of(preset: Preset, models: Sequence[str]) -> list[str]:
    """Return the models that a study trains with a preset: those that are asked for and that the preset is meant for, else all."""
    asked = list(dict.fromkeys(models))
    return [model for model in asked if model in preset.study_models] or asked


def embedding_context(data: StudyData, config: StudyConfig, silent: bool) -> EmbeddingContext:
    """Return what all runs share; a perplexity that is too large for the number of cells is lowered here, with one warning."""
    perplexity = cap_perplexity(config.perplexity, data.adata.n_obs)
    return EmbeddingContext(data.adata, data.labels, perplexity, silent)


def run_all(
    specs: Sequence[StudyRunSpec],
    context: EmbeddingContext,
    folder: Path,
    fingerprint: Callable[[StudyRunSpec], Fingerprint],
) -> Iterator[tuple[StudyRunSpec, Run]]:
    """Compute or load each run; a run is on disk before it is yielded."""
    for number, spec in enumerate(specs, 1):
        log.info("%d of %d: %s, seed %d", number, len(specs), spec.title, spec.seed)
        needs_model = spec.entry is not None and spec.seed == 0
        has_model = not needs_model or model_folder.is_whole(folder / "models" / spec.name)
        path, digests = spec.path(folder), fingerprint(spec)
        checkpoint = runs.checkpoint_dir(path, digests)
        compute = partial(run_method, spec, context, folder, checkpoint)
        incomplete = "" if has_model else "the saved model"
        yield spec, run_or_load(path, digests, compute, incomplete=incomplete, checkpoint=checkpoint)


def run_method(
    spec: StudyRunSpec, context: EmbeddingContext, folder: Path, checkpoint_dir: Path | None = None
) -> Run:
    """Compute one run; the model of the first seed is saved in the folder models."""
    if spec.entry is None:
        return embedding.pca_run(context, spec.n_components, spec.seed)
    first = spec.seed == 0
    model, run = embedding.train_run(context, spec.entry, complete=first, checkpoint_dir=checkpoint_dir)
    if first:
        spec.path(folder).unlink(missing_ok=True)  # a stored run belongs to the model that is replaced here
        model.save(folder / "models" / spec.name)
    return run


def collect(
    data: StudyData,
    specs: Sequence[StudyRunSpec],
    finished: Mapping[tuple[str, int], Run],
    record: dict[str, object],
) -> StudyResults:
    """Return the tables and rows of all runs."""
    scores, times, histories, rows = [], [], [], []
    for spec in specs:
        run, key = finished[spec.name, spec.seed], {"model": spec.name, "seed": spec.seed}
        for space, values in run.scores(data.labels).items():
            scores.append({**key, "space": space, **values})
        if spec.entry is not None:
            seconds = float(run.arrays["train_seconds"])
            times.append({**key, "epochs": len(run.history), "train_seconds": seconds})
            histories.append(run.history.drop(columns="seconds").assign(model=spec.name, seed=spec.seed))
        if spec.seed == 0:
            rows.append(row_of(spec, run))
    columns = ["model", "seed", "epoch", "loss", "reconstruction_loss", "kl"]
    return StudyResults(
        title=data.title,
        labels=data.labels,
        label_source=data.label_source,
        labels_from_pca=data.labels_from_pca,
        rows=tuple(rows),
        scores=pd.DataFrame(scores, columns=["model", "seed", "space", *CLUSTERING_METRICS]),
        times=pd.DataFrame(times, columns=["model", "seed", "epochs", "train_seconds"]),
        history=pd.concat(histories, ignore_index=True)[columns],
        qc=data.qc,
        batches=None
        if data.batch_key is None
        else pd.Categorical(data.adata.obs[data.batch_key].astype(str)),
        expression=marker_expression(data),
        provenance={**record, "n_cells": data.adata.n_obs, "n_genes": data.adata.n_vars},
    )


def marker_expression(data: StudyData) -> GeneExpression | None:
    """Return the expression of the markers of the labels, which the report shows on the maps."""
    x_ng = log_normalized(data.adata.layers.get("counts", data.adata.X))
    genes = data.adata.var_names.tolist()
    n_labels = max(len(data.labels.categories), 1)
    markers = marker_genes(x_ng, genes, data.labels, max(1, min(3, MAX_GENES // n_labels)))
    return gene_expression(x_ng, genes, [gene for _, gene in markers], markers)


def row_of(spec: StudyRunSpec, run: Run) -> MethodResult:
    """Return the result of a method from the run of its first seed."""
    entry = spec.entry
    return method_result(
        spec.name,
        spec.title,
        run,
        model=None if entry is None else entry.model,
        preset="baseline" if entry is None else entry.preset,
        settings={} if entry is None else {**asdict(entry.estimator), **asdict(entry.data)},
    )


def show(results: StudyResults) -> None:
    """Print the scores on the 2-D map as a table: mean over seeds, ± sd where there are several.

    Examples
    --------
    ::

        results = sp.study.run("counts.h5ad", "study")
        sp.study.show(results)
    """
    primary = results.scores[results.scores["space"] == PRIMARY_SPACE]
    lines = []
    for name, group in primary.groupby("model", sort=False):
        mean, sd = group[list(CLUSTERING_METRICS)].mean(), group[list(CLUSTERING_METRICS)].std()
        spread = [f" ± {sd[key]:.3f}" if len(group) > 1 else "" for key in CLUSTERING_METRICS]
        lines.append(
            [str(name), *(f"{mean[key]:.3f}{s}" for key, s in zip(CLUSTERING_METRICS, spread, strict=True))]
        )
    title = f"{results.title}: k-means on the 2-D map against {results.label_source}"
    print_table(title, ["model", *CLUSTERING_METRICS], lines)
