"""Realistic benchmark results with chosen numbers, for the tests of figures, texts and page."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.results_fixture import NASTY, TYPES, clouds
from sparcell.results.benchmark import BASELINE, EXTERNAL, METRICS, MODEL, BenchmarkResults, Skipped
from sparcell.results.study import MethodResult

METHODS = (
    # name, title, kind, level of its scores, log-likelihood
    ("beta-vsc", "β-VSC", MODEL, 0.71, -1203.0),
    ("pca", "PCA", BASELINE, 0.64, np.nan),
    ("harmony", "Harmony", BASELINE, 0.69, np.nan),
    ("scvi-10x1", "scVI, 10 latents, 1 layer", EXTERNAL, 0.70, -1211.0),
)
COSTS = {"train_seconds": 40.0, "cpu_seconds": 38.0, "peak_mib": 210.0}


def one_row(name, title, kind, codes_n, rng):
    xy = clouds(codes_n, int(codes_n.max()) + 1, 2, rng)
    return MethodResult(
        name=name, title=title, model=name if kind == MODEL else None, preset=kind, settings={"n_latent": 10, "epochs": None},
        latent_nk=rng.normal(size=(len(codes_n), 4)), tsne2d_n2=xy, kmeans_n=np.maximum(codes_n, 0),
        centroids_c2=np.zeros((int(codes_n.max()) + 1, 2)),
    )  # fmt: skip


def score_lines(methods, seeds, rng, sd=0.004):
    lines = []
    for place, (name, _, kind, level, likelihood) in enumerate(methods):
        for seed in seeds:
            line = {key: float(np.clip(level + rng.normal(0, sd), 0, 1)) for key in METRICS}
            line |= {key: value * (1 + place) + seed for key, value in COSTS.items()}
            line |= {"log_likelihood": likelihood + seed, "epochs": 0 if kind == BASELINE else 400}
            line["own_epochs"] = 400 if kind == EXTERNAL else np.nan
            lines.append({"method": name, "seed": seed, **line})
    return pd.DataFrame(lines, columns=["method", "seed", "epochs", "own_epochs", *METRICS])


def full_benchmark(n=400, seeds=(0, 1, 2)):
    """Return results with nine types, two batches, four methods, three seeds and one skipped method."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, len(TYPES), n)
    codes[: len(TYPES)] = np.arange(len(TYPES))
    with_missing = codes.copy()
    with_missing[-5:] = -1
    return BenchmarkResults(
        title="pbmc.h5ad",
        labels=pd.Categorical.from_codes(with_missing, categories=list(TYPES)),
        batches=pd.Categorical.from_codes(rng.integers(0, 2, n), categories=["v1", "v2"]),
        rows=tuple(one_row(*method[:3], codes, rng) for method in METHODS),
        scores=score_lines(METHODS, seeds, rng),
        skipped=(Skipped("scVI, 30 latents, 2 layers", "scvi-tools is not installed; pip install 'sparcell[scvi]'"),),
        notes={"scvi-10x1": "Trained for 400 epochs; the default of the library is 400."},
        provenance={
            "command": "sparcell benchmark pbmc.h5ad --labels-key cell_type", "input": {"name": "pbmc.h5ad", "sha256": "1f3a"},
            "n_cells": n, "n_genes": 2000, "n_test": n // 10, "n_dropped": 0, "seeds": list(seeds), "date": "2025-11-22", "seconds": 99.0,
        },
    )  # fmt: skip


def bare_benchmark(n=60):
    """Return minimal results: one method, one seed, no batches, no scIB, hostile names."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 2, n)
    codes[:2] = (0, 1)
    scores = score_lines([("pca", "PCA <i>", BASELINE, 0.5, np.nan)], (0,), rng)
    columns = ("method", "seed", "epochs", "map_nmi", "latent_nmi", *COSTS)
    scores.loc[:, [column for column in scores if column not in columns]] = np.nan
    return BenchmarkResults(
        title='Two "types" & <script>alert(0)</script>',
        labels=pd.Categorical.from_codes(codes, categories=list(NASTY)),
        batches=None,
        rows=(one_row("pca", "PCA <i>", BASELINE, codes, rng),),
        scores=scores,
        skipped=(Skipped("<b>scIB</b>", "not there"),),
    )
