"""What a study writes: tables, figures, the AnnData, the report and the record of how it was made."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

import sparcell
from sparcell import files, io, pl, report

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from sparcell.command_config import StudyConfig
    from sparcell.results import Results

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "scanpy", "anndata", "openTSNE", "igraph")
FIGURES_OF_ROWS = ("overview-", "map2d-", "map3d-", "generated-")
"""How the names of figures begin that not every study draws."""


def write(results: Results, adata: AnnData, folder: Path) -> None:
    """Write everything but the models, each file aside and renamed; the report comes last."""
    for name in ("scores", "times", "history"):
        files.write_text(
            folder / f"{name}.csv", getattr(results, name).to_csv(index=False, lineterminator="\n")
        )
    drawn = pl.save_all(results, folder / "figures")
    for figure in (folder / "figures").glob("*-*.png"):
        if figure not in drawn and figure.name.startswith(FIGURES_OF_ROWS):
            figure.unlink()  # of an earlier study in this folder, which had other rows
    io.write_h5ad(annotated(results, adata), folder / "study.h5ad")
    files.write_text(folder / "provenance.json", json.dumps(results.provenance, indent=1, default=str) + "\n")
    report.write(results, folder / "report.html")


def annotated(results: Results, adata: AnnData) -> AnnData:
    """Return the study's AnnData: counts in X, labels and partitions in obs, codes and maps in obsm.

    Writes ``obs["label"]`` (``obs["sparcell_label"]`` where the user has other values under that name), and for each row
    (its name with underscores, such as beta_vae_hvg) ``obs["kmeans_<row>"]``,
    ``obsm["X_<row>"]``, ``obsm["tsne2d_<row>"]`` and, where there are any, ``obsm["tsne3d_<row>"]`` and ``obsm["<row>_gamma"]``;
    ``uns["sparcell_study"]`` holds the rows' titles and settings as JSON.
    """
    made = adata.copy()
    ours = [str(label) for label in results.labels]
    theirs = made.obs["label"].astype(str).tolist() if "label" in made.obs else ours
    made.obs["label" if theirs == ours else "sparcell_label"] = results.labels
    for row in results.rows:
        key = row.name.replace("-", "_")
        made.obs[f"kmeans_{key}"] = pd.Categorical(row.kmeans_n.astype(str))
        arrays = {
            f"X_{key}": row.code_nk,
            f"tsne2d_{key}": row.tsne2d_n2,
            f"tsne3d_{key}": row.tsne3d_n3,
            f"{key}_gamma": row.gamma_nk,
        }
        made.obsm.update({name: np.asarray(array) for name, array in arrays.items() if array is not None})
    rows = {row.name: {"title": row.title, "settings": row.settings} for row in results.rows}
    made.uns["sparcell_study"] = json.dumps(rows, default=str)
    return made


def versions() -> dict[str, str]:
    """Versions of everything that a result can depend on."""
    return {"sparcell": sparcell.__version__, **{name: metadata.version(name) for name in PACKAGES}}


def provenance(
    command: str, title: str, digest: str, config: StudyConfig, seconds: float
) -> dict[str, object]:
    """Record how a study was made."""
    import torch

    return {
        "command": command,
        "input": {"name": title, "sha256": digest},
        "seeds": list(range(config.seeds)),
        "date": datetime.now(UTC).date().isoformat(),
        "qc_limits": {
            "n_genes": (config.min_genes or None, config.max_genes or None),
            "pct_mito": (None, config.max_pct_mito if config.max_pct_mito < 100 else None),
        },
        "config": asdict(config),
        "versions": {"python": platform.python_version(), **versions()},
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count() or 1,
            "threads": torch.get_num_threads(),
        },
        "seconds": round(seconds, 1),
    }


def digest_of(thing: Any) -> str:
    """SHA-256 of anything JSON can say."""
    return hashlib.sha256(json.dumps(thing, sort_keys=True, default=str).encode()).hexdigest()


def digest_of_matrix(adata: AnnData) -> str:
    """SHA-256 of counts, cell names and gene names: the same for the same data in any file format."""
    x_ng = sparse.csr_matrix(adata.X, dtype=np.float32)
    x_ng.sum_duplicates()
    digest = hashlib.sha256()
    for part in (x_ng.data, x_ng.indices.astype(np.int64), x_ng.indptr.astype(np.int64)):
        digest.update(np.ascontiguousarray(part).tobytes())
    for names in (adata.obs_names, adata.var_names):
        digest.update("\n".join(map(str, names)).encode())
    return digest.hexdigest()
