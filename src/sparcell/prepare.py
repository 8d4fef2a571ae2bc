"""Data made ready for a study: read, counts found, quality control, cell types, labels settled."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sparcell import datasets, io, labels, outputs, pp
from sparcell.checks import matrix_kind, require_kind
from sparcell.errors import InputError
from sparcell.metrics import clustering_scores
from sparcell.schema import read_layer

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.config import StudyConfig

log = logging.getLogger("sparcell")

PCA_AGREEMENT = 0.9
"""From this ARI with our own Louvain clusters of principal components on, labels are taken to stem from PCA."""

LEAST_KEPT = 0.5
"""Quality control that keeps fewer cells than this share was surely not meant for the data."""


@dataclass(frozen=True)
class Prepared:
    """Data ready to train on."""

    adata: AnnData
    qc: pd.DataFrame
    labels: pd.Categorical
    label_source: str
    labels_from_pca: bool
    title: str
    digest: str


def prepare(data: str | Path | None, config: StudyConfig) -> Prepared:
    """Read the data, run quality control to cell types, and settle on the labels."""
    adata = datasets.pbmc3k() if data is None else io.read(data)
    title = "PBMC3k (10x Genomics)" if data is None else Path(data).name
    adata = with_counts(adata, config.counts_layer)
    digest = outputs.digest_of_matrix(adata)
    given = None
    if config.labels is not None:
        given = labels.read_labels(config.labels, config.labels_key)
        labels.align_labels(given, adata.obs_names, str(config.labels))
    elif config.labels_key is not None:
        labels.labels_from_obs(adata, config.labels_key)
    qc = pp.quality_control(
        adata,
        max_genes=config.max_genes or None,
        max_pct_mito=config.max_pct_mito if config.max_pct_mito < 100 else None,
    )
    check_kept(qc, config)
    pp.cell_types(adata, markers=config.markers, n_top_genes=config.n_top_genes)
    # columns of the user's own keep their names, so ours may have others
    ours = adata.uns["sparcell_pp"]["keys"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # cells without a label were told of above
        if given is not None:
            found = labels.align_labels(given, adata.obs_names, str(config.labels))
            source = f"column {given.name} of {Path(str(config.labels)).name}"
        else:
            key = config.labels_key or ours["cell_type"]
            if not config.labels_key and adata.obs[key].nunique() < 2:
                raise InputError(
                    f"the {adata.n_obs} cells left form one cluster; expected two or more: give --labels or --labels-key."
                )
            found = labels.labels_from_obs(adata, key)
            source = (
                f"obs column {key}"
                if config.labels_key
                else "markers on Louvain clusters of 10 principal components"
            )
    return Prepared(adata, qc, found, source, follows_pca(found, adata.obs[ours["cluster"]]), title, digest)


def with_counts(adata: AnnData, layer: str | None) -> AnnData:
    """Bring the raw counts to X: those of a layer, or of adata.raw under the name raw. Where X has none, tell who has."""
    if layer == "raw" and layer not in adata.layers and adata.raw is not None:
        adata = adata.raw.to_adata()
        adata.var_names_make_unique()
    elif layer is not None:
        adata.X = read_layer(adata, layer)[0]
    try:
        matrix, where = read_layer(adata, None)
        require_kind(matrix, "counts", where if layer is None else f"--counts-layer {layer}")
    except InputError as error:
        places = {**adata.layers, **({} if adata.raw is None else {"raw": adata.raw.X})}
        found = [name for name, values in places.items() if matrix_kind(values) == "counts"]
        if not found:
            raise
        raise InputError(
            f"{error} Counts were found in {found[0]}: type --counts-layer {found[0]}."
        ) from error
    return adata


def check_kept(qc: pd.DataFrame, config: StudyConfig) -> None:
    """Refuse to go on with less than half of the cells: the limits are PBMC3k's, and other tissues need others."""
    kept = float(qc["kept"].mean())
    if kept >= LEAST_KEPT:
        log.info("quality control keeps %d of %d cells", qc["kept"].sum(), len(qc))
        return
    crowded = float((qc["n_genes"] >= config.max_genes).mean()) if config.max_genes else 0.0
    mito = float((qc["pct_mito"] >= config.max_pct_mito).mean())
    raise InputError(
        f"quality control would keep {kept:.0%} of the {len(qc)} cells: {crowded:.0%} have {config.max_genes} genes or more, {mito:.0%} "
        f"have {config.max_pct_mito:g} % mitochondrial counts or more; expected to keep at least {LEAST_KEPT:.0%}. "
        f"Set --max-genes (0 lifts it; 98 % of the cells are below {qc['n_genes'].quantile(0.98):.0f}) and --max-pct-mito "
        f"(100 lifts it; 98 % are below {qc['pct_mito'].quantile(0.98):.1f})."
    )


def follows_pca(found: pd.Categorical, clusters: pd.Series) -> bool:
    """Tell whether labels are, or look like, a clustering of principal components, which gives PCA an advantage."""
    known = ~pd.isna(found)
    agreement = clustering_scores(found.codes[known], clusters.cat.codes[known])["ari"]
    return agreement >= PCA_AGREEMENT
