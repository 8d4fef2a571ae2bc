"""The bound that training minimises."""

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
