"""All models over all likelihoods, some built another way, with settings that train quickly, and what each kind reads."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from scipy import sparse

from helpers.planted import COUNTS, QUICK
from sparcell.likelihoods import LIKELIHOODS
from sparcell.models import MODELS

VARIANTS = {
    "readable": {"decoder_type": "nonnegative-linear", "slab": "softplus-normal", "n_prior_components": 1},
    "additive": {"decoder_type": "linear"},
}
"""Settings that change how a model is built, by the third word of a kind."""
KINDS = [(model, likelihood) for model in MODELS for likelihood in LIKELIHOODS]
KINDS += [("beta-vsc", likelihood, "readable") for likelihood in LIKELIHOODS]
KINDS += [("beta-vae", "nb", "additive")]
EXPRESSION = [kind for kind in KINDS if not LIKELIHOODS[kind[1]].counts]
COUNTED = [kind for kind in KINDS if LIKELIHOODS[kind[1]].counts]
ONE_OF_EACH = [(model, likelihood) for model in MODELS for likelihood in ("gaussian", "nb")]
"""Where the likelihood hardly matters, but how it is chosen and trained does."""


def explains_counts(kind):
    return LIKELIHOODS[kind[1]].counts


def layer_of(kind):
    """Where the planted cells hold what a kind reads."""
    return None if explains_counts(kind) else "lognorm"


def matrix_of(kind, adata):
    """What a kind reads, dense, (n, g)."""
    matrix = adata.X if explains_counts(kind) else adata.layers["lognorm"]
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def with_matrix(kind, adata, x_ng):
    """A copy of the cells that holds another matrix where a kind reads."""
    other = adata.copy()
    other.raw = None
    if explains_counts(kind):
        other.X = x_ng
    else:
        other.layers["lognorm"] = x_ng
    return other


def settings_of(kind, **changes):
    """Settings that train quickly, of a model over a likelihood."""
    model, likelihood, *variant = kind
    quick = COUNTS if explains_counts(kind) else QUICK
    wanted = {**quick, "seed": 1, "likelihood": likelihood}
    for name in variant:
        wanted |= VARIANTS[name]
    wanted |= changes
    accepted = {field.name for field in fields(MODELS[model])}
    return MODELS[model](**{name: value for name, value in wanted.items() if name in accepted})


READ = object()


def fit(kind, data, *, layer=READ, settings=None, **keywords):
    layer = layer_of(kind) if layer is READ else layer
    return settings_of(kind, **(settings or {})).fit(data, layer=layer, silent=True, **keywords)


def weights(model):
    return {name: tensor.numpy() for name, tensor in model.network.state_dict().items()}


def assert_same_weights(one, two):
    assert weights(one).keys() == weights(two).keys()
    for name, values in weights(one).items():
        np.testing.assert_array_equal(values, weights(two)[name])


def curve(model):
    """The history without what differs from run to run."""
    return model.history.drop(columns="seconds")
