"""The expression half of a fitted model: which genes differ between groups of cells, and what expression is expected.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from sparcell.config.validation import require_number
from sparcell.data.covariates import category_names
from sparcell.data.normalize import TARGET_SUM
from sparcell.errors import InputError, did_you_mean
from sparcell.io.labels import labels_from_obs
from sparcell.models.encoding import FittedEncoder
from sparcell.tl.differential_expression import CellBlock, ComparisonSums, passes, scanpy_results
from sparcell.tl.group_comparisons import Groups

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
        it lies around 0, so that groups without a difference have no calls (docs/differential_expression.md).

        Cells are the sample: the result says what differs between these groups of cells. Whether other donors would show the same needs
        several donors per group (pseudobulk).

        Parameters
        ----------
        adata
            The cells, as for `latent_representation`.
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
        rate), Boyeau et al. 2023 (the question P(|log2 fold change| > delta)).

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
        for part in passes(comparisons, adata.n_obs):
            sums = [
                ComparisonSums(comparison, (adata.n_obs, len(genes)), self.settings.seed)
                for comparison in part
            ]
            for block in self._cell_blocks(adata):
                for comparison_sums in sums:
                    comparison_sums.add(block)
            tables += [comparison_sums.table(genes, delta) for comparison_sums in sums]
        table = pd.concat(tables, ignore_index=True)
        parameters = {"groupby": groupby, "reference": group2 or "rest", "delta": float(delta)}
        adata.uns[f"{self._key(key_added)}_de"] = scanpy_results(table, parameters)
        return table

    def _groups(self, adata: AnnData, groupby: str, within: str | None, batch_key: str | None) -> Groups:
        """Return the labels of the cells, checked."""
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

    def _cell_blocks(self, adata: AnnData) -> Iterator[CellBlock]:
        """Yield the cells with their observed and expected fractions, by blocks. All cells are decoded in an average batch."""
        start = 0
        for posterior, cells in self._posteriors(adata, "error", decode=False):
            observed_ng, unit_n = self._observed_fractions(cells)
            yield CellBlock(start, observed_ng, self._expected_fractions(posterior, cells), unit_n)
            start += len(cells)

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
        average = [
            torch.from_numpy(values).to(self.device) for values in self.schema.covariates.average(len(cells))
        ]
        names = ("batch_n", "covariates_nc", "batch_proportions_b")
        one_n1 = torch.ones_like(cells.library_size_n1)
        cells = replace(cells, library_size_n1=one_n1, **dict(zip(names, average, strict=True)))
        mean_ng = self.network.likelihood.distribution(self.network.decode(posterior.mean, cells), cells).mean
        expected_ng = mean_ng.cpu().numpy()
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
