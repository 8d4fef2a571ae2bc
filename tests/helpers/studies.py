"""Settings of small studies for the tests."""

from __future__ import annotations

import anndata

from sparcell.config.experiments import StudyConfig
from sparcell.models import MODELS

CONFIG = StudyConfig(n_top_genes=300, perplexity=20)
CHANGES = {"epochs": 3, "encoder_widths": (32, 16), "batch_size": 128}
ROWS = [f"{model}{suffix}" for suffix in ("", "-hvg") for model in MODELS] + ["pca-6", "pca-10"]
ONE = StudyConfig(n_top_genes=300, perplexity=20, models=("beta-vsc",), presets=("hvg",))


def rows_with_programs(out):
    """Return the rows with spikes and an active latent, from the AnnData of a study."""
    obsm = anndata.read_h5ad(out / "study.h5ad").obsm
    keys = [key.removesuffix("_inclusion") for key in obsm if key.endswith("_inclusion")]
    return [key.replace("_", "-") for key in keys if (obsm[f"X_{key}"].var(axis=0) > 0.01).any()]
