"""The beta-VSC, variational sparse coding: each latent is off, exactly 0, or has a value from a slab.

Suffixes: n cells, k latents, h hidden units, u components of the prior.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sparcell.config.model import BetaVSCConfig
from sparcell.models.duplicates import merged_effects, representatives
from sparcell.models.estimator import Estimator
from sparcell.models.spike_slab import GATES, SLABS, Prior, SpikeSlab
from sparcell.nn.mlp import posterior_head

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.nn.network import Network
    from sparcell.protocols import Minibatch

log = logging.getLogger("sparcell")

INIT_SPREAD, INIT_WIDTH = 0.7, 0.75
"""Initial distance between the slabs of a prior with several components, and their initial width."""
INIT_LOGIT = 2.0
"""With such a prior latents start mostly included, gamma about .88, and are switched off where they do not pay for their KL."""
LOG_SIGMA_RANGE, MAX_LOGIT = (-10.0, 6.0), 20.0
"""Beyond these values a posterior says nothing more, and squares and exponentials begin to overflow."""


class SpikeSlabEncoder(nn.Module):
    """One head each for mu, log sigma and the logit of gamma; the prior's own parameters if it has any."""

    prior_mu: Tensor
    prior_log_sigma: Tensor
    prior_logit: Tensor
    prior_weight: Tensor

    def __init__(self, n_features: int, settings: BetaVSCConfig) -> None:
        super().__init__()
        self.settings = settings
        self.mu = posterior_head(n_features, settings.head_width, settings.n_latent)
        self.log_sigma = posterior_head(n_features, settings.head_width, settings.n_latent)
        self.logit = posterior_head(n_features, settings.head_width, settings.n_latent)
        learned = settings.alpha == "learned"
        init_alpha = 0.0 if learned else math.log(float(settings.alpha)) - math.log1p(-float(settings.alpha))
        shape = (settings.n_prior_components, settings.n_latent)
        several = settings.n_prior_components > 1
        self.slab = SLABS[settings.slab]
        if self.slab.init_log_sigma is not None:
            nn.init.constant_(list(self.log_sigma.parameters())[-1], self.slab.init_log_sigma)
        if several:
            nn.init.constant_(list(self.logit.parameters())[-1], INIT_LOGIT)
        mixture = {
            "prior_mu": INIT_SPREAD * torch.randn(shape) if several else torch.zeros(shape),
            "prior_log_sigma": torch.full(shape, math.log(INIT_WIDTH) if several else 0.0),
            "prior_weight": torch.zeros(settings.n_prior_components),
        }
        for name, values in mixture.items():
            self._register(name, values, trained=several)
        self._register("prior_logit", torch.full(shape, init_alpha), trained=several or learned)

    def _register(self, name: str, values: Tensor, *, trained: bool) -> None:
        if trained:
            self.register_parameter(name, nn.Parameter(values))
        else:
            self.register_buffer(name, values, persistent=False)

    def current_prior(self) -> Prior:
        """Return the prior with its present parameters."""
        log_weight_u = torch.log_softmax(self.prior_weight, dim=0)
        return Prior(self.prior_mu, self.prior_log_sigma, self.prior_logit, log_weight_u, self.slab)

    def forward(self, features_nh: Tensor, progress: float | Tensor = 1.0) -> SpikeSlab:
        """Return the spikes and slabs of a minibatch.

        In a spike warm-up the slab is N(p · mu, p · sigma² + 1 - p) at progress p: at first only the spikes carry information, then the
        slabs too (Tonolini et al. 2019, section 4).
        """
        mu = self.mu(features_nh)
        log_sigma = self.log_sigma(features_nh).clamp(*LOG_SIGMA_RANGE)
        if self.settings.spike_warmup:
            log_sigma = 0.5 * torch.log(progress * (2 * log_sigma).exp() + (1 - progress))
            mu = progress * mu
        draw, temperature = GATES[self.settings.gate], self.settings.temperature
        return SpikeSlab(
            mu,
            log_sigma,
            self.logit(features_nh).clamp(-MAX_LOGIT, MAX_LOGIT),
            self.current_prior(),
            lambda logit, noise: draw(logit, temperature, progress, noise),
        )

    @torch.no_grad()
    def switch_off(self, off_k: NDArray[np.bool_]) -> None:
        """Set the inclusion probability of some latents to about 0 in every cell."""
        weight, bias = list(self.logit.parameters())[-2:]
        index = torch.from_numpy(np.flatnonzero(off_k)).to(bias.device)
        weight[index], bias[index] = 0.0, -MAX_LOGIT

    def prior(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Draw latents from the prior, (n, k)."""
        return self.current_prior().sample(n_cells, generator)


@dataclass(frozen=True, kw_only=True, repr=False)
class BetaVSC(BetaVSCConfig, Estimator):
    """beta-VSC: variational sparse coding (Tonolini et al. 2019) whose KL, of spikes and slabs, is weighted by beta.

    Examples
    --------
    >>> import sparcell as sp
    >>> settings = sp.BetaVSC(n_latent=6, alpha=0.3)
    >>> sp.BetaVSC.for_programs(seed=1).n_latent
    32
    """

    def latent_encoder(self, n_features: int) -> SpikeSlabEncoder:
        """Build the part of the network that differs between models.

        Examples
        --------
        ::

            encoder = sp.BetaVSC().latent_encoder(128)
        """
        return SpikeSlabEncoder(n_features, self)

    @torch.no_grad()
    def finish(self, network: Network, batches: Iterable[Minibatch]) -> None:
        """Merge latents that duplicate another latent, if `merge_duplicates` is set and the decoder is additive.

        Examples
        --------
        ::

            model = sp.BetaVSC.for_programs().fit(adata)  # calls it at the end of training
        """
        encoder = network.latent_encoder
        if not (
            self.merge_duplicates and network.decoder_type.additive and isinstance(encoder, SpikeSlabEncoder)
        ):
            return
        network.eval()
        value_nk = torch.cat([network.posterior(batch).mean for batch in batches]).cpu().numpy()
        head = network.likelihood.head
        effect_gk = head.weight[:, : self.n_latent].cpu().numpy()
        representative_k = representatives(value_nk, effect_gk)
        duplicate_k = representative_k != np.arange(self.n_latent)
        if not duplicate_k.any():
            return
        merged_gk = torch.from_numpy(merged_effects(value_nk, effect_gk, representative_k))
        network.decoder_type.head_weight(head)[:, : self.n_latent] = merged_gk.to(head.weight)
        encoder.switch_off(duplicate_k)
        log.info("merged %d latents that duplicate another latent", duplicate_k.sum())
