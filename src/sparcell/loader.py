"""From rows and a plan to batches on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from sparcell.contracts import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.contracts import Rows

DENSE_LIMIT = 2**31
"""Bytes up to which all cells are held dense on the device, so that a batch is one gather."""


class Loader:
    """Batches of `rows`, dense on `device`: from one resident matrix where it fits, else made dense batch by batch."""

    def __init__(
        self, rows: Rows, n_genes: int, device: torch.device, dense_limit: int = DENSE_LIMIT
    ) -> None:
        self.rows = rows
        self.device = device
        self.resident_ng: Tensor | None = None
        if len(rows) * n_genes * 4 <= dense_limit:
            self.resident_ng = self._dense(np.arange(len(rows)))

    def _dense(self, index: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(self.rows.rows(index).toarray()).to(self.device)

    def batches(self, plan: Iterable[NDArray[np.integer]]) -> Iterator[Batch]:
        """Yield the batches of a plan."""
        for index in plan:
            if self.resident_ng is None:
                yield Batch(self._dense(index))
            else:
                yield Batch(self.resident_ng[torch.from_numpy(index).to(self.device)])
