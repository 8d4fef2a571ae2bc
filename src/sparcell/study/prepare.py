"""Data made ready for a study: read, counts found, quality control, cell types, labels settled."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sparcell import datasets, io, pp
from sparcell.io import labels
from sparcell.experiments.provenance import digest_of_matrix
from sparcell.data.validation import infer_matrix_kind, require_kind
from sparcell.data.covariates import Covariates
from sparcell.errors import InputError, as_typed
from sparcell.metrics.clustering import clustering_scores
from sparcell.pp.quality import MANY_GONE, MANY_REMOVED, Limits, many_removed
from sparcell.data.schema import chosen_genes, read_layer
from sparcell.pp.slots import require_same_counts

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.config.experiments import StudyConfig
    from sparcell.config.data import DataConfig
    from sparcell.experiments.presets import StudyEntry

PCA_AGREEMENT = 0.9
"""From this ARI with our own Louvain clusters of principal components on, labels are taken to stem from PCA."""

LEAST_KEPT = 0.5
"""Quality control that keeps fewer cells than this share was surely not meant for the data."""


MADE_GENES, MADE_LAYERS = ("highly_variable",), ("counts", "lognorm")
"""Columns of var that choose genes, and layers, which a study makes itself."""


@dataclass(frozen=True)
class StudyData:
    """Data ready to train on."""

    adata: AnnData
    qc: pd.DataFrame
    labels: pd.Categorical
    label_source: str
    labels_from_pca: bool
    title: str
    digest: str
    batch_key: str | None = None
    """Within whose batches the variable genes were chosen."""


def prepare(data: str | Path | None, config: StudyConfig, trained: Sequence[StudyEntry] = ()) -> StudyData:
    """Read the data, run quality control to cell types, and settle on the labels.

    Of what the study is to train, columns and layers that are not there are told before any work, and a batch of
    more cells than there are before the clustering; variable genes are chosen within the batches of batch_key.
    """
    adata = datasets.pbmc3k() if data is None else io.read(data)
    title = "PBMC3k (10x Genomics)" if data is None else Path(data).name
    adata = use_counts_layer(adata, config.counts_layer)
    require_same_counts(adata)
    for row in trained:
        check_seen(adata, row.data)
    digest = digest_of_matrix(adata)
    given = given_labels(adata, config)
    limits = limits_of(config)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=MANY_GONE)  # told, or refused, by check_kept
        qc = pp.quality_control(
            adata,
            min_genes=config.min_genes,
            max_genes=config.max_genes or None,
            max_pct_mito=limits["max_pct_mito"],
        )
    check_kept(qc, limits)
    check_enough(adata.n_obs, trained)
    batch_key = next((row.data.batch_key for row in trained), None)
    pp.cell_types(adata, markers=config.markers, n_top_genes=config.n_top_genes, batch_key=batch_key)
    ours = adata.uns["sparcell_pp"][
        "keys"
    ]  # columns of the user's own keep their names, so ours may have others
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # cells without a label were told of above
        if given is not None:
            found = labels.align_labels(given, adata.obs_names, str(config.labels))
            source = f"column {given.name} of {Path(str(config.labels)).name}"
        elif config.labels_key is not None:
            found = labels.labels_from_obs(adata, config.labels_key)
            source = f"obs column {config.labels_key}"
        else:
            found = own_labels(adata, ours["cell_type"])
            source = "markers on Louvain clusters of 10 principal components"
    from_pca = follows_pca(found, adata.obs[ours["cluster"]])
    return StudyData(adata, qc, found, source, from_pca, title, digest, batch_key)


def use_counts_layer(adata: AnnData, layer: str | None) -> AnnData:
    """Bring the raw counts to X: those of a layer, or of adata.raw under the name raw. Where X has none, tell who has."""
    if layer == "raw" and layer not in adata.layers and adata.raw is not None:
        adata = adata.raw.to_adata()
        adata.var_names_make_unique()
    elif layer is not None:
        adata.X = read_layer(adata, layer)[0]
    if adata.X is None or infer_matrix_kind(adata.X) != "counts":
        places = {**adata.layers, **({} if adata.raw is None else {"raw": adata.raw.X})}
        found = [name for name, values in places.items() if infer_matrix_kind(values) == "counts"]
        if found:
            what = "X is empty" if adata.X is None else f"{layer or 'X'} holds no raw counts"
            raise InputError(
                f"{what}, but {' and '.join(found)} holds some: set {as_typed(counts_layer=found[0])}."
            )
    matrix, where = read_layer(adata, None)
    require_kind(matrix, "counts", layer or where, setting="counts_layer")
    return adata


def check_seen(adata: AnnData, wanted: DataConfig) -> None:
    """Refuse, before any work, columns and layers that are neither there nor made by the study."""
    if wanted.genes_key not in (None, *MADE_GENES):
        chosen_genes(adata, wanted.genes_key)
    if wanted.layer not in (None, *MADE_LAYERS):
        read_layer(adata, wanted.layer)
    Covariates.fit(adata.obs, wanted.batch_key, wanted.covariates)


def given_labels(adata: AnnData, config: StudyConfig) -> pd.Series | None:
    """Read the labels of a file, if any; those of a file or of a column are checked here, before any work."""
    if config.labels is not None:
        given = labels.read_labels(config.labels, config.labels_key)
        labels.align_labels(given, adata.obs_names, str(config.labels))
        return given
    if config.labels_key is not None:
        labels.labels_from_obs(adata, config.labels_key)
    return None


def own_labels(adata: AnnData, key: str) -> pd.Categorical:
    """Take the cell types that the study found itself."""
    if adata.obs[key].nunique() < 2:
        raise InputError(
            f"the {adata.n_obs} cells left form one cluster; expected two or more: give cell types as a table "
            "(--labels) or as a column of obs (--labels-key)."
        )
    return labels.labels_from_obs(adata, key)


def limits_of(config: StudyConfig) -> Limits:
    """Give the limits of quality control; None where there is none."""
    return {
        "min_genes": config.min_genes,
        "max_genes": config.max_genes or None,
        "max_pct_mito": config.max_pct_mito if config.max_pct_mito < 100 else None,
    }


def check_kept(qc: pd.DataFrame, limits: Limits) -> None:
    """Refuse to go on with less than half of the cells, and warn where many go: the limits are PBMC3k's, other tissues need others."""
    kept = float(qc["kept"].mean())
    if kept < LEAST_KEPT:
        raise InputError(
            f"{many_removed(qc, limits)} Expected to keep at least {LEAST_KEPT:.0%} of the cells."
        )
    if kept < 1 - MANY_REMOVED:
        warnings.warn(many_removed(qc, limits), UserWarning, stacklevel=2)


def check_enough(n_cells: int, trained: Sequence[StudyEntry]) -> None:
    """Refuse data that does not fill a batch."""
    largest = max((row.estimator.batch_size for row in trained), default=0)
    if n_cells < largest:
        raise InputError(
            f"{n_cells} cells are left after quality control, fewer than a batch ({largest}); "
            f"expected at least one full batch: set {as_typed(batch_size=n_cells)} or less."
        )


def follows_pca(found: pd.Categorical, clusters: pd.Series) -> bool:
    """Tell whether labels are, or look like, a clustering of principal components, which gives PCA an advantage."""
    known = ~pd.isna(found)
    agreement = clustering_scores(found.codes[known], clusters.cat.codes[known])["ari"]
    return agreement >= PCA_AGREEMENT
