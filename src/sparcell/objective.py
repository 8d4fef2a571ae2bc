"""The bound that training minimises, and how the weight of its KL grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparcell.contracts import Loss

if TYPE_CHECKING:
    from sparcell.contracts import Batch, Likelihood, Output


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
