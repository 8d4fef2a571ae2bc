"""The expression half of a fitted model: which genes differ between groups of cells, and what expression is expected.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from sparcell.config.validation import require_number
from sparcell.data.covariates import category_names
from sparcell.data.normalize import TARGET_SUM
from sparcell.errors import InputError, did_you_mean
from sparcell.io import stored
from sparcell.io.dense_layers import write_dense_layer
from sparcell.io.labels import labels_from_obs
from sparcell.io.stored import StoredCells
from sparcell.models.decoding import average_covariates, in_batch
from sparcell.models.encoding import INFERENCE_BATCH, FittedEncoder
from sparcell.tl.group_comparisons import Groups
from sparcell.tl.log_fold_changes import CellBlock, ComparisonSums, passes, scanpy_results

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.protocols import Minibatch, Posterior

    Floats = NDArray[np.float32]

MIN_FRACTION = 1e-7
"""Smaller fractions of log-normalized data are rounding: one count in ten million."""


class ExpressionModel(FittedEncoder):
    """What a fitted model says about the expression of cells. See `Model`."""

    def differential_expression(
        self,
        adata: AnnData,
        groupby: str,
        group1: str | None = None,
        group2: str | None = None,
        *,
        batch_key: str | None = None,
        within: str | None = None,
        delta: float = 0.25,
        key_added: str | None = None,
    ) -> pd.DataFrame:
        """Return the log2 fold change of each gene between groups of cells, with its credible interval and error rate.

        The log2 ratio of the groups' mean fractions is the evidence; its standard error holds counting noise and the variation of cells.
        The prior of all log2 fold changes is learned from all genes. As far as the groups differ more than groups with permuted
        labels, the prior lies around the log2 fold change that the decoder expects for the cells in one average batch. Where they do not,
        it lies around 0, so that groups without a difference have no calls (docs/guide/differential_expression.md).

        Cells are the sample: the result says what differs between these groups of cells. Whether other donors would show the same needs
        several donors per group (pseudobulk).

        Parameters
        ----------
        adata
            The cells, AnnData or `io.StoredCells`. All cells are decoded in one average batch, so cells of a batch that was not there at
            fit are allowed; an encoder that reads batches gets an average one for them.
        groupby
            Column of obs with the groups. Cells without a value are left out.
        group1, group2
            Compare group1 with group2. Default of group1: every group in turn. Default of group2: all other cells.
        batch_key
            Column of obs with batches (donors, chemistries): groups are compared within batches that hold both. Default: the batches of the
            model, if `adata` has them.
        within
            Column of obs, such as the cell type: groups are compared within each of its values.
        delta
            Smallest log2 fold change that matters, above 0.
        key_added
            Stem of the key in uns, as for `embed`.

        Returns
        -------
        One row per comparison and gene of the model, the highest score first.

        - group, reference (and within): what is compared.
        - names: the gene.
        - logfoldchanges: posterior mean of the log2 fold change; lfc_low, lfc_high: its 95 % credible interval.
        - scores: posterior mean divided by posterior standard deviation.
        - prob_de: posterior probability that the log2 fold change is beyond ± delta.
        - fdr: expected share of false discoveries among the genes that are at least as probable; is_de: fdr ≤ 0.05.
        - lfc_counts, lfc_model: log2 fold change of the counts alone, and that of the decoder alone.
        - mean_group, mean_reference: mean counts per 10,000 counts of the model's genes; of all genes for log-normalized data.
        - pct_group, pct_reference: fraction of the cells that express the gene.

        Writes
        ------
        ``uns["<key>_de"]``: the same for `scanpy.get.rank_genes_groups_df`, whose pvals are 1 - prob_de and whose pvals_adj are fdr.

        Raises
        ------
        InputError
            If columns or groups do not exist, if a group has fewer than three cells, or if no batch holds both groups.

        Notes
        -----
        Labels are permuted with the seed of the model's settings. Sources: Stephens 2017 (prior and posterior), Newton et al. 2004 (error
        rate), Boyeau et al. 2023 (the question ``P(|log2 fold change| > delta)``).

        Examples
        --------
        ::

            table = model.differential_expression(adata, "cell_type")
            table[table["is_de"]].groupby("group").head(10)
            model.differential_expression(adata, "condition", "treated", "control", within="cell_type")
        """
        require_number("delta", delta, above=0)
        groups = self._groups(adata, groupby, within, batch_key)
        comparisons = groups.comparisons(group1, group2)
        genes, tables = self.schema.genes, []
        unit_n = self._units(adata)
        for part in passes(comparisons, adata.n_obs):
            sums = [ComparisonSums(comparison, unit_n, len(genes), self.settings.seed) for comparison in part]
            for block in self._cell_blocks(adata):
                for comparison_sums in sums:
                    comparison_sums.add(block)
            tables += [comparison_sums.table(genes, delta) for comparison_sums in sums]
        table = pd.concat(tables, ignore_index=True)
        parameters = {"groupby": groupby, "reference": group2 or "rest", "delta": float(delta)}
        adata.uns[f"{self._key(key_added)}_de"] = scanpy_results(table, parameters)
        return table

    def denoise(
        self,
        data: AnnData | str | Path,
        *,
        layer_added: str = "denoised",
        library_size: float | str = "own",
        batch: str | None = None,
        out: str | Path | None = None,
        copy: bool = False,
        own_counts: bool = True,
    ) -> AnnData | None:
        """Write the expected expression of each cell into a layer, float32.

        The decoder gives the mean of each count, and the likelihood says how far a cell's own count may differ from that mean. With
        `own_counts` the layer holds the expected rate given both: for nb, m (r + x) / (r + m) with the decoder's mean m, the count x and
        the inverse dispersion r. Cells are computed in blocks. With `out` a
        file is written block by block, so that neither the input nor the result has to fit into memory.

        Parameters
        ----------
        data
            The cells, as for `latent_representation`. A path needs `out`.
        layer_added
            Name of the layer.
        library_size
            For a model of counts: "own", the cell's own total over the model's genes; "median", the median of the fit; or a number of
            counts that all cells get.
        batch
            Decode all cells as if they had been measured in this batch, a name or "average". Default: each cell's own batch. With cells of
            a batch that was not there at fit, `batch` has to be given.
        out
            New .h5ad file or .zarr folder for the layer, with obs of the data and the model's genes. `data` does not change.
        copy
            Return a new AnnData of the model's genes that the data has, with the layer, and do not change `data`. Needed if the data has
            genes that the model does not know, since a layer has a value for each gene.
        own_counts
            Combine the decoder's mean with the cell's own counts. False: the decoder's mean alone, which is smoother.

        Returns
        -------
        None, or with `copy` the AnnData.

        Writes
        ------
        ``layers[layer_added]``, (n, g), dense float32: expected counts; log-normalized values for a model of expression.

        Raises
        ------
        InputError
            If the data has genes that the model does not know, without `out` and `copy`; for cells that stay on disk without `out`; for a
            library size with a model of expression.

        Examples
        --------
        ::

            denoised = model.denoise(adata, library_size="median", batch="average", copy=True)
            model.denoise("atlas.h5ad", out="denoised.zarr")
        """
        size = self._library_size(library_size)
        cells: Any = data
        if isinstance(data, str | Path):
            if out is None:
                raise InputError(
                    f"{data} is a path; expected out=FILE.h5ad or FOLDER.zarr to write to, or an AnnData."
                )
            cells = stored.open_for_model(data, self.schema.layer, self.schema.covariates.keys)
        blocks = self._denoised_blocks(cells, size, batch, own_counts=own_counts)
        genes = list(self.schema.genes)
        if out is not None:
            write_dense_layer(out, layer_added, blocks, cells, cells.var.reindex(genes))
            return None
        self._require_place_for_layer(cells, copy=copy)
        values_ng = np.empty((cells.n_obs, len(genes)), dtype=np.float32)
        start = 0
        for block_ng in blocks:
            values_ng[start : start + len(block_ng)] = block_ng
            start += len(block_ng)
        target = cells
        if copy:
            target = cells[:, [gene for gene in genes if gene in cells.var_names]]
            target = target.to_memory() if target.isbacked else target.copy()
        target.layers[layer_added] = values_ng[:, pd.Index(genes).get_indexer(target.var_names)]
        return target if copy else None

    def _require_place_for_layer(self, cells: AnnData | StoredCells, *, copy: bool) -> None:
        """Raise InputError if a layer of the model's genes cannot be written into the data."""
        if isinstance(cells, StoredCells):
            raise InputError(
                "these cells stay on disk, and a layer would have to be in memory; expected out=FILE.h5ad or FOLDER.zarr, which is written "
                "block by block, or some of the cells: cells[rows]."
            )
        n_other = len(set(cells.var_names) - set(self.schema.genes))
        if n_other and not copy:
            raise InputError(
                f"the data has {n_other} genes that the model does not know, and a layer has a value for each gene; expected copy=True, "
                "which returns a new AnnData of the model's genes, or out=FILE.h5ad."
            )

    def _library_size(self, library_size: float | str) -> float | None:
        """Return the library size of all cells, or None for each cell's own."""
        if library_size == "own":
            return None
        if not self.schema.counts:
            raise InputError(
                f"library_size is {library_size!r}, and the model describes log-normalized expression, which has no library size; "
                "expected 'own'."
            )
        if library_size == "median":
            return self.schema.median_library_size
        if isinstance(library_size, str):
            raise InputError(
                f"library_size is {library_size!r}; expected 'own', 'median' or a number of counts."
            )
        require_number("library_size", library_size, above=0)
        return float(library_size)

    @torch.no_grad()
    def _denoised_blocks(
        self, data: AnnData, library_size: float | None, batch: str | None, *, own_counts: bool
    ) -> Iterator[Floats]:
        """Yield the expected expression of the cells by blocks, (n, g), genes as in the schema."""
        for posterior, cells in self._posteriors(data, "error" if batch is None else "average"):
            target = cells if batch is None else in_batch(cells, batch, self.schema.covariates.batch)
            if library_size is not None:
                target = replace(target, library_size_n1=torch.full_like(cells.library_size_n1, library_size))
            mean_ng = self._distribution(posterior.mean, target).mean
            if own_counts:
                mean_ng = mean_ng * self._distribution(posterior.mean, cells).rate_factor(cells.x_ng)
            yield np.asarray(self.schema.inverse_zscore(mean_ng.cpu().numpy()), dtype=np.float32)

    def _groups(self, adata: AnnData, groupby: str, within: str | None, batch_key: str | None) -> Groups:
        """Return the labels of the cells, checked."""
        if isinstance(adata, StoredCells):
            adata.read_obs([key for key in (groupby, within, batch_key) if key is not None])
        labels = labels_from_obs(adata, groupby)
        batch = self.schema.covariates.batch
        if batch_key is None and batch is not None and batch.key in adata.obs:
            batch_key = batch.key
        return Groups(
            groupby,
            labels,
            within,
            None if within is None else pd.Categorical(_values(adata, within)),
            batch_key,
            np.zeros(adata.n_obs, dtype=np.int64)
            if batch_key is None
            else np.asarray(pd.factorize(_values(adata, batch_key), sort=True)[0], dtype=np.int64),
        )

    @torch.no_grad()
    def _cell_blocks(self, adata: AnnData) -> Iterator[CellBlock]:
        """Yield the cells with their observed and expected fractions, by blocks. All cells are decoded in an average batch."""
        start = 0
        for cells in self._loader(adata, "average", decode=False).all_cells(INFERENCE_BATCH):
            posterior = self.network.posterior(cells)
            observed_ng = self._observed_fractions(cells)[0]
            yield CellBlock(start, observed_ng, self._expected_fractions(posterior, cells))
            start += len(cells)

    def _units(self, adata: AnnData) -> NDArray[np.float64]:
        """Return the fraction that one count makes in each cell, (n,)."""
        blocks = self._loader(adata, "average", decode=False).all_cells(INFERENCE_BATCH)
        return np.concatenate([self._observed_fractions(cells)[1] for cells in blocks])

    def _observed_fractions(self, cells: Minibatch) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
        """Return the fraction of each gene, (n, g), and the fraction that one count makes, (n,)."""
        x_ng = (
            sparse.csr_matrix(cells.x_ng.cpu().numpy()) if cells.sparse is None else cells.sparse.matrix()
        ).astype(np.float64)
        if self.schema.counts:
            unit_n = 1 / cells.library_size_n1.cpu().numpy().ravel().astype(np.float64)
            return sparse.csr_matrix(sparse.diags_array(unit_n) @ x_ng), unit_n
        if self.schema.mean is not None:
            x_ng = sparse.csr_matrix(self.schema.inverse_zscore(x_ng.toarray()))
        x_ng.data = np.expm1(x_ng.data.clip(0)) / TARGET_SUM
        x_ng.data[x_ng.data < MIN_FRACTION] = 0
        x_ng.eliminate_zeros()
        values = [
            x_ng.data[first:last] for first, last in zip(x_ng.indptr[:-1], x_ng.indptr[1:], strict=True)
        ]
        return x_ng, np.array([of_cell.min() if len(of_cell) else 1 / TARGET_SUM for of_cell in values])

    @torch.no_grad()
    def _expected_fractions(self, posterior: Posterior, cells: Minibatch) -> Floats:
        """Return the fractions that the decoder expects of an average cell of the fit with these latents, (n, g)."""
        batch_n, covariates_nc, proportions_b = average_covariates(self.schema, len(cells), self.device)
        cells = replace(
            cells,
            library_size_n1=torch.ones_like(cells.library_size_n1),
            batch_n=batch_n,
            covariates_nc=covariates_nc,
            batch_proportions_b=proportions_b,
        )
        expected_ng = self._distribution(posterior.mean, cells).mean.cpu().numpy()
        if self.schema.counts:
            return np.asarray(expected_ng, dtype=np.float32)
        return np.asarray(
            np.expm1(self.schema.inverse_zscore(expected_ng).clip(0)) / TARGET_SUM, dtype=np.float32
        )


def _values(adata: AnnData, key: str) -> NDArray[np.object_]:
    """Return a column of obs as text, (n,); raise InputError if it does not exist or a cell has no value."""
    if key not in adata.obs:
        raise InputError(f"obs has no column {key!r}; {did_you_mean(key, list(adata.obs.columns))}")
    missing_n = adata.obs[key].isna().to_numpy()
    if missing_n.any():
        raise InputError(
            f"obs[{key!r}] is empty for {int(missing_n.sum())} cell(s); expected a value for each: fill them in, or leave those cells out."
        )
    return np.asarray(category_names(adata.obs[key]).astype(str), dtype=object)
