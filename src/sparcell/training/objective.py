"""The loss that training minimizes: a bound on the likelihood, and a classifier of the labels if there are any.

Suffixes: n cells, t types (labels).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch.nn import functional

from sparcell.protocols import NO_LABEL, Loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sparcell.nn.network import Network
    from sparcell.protocols import Likelihood, Minibatch, Output, Posterior


def training_loss(
    output: Output, network: Network, batch: Minibatch, beta: float | Tensor, label_weight: float
) -> Loss:
    """Return the negative ELBO, with label_weight times the cross-entropy of the labels in its total if the batch has labels."""
    loss = negative_elbo(output, network.likelihood, batch, beta)
    if network.label_head is None or batch.label_n is None:
        return loss
    labels = label_loss(network.label_head, output.posterior, batch.label_n)
    return replace(loss, total=loss.total + label_weight * labels)


def label_loss(head: nn.Linear, posterior: Posterior, label_n: Tensor) -> Tensor:
    """Return -log p(label | E z) by a linear classifier: mean over all cells in nats, 0 for a cell without a label."""
    logits_nt = head(posterior.mean)
    return functional.cross_entropy(logits_nt, label_n, ignore_index=NO_LABEL, reduction="sum") / len(label_n)


def negative_elbo(output: Output, likelihood: Likelihood, batch: Minibatch, beta: float | Tensor) -> Loss:
    """Return -E_q log p(x|z) + beta · KL(q(z|x) ‖ p(z)), with one draw of z per cell (Higgins et al. 2017, eq. 4).

    The KL is exact, so with beta = 1 `total` is an unbiased estimate of the negative ELBO.
    """
    reconstruction = likelihood.nll(output.h_nh, batch).mean()
    kl = output.posterior.kl().sum(dim=1).mean()
    return Loss(reconstruction + beta * kl, reconstruction, kl)
