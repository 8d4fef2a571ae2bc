"""Checked arrays: matrices of finite numbers, and category membership.

Suffixes: n cells, c categories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def as_matrix(values: ArrayLike, name: str, axes: str) -> Floats:
    """Return the values as a float64 matrix; raise ValueError unless it is a non-empty matrix of finite numbers.

    `name` and `axes` ("cells × latents") appear in the message.
    """
    try:
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not a matrix of numbers; expected {axes}.") from None
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"{name} has shape {matrix.shape}; expected {axes}, with 1 or more of each.")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} holds NaN or infinite values; expected finite numbers.")
    return matrix


def membership(labels: ArrayLike, n_cells: int, min_size: int) -> Floats:
    """Return which cell is in which category, 0 or 1, (n, c).

    `labels` are one value per cell, (n,), or a membership matrix, (n, c). A category of fewer than `min_size` cells, or of all cells, is a
    ValueError.
    """
    import pandas as pd

    values = np.asarray(labels)
    if values.ndim not in (1, 2) or len(values) != n_cells or not values.size:
        raise ValueError(
            f"labels have shape {values.shape}; expected one value for each of the {n_cells} cells, or cells × categories."
        )
    if values.ndim == 2:
        names = np.arange(values.shape[1])
        if not np.isin(values, (0, 1)).all():
            raise ValueError(
                "labels of cells × categories hold other values than 0 and 1; expected only these."
            )
        member_nc = values.astype(np.float64)
    else:
        n_missing = int(pd.isna(values).sum())
        if n_missing:
            raise ValueError(
                f"{n_missing} cells have no label; expected one for each cell. Leave these cells out."
            )
        number_n, names = pd.factorize(values, sort=True)
        member_nc = np.eye(len(names))[number_n]
    for name, size in zip(names.tolist(), member_nc.sum(axis=0), strict=True):
        if size < min_size or size == n_cells:
            expected = f"expected {min_size} or more, and not all {n_cells}"
            raise ValueError(f"category {name!r} has {size:.0f} cells; {expected}.")
    return member_nc
