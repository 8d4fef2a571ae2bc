"""The nouns that travel through training: read this file first.

Suffixes: n cells, g genes, k latents, h hidden units, b batches (donors, chemistries), c further covariates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import torch
from scipy import sparse
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor

    from sparcell.config.settings import LikelihoodConfig


@dataclass(frozen=True)
class SparseRows:
    """Cells as compressed sparse rows, on the CPU: what the kernels read. They may lie among others, in any order."""

    start_n: NDArray[np.integer]
    """Where each cell begins in `column` and `value`."""
    stop_n: NDArray[np.integer]
    """Where it ends: the place after its last value."""
    column: NDArray[np.integer]
    """Genes of the values; those of a cell in order, each once."""
    value: NDArray[np.floating]
    """Values, none of them 0."""
    n_genes: int

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return len(self.start_n), self.n_genes

    def take(self, index: NDArray[np.integer]) -> SparseRows:
        """Some of the cells."""
        return replace(self, start_n=self.start_n[index], stop_n=self.stop_n[index])

    def matrix(self) -> csr_matrix:
        """Copy the cells into a matrix of their own, (n, g)."""
        length_n = self.stop_n - self.start_n
        indptr = np.concatenate([[0], np.cumsum(length_n)])
        at = np.arange(indptr[-1]) + np.repeat(self.start_n - indptr[:-1], length_n)
        return sparse.csr_matrix((self.value[at], self.column[at], indptr), shape=self.shape)

    def dense(self) -> Tensor:
        """The cells as a dense matrix, (n, g)."""
        return torch.from_numpy(self.matrix().toarray())


@dataclass(frozen=True)
class ShiftedRows:
    """Sparse cells, to some of which something comes that is not sparse."""

    cells: SparseRows
    index_m: Tensor
    """To which of them, each once; at least one."""
    shift_mg: Tensor
    """What comes to their values."""


@dataclass(frozen=True)
class Batch:
    """The cells of one step, on the device of the network."""

    x: Tensor | SparseRows
    """What the likelihood explains: counts, or log-normalised expression, (n, g)."""
    size_n1: Tensor
    """Library size: total counts over the model's genes, at least 1."""
    batch_nb: Tensor
    """Which batch a cell is of, one-hot, or the batches' shares for an average one; b = 0 where the model knows no batches."""
    covariates_nc: Tensor
    """Further covariates: one-hot categories, standardised numbers; c = 0 where there are none."""

    def take(self, index_m: Tensor) -> Batch:
        """Some of the cells."""
        x = self.x.take(index_m.numpy()) if isinstance(self.x, SparseRows) else self.x[index_m]
        return Batch(x, self.size_n1[index_m], self.batch_nb[index_m], self.covariates_nc[index_m])

    @cached_property
    def x_ng(self) -> Tensor:
        """The same as a dense matrix, made when first asked for."""
        return self.x.dense() if isinstance(self.x, SparseRows) else self.x

    @property
    def sparse(self) -> SparseRows | None:
        """The same as sparse rows, where it is held so."""
        return self.x if isinstance(self.x, SparseRows) else None

    @cached_property
    def known_nc(self) -> Tensor:
        """All that is known of a cell besides its expression, (n, b + c)."""
        return torch.cat([self.batch_nb, self.covariates_nc], dim=1)


@dataclass(frozen=True)
class Output:
    """One pass through a network."""

    posterior: Posterior
    h_nh: Tensor
    """Last hidden layer of the decoder and the batch: what a likelihood's head reads."""


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
    """nll + kl_weight · kl."""
    nll: float
    kl: float
    kl_weight: float
    """beta, or less of it during the warm-up: mean over the steps."""
    held_out: float | None
    """nll + beta · kl of the cells held out, after the epoch; None where none are."""
    seconds: float


class Rows(Protocol):
    """Where cells come from: any row numbers, in any order, as sparse rows in the model's units."""

    def __len__(self) -> int:
        """Return the number of cells."""
        ...

    def rows(self, index: NDArray[np.integer]) -> SparseRows:
        """Return the cells numbered `index`, in that order, all genes, float32."""
        ...


class Feed(Protocol):
    """The cells of a training run, as batches."""

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        ...

    def batches(self, epoch: int, first: int, last: int) -> Iterable[Batch]:
        """Give the batches of the steps first … last - 1 of an epoch, counted from 0; epochs from 1."""
        ...

    def held_out(self) -> Iterable[Batch]:
        """Give the cells held out, always in the same order; none where none are."""
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
        """Draw z once for each cell, with gradients to the posterior's parameters, (n, k): what training uses."""
        ...

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw z from q(z|x) itself, without relaxation and without gradients, (n, k)."""
        ...

    def log_ratio(self, z_nk: Tensor) -> Tensor:
        """log q(z|x) - log p(z) of draws of `sample`, (n,): its mean over draws is the KL, which `kl` may bound from above."""
        ...

    def kl(self) -> Tensor:
        """KL to the prior in nats for each cell and latent, (n, k); of a prior that is a mixture an upper bound."""
        ...


class Latent(Protocol):
    """A module that turns the encoder's features into a posterior, and knows the prior."""

    def __call__(self, features_nh: Tensor, progress: float = 1.0) -> Posterior:
        """Encode the features of a batch; `progress` is the share of the warm-up that is behind, 1 after it."""
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

    counts: ClassVar[bool]
    """Whether it explains raw counts; else log-normalised expression."""
    quick: ClassVar[frozenset[str]]
    """Names of parameters that need larger steps than weights do."""
    head: nn.Linear
    """To the mean of each gene; for counts to the logarithm of its share, up to a constant a cell."""

    def __init__(self, n_hidden: int, n_genes: int, n_batches: int, config: LikelihoodConfig) -> None: ...

    def nll(self, h_nh: Tensor, batch: Batch) -> Tensor:
        """-log p(x|z) of each cell in nats, summed over genes, (n,): the training path.

        Sparse cells stay so: what is large is the kernels', for `Network.light` lets one thread make all else.
        """
        ...

    def expression(self, h_nh: Tensor, batch: Batch, target_sum: float) -> Tensor | None:
        """`Network.expression` of the mean by a kernel, (n, g): log(1 + x) of counts scaled to `target_sum`; None where there is none."""
        ...

    def distribution(self, h_nh: Tensor, batch: Batch) -> Distribution:
        """The same density as an object: the path for everything that is not training. Does not read `batch.x_ng`."""
        ...
