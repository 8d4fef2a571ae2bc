"""What a model expects of data: genes, units, covariates. Checks new data, and brings them to the model's units. Saved with the model.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from scipy import sparse

from sparcell.data.blocks import RowUnits, StoredRows, choose_columns, needs_no_change, row_blocks, stack
from sparcell.data.covariates import Covariates
from sparcell.data.expression import counts_finder, has_layer, model_cells, read_layer
from sparcell.data.missing_genes import MissingGenes, check_missing_genes
from sparcell.data.normalize import TARGET_SUM, log_normalized
from sparcell.data.sources import CellsOnDisk, InMemoryCells
from sparcell.data.streaming import sequential_windows
from sparcell.data.validation import check_matrix, infer_matrix_kind, require_kind
from sparcell.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.config.data import DataConfig
    from sparcell.data.blocks import Matrix
    from sparcell.data.facts import MatrixKind
    from sparcell.protocols import CellSource

log = logging.getLogger("sparcell")

FOR_DATA = "model.for_data(adata, {})"
"""How a fitted model is told to read data in another way, for messages."""

MAX_ZSCORE = 10.0
"""z-scores are cut here, as in Seurat's ScaleData."""


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


def _require_two_expressed_genes(x_ng: Matrix, mask_g: NDArray[np.bool_], where: str) -> None:
    """Raise InputError if fewer than two of the chosen genes have a value in any cell: nothing is left to explain."""
    is_expressed_g = np.zeros(len(mask_g), dtype=bool)
    for block in row_blocks(x_ng):
        is_expressed_g[block.indices] = True
        if (is_expressed_g & mask_g).sum() >= 2:
            return
    n_expressed = int((is_expressed_g & mask_g).sum())
    raise InputError(
        f"{where} has values of {n_expressed} of the {int(mask_g.sum())} genes to read; expected two genes or more: choose "
        "other genes, or pass the data before genes are filtered out."
    )


def _finite(values: list[Any], length: int) -> tuple[float, ...]:
    """Return values of JSON as numbers; raise ValueError unless there are `length` finite ones."""
    if len(values) != length or not all(
        type(value) in (int, float) and np.isfinite(value) for value in values
    ):
        raise ValueError(f"expected {length} finite numbers in the schema")
    return tuple(map(float, values))


@dataclass(frozen=True)
class LabelColumn:
    """The column of obs with labels that training reads, and the labels, numbered in the order of `names`."""

    key: str
    names: tuple[str, ...]

    @classmethod
    def from_json(cls, stored: dict[str, Any] | None) -> LabelColumn | None:
        """Rebuild from what `dataclasses.asdict` returned. Raises ValueError for anything else."""
        if stored is None:
            return None
        names = tuple(stored["names"])
        if len(names) < 2 or not all(isinstance(name, str) for name in (stored["key"], *names)):
            raise ValueError("the labels of the schema are not what Model.save wrote")
        return cls(stored["key"], names)


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
    missing_genes: MissingGenes = "error"
    """What to do with genes that new data lack: raise an error, or take them as not expressed, up to a limit."""
    labels: LabelColumn | None = None
    """Labels that training read; None without labels."""

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of genes, batches, columns of further covariates and labels, from which a network is built."""
        return len(self.genes), self.covariates.n_batches, self.covariates.n_columns, self.n_labels

    @property
    def n_labels(self) -> int:
        """Number of labels that training read; 0 without labels."""
        return 0 if self.labels is None else len(self.labels.names)

    @classmethod
    def fit(
        cls,
        adata: AnnData,
        data: DataConfig,
        *,
        counts: bool = False,
        find_counts: Callable[[], list[str]] | None = None,
    ) -> Schema:
        """Learn genes, units, covariates and constants from the data that a model is fitted to.

        `find_counts` names layers with counts, if the layer does not hold what is expected. Default: those of `adata`.
        """
        find_counts, adata = find_counts or counts_finder(adata), model_cells(adata, data.layer)
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
        expected: MatrixKind = "counts" if counts or log_normalize else "log-normalized"
        require_kind(matrix, expected, where, find_counts=find_counts)
        mask = chosen_genes(adata, data.genes_key)
        _require_two_expressed_genes(matrix, mask, where)
        require_unique_genes(adata)
        covariates = Covariates.fit(adata.obs, data.batch_key, data.covariates)
        schema = cls(tuple(adata.var_names[mask]), data.layer, counts, log_normalize, covariates=covariates)
        if counts:
            sizes = schema._library_sizes(adata)
            return replace(schema, median_library_size=max(1.0, float(np.median(sizes))))
        return schema._with_moments(adata) if data.scale else schema

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Schema:
        """Rebuild from what `dataclasses.asdict` returned, read back from JSON. Raises ValueError or TypeError for anything else."""
        genes = tuple(stored["genes"])
        kinds = [
            len(genes) > 0 and all(isinstance(gene, str) and gene for gene in genes),
            len(set(genes)) == len(genes),
            stored["layer"] is None or isinstance(stored["layer"], str),
            stored.get("missing_genes", "error") in get_args(MissingGenes),
            isinstance(stored["counts"], bool) and isinstance(stored["log_normalize"], bool),
        ]
        if not all(kinds):
            raise ValueError(
                "genes, layer, counts or log_normalize of the schema is not what Model.save wrote"
            )
        moments = {
            name: None if stored[name] is None else _finite(stored[name], len(genes))
            for name in ("mean", "sd")
        }
        size = _finite([stored["median_library_size"]], 1)[0]
        covariates = Covariates.from_json(stored["covariates"])
        labels = LabelColumn.from_json(stored.get("labels"))
        read = {**moments, "genes": genes, "median_library_size": size, "covariates": covariates}
        return cls(**{**stored, **read, "labels": labels})

    def _library_sizes(self, adata: AnnData) -> NDArray[np.float32]:
        """Return the total of each cell over the model's genes, (n,)."""
        matrix, positions = read_layer(adata, self.layer)[0], self._positions(adata)
        if isinstance(matrix, StoredRows):
            source = CellsOnDisk(matrix, self._units(positions))
            blocks: Iterator[sparse.csr_matrix] = (
                cells.matrix() for _, cells in sequential_windows(source, range(len(source)), 1)
            )
        else:
            blocks = self._blocks(adata, positions)
        sums = (np.asarray(block.sum(axis=1, dtype=np.float64)).ravel() for block in blocks)
        return np.concatenate([one.astype(np.float32) for one in sums])

    def _units(self, position_g: NDArray[np.int64]) -> RowUnits:
        target = TARGET_SUM if self.log_normalize else 0.0
        return RowUnits(position_g, len(self.genes), rounded=self.counts, target_sum=target)

    def _with_moments(self, adata: AnnData) -> Schema:
        n, sum_g, square_g = adata.n_obs, np.zeros(len(self.genes)), np.zeros(len(self.genes))
        for block in self._blocks(adata, self._positions(adata)):
            x_ng = block.astype(np.float64)  # sums of squares of many cells, and their difference
            sum_g += np.asarray(x_ng.sum(axis=0)).ravel()
            square_g += np.asarray(x_ng.multiply(x_ng).sum(axis=0)).ravel()
        mean = sum_g / n
        sd = np.sqrt(np.maximum(square_g / n - mean**2, 0) * n / max(n - 1, 1))
        sd[sd == 0] = 1.0  # a gene that never varies stays at 0
        return replace(self, mean=tuple(mean.tolist()), sd=tuple(sd.tolist()))

    def resolve_layer(self, adata: AnnData, layer: str | None = None) -> Schema:
        """Return the schema with another layer, or with X in place of a layer that the data does not have.

        For a model of expression, raw counts there are log-normalized.
        """
        if layer is None:
            if self.layer is None or has_layer(adata, self.layer) or adata.X is None:
                return self
            log.info(
                "there is no layer %r, on which the model was trained: X is used in its place", self.layer
            )
        matrix, _ = read_layer(adata, layer)
        return replace(
            self, layer=layer, log_normalize=not self.counts and infer_matrix_kind(matrix) == "counts"
        )

    def cells(self, adata: AnnData) -> CellSource:
        """Check data against the schema and return its cells in the model's units."""
        find_counts, adata = counts_finder(adata), model_cells(adata, self.layer)
        positions = self._positions(adata)
        matrix, where = read_layer(adata, self.layer)
        check_matrix(
            matrix, where, gene_names=adata.var_names, cell_names=adata.obs_names, allow_empty_cells=False
        )
        expected: MatrixKind = "counts" if self.counts or self.log_normalize else "log-normalized"
        require_kind(matrix, expected, where, find_counts=find_counts, call=FOR_DATA)
        if isinstance(matrix, StoredRows):
            return CellsOnDisk(matrix, self._units(positions), None if self.mean is None else self.zscore)
        return InMemoryCells(self._in_units(adata, positions))

    def matrix(self, adata: AnnData) -> sparse.csr_matrix:
        """Return the cells in the model's units, (n, g), float32. May share memory with the data, so do not change it."""
        adata = model_cells(adata, self.layer)
        return self._in_units(adata, self._positions(adata))

    def _in_units(self, adata: AnnData, position_g: NDArray[np.int64]) -> sparse.csr_matrix:
        x_ng = read_layer(adata, self.layer)[0]
        n_genes = len(self.genes)
        is_same_genes = np.array_equal(position_g, np.arange(n_genes)) and not self.log_normalize
        if is_same_genes and needs_no_change(x_ng, whole=self.counts):
            units_ng = x_ng
        else:
            n_values = x_ng.nnz if sparse.issparse(x_ng) else x_ng.size
            units_ng = stack(self._blocks(adata, position_g), (adata.n_obs, n_genes), n_values)
        return units_ng if self.mean is None else sparse.csr_matrix(self.zscore(units_ng.toarray()))

    def _blocks(self, adata: AnnData, position_g: NDArray[np.int64]) -> Iterator[sparse.csr_matrix]:
        """Yield blocks of cells in the model's units, before z-scoring."""
        return (
            self._in_model_units(block, position_g) for block in row_blocks(read_layer(adata, self.layer)[0])
        )

    def _in_model_units(self, block: sparse.csr_matrix, position_g: NDArray[np.int64]) -> sparse.csr_matrix:
        if self.counts:  # some have been through a logarithm and back
            np.rint(block.data, out=block.data)
            block.eliminate_zeros()
        # Normalized by the total over all genes of the data, also those that the model does not use.
        units = log_normalized(block) if self.log_normalize else block
        return choose_columns(units, position_g, len(self.genes))

    def expression(self, adata: AnnData) -> sparse.csr_matrix:
        """Return the cells as log-normalized expression, (n, g); z-scores for a model with `scale`.

        Counts are normalized by their total over the model's genes.
        """
        x_ng = self.matrix(adata)
        return log_normalized(x_ng) if self.counts else x_ng

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

    def _positions(self, adata: AnnData) -> NDArray[np.int64]:
        """Return the number of each gene of the data among the model's genes, -1 for others; raise InputError for missing genes."""
        require_unique_genes(adata)
        column = adata.var_names.get_indexer(list(self.genes))
        is_missing = column < 0
        if is_missing.any():
            missing = [gene for gene, lacks in zip(self.genes, is_missing, strict=True) if lacks]
            check_missing_genes(missing, len(self.genes), adata.var, self.missing_genes)
        position_g = np.full(adata.n_vars, -1, dtype=np.int64)
        position_g[column[~is_missing]] = np.flatnonzero(~is_missing)
        return position_g
