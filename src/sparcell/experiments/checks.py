"""Checks of the data that study and benchmark make before any training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sparcell.errors import InputError, format_settings

if TYPE_CHECKING:
    import pandas as pd


def check_minibatch(n_cells: int, batch_sizes: Iterable[int], *, cells: str) -> None:
    """Raise InputError if the cells do not fill one minibatch of the largest batch_size; `cells` says which cells are counted."""
    largest = max(batch_sizes, default=0)
    if n_cells < largest:
        raise InputError(
            f"{n_cells} cells {cells}, fewer than batch_size ({largest}); expected at least one full minibatch. "
            f"Set {format_settings(batch_size=n_cells)} or less."
        )


def check_kmeans(n_cells: int, labels: pd.Categorical) -> None:
    """Raise InputError if there are not more cells than labels: k-means has one cluster for each label."""
    n_types = len(labels.categories)
    if n_cells <= n_types:
        raise InputError(
            f"{n_cells} cells for {n_types} labels; expected more cells than k-means has clusters. Use coarser labels."
        )
