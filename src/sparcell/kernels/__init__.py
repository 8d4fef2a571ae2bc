"""Fast paths of a training step on the CPU: sparse cells, and a likelihood's head together with its likelihood.

Each has its plain formula in the room that uses it (`likelihoods`, `network`), which is what other devices run and what the tests
compare with. Where its own rules do not hold (dense cells, another device), a caller takes the plain one.
"""

from __future__ import annotations

from sparcell.kernels.counts import group_of, negative_binomial
from sparcell.kernels.linear import by_input, log_scaled, sparse_linear
from sparcell.kernels.squares import squared_distance

__all__ = ["by_input", "group_of", "log_scaled", "negative_binomial", "sparse_linear", "squared_distance"]
