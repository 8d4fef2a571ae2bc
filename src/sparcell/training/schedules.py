"""Learning-rate schedules and the KL warm-up: pure functions of the step.

Steps count from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

RISE_FRACTION, FINAL_FACTOR = 0.05, 0.01
"""Cosine schedule: fraction of the run with a rising learning rate, and the factor at the end."""


def constant(step: int, n_steps: int) -> float:
    """Return the factor of the learning rate: 1."""
    return 1.0


def cosine(step: int, n_steps: int) -> float:
    """Return the factor of the learning rate: a linear rise to 1 over the first 5 % of the run, then half a cosine down to .01."""
    rise = max(1, int(RISE_FRACTION * n_steps))
    if step < rise:
        return (step + 1) / rise
    decay = 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, n_steps - rise)))
    return FINAL_FACTOR + (1 - FINAL_FACTOR) * decay


LR_SCHEDULES: dict[str, Callable[[int, int], float]] = {"constant": constant, "cosine": cosine}
"""The values of the setting lr_schedule."""


def warmup_progress(step: int, n_warmup: int) -> float:
    """Return the fraction of the warm-up that is done, linear from 0 to 1; 1 without a warm-up (Sønderby et al. 2016)."""
    return 1.0 if step >= n_warmup else step / n_warmup
