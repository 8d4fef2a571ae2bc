"""AnnData that must not have been changed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse


def assert_unchanged(adata, before):
    """Assert that every slot holds the same bits in the same type of array."""
    for values, expected in [
        (adata.X, before.X),
        *((adata.layers[key], before.layers[key]) for key in before.layers),
    ]:
        assert type(values) is type(expected)
        assert values.dtype == expected.dtype
        if sparse.issparse(expected):
            for part in ("data", "indices", "indptr"):
                np.testing.assert_array_equal(getattr(values, part), getattr(expected, part))
        else:
            np.testing.assert_array_equal(values, expected)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert set(adata.layers) == set(before.layers)
    for slot in ("obsm", "varm", "obsp"):
        assert set(getattr(adata, slot)) == set(getattr(before, slot))
        for key, values in getattr(before, slot).items():
            np.testing.assert_array_equal(getattr(adata, slot)[key], values)
    assert set(adata.uns) == set(before.uns)
    if "other" in before.uns:
        assert adata.uns["other"]["note"] == before.uns["other"]["note"]
        np.testing.assert_array_equal(adata.uns["other"]["numbers"], before.uns["other"]["numbers"])
    assert (adata.raw is None) == (before.raw is None)
    if before.raw is not None:
        np.testing.assert_array_equal(adata.raw.X.toarray(), before.raw.X.toarray())
