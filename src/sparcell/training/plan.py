"""Length and schedules of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparcell.training.schedules import LR_SCHEDULES, warmup_progress

if TYPE_CHECKING:
    from sparcell.config.training import TrainConfig

MAX_EPOCHS, ENOUGH_STEPS = 400, 20_000
"""With epochs auto: most epochs, and the number of steps after which there are fewer than min_epochs."""


@dataclass(frozen=True)
class TrainPlan:
    """Length and schedules of a run. Steps count from 0 over all epochs."""

    config: TrainConfig
    n_epochs: int
    n_steps: int
    """Steps in an epoch."""
    beta: float
    use_bfloat16: bool = False
    """Whether the head's products are in bfloat16."""

    @classmethod
    def of(cls, config: TrainConfig, n_steps: int, beta: float, *, use_bfloat16: bool = False) -> TrainPlan:
        """Resolve the number of epochs: as set, or from max_steps and min_epochs within limits."""
        if config.epochs != "auto":
            return cls(config, config.epochs, n_steps, beta, use_bfloat16)
        least = max(1, min(config.min_epochs, ENOUGH_STEPS // n_steps))
        epochs = min(MAX_EPOCHS, max(least, round(config.max_steps / n_steps)))
        return cls(config, epochs, n_steps, beta, use_bfloat16)

    @property
    def n_warmup(self) -> int:
        """Number of warm-up steps."""
        return int(self.config.kl_warmup_fraction * self.n_epochs * self.n_steps)

    @property
    def warmup_epochs(self) -> int:
        """Number of epochs until the end of the warm-up, rounded up."""
        return math.ceil(self.n_warmup / self.n_steps)

    def progress(self, step: int) -> float:
        """Return the fraction of the warm-up that is done."""
        return warmup_progress(step, self.n_warmup)

    def kl_weight(self, step: int) -> float:
        """Return the weight of the KL: from kl_warmup_start · beta to beta in the warm-up, then beta."""
        start = self.config.kl_warmup_start
        return self.beta * (start + (1 - start) * self.progress(step))

    def lr_factor(self, step: int) -> float:
        """Return the schedule's factor of the learning rate."""
        return LR_SCHEDULES[self.config.lr_schedule](step, self.n_epochs * self.n_steps)
