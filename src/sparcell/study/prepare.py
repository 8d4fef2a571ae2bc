"""Preparation of the data of a study: read, find the counts, control quality, name cell types, choose the labels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sparcell import datasets, pp
from sparcell.data.covariates import Covariates
from sparcell.data.expression import read_layer
from sparcell.data.schema import chosen_genes
from sparcell.data.validation import infer_matrix_kind, require_kind
from sparcell.errors import InputError, MissingLabelsWarning, format_settings
from sparcell.experiments.checks import check_minibatch
from sparcell.experiments.provenance import digest_of_matrix
from sparcell.io import labels, obs_columns
from sparcell.io.files import title_of
from sparcell.io.samples import read_sample
from sparcell.metrics.clustering import clustering_scores
from sparcell.pp.quality import ManyCellsRemovedWarning
from sparcell.pp.recipe import normalize_and_cluster
from sparcell.pp.slots import UNS_KEY, drop_other_features, require_same_counts

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.config.data import DataConfig
    from sparcell.config.experiments import QualityConfig, StudyConfig
    from sparcell.experiments.presets import StudyEntry

log = logging.getLogger("sparcell")

PCA_AGREEMENT = 0.9
"""Labels count as derived from PCA if their ARI with Louvain clusters of principal components is at least this."""

MIN_KEPT_FRACTION = 0.5
"""If quality control keeps a smaller fraction of the cells, its limits were not meant for the data."""

LIMITS_2019 = {"min_genes": 200, "max_genes": 2500, "max_pct_mito": 5.0}
"""Limits of quality control of the 2019 study, which are those of Seurat's PBMC tutorial."""

GENE_COLUMNS, LAYERS = ("highly_variable",), ("counts", "lognorm")
"""Columns of var that choose genes, and layers, that the study itself adds."""


@dataclass(frozen=True)
class StudyData:
    """Data to train on."""

    adata: AnnData
    qc: pd.DataFrame
    """Quality control of all cells, before filtering."""
    labels: pd.Categorical
    label_source: str
    labels_from_pca: bool
    title: str
    digest: str
    batch_key: str | None = None
    """Variable genes were chosen within the batches of this column of obs."""
    sampled: str = ""
    """Set if the cells are some of those of the file: "50,000 of 1,000,000 cells, drawn at random"."""


def prepare(
    data: str | Path | Sequence[str | Path] | None, config: StudyConfig, entries: Sequence[StudyEntry] = ()
) -> StudyData:
    """Read the data, run quality control, name cell types, and choose the labels.

    Parameters
    ----------
    data
        Raw counts, one file or several; None for PBMC3k.
    config
        Settings of the study.
    entries
        What will be trained. Variable genes are chosen within the batches of the first entry's batch_key.

    Raises
    ------
    InputError
        Before any work, for missing columns and layers; before clustering, for a batch_size above the number of cells.
    """
    adata, sampled = _read(data, config)
    title = config.title or ("PBMC3k (10x Genomics)" if data is None else title_of(data))
    adata = use_counts_layer(adata, config.layer)
    require_same_counts(adata)
    for entry in entries:
        check_columns(adata, entry.data)
    digest = digest_of_matrix(adata)
    if data is not None:
        config = use_labels_of_data(adata, config)
        obs_columns.log_batch_hint(
            adata.obs, [config.labels_key, *(name for entry in entries for name in columns_of(entry.data))]
        )
    from_file = read_label_file(adata, config)
    batch_key = next((entry.data.batch_key for entry in entries), None)
    qc = control_quality(
        adata, limits_2019(config) if keeps_cells_of_2019(data, config) else config, batch_key
    )
    batch_sizes = [entry.estimator.batch_size for entry in entries]
    check_minibatch(adata.n_obs, batch_sizes, cells="are left after quality control")
    genes: dict[str, Any] = {
        "n_top_genes": config.n_top_genes,
        "flavor": config.flavor,
        "batch_key": batch_key,
    }
    if config.labels is None and config.labels_key is None:
        pp.cell_types(adata, markers=config.markers, **genes)
    else:
        normalize_and_cluster(adata, **genes)
    # A user's column of the same name stays, and the study's own column then has another name.
    columns = adata.uns[UNS_KEY]["keys"]
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", MissingLabelsWarning
        )  # read_label_file has warned of cells without a label
        cell_labels, source = choose_labels(adata, config, from_file, columns.get("cell_type", ""))
    from_pca = agree_with_pca(cell_labels, adata.obs[columns["cluster"]])
    return StudyData(adata, qc, cell_labels, source, from_pca, title, digest, batch_key, sampled)


def _read(data: str | Path | Sequence[str | Path] | None, config: StudyConfig) -> tuple[AnnData, str]:
    """Return the cells, and which they are if they are not all: see `read_sample`."""
    if data is None:
        return datasets.pbmc3k(), ""
    return read_sample(
        data, config.n_cells, layer=config.layer, gene_symbols=config.gene_symbols, memory=config.memory
    )


def use_counts_layer(adata: AnnData, layer: str | None) -> AnnData:
    """Return the data with raw counts in X, taken from a layer, or from adata.raw for the name raw.

    Raises InputError if there are no counts; the message names a layer that holds counts, if there is one.
    """
    if layer == "raw" and layer not in adata.layers and adata.raw is not None:
        adata = adata.raw.to_adata()
        adata.var_names_make_unique()
    elif layer is not None:
        adata.X = read_layer(adata, layer)[0]
    drop_other_features(adata)
    if adata.X is None or infer_matrix_kind(adata.X) != "counts":
        matrices = {**adata.layers, **({} if adata.raw is None else {"raw": adata.raw.X})}
        with_counts = [name for name, values in matrices.items() if infer_matrix_kind(values) == "counts"]
        if with_counts:
            problem = "X is empty" if adata.X is None else f"{layer or 'X'} holds no raw counts"
            raise InputError(
                f"{problem}; {' and '.join(with_counts)} holds counts. Set {format_settings(layer=with_counts[0])}."
            )
    matrix, where = read_layer(adata, None)
    require_kind(matrix, "counts", layer or where)
    return adata


def check_columns(adata: AnnData, data: DataConfig) -> None:
    """Raise InputError for columns and layers that are missing and that the study does not add."""
    if data.genes_key not in (None, *GENE_COLUMNS):
        chosen_genes(adata, data.genes_key)
    if data.layer not in (None, *LAYERS):
        read_layer(adata, data.layer)
    Covariates.fit(adata.obs, data.batch_key, data.covariates)


def columns_of(data: DataConfig) -> tuple[str | None, ...]:
    """Return the columns of obs that a model reads."""
    return (data.batch_key, *data.covariates)


def use_labels_of_data(adata: AnnData, config: StudyConfig) -> StudyConfig:
    """Return the settings with labels_key set to the one column that looks like cell types; say which column, or which to choose from.

    Nothing changes if labels are set, or if the column is one that sparcell wrote.
    """
    written = adata.uns.get(UNS_KEY, {}).get("keys", {}).get("cell_type")
    columns = [column for column in obs_columns.cell_type_columns(adata.obs) if column != written]
    if config.labels is not None or config.labels_key is not None or not columns:
        return config
    listed = "; ".join(f"{column} ({obs_columns.describe(adata.obs[column])})" for column in columns)
    if len(columns) > 1:
        log.info(
            "several columns of obs look like cell types: %s. None is used; choose one with --labels-key.",
            listed,
        )
        return config
    log.info("cell types: obs column %s. --labels-key takes another column.", listed)
    return replace(config, labels_key=columns[0])


def read_label_file(adata: AnnData, config: StudyConfig) -> pd.Series | None:
    """Return the labels of a file, if one is set; raise InputError if the labels of the file or of obs do not fit the cells."""
    if config.labels is not None:
        from_file = labels.read_labels(config.labels, config.labels_key)
        labels.align_labels(from_file, adata.obs_names, str(config.labels))
        return from_file
    if config.labels_key is not None:
        labels.labels_from_obs(adata, config.labels_key)
    return None


def choose_labels(
    adata: AnnData, config: StudyConfig, from_file: pd.Series | None, cell_type_key: str
) -> tuple[pd.Categorical, str]:
    """Return the label of each cell, and the source of the labels in words."""
    if from_file is not None:
        aligned = labels.align_labels(from_file, adata.obs_names, str(config.labels))
        return aligned, f"column {from_file.name} of {Path(str(config.labels)).name}"
    if config.labels_key is not None:
        return labels.labels_from_obs(adata, config.labels_key), f"obs column {config.labels_key}"
    if adata.obs[cell_type_key].nunique() < 2:
        raise InputError(
            f"the {adata.n_obs} cells after quality control form one cluster; expected two or more. Pass cell types as a table "
            "(--labels) or as a column of obs (--labels-key)."
        )
    clusters = "Louvain clusters of 10 principal components"
    is_named = not adata.obs[cell_type_key].astype(str).str.startswith("cluster ").all()
    source = f"markers on {clusters}" if is_named else clusters
    return labels.labels_from_obs(adata, cell_type_key), source


def keeps_cells_of_2019(data: object, config: StudyConfig) -> bool:
    """Return whether limits that are not set are those of the 2019 study: for its own data, and if no other preset is trained."""
    return data is None or set(config.presets) == {"study-2019"}


def limits_2019(config: StudyConfig) -> StudyConfig:
    """Return the settings with the 2019 study's limits of quality control where none are set."""
    limits: dict[str, Any] = {
        name: value if getattr(config, name) is None else getattr(config, name)
        for name, value in LIMITS_2019.items()
    }
    return replace(config, **limits)


def control_quality(adata: AnnData, config: QualityConfig, batch_key: str | None) -> pd.DataFrame:
    """Filter the data in place and return the table of `pp.quality_control`.

    Raises InputError if less than half of the cells would be kept: limits that were set do not suit the data.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        qc = pp.quality_control(
            adata,
            min_genes=config.min_genes,
            max_genes=config.max_genes,
            max_pct_mito=config.max_pct_mito,
            batch_key=batch_key,
        )
    for warning in caught:
        if issubclass(warning.category, ManyCellsRemovedWarning) and qc["kept"].mean() < MIN_KEPT_FRACTION:
            raise InputError(
                f"{warning.message} Expected to keep at least {MIN_KEPT_FRACTION:.0%} of the cells."
            )
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return qc


def agree_with_pca(cell_labels: pd.Categorical, clusters: pd.Series) -> bool:
    """Return whether the labels are, or look like, a clustering of principal components, which favors PCA."""
    labeled = ~pd.isna(cell_labels)
    scores = clustering_scores(cell_labels.codes[labeled], clusters.cat.codes[labeled])
    return scores["ari"] >= PCA_AGREEMENT
