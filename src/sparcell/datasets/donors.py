"""One data set split into donors, with simulated differences between donors and a simulated response to a treatment.

Suffixes: n cells, g genes, b donors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.config.validation import require_number, require_whole
from sparcell.datasets.simulate import BATCH_SD, THETA, whole_counts
from sparcell.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

CONTROL, TREATED = "control", "treated"
PER = 10_000
"""The strength of the response is in counts per so many counts of the cell."""


def simulate_donors(
    adata: AnnData,
    n_donors: int = 4,
    *,
    donor_sd: float = BATCH_SD,
    response_genes: Sequence[str] = (),
    responding: Sequence[bool] | NDArray[np.bool_] | None = None,
    response: float = 5.0,
    seed: int = 0,
) -> AnnData:
    """Return a copy of cells as if they came from several donors, and half of each donor's cells had been treated.

    ::

        donor_n ~ Uniform(1 … n_donors)        treated_n ~ Bernoulli(1/2)
        y_ng = x_ng + Poisson(response · t_n / 10,000 · Gamma(shape 10, mean 1))
                                               for response genes of treated cells that respond, else x_ng
        v_bg ~ Normal(0, donor_sd²)            keep_bg = exp(v_bg - max_b v_bg)
        counts_ng ~ Binomial(y_ng, keep_bg) of the cell's donor b

    t_n is the total of the cell. The means of gene g in two donors differ by the factor exp(v_bg - v_b'g). Cells, types and noise are
    those of the data, so that methods meet real cells with a known difference. A donor of this kind differs from a real donor in one
    respect: all its cells are shifted alike.

    Parameters
    ----------
    adata
        Raw counts in X. Nothing is written into it. obs, var and uns are copied.
    n_donors
        Number of donors.
    donor_sd
        Standard deviation of the donors' effects on a gene, in natural logarithms; 0 for donors that do not differ.
    response_genes
        Names of the genes that treatment raises. Without them nothing is treated.
    responding
        Which cells respond if they are treated, (n,), such as ``adata.obs["cell_type"] == "B"``. Default: all cells.
    response
        Mean of the counts that treatment adds to each response gene, per 10,000 counts of the cell.
    seed
        Random seed. The same seed gives the same data. Donors and treatment do not depend on the other numbers.

    Returns
    -------
    AnnData of the same cells and genes. X: counts (CSR, float32). obs["donor"]: "donor1", "donor2", … (categorical).
    varm["donor_effects"]: v, (g, b), float32. With response genes also obs["condition"], "control" or "treated" (categorical), and
    var["response"], whether treatment raises the gene.

    Raises
    ------
    InputError
        If X holds no raw counts, a gene is not there, `responding` does not fit, or a number is out of range.

    Examples
    --------
    >>> adata = sp.datasets.pbmc3k()
    >>> donors = sp.datasets.simulate_donors(adata, 3, response_genes=["ISG15", "IFI6"])
    >>> list(donors.obs["donor"].cat.categories)
    ['donor1', 'donor2', 'donor3']
    """
    from anndata import AnnData

    require_whole("n_donors", n_donors, 1)
    require_number("donor_sd", donor_sd, above=0, or_equal=True)
    require_number("response", response, above=0)
    counts_ng, gene_g = whole_counts(adata), _positions(adata, response_genes)
    responding_n = _mask(adata, responding)
    generators = np.random.default_rng(seed).spawn(4)
    donor_n = generators[0].integers(n_donors, size=adata.n_obs)
    effect_bg = generators[1].normal(0.0, donor_sd, (n_donors, adata.n_vars))
    treated_n = generators[2].random(adata.n_obs) < 0.5
    if len(gene_g):
        counts_ng = _raise(counts_ng, gene_g, treated_n & responding_n, response, generators[3])
    keep_bg = np.exp(effect_bg - effect_bg.max(axis=0))
    row_of_entry = np.repeat(donor_n, np.diff(counts_ng.indptr))
    counts_ng.data = generators[3].binomial(
        counts_ng.data.astype(np.int64), keep_bg[row_of_entry, counts_ng.indices]
    )
    counts_ng.eliminate_zeros()
    split = AnnData(
        counts_ng.astype(np.float32), obs=adata.obs.copy(), var=adata.var.copy(), uns=dict(adata.uns)
    )
    names = pd.Index([f"donor{number}" for number in range(1, n_donors + 1)])
    split.obs["donor"] = pd.Categorical.from_codes(donor_n, names)
    split.varm["donor_effects"] = effect_bg.T.astype(np.float32)
    if len(gene_g):
        split.obs["condition"] = pd.Categorical.from_codes(
            treated_n.astype(int), pd.Index([CONTROL, TREATED])
        )
        split.var["response"] = np.isin(np.arange(adata.n_vars), gene_g)
    return split


def _positions(adata: AnnData, genes: Sequence[str]) -> NDArray[np.intp]:
    """Return the positions of genes in var."""
    if isinstance(genes, str):
        raise InputError(f'response_genes is {genes!r}; expected a list of genes, such as ["{genes}"].')
    gene_g = adata.var_names.get_indexer(list(genes))
    for gene, position in zip(genes, gene_g, strict=True):
        if position < 0:
            raise InputError(f"var_names has no gene {gene!r}; {did_you_mean(gene, adata.var_names)}")
    return np.asarray(gene_g, dtype=np.intp)


def _mask(adata: AnnData, responding: Sequence[bool] | NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Return which cells can respond, (n,)."""
    if responding is None:
        return np.ones(adata.n_obs, dtype=np.bool_)
    mask_n = np.asarray(responding)
    if mask_n.shape != (adata.n_obs,) or mask_n.dtype != np.bool_:
        raise InputError(
            f"responding is {mask_n.dtype} of shape {mask_n.shape}; expected True or False for each of the {adata.n_obs} cells."
        )
    return mask_n


def _raise(
    counts_ng: sparse.csr_matrix,
    gene_g: NDArray[np.intp],
    cell_n: NDArray[np.bool_],
    response: float,
    generator: np.random.Generator,
) -> sparse.csr_matrix:
    """Return the counts with those that treatment adds."""
    rows_m = np.flatnonzero(cell_n)
    total_m = np.asarray(counts_ng[rows_m].sum(axis=1)).ravel()
    rate_mg = (
        response / PER * total_m[:, None] * generator.gamma(THETA, 1 / THETA, (len(rows_m), len(gene_g)))
    )
    added_mg = generator.poisson(rate_mg).astype(np.float64)
    row, column = np.repeat(rows_m, len(gene_g)), np.tile(gene_g, len(rows_m))
    return sparse.csr_matrix(
        counts_ng + sparse.csr_matrix((added_mg.ravel(), (row, column)), shape=counts_ng.shape)
    )
