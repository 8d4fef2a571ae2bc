"""Log-normalization of counts, and the total that cells are scaled to."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

TARGET_SUM = 1e4
"""Counts that each cell is scaled to before log(1 + x), as in Seurat's LogNormalize and scanpy's tutorials."""


def log_normalized(counts_ng: Any) -> sparse.csr_matrix:
    """Return log(1 + counts / cell total × TARGET_SUM), (n, g), float32. A cell without counts stays at 0."""
    x_ng = sparse.csr_matrix(counts_ng, dtype=np.float32)
    totals_n = np.asarray(x_ng.sum(axis=1, dtype=np.float64)).ravel()
    scale_n = np.divide(TARGET_SUM, totals_n, out=np.zeros_like(totals_n), where=totals_n > 0)
    x_ng = sparse.csr_matrix(sparse.diags_array(scale_n) @ x_ng, dtype=np.float32)
    np.log1p(x_ng.data, out=x_ng.data)
    return x_ng
