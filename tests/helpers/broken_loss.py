"""A training loss that is not finite at chosen steps."""

from __future__ import annotations

import math

from sparcell.protocols import Loss


class BrokenLoss:
    """Replaces the loss by NaN at the steps for which `at` is true; calls are counted from 0."""

    def __init__(self, training_loss, *, at):
        self.training_loss, self.at, self.n_calls = training_loss, at, 0

    def __call__(self, *arguments):
        loss = self.training_loss(*arguments)
        broken = self.at(self.n_calls)
        self.n_calls += 1
        return Loss(loss.total * math.nan, loss.reconstruction, loss.kl) if broken else loss
