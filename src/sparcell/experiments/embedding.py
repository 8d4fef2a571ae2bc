"""Latent representations of one run: trained or by PCA, embedded with t-SNE, and clustered with k-means.

Suffixes: n cells, k latents, c clusters, m generated cells, s interpolation steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparcell.experiments.runs import HISTORY, Run
from sparcell.results.study import MethodResult
from sparcell.tl.embedding import kmeans, tsne, tsne_transform

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.experiments.presets import StudyEntry
    from sparcell.models.fitted import Model
    from sparcell.protocols import EpochRecord

    Arrays = dict[str, NDArray[Any]]
    Floats = NDArray[np.floating]

N_GENERATED = 500
N_STEPS = 12
ON_MAP = ("generated_m2", "interpolated_s2")
"""Arrays that hold latent representations until `tsne_transform` places them on the 2-D map."""


@dataclass(frozen=True)
class EmbeddingContext:
    """What all runs of a study or benchmark share."""

    adata: AnnData
    labels: pd.Categorical
    perplexity: float
    silent: bool

    @property
    def n_types(self) -> int:
        """Number of labels that occur: k of the k-means."""
        return len(self.labels.categories)


def pca_run(context: EmbeddingContext, n_components: int, seed: int) -> Run:
    """Embed and cluster the first principal components in ``obsm["X_pca"]``."""
    return Run(embed_and_cluster(context, context.adata.obsm["X_pca"][:, :n_components], seed)[0])


def train_run(
    context: EmbeddingContext, entry: StudyEntry, *, complete: bool, checkpoint_dir: Path | None = None
) -> tuple[Model, Run]:
    """Train a model, then embed and cluster its latent representation.

    Parameters
    ----------
    context
        Data and labels.
    entry
        Estimator and what it reads of the data.
    complete
        Whether to add the 3-D map, generated cells and the interpolation, which are shown for the first seed only.
    checkpoint_dir
        Folder for checkpoints of the training: see `Estimator.fit`.

    Returns
    -------
    The fitted model, and the run.
    """
    adata, data = context.adata, entry.data
    trained: list[EpochRecord] = []
    started = time.perf_counter()
    model = entry.estimator.fit(
        adata,
        layer=data.layer,
        genes_key=data.genes_key,
        batch_key=data.batch_key,
        covariates=data.covariates,
        log_normalize=data.log_normalize,
        scale=data.scale,
        checkpoint_dir=checkpoint_dir,
        on_epoch=trained.append,
        silent=context.silent,
    )
    train_seconds = time.perf_counter() - started + seconds_before(model, len(trained))
    latents = model.latent_representation(adata)
    arrays: Arrays = {name: model.history[name].to_numpy() for name in HISTORY}
    arrays |= {"train_seconds": np.array(train_seconds), "active_k": latents.active_k}
    if entry.estimator.generative:
        arrays["kl_k"] = latents.kl_k
    if latents.inclusion_nk is not None:
        arrays["inclusion_nk"] = latents.inclusion_nk
    seed = entry.estimator.seed
    embedded, tsne2d = embed_and_cluster(context, latents.mean_nk, seed)
    if complete:
        embedded |= _generate(context, model, latents.mean_nk, seed, tsne2d)
        deep = tsne(latents.mean_nk, n_components=3, perplexity=context.perplexity, seed=seed)
        embedded["tsne3d_n3"] = np.asarray(deep)
    return model, Run(arrays | embedded)


def seconds_before(model: Model, n_trained: int) -> float:
    """Return the seconds of the epochs before an interruption; `n_trained` is the number of epochs trained in this process."""
    return float(model.history["seconds"].iloc[: len(model.history) - n_trained].sum())


def embed_and_cluster(context: EmbeddingContext, latent_nk: Floats, seed: int) -> tuple[Arrays, Any]:
    """Return the arrays of a run (map and partitions), and openTSNE's embedding, which can place more cells."""
    embedding = tsne(latent_nk, perplexity=context.perplexity, seed=seed, extendable=True)
    map_n2 = np.array(embedding)
    kmeans_n, centroids_c2 = kmeans(map_n2, context.n_types, seed=seed)
    latent_kmeans_n, _ = kmeans(latent_nk, context.n_types, seed=seed)
    arrays = {
        "latent_nk": latent_nk,
        "tsne2d_n2": map_n2,
        "kmeans_n": kmeans_n,
        "centroids_c2": centroids_c2,
        "latent_kmeans_n": latent_kmeans_n,
    }
    return arrays, embedding


def _generate(context: EmbeddingContext, model: Model, latent_nk: Floats, seed: int, tsne2d: Any) -> Arrays:
    """Decode samples of the prior and an interpolation, encode them like measured cells, and place them on the 2-D map."""
    start, stop, names = medoid_cells(context.labels, latent_nk)
    cells = context.adata.obs_names
    walk = model.interpolate(context.adata, cells[start], cells[stop], n_steps=N_STEPS)
    latents = {"interpolated_s2": model.encode(walk.X)}
    if model.settings.generative:
        latents["generated_m2"] = model.encode(model.sample(N_GENERATED, seed=seed).X)
    arrays: Arrays = {name: tsne_transform(tsne2d, latents[name]) for name in ON_MAP if name in latents}
    return arrays | {"interpolated_labels": np.array(names)}


def medoid_cells(labels: pd.Categorical, latent_nk: Floats) -> tuple[int, int, tuple[str, str]]:
    """Return the medoid cells of the two largest types: their rows, and the names of the types."""
    first, second = pd.Series(labels).value_counts().index[:2]
    rows = []
    for name in (first, second):
        members = np.flatnonzero(labels == name)
        distance = np.linalg.norm(latent_nk[members] - latent_nk[members].mean(axis=0), axis=1)
        rows.append(int(members[distance.argmin()]))
    return rows[0], rows[1], (str(first), str(second))


def method_result(
    name: str, title: str, run: Run, *, model: str | None, preset: str, settings: dict[str, object]
) -> MethodResult:
    """Return the result of a method, with the arrays of its first run; the other arguments are fields of MethodResult."""
    ends = run.get("interpolated_labels")
    return MethodResult(
        name=name,
        title=title,
        model=model,
        preset=preset,
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
        interpolated_labels=None if ends is None else (str(ends[0]), str(ends[1])),
    )
