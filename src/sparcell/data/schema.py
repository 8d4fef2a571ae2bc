"""What a model expects of data: genes, units, covariates. Checks new data, and brings them to the model's units. Saved with the model.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sparcell.data.covariates import Covariates
from sparcell.data.normalize import log_normalized
from sparcell.data.sources import InMemoryCells
from sparcell.data.validation import check_matrix, infer_matrix_kind, require_kind
from sparcell.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.config.data import DataConfig
    from sparcell.protocols import CellSource

log = logging.getLogger("sparcell")

MAX_ZSCORE = 10.0
"""z-scores are cut here, as in Seurat's ScaleData."""


def read_layer(adata: AnnData, layer: str | None) -> tuple[Any, str]:
    """Return a layer (X for None) and its name for messages; raise InputError if there is none."""
    if layer is None:
        if adata.X is None:
            raise InputError(
                f"X is empty; expected a matrix, or the name of a layer: {did_you_mean('', adata.layers.keys())}"
            )
        return adata.X, "X"
    if layer not in adata.layers:
        raise InputError(f"no layer {layer!r} in the data; {did_you_mean(layer, adata.layers.keys())}")
    return adata.layers[layer], f"layers[{layer!r}]"


def chosen_genes(adata: AnnData, genes_key: str | None) -> NDArray[np.bool_]:
    """Return the mask of the genes to use, (g,): a boolean column of var, or all genes for None."""
    if genes_key is None:
        return np.ones(adata.n_vars, dtype=bool)
    if genes_key not in adata.var:
        raise InputError(
            f"no column {genes_key!r} in var to choose genes by; {did_you_mean(genes_key, adata.var.columns)}"
        )
    if adata.var[genes_key].dtype != bool:
        raise InputError(
            f"var[{genes_key!r}] holds {adata.var[genes_key].dtype}; expected true or false for each gene."
        )
    mask = np.asarray(adata.var[genes_key], dtype=bool)
    if not mask.any():
        raise InputError(f"var[{genes_key!r}] chooses no gene; expected at least one true.")
    return mask


def require_unique_genes(adata: AnnData) -> None:
    """Raise InputError if two genes share a name, because a model finds its genes by name."""
    if not adata.var_names.is_unique:
        repeated = adata.var_names[adata.var_names.duplicated()][0]
        raise InputError(
            f"the gene name {repeated!r} occurs more than once in var_names; expected unique names: "
            "run adata.var_names_make_unique() first."
        )


@dataclass(frozen=True)
class Schema:
    """The genes of a model, the way from a layer to its units, and the covariates it uses."""

    genes: tuple[str, ...]
    layer: str | None
    counts: bool
    """Whether the model explains raw counts; otherwise log-normalized expression."""
    log_normalize: bool
    """Whether the layer holds raw counts that are log-normalized first."""
    mean: tuple[float, ...] | None = None
    """Mean of each gene, subtracted before training; None without scaling."""
    sd: tuple[float, ...] | None = None
    covariates: Covariates = field(default_factory=Covariates)
    median_library_size: float = 1.0
    """For a model of counts: median over the cells of the fit of the total over the model's genes."""

    @classmethod
    def fit(cls, adata: AnnData, data: DataConfig, *, counts: bool = False) -> Schema:
        """Learn genes, units, covariates and constants from the data that a model is fitted to."""
        matrix, where = read_layer(adata, data.layer)
        check_matrix(
            matrix, where, gene_names=adata.var_names, cell_names=adata.obs_names, allow_empty_cells=False
        )
        if counts and (data.scale or data.log_normalize):
            raise InputError(
                "a model of counts reads raw counts; expected log_normalize and scale to be left out, or likelihood='gaussian'."
            )
        log_normalize = not counts and (
            infer_matrix_kind(matrix) == "counts" if data.log_normalize is None else data.log_normalize
        )
        require_kind(matrix, "counts" if counts or log_normalize else "log-normalized", where)
        mask = chosen_genes(adata, data.genes_key)
        require_unique_genes(adata)
        covariates = Covariates.fit(adata.obs, data.batch_key, data.covariates)
        schema = cls(tuple(adata.var_names[mask]), data.layer, counts, log_normalize, covariates=covariates)
        if counts:
            sizes = np.asarray(schema.matrix(adata).sum(axis=1, dtype=np.float64))
            return replace(schema, median_library_size=max(1.0, float(np.median(sizes))))
        return schema._with_moments(adata) if data.scale else schema

    def _with_moments(self, adata: AnnData) -> Schema:
        x_ng = self.matrix(adata).astype(np.float64)  # sums of squares of many cells, and their difference
        mean = np.asarray(x_ng.mean(axis=0)).ravel()
        square = np.asarray(x_ng.multiply(x_ng).mean(axis=0)).ravel()
        n = x_ng.shape[0]
        sd = np.sqrt(np.maximum(square - mean**2, 0) * n / max(n - 1, 1))
        sd[sd == 0] = 1.0  # a gene that never varies stays at 0
        return replace(self, mean=tuple(mean.tolist()), sd=tuple(sd.tolist()))

    def resolve_layer(self, adata: AnnData) -> Schema:
        """Return the schema with X in place of a layer that the data does not have; raw counts in X are log-normalized if needed."""
        if self.layer is None or self.layer in adata.layers or adata.X is None:
            return self
        log.info("there is no layer %r, on which the model was trained: X is used in its place", self.layer)
        return replace(
            self, layer=None, log_normalize=not self.counts and infer_matrix_kind(adata.X) == "counts"
        )

    def cells(self, adata: AnnData) -> CellSource:
        """Check data against the schema and return its cells in the model's units."""
        matrix, where = read_layer(adata, self.layer)
        check_matrix(
            matrix, where, gene_names=adata.var_names, cell_names=adata.obs_names, allow_empty_cells=False
        )
        require_kind(matrix, "counts" if self.counts or self.log_normalize else "log-normalized", where)
        return InMemoryCells(self.matrix(adata))

    def matrix(self, adata: AnnData) -> sparse.csr_matrix:
        """Return the cells in the model's units, (n, g), float32."""
        x_ng = sparse.csr_matrix(read_layer(adata, self.layer)[0], dtype=np.float32, copy=True)
        x_ng.sum_duplicates()
        if self.counts:  # some have been through a logarithm and back
            np.rint(x_ng.data, out=x_ng.data)
        x_ng.eliminate_zeros()
        if self.log_normalize:  # by the total over all genes of the data, also those the model does not use
            x_ng = log_normalized(x_ng)
        x_ng = x_ng[:, self._columns(adata)]
        x_ng.sort_indices()
        return x_ng if self.mean is None else sparse.csr_matrix(self.zscore(x_ng.toarray()))

    def zscore(self, x_ng: NDArray[np.floating]) -> NDArray[np.float32]:
        """Bring values to the model's units: z-scores cut at ±10 for a model with `scale`; unchanged otherwise."""
        if self.mean is None or self.sd is None:
            return np.asarray(x_ng, dtype=np.float32)
        z_ng = (x_ng - np.asarray(self.mean)) / np.asarray(self.sd)
        return np.asarray(np.clip(z_ng, -MAX_ZSCORE, MAX_ZSCORE), dtype=np.float32)

    def inverse_zscore(self, x_ng: NDArray[np.floating]) -> NDArray[np.floating]:
        """Bring decoded expression back from z-scores to log-normalized values."""
        if self.mean is None or self.sd is None:
            return x_ng
        return np.asarray(x_ng * np.asarray(self.sd) + np.asarray(self.mean), dtype=x_ng.dtype)

    def _columns(self, adata: AnnData) -> NDArray[np.int64]:
        require_unique_genes(adata)
        columns = adata.var_names.get_indexer(list(self.genes))
        missing = [gene for gene, column in zip(self.genes, columns, strict=True) if column < 0]
        if missing:
            raise InputError(
                f"{len(missing)} of the model's {len(self.genes)} genes are not in the data (such as {', '.join(missing[:3])}); "
                f"the data has {adata.n_vars} genes such as {', '.join(adata.var_names[:3])}. Expected all of them, in any order: "
                "check that the gene names are of the same kind, and pass the data before genes are filtered out."
            )
        return np.asarray(columns)
