"""Tiny models whose evidence and true posterior are computed by quadrature over the latents.

Suffixes: n cells, g genes, k latents, m nodes of the quadrature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats

from helpers.cells import cells, generator
from helpers.kinds import accepted_by
from sparcell.data.schema import Schema
from sparcell.models import MODELS
from sparcell.models.fitted import Model
from sparcell.models.spike_slab import SLABS

SIZES = {"encoder_widths": (5, 4), "head_width": 3, "decoder_widths": (3, 4)}


PLAIN = {"normalization": "none", "dropout": 0.0, "input_dropout": 0.0, "standardize_input": False}


ONE = {"gate": "straight-through", "n_prior_components": 1}
"""A gate whose draws are those of the posterior, and a prior under which the KL is exact."""


CASES = {
    "beta-vae, one latent": ("beta-vae", {"n_latent": 1}, 3),
    "beta-vae, two latents": ("beta-vae", {"n_latent": 2, "gaussian_variance": 1.3}, 5),
    "beta-vae, counts": ("beta-vae", {"n_latent": 1, "likelihood": "nb"}, 4),
    "beta-vsc, one latent": ("beta-vsc", {"n_latent": 1, "alpha": 0.3, **ONE}, 3),
    "beta-vsc, rarely on": ("beta-vsc", {"n_latent": 1, "alpha": 0.02, "gaussian_variance": 0.3, **ONE}, 4),
    "beta-vsc, two latents": ("beta-vsc", {"n_latent": 2, "alpha": 0.6, **ONE}, 4),
    "beta-vsc, counts": ("beta-vsc", {"n_latent": 2, "likelihood": "nb", **ONE}, 4),
    "beta-vsc, softplus-normal": (
        "beta-vsc",
        {"n_latent": 1, "gaussian_variance": 0.6, "slab": "softplus-normal", **ONE},
        4,
    ),
    "beta-vsc, programs": (
        "beta-vsc",
        {
            "n_latent": 2,
            "likelihood": "nb",
            "slab": "softplus-normal",
            "decoder_type": "nonnegative-linear",
            **ONE,
        },
        4,
    ),
}


MIXTURES = {
    "beta-vsc, three components, softplus-normal": (
        "beta-vsc",
        {"n_latent": 1, "gaussian_variance": 2.0, "slab": "softplus-normal", **ONE, "n_prior_components": 3},
        4,
    ),
    "beta-vsc, three components": (
        "beta-vsc",
        {"n_latent": 1, "gaussian_variance": 2.0, **ONE, "n_prior_components": 3},
        4,
    ),
    "beta-vsc, three components, counts": (
        "beta-vsc",
        {"n_latent": 2, "likelihood": "nb", **ONE, "n_prior_components": 3},
        4,
    ),
}


def network_of(name, settings, n_genes):
    """Return a tiny network in double precision with weights large enough to matter, and one cell."""
    network = settings_of(name, settings).network(n_genes).double()
    source = generator(8)
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            parameter.mul_(0.3 if "log_sigma" in parameter_name else 1.7)  # a narrow q needs many draws
            if "prior" in parameter_name or "log_r" in parameter_name:
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    rng = np.random.default_rng(4)
    if network.likelihood.counts:
        with torch.no_grad():
            next(network.encoder.parameters()).mul_(0.1)  # it sees values around 8
        return network, rng.poisson(4.0, size=n_genes).astype(float)
    return network, rng.normal(0.5, 1.0, size=n_genes)


def settings_of(name, settings):
    """Return tiny settings of a model; the variance of the gaussian is fixed, as the exact formulas need it."""
    sizes = {**SIZES, **PLAIN, "gaussian_variance": 0.5, "latent_activation": "relu"}
    return MODELS[name](**accepted_by(name, {"likelihood": "gaussian", **sizes, **settings}), seed=3)


def copies(x_g, n_cells):
    return cells(torch.from_numpy(np.tile(x_g, (n_cells, 1))))


def decoded(network, z_mk):
    """Return the head's output by numpy: ReLU after every layer but the head."""
    weights = [parameter.detach().numpy() for parameter in network.decoder.parameters()]
    h = z_mk
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        h = np.maximum(h @ weight.T + bias, 0)
    head = network.likelihood.head
    return h @ head.weight.detach().numpy().T + head.bias.detach().numpy()


def log_likelihood(network, z_mk, x_g):
    """Return log p(x|z), (m,), also where scipy's would be infinite by rounding."""
    out_mg = decoded(network, z_mk)
    if not network.likelihood.counts:
        return stats.norm(out_mg, math.sqrt(network.likelihood.variance)).logpdf(x_g).sum(axis=1)
    log_mean_mg = math.log(x_g.sum()) + special.log_softmax(out_mg, axis=1)
    log_r = network.likelihood.log_r.detach().numpy()
    chosen_g = -np.log(x_g + np.exp(log_r)) - special.betaln(np.exp(log_r), x_g + 1)  # log C(x + r - 1, x)
    log_off, log_on = log_r - np.logaddexp(log_r, log_mean_mg), log_mean_mg - np.logaddexp(log_r, log_mean_mg)
    return (chosen_g + np.exp(log_r) * log_off + x_g * log_on).sum(axis=1)


@dataclass
class Truth:
    """Exact values of one cell: log p(x), and the KL of q to p(z|x) and to the prior."""

    log_evidence: float
    kl_to_posterior: float
    kl_to_prior: float


def truth(network, x_g, *, n_nodes=801, reach=14.0):
    """Return the exact values by a sum over a grid of latents.

    A latent with spikes has one node more, the spike at 0, with a weight of its own. The grid of a softplus-normal slab is that of its
    normal variable.
    """
    with torch.no_grad():
        posterior = network.posterior(copies(x_g, 1))
    grid = np.linspace(-reach, reach, n_nodes) + 1e-9  # so that no node of the slab is exactly 0
    nodes, weights = grid, np.full(n_nodes, grid[1] - grid[0])
    if posterior.gamma is None:
        q = latents_of(posterior.mean, posterior.log_sigma)
        components = [(0.0, [(0.0, 1.0, None)] * len(q))]
    else:
        q = latents_of(posterior.mu, posterior.log_sigma, posterior.logit)
        prior = posterior.prior
        per_component = zip(prior.mu, prior.log_sigma, prior.logit, strict=True)
        latents = [latents_of(*(value[None] for value in values)) for values in per_component]
        components = list(zip(prior.log_weight.tolist(), latents, strict=True))
        values = np.logaddexp(0, grid) if prior.slab is SLABS["softplus-normal"] else grid
        nodes, weights = np.append(values, 0.0), np.append(weights, 1.0)
    log_q_m = log_density(grid, q)
    log_p_m = np.logaddexp.reduce([weight + log_density(grid, latents) for weight, latents in components])
    z_mk = np.stack([axis.ravel() for axis in np.meshgrid(*[nodes] * len(q), indexing="ij")], axis=1)
    log_weight_m = outer([np.log(weights)] * len(q))
    log_joint_m = log_p_m + log_likelihood(network, z_mk, x_g)
    q_m = np.exp(log_q_m + log_weight_m)
    assert q_m.sum() == pytest.approx(1, abs=1e-6)
    assert np.exp(log_p_m + log_weight_m).sum() == pytest.approx(1, abs=1e-6)
    log_evidence = np.logaddexp.reduce(log_joint_m + log_weight_m)
    kl_to_posterior = mean(q_m, log_q_m - log_joint_m + log_evidence)
    return Truth(float(log_evidence), kl_to_posterior, mean(q_m, log_q_m - log_p_m))


def latents_of(mu_nk, log_sigma_nk, logit_nk=None):
    """Return (mean, sd, inclusion probability or None) of each latent of the first cell."""
    mu_k, sigma_k = mu_nk[0].detach().numpy(), np.exp(log_sigma_nk[0].detach().numpy())
    inclusion_k = [None] * len(mu_k) if logit_nk is None else special.expit(logit_nk[0].detach().numpy())
    return list(zip(mu_k, sigma_k, inclusion_k, strict=True))


def log_density(grid, latents):
    """Return the log density of independent latents at all combinations of nodes, flattened."""
    logs = []
    for mu, sigma, inclusion in latents:
        slab = stats.norm(mu, sigma).logpdf(grid)
        spikes = inclusion is not None
        logs.append(np.append(math.log(inclusion) + slab, math.log1p(-inclusion)) if spikes else slab)
    return outer(logs)


def mean(q_m, values_m):
    """Return the mean under q; where q is 0 a value may be infinite."""
    return float((q_m * np.where(q_m > 0, values_m, 0)).sum())


def outer(logs):
    """Return the log of the product over all combinations of nodes, flattened."""
    total = logs[0]
    for more in logs[1:]:
        total = np.add.outer(total, more)
    return total.ravel()


def model_of(case, n_cells):
    """Return a model in single precision with the network of a case, its cell `n_cells` times, and the exact values."""
    name, settings, n_genes = {**CASES, **MIXTURES}[case]
    network, x_g = network_of(name, settings, n_genes)
    if not network.likelihood.counts:
        x_g = np.abs(x_g).round(3) + 0.123
    genes = tuple(f"gene{number}" for number in range(n_genes))
    counts = network.likelihood.counts
    schema = Schema(genes, None, counts=counts, log_normalize=False)
    model = Model(settings_of(name, settings), schema, network.float(), [])
    values = pd.DataFrame(np.tile(x_g, (n_cells, 1)), columns=genes, dtype=np.float32)
    values.index = values.index.astype(str)
    if not counts:  # cells with one total would be refused as not logged
        values.iloc[-1] *= 1.5
    network, _ = network_of(name, settings, n_genes)
    return model, ad.AnnData(values), truth(network, x_g.astype(np.float32).astype(float))
