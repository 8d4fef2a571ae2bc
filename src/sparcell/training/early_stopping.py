"""Early stopping: which epoch's weights are kept, and when training ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class EarlyStopping:
    """Keeps the weights of the latest epoch whose validation loss is within a tolerance of the lowest."""

    patience: int
    """Epochs without improvement after which training stops; 0 never stops."""
    tolerance: float
    """In the unit of the loss: nats per cell."""
    best_loss: float = math.inf
    """Lowest validation loss so far."""
    best_epoch: int = 0
    """Latest epoch whose loss was within the tolerance of the lowest at that time."""
    best_state: dict[str, Tensor] = field(default_factory=dict)
    """Weights after that epoch; empty without validation cells."""

    def update(self, validation_loss: float, epoch: int, network: nn.Module) -> None:
        """Record the validation loss of an epoch; copy the weights if it is within the tolerance of the lowest."""
        self.best_loss = min(self.best_loss, validation_loss)
        if validation_loss <= self.best_loss + self.tolerance:
            self.best_epoch = epoch
            self.best_state = {name: value.clone() for name, value in network.state_dict().items()}

    def should_stop(self, epoch: int, warmup_epochs: int = 0) -> bool:
        """Return whether the loss has not improved for `patience` epochs after the warm-up.

        In the warm-up the weight of the KL in training moves to its value in the validation loss, so a rise may be followed by a fall.
        """
        waited = epoch - max(self.best_epoch, warmup_epochs)
        return self.patience > 0 and bool(self.best_state) and waited >= self.patience

    def load_best(self, network: nn.Module) -> None:
        """Load the best weights, if there are any, and put the network into evaluation mode."""
        if self.best_state:
            network.load_state_dict(self.best_state)
        network.eval()

    def to_disk(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and numbers for a checkpoint."""
        tensors = {f"best.{name}": value for name, value in self.best_state.items()}
        return tensors, {"best_loss": self.best_loss, "best_epoch": self.best_epoch}

    def from_disk(self, best_state: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Continue from what `to_disk` returned."""
        self.best_state = best_state
        self.best_loss, self.best_epoch = float(numbers["best_loss"]), int(numbers["best_epoch"])
