"""The bound that training minimises, how the weight of its KL grows and how the step size goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from sparcell.protocols import Loss

if TYPE_CHECKING:
    from sparcell.protocols import Batch, Likelihood, Output

RISE, LEAST_RATE = 0.05, 0.01
"""Of the cosine schedule: share of the run in which the step size rises, and the share of it that is left at the end."""


def negative_elbo(output: Output, likelihood: Likelihood, batch: Batch, beta: float) -> Loss:
    """-E_q log p(x|z) + beta · KL(q(z|x) ‖ p(z)), one draw of z a cell (Higgins et al. 2017, eq. 4).

    The KL is exact, so with beta = 1 `total` is an unbiased estimate of the negative ELBO.
    """
    nll = likelihood.nll(output.h_nh, batch).mean()
    kl = output.posterior.kl().sum(dim=1).mean()
    return Loss(nll + beta * kl, nll, kl)


def warmed(step: int, n_warmup: int) -> float:
    """Share of the warm-up that is behind at a step, counted from 0: 0 … 1, linear, and 1 where there is none (Sønderby et al. 2016)."""
    return 1.0 if step >= n_warmup else step / n_warmup


def constant(step: int, n_steps: int) -> float:
    """Share of the step size at a step, counted from 0: all of it."""
    return 1.0


def cosine(step: int, n_steps: int) -> float:
    """Share of the step size: from 0 to 1 in the first RISE of the run, then along half a cosine down to LEAST_RATE."""
    rise = max(1, int(RISE * n_steps))
    if step < rise:
        return (step + 1) / rise
    down = 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, n_steps - rise)))
    return LEAST_RATE + (1 - LEAST_RATE) * down


RATES: dict[str, Callable[[int, int], float]] = {"constant": constant, "cosine": cosine}
