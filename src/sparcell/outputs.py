"""What a study writes: tables, figures, the AnnData, the report and the record of how it was made."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import warnings
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

import sparcell
from sparcell import files, io, pl, program_report, report
from sparcell.command_config import ProgramsConfig
from sparcell.errors import InputError
from sparcell.models import load
from sparcell.report.program_words import lead
from sparcell.stability import shallow

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from sparcell.command_config import StudyConfig
    from sparcell.results import Results, Row

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
    report.write(
        replace(results, program_pages=write_programs(results, adata, folder)), folder / "report.html"
    )


def write_programs(results: Results, adata: AnnData, folder: Path) -> dict[str, tuple[str, str]]:
    """Write a page of gene programs for each row with spikes that are not all dead: row → its file and what it shows, in a sentence.

    The models are those in the folder, of the first seed; the maps those of the report.
    """
    pages = {}
    for row in results.rows:
        if row.gamma_nk is not None and row.live_k is not None and row.live_k.any():
            name = f"programs_{row.name}.html"
            pages[row.name] = name, write_page(results, row, adata, folder / name)
    for page in folder.glob("programs_*.html"):
        if page.name not in {name for name, _ in pages.values()}:
            page.unlink()  # of an earlier study in this folder, which had other rows
    return pages


def write_page(results: Results, row: Row, adata: AnnData, path: Path) -> str:
    """Write the page of one row's programs, and say what stands there."""
    cells, model = shallow(adata), load(path.parent / "models" / row.name)
    cells.obs["label"] = results.labels
    with warnings.catch_warnings():
        for told in (
            "obs.*have no label",
            "no latent is live and on",
        ):  # the one before the training, the other on the page
            warnings.filterwarnings("ignore", told, UserWarning)
        try:
            config = ProgramsConfig(labels_key="label")
            found = program_report.catalogue(model, cells, config, map_n2=row.tsne2d_n2)
        except InputError:  # one label only, or one of its own for each cell
            found = program_report.catalogue(model, cells, map_n2=row.tsne2d_n2)
    shown = replace(found.map, source="that of the report")
    title = f"{results.title}: {row.title}"
    found = replace(found, title=title, map=shown)
    report.write_programs(found, path)
    return lead(found)


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
