"""Fast paths of a training step: sparse cells on the CPU, and a likelihood's head together with its likelihood.

Each has its plain formula in the room that uses it (`likelihoods`, `network`), which is what runs elsewhere and what the tests compare
with. Where its own rules do not hold (dense cells on the CPU, a GPU without Triton), a caller takes the plain one.
"""

from __future__ import annotations

from sparcell.kernels.adam import AdamW
from sparcell.kernels.awake import kept_awake, together
from sparcell.kernels.counts import negative_binomial, poisson
from sparcell.kernels.expected import log_expected
from sparcell.kernels.linear import Linear, by_input, log_scaled, sparse_linear
from sparcell.kernels.products import knows_bfloat16
from sparcell.kernels.squares import squared_distance

__all__ = [
    "AdamW",
    "Linear",
    "by_input",
    "kept_awake",
    "knows_bfloat16",
    "log_expected",
    "log_scaled",
    "negative_binomial",
    "poisson",
    "sparse_linear",
    "squared_distance",
    "together",
]
