"""Untrained models with random weights, large enough for effects to differ."""

from __future__ import annotations

import torch

from sparcell.config.data import DataConfig
from sparcell.data.schema import Schema
from sparcell.models import MODELS
from sparcell.models.fitted import Model

N_CELLS, N_GENES, N_LATENT = 30, 40, 4
NET = {
    "n_latent": N_LATENT,
    "encoder_widths": (8,),
    "decoder_widths": (8,),
    "head_width": 0,
    "normalization": "none",
    "seed": 3,
}
ARCHITECTURES = {
    "layers": {"likelihood": "nb"},
    "additive": {"likelihood": "poisson", "decoder_type": "linear"},
    "nonnegative-linear": {
        "likelihood": "nb",
        "decoder_type": "nonnegative-linear",
        "slab": "softplus-normal",
        "n_prior_components": 1,
    },
    "dropped": {"likelihood": "zinb", "dispersion": "gene-batch"},
    "expression": {"likelihood": "gaussian", "gaussian_variance": 0.7},
    "scaled": {"likelihood": "gaussian", "gaussian_variance": 0.7, "decoder_type": "linear"},
}


def untrained_model(adata, name="layers", kind="beta-vsc"):
    """Return an untrained model of one of `ARCHITECTURES` whose schema fits the data, batches included."""
    settings = MODELS[kind](**{**NET, **ARCHITECTURES[name]})
    counts = ARCHITECTURES[name]["likelihood"] != "gaussian"
    data = DataConfig(layer=None if counts else "lognorm", batch_key="batch", scale=name == "scaled")
    schema = Schema.fit(adata, data, counts=counts)
    network = settings.network(len(schema.genes), schema.covariates.n_batches, 0)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return Model(settings, schema, network, [])
