"""Log-normalization of counts, by scanpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sparcell.data.expression import counts_finder
from sparcell.data.normalize import TARGET_SUM
from sparcell.data.validation import require_kind
from sparcell.pp.slots import checked_matrix

if TYPE_CHECKING:
    from anndata import AnnData


def lognormalize(
    adata: AnnData, *, layer: str | None = None, key_added: str = "lognorm", target_sum: float = TARGET_SUM
) -> None:
    """Write log(1 + counts / cell total × target_sum) to a layer, as Seurat's LogNormalize does.

    X and other layers do not change. A cell without counts stays at 0.

    Parameters
    ----------
    adata
        n cells × g genes with raw counts.
    layer
        Layer with the raw counts, or "raw" for adata.raw. Default: X. Features that are not gene expression count as 0.
    key_added
        Layer to write.
    target_sum
        Total counts of each cell before the logarithm.

    Returns
    -------
    None. Writes layers[key_added], CSR float32, n × g.

    Raises
    ------
    InputError
        If the layer does not exist or does not hold counts.

    Examples
    --------
    >>> sp.pp.lognormalize(adata)
    >>> adata.layers["lognorm"]
    """
    import scanpy as sc
    from anndata import AnnData

    from sparcell._utils.torch_runtime import calling_scanpy

    where, counts_ng = checked_matrix(adata, layer)
    require_kind(counts_ng, "counts", where, find_counts=counts_finder(adata))
    work = AnnData(sparse.csr_matrix(counts_ng, dtype=np.float32, copy=True))
    with calling_scanpy():
        sc.pp.normalize_total(work, target_sum=target_sum)
        sc.pp.log1p(work)
    adata.layers[key_added] = sparse.csr_matrix(work.X)
