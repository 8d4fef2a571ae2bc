"""Markers of labels, and the expression of chosen genes for the maps of pages.

Suffixes: n cells, g genes, l labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sparcell.results.expression import GeneExpression

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

MAX_GENES = 60
"""Most genes that a page can show on its maps: 60 genes in 6,000 cells take half a megabyte."""


def marker_genes(
    x_ng: sparse.csr_matrix, genes: Sequence[str], labels: pd.Categorical, n_per_label: int = 3
) -> tuple[tuple[str, str], ...]:
    """Return the genes that set each label apart from every other label, as pairs (label, gene).

    A gene is ranked by its lead in mean expression times its lead in the fraction of cells with the gene, both against the label with the
    highest value among the others. A gene that all cells express has no lead in the fraction, however high its mean.

    Parameters
    ----------
    x_ng
        Log-normalized expression, cells × genes.
    genes
        Names of the genes.
    labels
        Label of each cell; cells without a label are left out.
    n_per_label
        Most genes for each label. A gene is the marker of one label only.

    Returns
    -------
    Pairs in the order of the labels, the largest lead first; () with fewer than two labels.

    Examples
    --------
    >>> import pandas as pd
    >>> from scipy import sparse
    >>> x_ng = sparse.csr_matrix([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> marker_genes(x_ng, ["CD79A", "NKG7"], pd.Categorical(["B", "B", "NK"]))
    (('B', 'CD79A'), ('NK', 'NKG7'))
    """
    codes_n = np.asarray(labels.codes)
    present = [code for code in range(len(labels.categories)) if (codes_n == code).any()]
    if len(present) < 2:
        return ()
    mean_lg = np.stack([np.asarray(x_ng[codes_n == code].mean(axis=0)).ravel() for code in present])
    on_lg = np.stack([np.asarray((x_ng[codes_n == code] > 0).mean(axis=0)).ravel() for code in present])
    pairs: list[tuple[str, str]] = []
    for line, code in enumerate(present):
        lead_g = _lead(mean_lg, line) * _lead(on_lg, line)
        best = [g for g in np.argsort(-lead_g, kind="stable")[:n_per_label] if lead_g[g] > 0]
        pairs += [(str(labels.categories[code]), str(genes[g])) for g in best]
    return tuple(pairs)


def _lead(value_lg: NDArray[np.floating], line: int) -> NDArray[np.floating]:
    """Return by how much each gene's value in a label exceeds the highest value in another label; 0 where it does not."""
    others_g = np.delete(value_lg, line, axis=0).max(axis=0)
    return np.asarray(np.maximum(value_lg[line] - others_g, 0))


def gene_expression(
    x_ng: sparse.csr_matrix,
    genes: Sequence[str],
    chosen: Sequence[str],
    markers: tuple[tuple[str, str], ...] = (),
) -> GeneExpression | None:
    """Return the expression of chosen genes, at most `MAX_GENES`, in the order they are named; None if there are none.

    Parameters
    ----------
    x_ng
        Log-normalized expression, cells × genes.
    genes
        Names of the genes.
    chosen
        Names of the genes to keep; unknown and repeated names are passed over.
    markers
        Pairs (label, gene) that `marker_genes` returns.
    """
    column = {str(gene): g for g, gene in enumerate(genes)}
    kept = [gene for gene in dict.fromkeys(map(str, chosen)) if gene in column][:MAX_GENES]
    if not kept:
        return None
    values: ArrayLike = x_ng[:, [column[gene] for gene in kept]].toarray()
    pairs = tuple(pair for pair in markers if pair[1] in set(kept))
    return GeneExpression(tuple(kept), np.asarray(values, dtype=np.float32), markers=pairs)
