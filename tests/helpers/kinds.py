"""All models over all likelihoods, some built another way, with settings that train quickly.

A kind is a tuple: model, likelihood and, for some, a variant.
"""

from __future__ import annotations

import os
from dataclasses import fields
from functools import cache

import numpy as np
from scipy import sparse

from helpers.simulated import COUNTS, QUICK, simulated_cells
from sparcell.config.presets import STUDY_2019
from sparcell.likelihoods import LIKELIHOODS
from sparcell.models import MODELS

DEVICE = os.environ.get("SPARCELL_TEST_DEVICE", "cpu")
"""Where these models are trained: set by pytest's option --device."""
VARIANTS = {
    "programs": {"decoder_type": "nonnegative-linear", "slab": "softplus-normal", "n_prior_components": 1},
    "linear": {"decoder_type": "linear"},
}
"""Settings that change how a model is built, by the third word of a kind."""
KINDS = [(model, likelihood) for model in MODELS for likelihood in LIKELIHOODS]
KINDS += [("beta-vsc", likelihood, "programs") for likelihood in LIKELIHOODS]
KINDS += [("beta-vae", "nb", "linear")]
GAUSSIAN_KINDS = [kind for kind in KINDS if not LIKELIHOODS[kind[1]].counts]
COUNT_KINDS = [kind for kind in KINDS if LIKELIHOODS[kind[1]].counts]
ONE_OF_EACH = [(model, likelihood) for model in MODELS for likelihood in ("gaussian", "nb")]
"""For tests in which only the kind of data matters, not which count likelihood explains it."""


def accepted_by(model, settings):
    """Return the settings that a model has, of a preset for all models."""
    names = {field.name for field in fields(MODELS[model])}
    return {name: value for name, value in settings.items() if name in names}


def study_2019(model, **changes):
    """Return the 2019 study's settings of a model."""
    return MODELS[model](**{**accepted_by(model, STUDY_2019), **changes})


def explains_counts(kind):
    return LIKELIHOODS[kind[1]].counts


def layer_of(kind):
    """Return the layer of the simulated cells that a kind reads."""
    return None if explains_counts(kind) else "lognorm"


def matrix_of(kind, adata):
    """Return what a kind reads, dense, (n, g)."""
    matrix = adata.X if explains_counts(kind) else adata.layers["lognorm"]
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def with_matrix(kind, adata, x_ng):
    """Return a copy of the cells that holds another matrix where a kind reads."""
    other = adata.copy()
    other.raw = None
    if explains_counts(kind):
        other.X = x_ng
    else:
        other.layers["lognorm"] = x_ng
    return other


def settings_of(kind, **changes):
    """Return settings of a kind that train quickly: the 2019 study's network for expression, a small one for counts."""
    model, likelihood, *variants = kind
    settings = {**COUNTS} if explains_counts(kind) else {**STUDY_2019, **QUICK}
    settings |= {"seed": 1, "likelihood": likelihood, "device": DEVICE}
    for variant in variants:
        settings |= VARIANTS[variant]
    return MODELS[model](**accepted_by(model, settings | changes))


READ_BY_KIND = object()


def fit(kind, data, *, layer=READ_BY_KIND, settings=None, **keywords):
    layer = layer_of(kind) if layer is READ_BY_KIND else layer
    return settings_of(kind, **(settings or {})).fit(data, layer=layer, silent=True, **keywords)


@cache
def fitted(kind, **settings):
    """Return a model of the 300 simulated cells, fitted once per session. No test may change it."""
    return fit(kind, simulated_cells(), settings=settings)


def weights(model):
    return {name: tensor.cpu().numpy() for name, tensor in model.network.state_dict().items()}


def assert_same_weights(one, two):
    assert weights(one).keys() == weights(two).keys()
    for name, values in weights(one).items():
        np.testing.assert_array_equal(values, weights(two)[name])


def learning_curve(model):
    """Return the history without the seconds, which differ from run to run."""
    return model.history.drop(columns="seconds")
