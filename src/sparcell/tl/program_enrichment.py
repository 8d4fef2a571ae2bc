"""Over-representation of gene sets in gene programs, against genes as the other programs hold them.

Suffixes: g genes, p programs and their directions, s gene sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import poisson

from sparcell.config.validation import require_whole
from sparcell.tl.enrichment import TestedSets, restrict_sets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.tl.gene_sets import GeneSets
    from sparcell.tl.programs import Programs

    Floats = NDArray[np.float64]

MIN_OVERLAP = 3
"""Genes that a program must share with a set: one or two shared genes are no evidence."""
FIRST_GENES = (5, 10)
"""The test also looks at these numbers of first genes, so that genes with large effects count more."""
N_EXPRESSION_BINS = 20
"""Bins of equally many genes, by mean expression."""
SET_COLUMNS = (
    "key",
    "set",
    "overlap",
    "set_size",
    "expected",
    "fold",
    "effect_share",
    "p",
    "p_adjusted",
    "genes",
)


def specific_effects(effects: pd.DataFrame) -> pd.DataFrame:
    """Return positive effects, each multiplied by the fraction of the gene's effects that the program holds: genes × programs.

    A gene that all programs raise gets a small value in each, and a gene of one program keeps its effect.
    """
    raised = effects.clip(lower=0.0)
    total = raised.sum(axis=1)
    return raised * raised.div(total.where(total > 0, 1.0), axis=0)


def enrich_programs(
    programs: Programs, sets: GeneSets, *, n_genes: int = 25, keys: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return the gene sets that share genes with each program, and how surprising that is.

    The genes of a program are ranked by `specific_effects`. There are two null hypotheses, both of a program with random genes. One draws a
    gene in proportion to the specific effects of the *other* programs on the gene. The other draws a gene in proportion to the mean of
    these effects over genes of similar expression. A set of genes that programs hold often, such as well expressed markers, thus needs more
    shared genes. The number of shared genes is nearly a Poisson-binomial variable with mean λ, the larger of the two means. The upper tail
    is at most that of the Poisson distribution with the same mean (Hoeffding, Ann. Math. Stat. 27, 713, 1956), which gives p. The test
    looks at the first 5, 10 and `n_genes` genes and takes the smallest of the three p-values, times 3.

    Parameters
    ----------
    programs
        The programs of a model, from `Model.programs`.
    sets
        Gene sets, from `read_gmt` or `builtin_gene_sets`.
    n_genes
        Number of first genes of each program that are tested; 3 or more.
    keys
        Programs to test ("beta_vsc_3+"). Default: all.

    Returns
    -------
    One row per program and set with 3 or more shared genes; for each program the smallest p comes first. Columns: key ("beta_vsc_3+"),
    set, overlap (shared genes among the first `n_genes`), set_size (genes of the set among the model's genes), expected (λ), fold
    (overlap / expected), effect_share (share of the shared genes in the specific effects of the first `n_genes` genes), p, p_adjusted
    (p times the number of tested sets, at most 1: Bonferroni), genes (the shared genes as a tuple). `attrs` holds n_tested and matched
    (see `enrich`).

    Raises
    ------
    InputError
        If `n_genes` is below 3, or no gene of the sets is among the model's genes.

    Examples
    --------
    ::

        programs = model.programs(adata)
        sp.tl.enrich_programs(programs, sp.tl.builtin_gene_sets())
    """
    require_whole("n_genes", n_genes, MIN_OVERLAP)
    tested = restrict_sets(sets, list(programs.effects.index), MIN_OVERLAP)
    specific_gp = specific_effects(programs.effects).to_numpy(dtype=np.float64)
    weights_wgp = _null_weights(specific_gp, _mean_expression(programs))
    rows = [
        row
        for p, key in enumerate(programs.effects.columns)
        if keys is None or key in keys
        for row in _rows_of_program(key, _Ranked(specific_gp[:, p], weights_wgp[:, :, p]), tested, n_genes)
    ]
    table = pd.DataFrame(rows, columns=list(SET_COLUMNS))
    table.attrs = {"n_tested": len(tested.names), "matched": tested.matched}
    return table


@dataclass(frozen=True)
class _Ranked:
    """The genes of one program."""

    specific_g: Floats
    weights_wg: Floats
    """Probability of each gene in a single draw, for each of the two null hypotheses, (2, g)."""

    def first(self, n: int) -> NDArray[np.intp]:
        """Return at most n genes with an effect, the most specific first."""
        order = np.argsort(-self.specific_g, kind="stable")[:n]
        return order[self.specific_g[order] > 0]


def _rows_of_program(
    key: object, ranked: _Ranked, tested: TestedSets, n_genes: int
) -> Iterator[tuple[object, ...]]:
    """Yield the rows of `enrich_programs` for one program."""
    first = ranked.first(n_genes)
    if not len(first) or not len(tested.names):
        return
    sizes = sorted({min(n, len(first)) for n in (*FIRST_GENES, n_genes)})
    p_s = np.ones(len(tested.names))
    for n in sizes:
        chosen_g = np.zeros(len(ranked.specific_g))
        chosen_g[first[:n]] = 1
        overlap_s = np.asarray(tested.member_sb @ chosen_g).ravel()
        expected_s = np.max(
            [tested.member_sb @ inclusion_probabilities(weight_g, n) for weight_g in ranked.weights_wg],
            axis=0,
        )
        p_s = np.minimum(p_s, poisson.sf(overlap_s - 1, expected_s))
    p_s = np.minimum(p_s * len(sizes), 1.0)
    genes, total = list(tested.column), ranked.specific_g[first].sum()
    for s in np.lexsort((tested.names, p_s)):
        if overlap_s[s] < MIN_OVERLAP:
            continue
        members = set(tested.member_sb.indices[tested.member_sb.indptr[s] : tested.member_sb.indptr[s + 1]])
        shared = [int(g) for g in first if g in members]
        yield (
            key,
            str(tested.names[s]),
            int(overlap_s[s]),
            int(tested.sizes_s[s]),
            float(expected_s[s]),
            float(overlap_s[s] / max(expected_s[s], 1e-12)),
            float(ranked.specific_g[shared].sum() / total),
            float(p_s[s]),
            float(min(p_s[s] * len(tested.names), 1.0)),
            tuple(genes[g] for g in shared),
        )


def inclusion_probabilities(weight_g: Floats, n: int) -> Floats:
    """Return the probability of each gene to be among n genes that are drawn one by one without replacement, (g,).

    1 - exp(-c w) with c such that the sum is n: each gene comes at an exponential time with rate w (Rosén, J. Stat. Plann. Inference 62,
    135, 1997).
    """
    if n >= np.count_nonzero(weight_g):
        return np.asarray(weight_g > 0, dtype=np.float64)

    def surplus(log_c: float) -> float:
        return float(-np.expm1(-np.exp(log_c) * weight_g).sum() - n)

    return np.asarray(-np.expm1(-np.exp(brentq(surplus, -50.0, 200.0)) * weight_g))


def _mean_expression(programs: Programs) -> Floats | None:
    """Return the mean expression of each gene, (g,); None if it is not known."""
    if programs.cells is None:
        return None
    return np.asarray(programs.cells.expression_ng.mean(axis=0), dtype=np.float64).ravel()


def _null_weights(specific_gp: Floats, expression_g: Floats | None) -> Floats:
    """Return how often other programs hold each gene, and genes of similar expression, for each program, (2, g, p).

    The weights of all genes have the sum 1.
    """
    total_p = specific_gp.sum(axis=0)
    share_gp = specific_gp / np.where(total_p > 0, total_p, 1.0)
    others_gp = share_gp.sum(axis=1, keepdims=True) - share_gp
    bin_g = np.zeros(len(specific_gp), dtype=np.int64)
    if expression_g is not None:
        rank_g = np.argsort(np.argsort(expression_g, kind="stable"), kind="stable")
        bin_g = rank_g * N_EXPRESSION_BINS // len(rank_g)
    if specific_gp.shape[1] < 2:  # the expression of its own genes is all that is known
        others_gp = share_gp
    size_b = np.maximum(np.bincount(bin_g), 1)
    smooth_gp = np.empty_like(others_gp)
    for p, other_g in enumerate(others_gp.T):
        smooth_gp[:, p] = (np.bincount(bin_g, weights=other_g) / size_b)[bin_g]
    if specific_gp.shape[1] < 2:
        others_gp = smooth_gp
    weights_wgp = np.stack([others_gp, smooth_gp])
    return np.asarray(weights_wgp / np.maximum(weights_wgp.sum(axis=1, keepdims=True), 1e-300))
