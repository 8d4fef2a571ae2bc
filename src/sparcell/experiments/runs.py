"""One trained model or baseline with one seed: how it is run, and how it is kept so that a study can go on where it stopped.

Suffixes: n cells, k latents, c clusters, m generated cells, s interpolation steps.
"""

from __future__ import annotations

import io as bytes_io
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from sparcell.errors import InputError
from sparcell.io import files
from sparcell.metrics.clustering import clustering_scores
from sparcell.results.study import MEASURES
from sparcell.tl.embedding import kmeans, tsne, tsne_transform

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.experiments.presets import StudyEntry
    from sparcell.models.fitted import Model

FORMAT = 6
"""Of stored runs; raise it whenever the same settings begin to give other results, so that old runs are made anew."""

N_GENERATED = 500
N_STEPS = 12
PLACED = ("generated_m2", "interpolated_s2")
"""Arrays of codes that are placed on the map."""
HISTORY = ("epoch", "loss", "reconstruction_loss", "kl", "seconds")


@dataclass(frozen=True)
class Run:
    """What one run found: named arrays, and the same names on disk."""

    arrays: dict[str, NDArray[Any]]

    @property
    def history(self) -> pd.DataFrame:
        """Epoch, loss, nll, kl, seconds; empty for a baseline."""
        columns = {name: self.arrays[name] for name in HISTORY if name in self.arrays}
        return pd.DataFrame(columns, columns=list(HISTORY))

    def get(self, name: str) -> NDArray[Any] | None:
        """Return an array, or None where this kind of run has none."""
        return self.arrays.get(name)

    def scores(self, labels: pd.Categorical) -> dict[str, dict[str, float]]:
        """Score both partitions over the cells that have a label: space → measure → value."""
        known = ~pd.isna(labels)
        spaces = {"tsne2d": "kmeans_n", "latent": "latent_kmeans_n"}
        codes = labels.codes[known]
        return {
            space: dict(
                zip(MEASURES, clustering_scores(codes, self.arrays[name][known]).values(), strict=True)
            )
            for space, name in spaces.items()
        }

    def to_bytes(self, fingerprint: str) -> bytes:
        """Serialise, with the fingerprint of what it was made from."""
        buffer = bytes_io.BytesIO()
        named: dict[str, Any] = {"fingerprint": np.array(fingerprint), **self.arrays}
        np.savez(buffer, **named)
        return buffer.getvalue()

    @classmethod
    def from_file(cls, path: Path, fingerprint: str) -> Run | None:
        """Read a run back; None where there is none, it is damaged, or it was made from something else."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):
            return None
        return cls(arrays) if str(arrays.pop("fingerprint", "")) == fingerprint else None


@dataclass(frozen=True)
class EmbeddingContext:
    """What every run of a study shares."""

    adata: AnnData
    labels: pd.Categorical
    perplexity: float
    silent: bool

    @property
    def n_types(self) -> int:
        """Number of types that occur: k of the k-means."""
        return len(self.labels.categories)


def baseline(scene: EmbeddingContext, n_components: int, seed: int) -> Run:
    """Map and cluster the first principal components: no training."""
    return Run(embed_and_cluster(scene, scene.adata.obsm["X_pca"][:, :n_components], seed)[0])


def trained(scene: EmbeddingContext, row: StudyEntry, *, whole: bool) -> tuple[Model, Run]:
    """Train a model, and map and cluster its codes; `whole` adds what is shown for the first seed only."""
    adata, data = scene.adata, row.data
    started = time.perf_counter()
    model = row.estimator.fit(
        adata,
        layer=data.layer,
        genes_key=data.genes_key,
        batch_key=data.batch_key,
        covariates=data.covariates,
        log_normalize=data.log_normalize,
        scale=data.scale,
        silent=scene.silent,
    )
    train_seconds = time.perf_counter() - started
    codes = model.latent_representation(adata)
    arrays = {name: model.history[name].to_numpy() for name in HISTORY}
    arrays |= {"train_seconds": np.array(train_seconds), "active_k": codes.active_k}
    if row.estimator.generative:
        arrays["kl_k"] = codes.kl_k
    if codes.inclusion_nk is not None:
        arrays["inclusion_nk"] = codes.inclusion_nk
    made = _generated(scene, model, codes.mean_nk, row.estimator.seed) if whole else {}
    return model, Run(arrays | _shown(scene, codes.mean_nk, made, row.estimator.seed))


def _shown(
    scene: EmbeddingContext, latent_nk: NDArray[np.floating], made: dict[str, NDArray[Any]], seed: int
) -> dict[str, NDArray[Any]]:
    """Map and cluster codes; where cells were made, also in 3-D, with these placed on the map."""
    if not made:
        return embed_and_cluster(scene, latent_nk, seed)[0]
    arrays, embedding = embed_and_cluster(scene, latent_nk, seed)
    deep = tsne(latent_nk, n_components=3, perplexity=scene.perplexity, seed=seed)
    arrays |= {name: tsne_transform(embedding, made[name]) for name in PLACED if name in made}
    arrays |= {name: values for name, values in made.items() if name not in PLACED}
    return arrays | {"tsne3d_n3": np.asarray(deep)}


def embed_and_cluster(
    scene: EmbeddingContext, latent_nk: NDArray[np.floating], seed: int
) -> tuple[dict[str, NDArray[Any]], Any]:
    """Map and cluster codes: the arrays of a run, and openTSNE's embedding, which can place more cells."""
    embedding = tsne(latent_nk, perplexity=scene.perplexity, seed=seed)
    map_n2 = np.array(embedding)
    kmeans_n, centroids_c2 = kmeans(map_n2, scene.n_types, seed=seed)
    latent_kmeans_n, _ = kmeans(latent_nk, scene.n_types, seed=seed)
    arrays = {
        "latent_nk": latent_nk,
        "tsne2d_n2": map_n2,
        "kmeans_n": kmeans_n,
        "centroids_c2": centroids_c2,
        "latent_kmeans_n": latent_kmeans_n,
    }
    return arrays, embedding


def _generated(
    scene: EmbeddingContext, model: Model, latent_nk: NDArray[np.floating], seed: int
) -> dict[str, NDArray[Any]]:
    """Decode new cells and a walk, and encode them as if they had been measured."""
    start, stop, names = medoid_cells(scene.labels, latent_nk)
    cells = scene.adata.obs_names
    walk = model.interpolate(scene.adata, cells[start], cells[stop], n_steps=N_STEPS)
    made = {"interpolated_s2": model.encode(walk.X), "interpolated_labels": np.array(names)}
    if model.settings.generative:
        made["generated_m2"] = model.encode(model.sample(N_GENERATED, seed=seed).X)
    return made


def medoid_cells(labels: pd.Categorical, latent_nk: NDArray[np.floating]) -> tuple[int, int, tuple[str, str]]:
    """Find the cell nearest to the mean code of each of the two largest types: their rows and the types' names."""
    first, second = pd.Series(labels).value_counts().index[:2]
    rows = []
    for name in (first, second):
        members = np.flatnonzero(labels == name)
        distance = np.linalg.norm(latent_nk[members] - latent_nk[members].mean(axis=0), axis=1)
        rows.append(int(members[distance.argmin()]))
    return rows[0], rows[1], (str(first), str(second))


def check_runs_folder(folder: Path, resume: bool, *, foreign: str) -> Path:
    """Refuse a folder that holds anything but, with `resume`, earlier runs, and no `foreign` file; a new one is not left behind empty."""
    new = not folder.exists()
    earlier = resume and any((folder / "runs").glob("*-seed*.npz")) and not (folder / foreign).exists()
    files.check_output_folder(folder, allow_existing=earlier)
    if new:
        folder.rmdir()  # made again by the first run
    return folder


def check_same_data(folder: Path, digest: str, *, of: str, parts: str) -> None:
    """Refuse to take up what is finished with other data, for it would be replaced: `of` what, and which parts may differ."""
    try:
        earlier = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["input"]
        name, same = earlier["name"], earlier["sha256"] == digest
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not same:
        raise InputError(
            f"{folder} holds a {of} of other {parts} ({name}), which would be replaced; expected a folder for each: give another --out."
        )
