"""The bound that training minimizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparcell.protocols import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import Likelihood, Minibatch, Output


def negative_elbo(output: Output, likelihood: Likelihood, batch: Minibatch, beta: float | Tensor) -> Loss:
    """Return -E_q log p(x|z) + beta · KL(q(z|x) ‖ p(z)), with one draw of z per cell (Higgins et al. 2017, eq. 4).

    The KL is exact, so with beta = 1 `total` is an unbiased estimate of the negative ELBO.
    """
    reconstruction = likelihood.nll(output.h_nh, batch).mean()
    kl = output.posterior.kl().sum(dim=1).mean()
    return Loss(reconstruction + beta * kl, reconstruction, kl)
