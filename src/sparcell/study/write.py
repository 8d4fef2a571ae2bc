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
from sparcell import io, pl, report
from sparcell.experiments.provenance import record
from sparcell.io import files
from sparcell.programs import pipeline
from sparcell.config.experiments import ProgramsConfig
from sparcell.errors import InputError
from sparcell.models import load
from sparcell.report.programs_words import lead
from sparcell.tl.stability import shallow

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from sparcell.config.experiments import StudyConfig
    from sparcell.results.study import StudyResults, MethodResult

FIGURES_OF_ROWS = ("overview-", "map2d-", "map3d-", "generated-")
"""How the names of figures begin that not every study draws."""


def write(results: StudyResults, adata: AnnData, folder: Path) -> None:
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


def write_programs(results: StudyResults, adata: AnnData, folder: Path) -> dict[str, tuple[str, str]]:
    """Write a page of gene programs for each row with spikes that are not all dead: row → its file and what it shows, in a sentence.

    The models are those in the folder, of the first seed; the maps those of the report.
    """
    pages = {}
    for row in results.rows:
        if row.inclusion_nk is not None and row.active_k is not None and row.active_k.any():
            name = f"programs_{row.name}.html"
            pages[row.name] = name, write_page(results, row, adata, folder / name)
    for page in folder.glob("programs_*.html"):
        if page.name not in {name for name, _ in pages.values()}:
            page.unlink()  # of an earlier study in this folder, which had other rows
    return pages


def write_page(results: StudyResults, row: MethodResult, adata: AnnData, path: Path) -> str:
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
            found = pipeline.catalogue(model, cells, config, map_n2=row.tsne2d_n2)
        except InputError:  # one label only, or one of its own for each cell
            found = pipeline.catalogue(model, cells, map_n2=row.tsne2d_n2)
    shown = replace(found.map, source="that of the report")
    title = f"{results.title}: {row.title}"
    found = replace(found, title=title, map=shown)
    report.write_programs(found, path)
    return lead(found)


def annotated(results: StudyResults, adata: AnnData) -> AnnData:
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
            f"X_{key}": row.latent_nk,
            f"tsne2d_{key}": row.tsne2d_n2,
            f"tsne3d_{key}": row.tsne3d_n3,
            f"{key}_gamma": row.inclusion_nk,
        }
        made.obsm.update({name: np.asarray(array) for name, array in arrays.items() if array is not None})
    rows = {row.name: {"title": row.title, "settings": row.settings} for row in results.rows}
    made.uns["sparcell_study"] = json.dumps(rows, default=str)
    return made


def provenance(
    command: str, title: str, digest: str, config: StudyConfig, seconds: float
) -> dict[str, object]:
    """Record how a study was made."""
    limits = {
        "n_genes": (config.min_genes or None, config.max_genes or None),
        "pct_mito": (None, config.max_pct_mito if config.max_pct_mito < 100 else None),
    }
    made = record(
        command, title, digest, n_seeds=config.seeds, config=asdict(config), seconds=seconds
    )
    return made | {"qc_limits": limits}
