"""Settings of small studies for the tests."""

from __future__ import annotations

import anndata

from sparcell.config.experiments import StudyConfig
from sparcell.metrics.active_latents import active_latents
from sparcell.models import MODELS

CONFIG = StudyConfig(n_top_genes=300, perplexity=20, seeds=1)
CHANGES = {"epochs": 3, "encoder_widths": (32, 16), "batch_size": 128}
ROWS = [
    *(f"{model}{suffix}" for suffix in ("", "-hvg") for model in MODELS),
    *("beta-vsc-programs", "pca-6", "pca-10"),
]
ONE = StudyConfig(n_top_genes=300, perplexity=20, models=("beta-vsc",), presets=("hvg",), seeds=1)


def rows_with_programs(out):
    """Return the rows with spikes that became sparse, from the AnnData of a study: most active latents off in a tenth of the cells."""
    obsm = anndata.read_h5ad(out / "study.h5ad").obsm
    keys = [key.removesuffix("_inclusion") for key in obsm if key.endswith("_inclusion")]
    sparse = []
    for key in keys:
        inclusion_nk = obsm[f"{key}_inclusion"]
        active_k = active_latents(obsm[f"X_{key}"], inclusion_nk >= 0.5)
        if active_k.any() and (inclusion_nk[:, active_k].mean(axis=0) < 0.9).mean() > 0.5:
            sparse.append(key.replace("_", "-"))
    return sparse
