"""Log2 fold changes between groups of cells: the counts as evidence, the decoder's expectation as the prior.

The posterior of a decoder's mean alone says nothing about the noise of the counts that the decoder was trained on, so that it finds
differences between groups that chance made. Here the counts are the evidence: the log2 ratio of the groups' mean fractions, with a
standard error from counting noise and the variation of cells. The prior is learned from all genes (`adaptive_shrinkage`): around 0 and,
as far as the groups differ more than groups with permuted labels, around the log2 fold change that the decoder expects.

Suffixes: n cells, m cells of one comparison, g genes, r rows of weights, s sets of cells (one group in one batch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.data.normalize import TARGET_SUM
from sparcell.tl.adaptive_shrinkage import expected_fdr, shrink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sparcell.tl.adaptive_shrinkage import EffectPosterior
    from sparcell.tl.group_comparisons import Comparison

    Floats = NDArray[np.float64]

FDR = 0.05
"""Expected false discovery rate up to which a gene is called different."""
INTERVAL = 0.95
"""Probability of the credible interval."""
N_PERMUTATIONS, QUANTILE = 100, 0.95
"""The decoder's log2 fold changes count as far as they exceed this quantile of those of groups with permuted labels."""
DISPERSION_WEIGHT = 10.0
"""Each gene's dispersion is averaged with that of all genes, which has the weight of this many cells."""
MAX_WEIGHTS = 1 << 26
"""Largest number of weights of cells in memory: 256 MB. More comparisons are made in several passes over the cells."""

COLUMNS = [
    *("group", "reference", "names", "scores", "logfoldchanges", "lfc_low", "lfc_high", "prob_de", "fdr"),
    *("is_de", "lfc_counts", "lfc_model", "mean_group", "mean_reference", "pct_group", "pct_reference"),
]


@dataclass(frozen=True)
class CellBlock:
    """Some cells, in the order of the data."""

    start: int
    """Number of the first cell."""
    observed_ng: sparse.csr_matrix
    """Fraction of each cell's counts in each gene."""
    expected_ng: NDArray[np.float32]
    """The fractions that the decoder expects, all cells in the same batch."""


class ComparisonSums:
    """Weighted sums over the cells that a comparison needs; cells are added in blocks and not kept.

    A cell has the weight 1 / (u + median u) in the mean of its group, where u = 1 / library size. A cell of few counts, whose fractions are
    mostly noise, thus weighs little, and cells of many counts weigh at most twice as much as the median cell.

    Parameters
    ----------
    comparison
        The groups.
    unit_n
        Fraction that one count makes in each cell of the data: 1 / library size.
    n_genes
        Number of genes.
    seed
        Draws the permutations of the labels.
    """

    def __init__(self, comparison: Comparison, unit_n: Floats, n_genes: int, seed: int) -> None:
        n_cells, row_m = len(unit_n), comparison.row_m
        self.comparison = comparison
        self.unit_m = unit_n[row_m]
        self.value_m = 1 / (self.unit_m + np.median(self.unit_m))
        self.weight_2m = comparison.weights(self.value_m)
        permuted = comparison.permuted_weights(self.value_m, N_PERMUTATIONS, seed)
        self.weight_rn = np.zeros((2 + 2 * N_PERMUTATIONS, n_cells), dtype=np.float32)
        self.weight_rn[:2, row_m] = self.weight_2m
        self.weight_rn[2:, row_m] = permuted.reshape(-1, len(row_m))
        set_m = comparison.set_m
        self.set_n, self.value_n = np.full(n_cells, -1), np.zeros(n_cells)
        self.set_n[row_m], self.value_n[row_m] = set_m, self.value_m
        self.n_sets = int(set_m.max()) + 1
        self.decoded_rg = np.zeros((len(self.weight_rn), n_genes))
        self.mean_2g, self.expressing_2g = np.zeros((2, n_genes)), np.zeros((2, n_genes))
        self.product_2g, self.spread_2g = np.zeros((2, n_genes)), np.zeros((2, n_genes))
        self.sum_sg, self.square_sg = (np.zeros((self.n_sets, n_genes)) for _ in range(2))

    def add(self, block: CellBlock) -> None:
        """Add the next cells."""
        cells = slice(block.start, block.start + len(block.expected_ng))
        set_n = self.set_n[cells]
        if not (set_n >= 0).any():
            return
        self.decoded_rg += self.weight_rn[:, cells] @ block.expected_ng
        x_ng, weight_2n = block.observed_ng, self.weight_rn[:2, cells].astype(np.float64)
        self.mean_2g += weight_2n @ x_ng
        self.expressing_2g += weight_2n @ (x_ng > 0)
        self.product_2g += weight_2n**2 @ x_ng
        self.spread_2g += weight_2n**2 @ x_ng.multiply(x_ng).tocsr()
        rows = np.flatnonzero(set_n >= 0)
        value_sn = sparse.csr_matrix(
            (self.value_n[cells][rows], (set_n[rows], rows)), shape=(self.n_sets, len(set_n))
        )
        self.sum_sg += (value_sn @ x_ng).toarray()
        self.square_sg += (value_sn @ x_ng.multiply(x_ng)).toarray()

    @property
    def pseudocount(self) -> float:
        """One count in all cells of the group with fewer counts, as a fraction; added to every mean before the logarithm."""
        depth_m, in_group_m = 1 / self.unit_m, self.comparison.in_group_m
        return float(1 / min(depth_m[in_group_m].sum(), depth_m[~in_group_m].sum()))

    def dispersion(self) -> Floats:
        """Return (variance - counting variance) / mean² of the fractions within sets of cells, (g,).

        A fraction with mean m has the variance m · unit + dispersion · m² if counts are negative binomial. The weighted sum of squares of a
        set minus its expectation without dispersion, divided by its expectation for dispersion 1, is an estimate without bias.
        """
        set_m, value_m = self.comparison.set_m, self.value_m
        total_s1, square_s1 = np.bincount(set_m, value_m)[:, None], np.bincount(set_m, value_m**2)[:, None]
        mean_sg = self.sum_sg / total_s1
        counting_s1 = np.bincount(set_m, value_m * self.unit_m * (1 - value_m / total_s1[set_m, 0]))[:, None]
        excess_g = (self.square_sg - total_s1 * mean_sg**2 - mean_sg * counting_s1).sum(axis=0)
        mean_square_g = ((total_s1 - square_s1 / total_s1) * mean_sg**2).sum(axis=0)
        is_known = mean_square_g > 0
        own_g = np.divide(excess_g, mean_square_g, out=np.zeros_like(excess_g), where=is_known).clip(0)
        common = float(np.median(own_g[is_known])) if is_known.any() else 0.0
        n_free = float((total_s1**2 / square_s1 - 1).sum())
        return np.asarray((n_free * own_g + DISPERSION_WEIGHT * common) / (n_free + DISPERSION_WEIGHT))

    def log2_fold(self, mean_2g: Floats) -> Floats:
        """Return the log2 ratio of the means of group and reference, (g,) or (p, g)."""
        log_mean = np.log2(mean_2g + self.pseudocount)
        return np.asarray(log_mean[..., 0, :] - log_mean[..., 1, :])

    def standard_error(self) -> Floats:
        """Return the standard error of the log2 ratio of the observed means, (g,), to first order (delta method).

        The variance of a group's mean is that of negative-binomial counts, or the observed one of its cells if that is larger, as where a
        single cell makes the mean.
        """
        variance_g = np.zeros(self.mean_2g.shape[1])
        dispersion_g, spread_2g = self.dispersion(), self._observed_variance()
        for weight_m, mean_g, spread_g in zip(self.weight_2m, self.mean_2g, spread_2g, strict=True):
            mean_g = mean_g + self.pseudocount
            counting_g = (weight_m**2 * self.unit_m).sum() / mean_g
            variance_g += np.maximum(counting_g + (weight_m**2).sum() * dispersion_g, spread_g / mean_g**2)
        return np.asarray(np.sqrt(variance_g) / np.log(2))

    def _observed_variance(self) -> Floats:
        """Return the variance of the means from the spread of the cells around them, (2, g)."""
        square_21 = (self.weight_2m**2).sum(axis=1, keepdims=True)
        spread_2g = self.spread_2g - 2 * self.mean_2g * self.product_2g + self.mean_2g**2 * square_21
        return np.asarray(spread_2g / (1 - square_21).clip(0.5))

    def table(self, genes: Sequence[str], delta: float) -> pd.DataFrame:
        """Return one row per gene, the highest score first: see `Model.differential_expression`."""
        lfc_g, se_g = self.log2_fold(self.mean_2g), self.standard_error()
        by_labels = self.log2_fold(self.decoded_rg.reshape(-1, 2, len(lfc_g)))  # as they are, then permuted
        is_found_g = self.mean_2g.sum(axis=0) > 0
        zero_g = np.zeros(len(lfc_g))
        columns = {
            name: zero_g.copy() for name in ("scores", "logfoldchanges", "lfc_low", "lfc_high", "prob_de")
        }
        if is_found_g.any():
            posterior = posterior_log2_fold(lfc_g[is_found_g], se_g[is_found_g], by_labels[:, is_found_g])
            tail = (1 - INTERVAL) / 2
            columns["logfoldchanges"][is_found_g] = posterior.mean
            columns["scores"][is_found_g] = posterior.mean / posterior.sd
            columns["lfc_low"][is_found_g] = posterior.quantile(tail)
            columns["lfc_high"][is_found_g] = posterior.quantile(1 - tail)
            columns["prob_de"][is_found_g] = posterior.probability_beyond(delta)
        fdr_g = expected_fdr(columns["prob_de"])
        table = pd.DataFrame({"names": list(genes), **columns, "fdr": fdr_g, "is_de": fdr_g <= FDR})
        table = table.assign(lfc_counts=lfc_g, lfc_model=by_labels[0])
        for number, name in enumerate(("group", "reference")):
            table[f"mean_{name}"] = self.mean_2g[number] * TARGET_SUM
            table[f"pct_{name}"] = self.expressing_2g[number].clip(0, 1)
        table = table.assign(group=self.comparison.group, reference=self.comparison.reference)[COLUMNS]
        if self.comparison.within is not None:
            table.insert(0, "within", self.comparison.within)
        return table.sort_values("scores", ascending=False, kind="stable", ignore_index=True)


def posterior_log2_fold(lfc_g: Floats, se_g: Floats, decoded_rg: Floats) -> EffectPosterior:
    """Return the posterior of log2 fold changes from those of the counts and those of the decoder.

    Row 0 of `decoded_rg` has the decoder's log2 fold changes, the other rows those of permuted labels. The decoder learned from the same
    counts, so that its error is taken to be at least that of the counts, beside that of drawing the cells.
    """
    share = share_beyond_chance(decoded_rg / se_g)
    if share == 0:
        return shrink(lfc_g, se_g)
    return shrink(lfc_g, se_g, share * decoded_rg[0], np.hypot(decoded_rg[1:].std(axis=0), se_g))


def share_beyond_chance(z_rg: Floats) -> float:
    """Return how much of the decoder's log2 fold changes exceeds chance, 0 … 1 (positive-part shrinkage, James & Stein 1961).

    Row 0 of `z_rg` has the log2 fold changes in standard errors, the other rows have those of permuted labels. The share is
    1 - q / t, or 0 if that is negative: t is the sum of squares of row 0, and q the quantile of the sums of the other rows. All genes share
    one number, since the fold changes of a decoder with a few latents are far from independent.
    """
    total_r = (np.asarray(z_rg, dtype=np.float64) ** 2).sum(axis=1)
    if total_r[0] == 0:
        return 0.0
    return max(0.0, 1 - float(np.quantile(total_r[1:], QUANTILE)) / float(total_r[0]))


def passes(comparisons: Sequence[Comparison], n_cells: int) -> list[Sequence[Comparison]]:
    """Return the comparisons in parts whose weights fit into memory together."""
    n_at_once = max(1, MAX_WEIGHTS // ((2 + 2 * N_PERMUTATIONS) * n_cells))
    return [comparisons[start : start + n_at_once] for start in range(0, len(comparisons), n_at_once)]


def scanpy_results(table: pd.DataFrame, parameters: dict[str, object]) -> dict[str, object]:
    """Return the table as `scanpy.get.rank_genes_groups_df` reads it, and as an .h5ad file holds it.

    scanpy has names for p-values only: pvals holds 1 - prob_de and pvals_adj the expected false discovery rate.
    """
    titles = table["group"] if "within" not in table else table["within"] + ": " + table["group"]
    groups = {str(title): part for title, part in table.groupby(titles, sort=False)}
    values = {
        "names": {title: part["names"].to_numpy(dtype=object) for title, part in groups.items()},
        "scores": {title: part["scores"].to_numpy(np.float32) for title, part in groups.items()},
        "logfoldchanges": {
            title: part["logfoldchanges"].to_numpy(np.float32) for title, part in groups.items()
        },
        "pvals": {title: 1 - part["prob_de"].to_numpy(np.float64) for title, part in groups.items()},
        "pvals_adj": {title: part["fdr"].to_numpy(np.float64) for title, part in groups.items()},
    }
    records = {name: pd.DataFrame(columns).to_records(index=False) for name, columns in values.items()}
    return {"params": {"method": "sparcell", **parameters}, **records}
