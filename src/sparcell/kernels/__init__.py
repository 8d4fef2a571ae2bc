"""Fast paths of a training step: sparse cells on the CPU, and a likelihood's head together with its likelihood.

Each has its plain formula in the room that uses it (`likelihoods`, `nn`). The plain formula runs where a kernel returns None (dense cells
on the CPU, a GPU without Triton), and it is what the tests compare with.
"""

from __future__ import annotations

from sparcell.kernels.counts import negative_binomial, poisson
from sparcell.kernels.expected import expected_log_expression
from sparcell.kernels.linear import input_major, log_scaled, sparse_linear
from sparcell.kernels.products import has_bfloat16
from sparcell.kernels.squares import squared_distance

__all__ = [
    "expected_log_expression",
    "has_bfloat16",
    "input_major",
    "log_scaled",
    "negative_binomial",
    "poisson",
    "sparse_linear",
    "squared_distance",
]
