"""Copies of a run's state: what a rollback returns to, and what a checkpoint stores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sparcell.protocols import EpochRecord

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EpochSums:
    """What the steps of an unfinished epoch have added up."""

    n_steps: int = 0
    n_cells: int = 0
    losses: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    """Sums over the cells of loss, reconstruction, KL and weight of the KL."""
    seconds: float = 0.0

    def plus(self, losses: Tensor, n_cells: int, *, n_steps: int, seconds: float) -> EpochSums:
        """Return the sums with those of further cells; `n_steps` and `seconds` are those of the epoch so far."""
        added = tuple(one + other for one, other in zip(self.losses, losses.tolist(), strict=True))
        return EpochSums(n_steps, self.n_cells + n_cells, added, seconds)

    @property
    def means(self) -> list[float]:
        """Mean over the cells of loss, reconstruction, KL and weight of the KL."""
        return [loss / self.n_cells for loss in self.losses]


@dataclass(frozen=True)
class Snapshot:
    """A copy of a run's state, from which training continues to the same bits."""

    tensors: dict[str, Tensor]
    """Network, Adam's moments, and the generator of the noise."""
    best: dict[str, Tensor]
    """Best weights so far, as `EarlyStopping.to_disk` names them."""
    numbers: dict[str, Any]
    """All other numbers of the state, as JSON holds them."""
    history: tuple[EpochRecord, ...]

    @property
    def place(self) -> tuple[int, int]:
        """Whole epochs that are done, and steps of the next one."""
        return int(self.numbers["epoch"]), int(self.numbers["epoch_sums"]["n_steps"])

    def to_disk(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors, and numbers and history as JSON holds them, for `TrainState.from_disk`."""
        history = [asdict(record) for record in self.history]
        return self.tensors | self.best, {"numbers": self.numbers, "history": history}
