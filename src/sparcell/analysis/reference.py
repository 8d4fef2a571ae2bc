"""A saved model in place of a new one: checks before any work, the mapping of new cells, and their predicted types.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from sparcell.data.missing_genes import check_missing_genes
from sparcell.errors import InputError
from sparcell.experiments.provenance import digest_of
from sparcell.io import model_folder
from sparcell.models import load
from sparcell.models.mapping import MIN_CELLS, batch_sizes, required_batches
from sparcell.results.analysis import UNKNOWN, ReferenceMapping

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.config.analysis import AnalysisConfig
    from sparcell.models.fitted import Model

log = logging.getLogger("sparcell")


@dataclass(frozen=True)
class Reference:
    """A saved model onto which the cells of an analysis are mapped."""

    folder: Path
    model: Model
    digest: str
    """Digest of settings, genes, weights and learned labels."""

    @classmethod
    def of(cls, config: AnalysisConfig, out: Path) -> Reference | None:
        """Return the model in the folder that the settings name; None without one.

        Raises InputError if the folder holds no model, or lies in the output folder, where it would be replaced.
        """
        folder = config.reference
        if folder is None:
            return None
        if folder.absolute().resolve().is_relative_to(out.absolute().resolve()):
            raise InputError(
                f"--reference is {folder}, which lies in the output folder {out} and would be replaced; expected another --out."
            )
        return cls(folder, load(folder), digest_of(model_folder.load(folder)[0]))

    def with_batches(self, config: AnalysisConfig) -> AnalysisConfig:
        """Return the settings with the column of batches of the model, if they name none.

        Raises InputError for a column of batches and a model without them.
        """
        if config.batch_key is not None:
            required_batches(self.model.schema)
        batch = self.model.schema.covariates.batch
        return config if batch is None or config.batch_key else replace(config, batch_key=batch.key)

    def check(self, adata: AnnData, config: AnalysisConfig) -> None:
        """Raise InputError if the cells lack too many genes of the model, or a column that it reads."""
        missing, schema = self.missing(adata.var_names), self.model.schema
        if missing:
            check_missing_genes(list(missing), len(schema.genes), adata.var, "zero")
        if config.batch_key is not None:
            batch_sizes(adata.obs, config.batch_key)
        replace(schema.covariates, batch=None).read(adata.obs)

    def missing(self, genes: pd.Index) -> tuple[str, ...]:
        """Return the genes of the model that are not among the names."""
        names = pd.Index(self.model.schema.genes)
        return tuple(names[~names.isin(genes)])

    def map(self, cells: AnnData, config: AnalysisConfig, *, silent: bool) -> Model:
        """Return a model that knows the batches of the cells: only the parameters of new batches are trained."""
        reader = self.model.for_data(cells, layer="counts", missing_genes="zero")
        if config.batch_key is None:
            return reader
        return reader.map_query(
            cells, batch_key=config.batch_key, unseen=config.unseen, seed=config.seed, silent=silent
        )

    def describe(self, cells: AnnData, config: AnalysisConfig) -> ReferenceMapping:
        """Return what was mapped onto what."""
        batch, model = self.model.schema.covariates.batch, self.model
        sizes = {} if config.batch_key is None else batch_sizes(cells.obs, config.batch_key)
        known = () if batch is None else batch.names
        new = tuple(name for name in sizes if name not in known)
        is_trained = config.unseen == "train"
        return ReferenceMapping(
            name=self.folder.name,
            model=type(model.settings).__name__,
            n_cells=model.n_cells,
            n_genes=len(model.schema.genes),
            missing=self.missing(cells.var_names),
            batch_key=config.batch_key,
            batches=tuple(sizes),
            new=new,
            trained=tuple(name for name in new if is_trained and sizes[name] >= MIN_CELLS),
        )


def query_cells(counts_ng: sparse.csr_matrix, genes: pd.Index, adata: AnnData) -> AnnData:
    """Return the kept cells with all genes of the input: a saved model may read genes that quality control leaves out."""
    return AnnData(
        counts_ng, obs=adata.obs.copy(), var=pd.DataFrame(index=genes), layers={"counts": counts_ng}
    )


def predict_types(
    model: Model, cells: AnnData, adata: AnnData, config: AnalysisConfig, mapping: ReferenceMapping
) -> ReferenceMapping:
    """Write the predicted types of the cells into `adata`, and return the mapping with them; unchanged if no labels were learned."""
    learned = list(model.label_classifiers)
    if not learned:
        log.info(
            "the reference has learned no labels: no types are predicted (sparcell fit --labels-key learns them, or sparcell predict "
            "--reference)"
        )
        return mapping
    key = config.labels_key if config.labels_key in learned else learned[0]
    if len(learned) > 1:
        log.info("the reference has learned labels of %s: those of %s are predicted", ", ".join(learned), key)
    model.predict_labels(cells, key, key_added="reference")
    stem = f"{key}_reference" if f"{key}_predicted" in adata.obs else key
    for name in ("predicted", "probability", "distance"):
        adata.obs[f"{stem}_{name}"] = cells.obs[f"reference_{name}"].to_numpy()
    predicted = pd.Categorical(cells.obs["reference_predicted"])
    adata.obs[f"{stem}_predicted"] = predicted
    adata.obsm[f"{stem}_probabilities"] = cells.obsm["reference_probabilities"]
    return replace(mapping, labels_key=key, predicted=predicted)


def add_predictions(
    table: pd.DataFrame, codes_n: NDArray[np.integer], mapping: ReferenceMapping | None
) -> pd.DataFrame:
    """Return the table of clusters with the most frequent predicted type of each, its share, and the share of unknown cells."""
    if mapping is None or mapping.predicted is None:
        return table
    counted: Any = pd.crosstab(codes_n, np.asarray(mapping.predicted.astype(str)), normalize="index")
    if UNKNOWN not in counted:
        counted[UNKNOWN] = 0.0
    known = counted.drop(columns=UNKNOWN)
    return table.assign(
        predicted=known.idxmax(axis=1).to_numpy() if known.shape[1] else UNKNOWN,
        predicted_share=known.max(axis=1).fillna(0.0).to_numpy(),
        unknown_share=counted[UNKNOWN].to_numpy(),
    )
