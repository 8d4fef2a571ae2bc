"""Data and settings of small benchmarks for the tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import sparcell as sp
from sparcell.benchmark import pipeline
from sparcell.config.experiments import BenchmarkConfig

N_CELLS = 320
OPTIONAL = ("scib-metrics", "harmonypy", "scvi-tools", "drvi-py")
SMALL = {"epochs": 2, "encoder_widths": (16,), "decoder_widths": (16,), "n_latent": 4, "batch_size": 64}
CONFIG = BenchmarkConfig(
    labels_key="program",
    batch_key="batch",
    seeds=1,
    n_top_genes=60,
    n_components=5,
    n_samples=3,
    perplexity=20,
)
MODELS_AND_PCA = replace(CONFIG, baselines=("pca",), external_models=("none",))
BASELINES = replace(CONFIG, models=("none",), baselines=("pca", "ica"), external_models=("none",))
PCA = replace(BASELINES, baselines=("pca",))


def counts():
    """Return counts of two batches with four simulated programs; the label of a cell is its strongest program."""
    adata = sp.datasets.simulate_programs(n_programs=4, n_cells=N_CELLS, n_genes=120, n_batches=2, seed=1)
    adata.obs["program"] = [f"p{number}" for number in np.asarray(adata.obsm["activity"]).argmax(axis=1)]
    adata.obs["batch"] = adata.obs["batch"].astype(str)
    return adata


def run(data, out, config, **options):
    """Run a benchmark with small models."""
    changes = SMALL if config.models != ("none",) else {}
    return pipeline.run(data, out, config, changes=changes, silent=True, **options)


def stored(folder, name, seed):
    """Return the arrays of a stored run."""
    with np.load(folder / "runs" / f"{name}-seed{seed}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}
