"""Likelihoods by their name in settings. To add one, write a file here and a line in LIKELIHOODS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparcell.likelihoods.gaussian import Gaussian
from sparcell.likelihoods.negative_binomial import NegativeBinomial
from sparcell.likelihoods.poisson import Poisson
from sparcell.likelihoods.zero_inflated import ZeroInflated

if TYPE_CHECKING:
    from sparcell.protocols import Likelihood

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "nb": NegativeBinomial,
    "zinb": ZeroInflated,
}

__all__ = ["LIKELIHOODS", "Gaussian", "NegativeBinomial", "Poisson", "ZeroInflated"]


def __dir__() -> list[str]:
    return list(__all__)
