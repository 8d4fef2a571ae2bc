"""Scores of the runs of a benchmark. Maps, partitions and scIB's scores are stored beside the run; the others are computed when needed.

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

from sparcell._utils import progress
from sparcell.data.normalize import log_normalized
from sparcell.experiments.embedding import EmbeddingContext, embed_and_cluster
from sparcell.experiments.runs import Fingerprint, Run, fingerprint_of
from sparcell.metrics import disentanglement
from sparcell.metrics import scib as scib_metrics
from sparcell.metrics.active_latents import active_latents
from sparcell.metrics.matching import program_reproducibility
from sparcell.metrics.scib import metric_names
from sparcell.metrics.sparsity import hoyer_sparsity, mean_included
from sparcell.results.benchmark import SCIB_COLUMNS
from sparcell.results.latents import MIN_INCLUSION
from sparcell.results.study import PRIMARY_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sparcell.benchmark.split import BenchmarkData

    Floats = NDArray[np.floating]

log = logging.getLogger("sparcell")

FORMAT = 3
"""Format of stored scores. Raise it whenever the same latent representation begins to get other scores."""

MAP = "t-SNE map and clusters"
"""First step of scoring; the others are scIB's metrics."""

N_COMPONENTS = 50
"""Principal components of the counts that scIB compares a latent representation with."""

MIB = 2.0**20

MIN_REPRODUCED = 0.8
"""A latent matches one of another seed from this |r| on, and is reproduced if it has a match in this fraction of the other seeds."""

SPACES = {"map": PRIMARY_SPACE, "latent": "latent"}
"""Prefix of columns of the tables → space, as a study names it."""


@dataclass(frozen=True)
class Scorer:
    """Scores runs; holds what all scores of a benchmark share."""

    data: BenchmarkData
    context: EmbeddingContext
    pca_nd: Floats
    """Principal components of the counts: the unintegrated data."""
    scib: bool
    """Whether scib-metrics is installed."""

    @classmethod
    def from_data(cls, data: BenchmarkData, perplexity: float, *, scib: bool, silent: bool) -> Scorer:
        """Return a scorer; computes the principal components."""
        from sklearn.decomposition import PCA

        x_ng = log_normalized(data.cells.X)
        n_components = min(N_COMPONENTS, min(x_ng.shape) - 1)
        pca_nd = PCA(n_components, svd_solver="arpack", random_state=0).fit_transform(x_ng)
        return cls(data, EmbeddingContext(data.cells, data.labels, perplexity, silent), pca_nd, scib)

    def fingerprint(self, run: Run, seed: int) -> Fingerprint:
        """Return the digests of all inputs that the scores depend on."""
        names = ("openTSNE", "scikit-learn", *((scib_metrics.PACKAGE,) if self.scib else ()))
        batches = self.data.batches
        return fingerprint_of(
            format=FORMAT,
            latents=hashlib.sha256(np.ascontiguousarray(run.arrays["latent_nk"]).tobytes()).hexdigest(),
            labels=[str(label) for label in self.data.labels],
            batches=None if batches is None else batches.tolist(),
            perplexity=self.context.perplexity,
            versions={name: metadata.version(name) for name in names},
            seed=seed,
        )

    def score(self, run: Run, seed: int, title: str = "") -> Run:
        """Embed, cluster and score the latent representation of a run; the scores are a run of their own.

        The progress shows the title, the number of steps done, the time, and the step that is running.
        """
        latent_nk = run.arrays["latent_nk"]
        steps = [MAP, *(metric_names(batches=self.data.batches is not None) if self.scib else ())]
        log.info("%s: scoring, %d steps, the first is the %s", title, len(steps), MAP)
        with progress.bar(f"{title}, scores", len(steps), silent=self.context.silent) as advance:

            def on_step(name: str) -> None:
                following = steps[steps.index(name) + 1 :]
                advance(f"next: {following[0]}" if following else "")

            arrays = embed_and_cluster(self.context, latent_nk, seed)[0]
            on_step(MAP)
            scores, error = self._scib(latent_nk, on_step) if self.scib else ({}, "")
        del arrays["latent_nk"]
        arrays |= {
            "scib_error": np.array(error),
            "scib_names": np.array(list(scores), dtype=np.str_),
            "scib_values": np.array([*scores.values()]),
        }
        return Run(arrays)

    def _scib(self, latent_nk: Floats, on_step: Callable[[str], None]) -> tuple[dict[str, float], str]:
        """Return scIB's scores by column, and an empty string; if the library fails, no scores and its error."""
        labeled_n = ~pd.isna(self.data.labels)
        labels_n = np.asarray(self.data.labels[labeled_n], dtype=np.str_)
        batches = self.data.batches
        batches_n = None if batches is None else np.asarray(batches[labeled_n], dtype=np.str_)
        try:
            scores = scib_metrics.scib_scores(
                latent_nk[labeled_n], labels_n, batches_n, self.pca_nd[labeled_n], on_step
            )
        except Exception as error:  # any error of the library; the other scores are kept
            return {}, f"{type(error).__name__}: {error}"
        return {SCIB_COLUMNS[name]: value for name, value in scores.items() if name in SCIB_COLUMNS}, ""


def score_line(run: Run, scores: Run, labels: pd.Categorical) -> dict[str, Any]:
    """Return the numbers of one run by the keys of METRICS, and epochs."""
    names, values = scores.arrays["scib_names"], scores.arrays["scib_values"]
    line: dict[str, Any] = {str(name): float(value) for name, value in zip(names, values, strict=True)}
    clusters = scores.scores(labels)
    for prefix, space in SPACES.items():
        line |= {f"{prefix}_{metric}": value for metric, value in clusters[space].items()}
    likelihood_t = run.get("log_likelihood_t")
    return line | {
        "log_likelihood": float("nan") if likelihood_t is None else float(likelihood_t.mean()),
        "epochs": int(run.arrays["n_epochs"]),
        "train_seconds": float(run.arrays["train_seconds"]),
        "cpu_seconds": float(run.arrays["cpu_seconds"]),
        "peak_mib": float(run.arrays["peak_bytes"]) / MIB,
    }


def active_latents_of(run: Run, *, unit_prior: bool) -> NDArray[np.bool_]:
    """Return the mask of the active latents, (k,): `metrics.active_latents` with the prior N(0, 1), otherwise latents that vary."""
    latent_nk, inclusion_nk = run.arrays["latent_nk"], run.get("inclusion_nk")
    if not unit_prior:
        return np.asarray(np.ptp(latent_nk, axis=0) > 0)
    return active_latents(latent_nk, None if inclusion_nk is None else inclusion_nk >= MIN_INCLUSION)


def single_latent_metrics(run: Run, labels: pd.Categorical, *, unit_prior: bool) -> dict[str, float]:
    """Return how well single latents match types, and how sparse the latents are, by the keys of METRICS.

    Types are scored over all cells with a label; a type of a single cell is left out, because neighbors need two cells. Sparsity is
    computed over all cells.
    """
    latent_nk, active_k = run.arrays["latent_nk"], active_latents_of(run, unit_prior=unit_prior)
    labeled_n = ~pd.isna(labels)
    type_n = np.asarray(labels.codes)[labeled_n]
    types_c = np.flatnonzero(np.bincount(type_n, minlength=len(labels.categories)) > 1)
    member_nc = type_n[:, None] == types_c
    scores = disentanglement.per_latent_scores(latent_nk[labeled_n], member_nc)
    of_active = disentanglement.aggregate_scores(scores, active_k)
    of_all = disentanglement.aggregate_scores(scores, np.ones_like(active_k))
    inclusion_nk = run.get("inclusion_nk")
    value_nk, threshold = (latent_nk, 0.0) if inclusion_nk is None else (inclusion_nk, MIN_INCLUSION)
    scaled_nk = latent_nk[:, active_k] / latent_nk[:, active_k].std(axis=0)
    return of_active | {
        "all_lms_smi": of_all["lms_smi"],
        "all_lms_spn": of_all["lms_spn"],
        "n_active": float(active_k.sum()),
        "mean_included": mean_included(np.where(active_k, value_nk, 0), threshold),
        "hoyer": hoyer_sparsity(scaled_nk) if active_k.sum() > 1 else float("nan"),
    }


def reproduced_fractions(runs: Sequence[Run], *, unit_prior: bool) -> list[float]:
    """Return for each run of a method (one a seed) the fraction of its active latents that are reproduced in most other runs.

    NaN where there is a single run, or no active latent.
    """
    if len(runs) < 2:
        return [float("nan")] * len(runs)
    active = [active_latents_of(run, unit_prior=unit_prior) for run in runs]
    # An inactive latent becomes constant, so it correlates with no other and cannot take a partner.
    latents = [
        np.where(active_k, run.arrays["latent_nk"], 0) for run, active_k in zip(runs, active, strict=True)
    ]
    fractions = program_reproducibility(latents, MIN_REPRODUCED).fraction
    return [
        float((fraction_k[active_k] >= MIN_REPRODUCED).mean()) if active_k.any() else float("nan")
        for fraction_k, active_k in zip(fractions, active, strict=True)
    ]
