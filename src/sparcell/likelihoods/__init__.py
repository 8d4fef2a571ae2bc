"""The likelihoods by name: a new one is a file here and a line in LIKELIHOODS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sparcell.likelihoods.gaussian import Gaussian

if TYPE_CHECKING:
    from sparcell.config import LikelihoodConfig
    from sparcell.contracts import Likelihood

LIKELIHOODS: dict[str, Callable[[int, int, LikelihoodConfig], Likelihood]] = {
    "gaussian": Gaussian,
}
"""Name → constructor from (hidden units, genes, settings)."""

__all__ = ["LIKELIHOODS", "Gaussian"]
