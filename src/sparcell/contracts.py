"""The nouns that travel through training: read this file first.

Suffixes: n cells, g genes, k latents, h hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """The cells of one step, on the device of the network."""

    x_ng: Tensor
    """What the network sees and reconstructs."""


@dataclass(frozen=True)
class Output:
    """One pass through a network."""

    posterior: Posterior
    h_nh: Tensor
    """Last hidden layer of the decoder: what a likelihood's head reads."""


@dataclass(frozen=True)
class Loss:
    """Terms of the bound, in nats: means over the cells of a batch."""

    total: Tensor
    """nll + beta · kl: what is minimised."""
    nll: Tensor
    """-E_q log p(x|z)."""
    kl: Tensor
    """KL(q(z|x) ‖ p(z)), unweighted."""


@dataclass(frozen=True)
class Epoch:
    """Record of one pass over the cells: the means of the batches' losses, weighted by their sizes."""

    number: int
    """1 for the first."""
    loss: float
    nll: float
    kl: float
    seconds: float


class Rows(Protocol):
    """Where cells come from: any row numbers, in any order, as sparse rows in the model's units."""

    def __len__(self) -> int:
        """Return the number of cells."""
        ...

    def rows(self, index: NDArray[np.integer]) -> csr_matrix:
        """Return the cells numbered `index`, in that order, all genes, float32."""
        ...


class Posterior(Protocol):
    """q(z|x) for a batch of cells."""

    @property
    def mean(self) -> Tensor:
        """E z, the code that is reported, (n, k)."""
        ...

    @property
    def gamma(self) -> Tensor | None:
        """Probability that each latent is on, (n, k); None where there are no spikes."""
        ...

    def rsample(self, generator: torch.Generator) -> Tensor:
        """Draw z once for each cell, with gradients to the posterior's parameters, (n, k)."""
        ...

    def kl(self) -> Tensor:
        """KL to the prior in nats for each cell and latent, (n, k)."""
        ...


class Latent(Protocol):
    """A module that turns the encoder's features into a posterior, and knows the prior."""

    def __call__(self, features_nh: Tensor) -> Posterior:
        """Encode the features of a batch."""
        ...

    def prior(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Draw codes from p(z), (n, k)."""
        ...


class Distribution(Protocol):
    """p(x|z) for a batch of cells."""

    @property
    def mean(self) -> Tensor:
        """Expected expression, (n, g)."""
        ...

    def log_prob(self, x_ng: Tensor) -> Tensor:
        """Log density of each entry in nats, (n, g)."""
        ...

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw expression, (n, g)."""
        ...


class Likelihood(Protocol):
    """A module that owns the output head: from the decoder's last hidden layer to p(x|z)."""

    def nll(self, h_nh: Tensor, batch: Batch) -> Tensor:
        """-log p(x|z) of each cell in nats, summed over genes, (n,): the training path."""
        ...

    def distribution(self, h_nh: Tensor) -> Distribution:
        """The same density as an object: the path for everything that is not training."""
        ...
