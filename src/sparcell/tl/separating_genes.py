"""Genes that tell one group of cells from another one: the AUC of each gene, with its log2 fold change.

Suffixes: n cells, g genes, c groups, m cells of two groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import rankdata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

MAX_CELLS = 1000
"""Cells of a group that are ranked, at even steps: their AUC has a standard error below .02."""
N_STANDARD_ERRORS = 5.0
"""The AUC of a gene must also lie this many standard errors above ½. Few cells give high AUCs by chance, and there are many genes."""
PSEUDO_COUNT = 0.01
"""Added to mean counts per 10,000, so that a gene without counts in one group has a log2 fold change."""
COLUMNS = ("gene", "auc", "log2_fold_change", "lead")


@dataclass(frozen=True)
class GroupExpression:
    """Log-normalized expression of cells in groups, with the means that tell which genes can separate two groups.

    Examples
    --------
    ::

        expression = GroupExpression.of(adata.layers["lognorm"], adata.var_names, codes_n)
        expression.separating_genes(0, 1, min_auc=0.75, min_log2_fold=1.0)
    """

    x_ng: sparse.csr_matrix
    genes: pd.Index
    code_n: NDArray[np.integer]
    """Group of each cell; cells with -1 are in no group."""
    mean_cg: Floats
    """Mean counts per 10,000."""
    share_cg: Floats
    """Fraction of the group's cells with a count of the gene."""

    @classmethod
    def of(cls, x_ng: sparse.csr_matrix, genes: pd.Index, code_n: NDArray[np.integer]) -> GroupExpression:
        """Return the groups with their means."""
        x_ng = sparse.csr_matrix(x_ng)
        rows = np.flatnonzero(code_n >= 0)
        part_ng, group_m = (x_ng, code_n) if len(rows) == x_ng.shape[0] else (x_ng[rows], code_n[rows])
        n_groups = int(code_n.max()) + 1
        member_cm = sparse.csr_matrix(
            (np.ones(len(rows)), (group_m, np.arange(len(rows)))), shape=(n_groups, len(rows))
        )
        counts, on = (
            sparse.csr_matrix((values, part_ng.indices, part_ng.indptr), shape=part_ng.shape)
            for values in (np.expm1(part_ng.data), np.ones(len(part_ng.data)))
        )
        size_c1 = np.maximum(np.asarray(member_cm.sum(axis=1)), 1)
        means = [(member_cm @ values).toarray() / size_c1 for values in (counts, on)]
        return cls(x_ng, genes, code_n, means[0], means[1])

    def regrouped(self, code_n: NDArray[np.integer]) -> GroupExpression:
        """Return the same cells in other groups."""
        return GroupExpression.of(self.x_ng, self.genes, code_n)

    def separating_genes(
        self, group: int, other: int, *, min_auc: float, min_log2_fold: float, n_candidates: int | None = None
    ) -> pd.DataFrame:
        """Return the genes that separate two groups, those of either side, the highest AUC first.

        The AUC is the probability that a cell of one group has more of the gene than a cell of the other, where ties count half. Columns
        gene, auc (at least `min_auc` and beyond chance, of the side that has more), log2_fold_change (above 0: more in `group`) and lead
        (size of the log2 fold change times difference of the shares of cells with the gene). With `n_candidates` only the largest leads are
        ranked.
        """
        fold_g = np.log2((self.mean_cg[group] + PSEUDO_COUNT) / (self.mean_cg[other] + PSEUDO_COUNT))
        high_g = np.where(fold_g > 0, self.share_cg[group], self.share_cg[other])
        low_g = np.where(fold_g > 0, self.share_cg[other], self.share_cg[group])
        bound_g = high_g + 0.5 * (1 - high_g) * (1 - low_g)  # no gene with these shares has a higher AUC
        rows = [_even_rows(np.flatnonzero(self.code_n == code)) for code in (group, other)]
        min_auc = max(min_auc, 0.5 + N_STANDARD_ERRORS * _standard_error(len(rows[0]), len(rows[1])))
        lead_g = np.abs(fold_g) * (high_g - low_g)
        possible = np.flatnonzero((np.abs(fold_g) >= min_log2_fold) & (bound_g >= min_auc))
        if n_candidates is not None:
            possible = possible[np.argsort(-lead_g[possible], kind="stable")[:n_candidates]]
        values_mg = self.x_ng[np.concatenate(rows)][:, possible].toarray()
        auc_g = _aucs(values_mg, len(rows[0]))
        auc_g = np.where(fold_g[possible] > 0, auc_g, 1 - auc_g)
        kept = np.flatnonzero(auc_g >= min_auc)
        kept = kept[np.argsort(-auc_g[kept], kind="stable")]
        chosen = possible[kept]
        columns = (self.genes[chosen].astype(str), auc_g[kept], fold_g[chosen], lead_g[chosen])
        return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))

    def are_separate(
        self, group: int, other: int, *, n_genes: int, min_auc: float, min_log2_fold: float
    ) -> bool:
        """Return whether at least `n_genes` genes separate two groups; a few genes with a large lead are tried first."""
        return any(
            len(
                self.separating_genes(
                    group, other, min_auc=min_auc, min_log2_fold=min_log2_fold, n_candidates=n_candidates
                )
            )
            >= n_genes
            for n_candidates in (4 * n_genes, None)
        )


def _even_rows(row_n: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return at most `MAX_CELLS` rows at even steps."""
    if len(row_n) <= MAX_CELLS:
        return row_n
    return row_n[np.linspace(0, len(row_n) - 1, MAX_CELLS).round().astype(np.intp)]


def _standard_error(n_first: int, n_other: int) -> float:
    """Return the standard error of the AUC of a gene that does not differ (Mann & Whitney 1947)."""
    if not n_first or not n_other:
        return 0.0
    return float(np.sqrt((n_first + n_other + 1) / (12 * n_first * n_other)))


def _aucs(values_mg: Floats, n_first: int) -> Floats:
    """Return the AUC of each gene for the first cells against the others (Mann-Whitney U divided by the number of pairs)."""
    n_other = len(values_mg) - n_first
    if values_mg.shape[1] == 0 or n_first == 0 or n_other == 0:
        return np.full(values_mg.shape[1], 0.5)
    rank_mg = rankdata(values_mg, axis=0)
    return np.asarray((rank_mg[:n_first].sum(axis=0) - n_first * (n_first + 1) / 2) / (n_first * n_other))
