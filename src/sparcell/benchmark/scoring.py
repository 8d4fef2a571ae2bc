"""Scores of the runs of a benchmark: maps, partitions and scIB's measures, kept on disk beside the run; readability, made when asked for.

Suffixes: n cells, k latents, d principal components, c cell types.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparcell.benchmark.methods import lognormalized
from sparcell.experiments.provenance import digest_of
from sparcell.experiments.runs import EmbeddingContext, Run, embed_and_cluster
from sparcell.metrics import disentanglement
from sparcell.metrics import scib as scib_metrics
from sparcell.metrics.active_latents import active_latents
from sparcell.results.benchmark import SCIB
from sparcell.results.latents import MIN_INCLUSION
from sparcell.results.study import PRIMARY_SPACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sparcell.benchmark.split import BenchmarkData

    Floats = NDArray[np.floating]

log = logging.getLogger("sparcell")

FORMAT = 1
"""Of stored scores; raise it whenever the same codes begin to get other ones."""

N_BEFORE = 50
"""Principal components of the counts that scIB compares a code with."""

MIB = 2.0**20

REPRODUCED_R = 0.8
"""A latent is found again in another seed from this |r| on, and is reproducible if found in this share of the other seeds."""


@dataclass(frozen=True)
class Scorer:
    """What all scores of a benchmark share."""

    ground: BenchmarkData
    scene: EmbeddingContext
    before_nd: Floats
    scib: bool
    """Whether scib-metrics is there."""

    @classmethod
    def of(cls, ground: BenchmarkData, perplexity: float, *, scib: bool, silent: bool) -> Scorer:
        """Prepare what every score needs."""
        from sklearn.decomposition import PCA

        x_ng = lognormalized(ground.cells.X)
        n_before = min(N_BEFORE, min(x_ng.shape) - 1)
        before_nd = PCA(n_before, svd_solver="arpack", random_state=0).fit_transform(x_ng)
        return cls(ground, EmbeddingContext(ground.cells, ground.labels, perplexity, silent), before_nd, scib)

    def fingerprint(self, run: Run, seed: int) -> str:
        """Digest of all that the scores depend on."""
        codes = hashlib.sha256(np.ascontiguousarray(run.arrays["latent_nk"]).tobytes()).hexdigest()
        names = ("openTSNE", "scikit-learn", *((scib_metrics.PACKAGE,) if self.scib else ()))
        versions = {name: metadata.version(name) for name in names}
        labels = [str(label) for label in self.ground.labels]
        batches = None if self.ground.batches is None else self.ground.batches.tolist()
        return digest_of([FORMAT, codes, labels, batches, self.scene.perplexity, versions, seed])

    def score(self, run: Run, seed: int) -> Run:
        """Map, cluster and score the codes of a run."""
        log.info("its map and scores")
        latent_nk = run.arrays["latent_nk"]
        arrays = embed_and_cluster(self.scene, latent_nk, seed)[0]
        del arrays["latent_nk"]
        found, trouble = self._scib(latent_nk) if self.scib else ({}, "")
        arrays |= {
            "scib_trouble": np.array(trouble),
            "scib_names": np.array(list(found), dtype=np.str_),
            "scib_values": np.array([*found.values()]),
        }
        return Run(arrays)

    def _scib(self, latent_nk: Floats) -> tuple[dict[str, float], str]:
        """Give scIB's measures; where its library fails on these codes none of them, and why: the other scores stand."""
        known_n = ~pd.isna(self.ground.labels)
        labels_n = np.asarray(self.ground.labels[known_n], dtype=np.str_)
        batches = self.ground.batches
        batches_n = None if batches is None else np.asarray(batches[known_n], dtype=np.str_)
        try:
            found = scib_metrics.scib(latent_nk[known_n], labels_n, batches_n, self.before_nd[known_n])
        except Exception as error:  # whatever the library raises
            return {}, f"{type(error).__name__}: {error}"
        return {SCIB[name]: value for name, value in found.items() if name in SCIB}, ""


SPACES = {"map": PRIMARY_SPACE, "code": "latent"}
"""How columns of the tables begin → the space, as a study calls it."""


def line(run: Run, scored: Run, labels: pd.Categorical) -> dict[str, Any]:
    """Put the numbers of one run side by side, by the keys of `standings.MEASURES`."""
    names, values = scored.arrays["scib_names"], scored.arrays["scib_values"]
    found: dict[str, Any] = {str(name): float(value) for name, value in zip(names, values, strict=True)}
    clusters = scored.scores(labels)
    for prefix, space in SPACES.items():
        found |= {f"{prefix}_{measure}": value for measure, value in clusters[space].items()}
    likelihood_t = run.get("log_likelihood_t")
    return found | {
        "log_likelihood": float("nan") if likelihood_t is None else float(likelihood_t.mean()),
        "epochs": int(run.arrays["n_epochs"]),
        "train_seconds": float(run.arrays["train_seconds"]),
        "cpu_seconds": float(run.arrays["cpu_seconds"]),
        "peak_mib": float(run.arrays["peak_bytes"]) / MIB,
    }


def live(run: Run, *, unit_prior: bool) -> NDArray[np.bool_]:
    """Tell which latents say anything, (k,): as `metrics.live_latents` where the prior is N(0, 1), elsewhere those that vary at all."""
    latent_nk, inclusion_nk = run.arrays["latent_nk"], run.get("inclusion_nk")
    if not unit_prior:
        return np.asarray(np.ptp(latent_nk, axis=0) > 0)
    return active_latents(latent_nk, None if inclusion_nk is None else inclusion_nk >= MIN_INCLUSION)


def readable(run: Run, labels: pd.Categorical, *, unit_prior: bool) -> dict[str, float]:
    """How well types are read off single latents and how sparse the codes are, by the keys of `standings.MEASURES`.

    Types over all cells with a label; a type with a single one is left out, as two are needed to be neighbours. Sparsity over all cells.
    """
    latent_nk, active_k = run.arrays["latent_nk"], live(run, unit_prior=unit_prior)
    known_n = ~pd.isna(labels)
    type_n = np.asarray(labels.codes)[known_n]
    types_c = np.flatnonzero(np.bincount(type_n, minlength=len(labels.categories)) > 1)
    member_nc = type_n[:, None] == types_c
    scores = disentanglement.single_latent_scores(latent_nk[known_n], member_nc)
    found = disentanglement.averaged(scores, active_k)
    every = disentanglement.averaged(scores, np.ones_like(active_k))
    inclusion_nk = run.get("inclusion_nk")
    value_nk, threshold = (latent_nk, 0.0) if inclusion_nk is None else (inclusion_nk, MIN_INCLUSION)
    scaled_nk = latent_nk[:, active_k] / latent_nk[:, active_k].std(axis=0)
    return found | {
        "all_lms_smi": every["lms_smi"],
        "all_lms_spn": every["lms_spn"],
        "live": float(active_k.sum()),
        "on": disentanglement.latents_on(np.where(active_k, value_nk, 0), threshold),
        "hoyer": disentanglement.hoyer_sparsity(scaled_nk) if active_k.sum() > 1 else float("nan"),
    }


def reproduced_fractions(runs: Sequence[Run], *, unit_prior: bool) -> list[float]:
    """Of each run of a method, one a seed, the share of its live latents that are found in most of the others; NaN where there is none."""
    if len(runs) < 2:
        return [float("nan")] * len(runs)
    alive = [live(run, unit_prior=unit_prior) for run in runs]
    # A latent that vanished becomes constant: it correlates with nothing, and takes no partner from another.
    codes = [
        np.where(active_k, run.arrays["latent_nk"], 0) for run, active_k in zip(runs, alive, strict=True)
    ]
    shares = disentanglement.program_reproducibility(codes, REPRODUCED_R).share
    return [
        float((share_k[active_k] >= REPRODUCED_R).mean()) if active_k.any() else float("nan")
        for share_k, active_k in zip(shares, alive, strict=True)
    ]
