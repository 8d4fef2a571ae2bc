"""Log-normalization against the formula."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from helpers.three_groups import three_groups
from sparcell import pp


def test_lognormalize_by_formula():
    adata = three_groups()
    adata.X = sparse.csr_matrix(adata.X.toarray() * (np.arange(120) != 5)[:, None])  # one empty cell
    before = adata.X.copy()
    pp.lognormalize(adata, key_added="ln", target_sum=100)
    dense = before.toarray().astype(float)
    total = dense.sum(axis=1, keepdims=True)
    want = np.log1p(100 * np.divide(dense, total, out=np.zeros_like(dense), where=total > 0))
    np.testing.assert_allclose(adata.layers["ln"].toarray(), want, rtol=1e-5)
    assert (before != adata.X).nnz == 0
    assert not adata.uns
