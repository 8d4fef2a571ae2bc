"""The trained models of an analysis: latent representation with clusters and maps, and the model of gene programs. Each is stored as a run.

Suffixes: n cells.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell import pp
from sparcell.config.presets import PRESETS
from sparcell.errors import InputError, format_settings
from sparcell.experiments import presets, runs
from sparcell.experiments.provenance import digest_of_columns, versions
from sparcell.experiments.runs import HISTORY, Run
from sparcell.io import model_folder
from sparcell.tl.embedding import PERPLEXITY, tsne

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from sparcell.analysis.prepare import AnalysisData
    from sparcell.analysis.reference import Reference
    from sparcell.config.analysis import AnalysisConfig
    from sparcell.experiments.presets import StudyEntry
    from sparcell.experiments.runs import Fingerprint

log = logging.getLogger("sparcell")

FORMAT = 1
"""Format of stored runs of an analysis. Raise it whenever the same settings begin to give other results."""
MODEL = "beta-vsc"
STABILITY_RUNS = 3
"""Further Leiden runs, with other seeds, that tell how firm the borders of the clusters are."""


@dataclass(frozen=True)
class Stage:
    """A model that an analysis trains, or the saved one onto which it maps the cells."""

    name: str
    """Also the folder of the saved model."""
    title: str
    entry: StudyEntry | None
    """What is trained; None for a saved model."""
    encodes: bool
    """Whether the latents of the cells are stored; the page of programs encodes by itself."""
    reference: Reference | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the model."""
        if self.entry is not None:
            return asdict(self.entry.estimator)
        assert self.reference is not None
        settings: Any = self.reference.model.settings
        return asdict(settings)


def stages(
    config: AnalysisConfig, changes: Mapping[str, Any], reference: Reference | None = None
) -> list[Stage]:
    """Return the models to train or to map onto; raise InputError for settings that they lack."""
    presets.require_settings(changes, [type(entry_of("counts", config, {}).estimator)], [MODEL])
    if changes and reference is not None and not config.programs:
        raise InputError(
            f"{format_settings(**dict.fromkeys(changes, '…'))} would have no effect: with a reference and without programs nothing is "
            "trained. Leave out these settings."
        )
    if reference is None:
        chosen = [Stage("model", "latent representation", entry_of("counts", config, changes), encodes=True)]
    else:
        chosen = [Stage("model", "latent representation", None, encodes=True, reference=reference)]
    if config.programs:
        chosen.append(
            Stage("programs_model", "gene programs", entry_of("programs", config, changes), encodes=False)
        )
    return chosen


def entry_of(preset: str, config: AnalysisConfig, changes: Mapping[str, Any]) -> StudyEntry:
    """Return a model with the settings of a preset; the batch goes to both models."""
    batch = {} if config.batch_key is None else {"batch_key": config.batch_key}
    return presets.study_entry(MODEL, PRESETS[preset], config.seed, {**changes, **batch})


def run_stage(stage: Stage, data: AnalysisData, config: AnalysisConfig, folder: Path, *, silent: bool) -> Run:
    """Train a model or load it; it is saved in the folder of its name."""
    log.info("%s: %s", "training" if stage.entry is not None else "mapping onto the reference", stage.title)
    digests = fingerprint(stage, data, config)
    path = folder / "runs" / f"{stage.name}-seed{config.seed}.npz"
    checkpoint = runs.checkpoint_dir(path, digests)
    compute = (
        partial(map_cells, stage.reference, data, config, folder / stage.name, silent)
        if stage.reference is not None
        else partial(train, stage, data, folder, checkpoint, silent)
    )
    incomplete = "" if model_folder.is_whole(folder / stage.name) else "the saved model"
    return runs.run_or_load(path, digests, compute, incomplete=incomplete, checkpoint=checkpoint)


def run_maps(stage: Stage, latents: Run, data: AnalysisData, config: AnalysisConfig, folder: Path) -> Run:
    """Compute clusters and maps of the latent representation or load them; other resolutions need no training."""
    log.info("clusters and maps")
    digests = fingerprint(stage, data, config) | runs.fingerprint_of(clusters=resolutions(config))
    path = folder / "runs" / f"maps-seed{config.seed}.npz"
    compute = partial(clusters_and_maps, latents.arrays["latent_nk"], config)
    return runs.run_or_load(path, digests, compute, is_quick=True)


def fingerprint(stage: Stage, data: AnalysisData, config: AnalysisConfig) -> Fingerprint:
    """Return the digests of all inputs that a trained model depends on."""
    inputs: dict[str, object]
    if stage.reference is not None:
        inputs = {"reference": stage.reference.digest, "batches": (config.batch_key, config.unseen)}
    else:
        assert stage.entry is not None
        inputs = {
            "settings": (stage.settings, asdict(stage.entry.data)),
            "genes": (config.n_top_genes, config.flavor),
        }
    return runs.fingerprint_of(
        format=FORMAT,
        versions=versions(),
        data=data.digest,
        columns=digest_of_columns(data.adata.obs, [config.batch_key]),
        quality_control=data.qc.attrs["limits"],
        seed=config.seed,
        **inputs,
    )


def map_cells(
    reference: Reference, data: AnalysisData, config: AnalysisConfig, folder: Path, silent: bool
) -> Run:
    """Map the cells onto a saved model and save the mapped one; return the latent representation."""
    assert data.query is not None
    mapped = reference.map(data.query, config, silent=silent)
    latents = mapped.latent_representation(data.query)
    mapped.save(folder)
    return Run({"latent_nk": latents.mean_nk, "active_k": latents.active_k})


def train(stage: Stage, data: AnalysisData, folder: Path, checkpoint: Path | None, silent: bool) -> Run:
    """Train the model of a stage and save it; return its history and, if it encodes, the latent representation."""
    assert stage.entry is not None
    settings = stage.entry.data
    model = stage.entry.estimator.fit(
        data.adata,
        layer=settings.layer,
        genes_key=settings.genes_key,
        batch_key=settings.batch_key,
        log_normalize=settings.log_normalize,
        scale=settings.scale,
        checkpoint_dir=checkpoint,
        silent=silent,
    )
    arrays: dict[str, Any] = {name: model.history[name].to_numpy() for name in HISTORY}
    if stage.encodes:
        latents = model.latent_representation(data.adata)
        arrays |= {"latent_nk": latents.mean_nk, "active_k": latents.active_k}
    model.save(folder / stage.name)
    return Run(arrays)


def clusters_and_maps(latent_nk: NDArray[np.floating], config: AnalysisConfig) -> Run:
    """Return Leiden clusters at all resolutions and of other seeds, a UMAP and a t-SNE."""
    graph = pp.CellGraph(latent_nk, seed=config.seed)
    arrays: dict[str, Any] = {
        f"leiden_{resolution:g}": graph.leiden(resolution, seed=config.seed)
        for resolution in resolutions(config)
    }
    others = range(config.seed + 1, config.seed + 1 + STABILITY_RUNS)
    arrays |= {
        "umap_n2": graph.umap(seed=config.seed),
        "tsne_n2": np.asarray(tsne(latent_nk, perplexity=perplexity(len(latent_nk)), seed=config.seed)),
        "other_clusters_sn": np.stack([graph.leiden(config.resolution, seed=seed) for seed in others]),
    }
    return Run(arrays)


def perplexity(n_cells: int) -> float:
    """Return the usual perplexity, or less for few cells."""
    return min(PERPLEXITY, max(1.0, (n_cells - 1) / 3))


def resolutions(config: AnalysisConfig) -> tuple[float, ...]:
    """Return the resolutions of the clusters: half the one that is asked for, that one, and twice it."""
    return (config.resolution / 2, config.resolution, 2 * config.resolution)
