"""The nouns and protocols of training. Read this file first.

Suffixes: n cells, m some of the cells, g genes, k latents, h hidden units, b batches (donors, chemistries), c further covariates. "Batch"
means donor or chemistry; the cells of one training step are a minibatch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from scipy import sparse
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor

    from sparcell.config.model import LikelihoodConfig

AVERAGE_BATCH = -1
"""Batch number of an average cell: it is given the batch proportions of the fit in place of a one-hot row."""
NO_LABEL = -1
"""Label number of a cell without a label."""


@dataclass(frozen=True)
class SparseRows:
    """Cells as compressed sparse rows on the CPU, which the kernels read. The rows may lie anywhere in larger arrays, in any order."""

    start_n: NDArray[np.integer]
    """Position of each cell's first value in `column` and `value`."""
    stop_n: NDArray[np.integer]
    """Position after each cell's last value."""
    column: NDArray[np.integer]
    """Gene of each value; within a cell sorted, each gene once."""
    value: NDArray[np.floating]
    """Values, none of them 0."""
    n_genes: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and genes."""
        return len(self.start_n), self.n_genes

    def take(self, index: NDArray[np.integer]) -> SparseRows:
        """Return the cells numbered `index`, without a copy of their values."""
        return replace(self, start_n=self.start_n[index], stop_n=self.stop_n[index])

    def matrix(self) -> csr_matrix:
        """Copy the cells into a matrix, (n, g)."""
        length_n = self.stop_n - self.start_n
        indptr = np.concatenate([[0], np.cumsum(length_n)])
        at = np.arange(indptr[-1]) + np.repeat(self.start_n - indptr[:-1], length_n)
        return sparse.csr_matrix((self.value[at], self.column[at], indptr), shape=self.shape)

    def joined(self, other: SparseRows) -> SparseRows:
        """Return these cells followed by others, in arrays of their own."""
        x_ng = sparse.vstack([self.matrix(), other.matrix()], format="csr")
        return SparseRows(x_ng.indptr[:-1], x_ng.indptr[1:], x_ng.indices, x_ng.data, self.n_genes)

    def dense(self) -> Tensor:
        """Return the cells as a dense matrix, (n, g)."""
        return torch.from_numpy(self.matrix().toarray())


@dataclass(frozen=True)
class SparseRowsPlusDelta:
    """Sparse cells, plus a dense difference for some of them."""

    cells: SparseRows
    index_m: Tensor
    """Cells that the difference belongs to, each once; at least one."""
    delta_mg: Tensor
    """Added to the values of those cells."""


@dataclass(frozen=True)
class Share:
    """The cells of a step that one of several processes has, which train together."""

    start: int
    """Number of cells of the step that come before them."""
    n_own: int
    """Number of cells; 0 if the step has fewer cells than there are processes. The minibatch is then one cell that does not count."""
    n_cells: int
    """Number of cells of the step."""


@dataclass(frozen=True)
class OwnNoise:
    """A generator whose draws are made for all cells of a step, of which this process takes its own."""

    generator: torch.Generator
    share: Share


Noise = torch.Generator | OwnNoise
"""What noise is drawn from in training, with the functions of `nn.noise`."""


@dataclass(frozen=True)
class Minibatch:
    """The cells of one training step, on the device of the network."""

    x: Tensor | SparseRows
    """What the likelihood explains, (n, g): counts or log-normalized expression."""
    library_size_n1: Tensor
    """Total counts over the model's genes, at least 1."""
    batch_n: Tensor
    """Batch number of each cell, int64; AVERAGE_BATCH for an average cell. All 0 if the model has no batches."""
    covariates_nc: Tensor
    """Further covariates: one-hot categories and standardized numbers; c = 0 without covariates."""
    batch_proportions_b: Tensor
    """Fraction of the cells of the fit in each batch; b = 0 if the model has no batches."""
    label_n: Tensor | None = None
    """Label number of each cell, int64; NO_LABEL for a cell without a label. None if training reads no labels."""
    share: Share | None = None
    """Which cells of the step these are, if other processes have the others; None: all."""

    def __len__(self) -> int:
        return len(self.library_size_n1)

    @property
    def n_own(self) -> int:
        """Number of cells that count in this process."""
        return len(self) if self.share is None else self.share.n_own

    @property
    def n_cells(self) -> int:
        """Number of cells of the step, in all processes."""
        return len(self) if self.share is None else self.share.n_cells

    @property
    def n_batches(self) -> int:
        """Number of batches that the model knows; 0 for none."""
        return len(self.batch_proportions_b)

    def take(self, index_m: Tensor) -> Minibatch:
        """Return some of the cells."""
        x = self.x.take(index_m.numpy()) if isinstance(self.x, SparseRows) else self.x[index_m]
        return self._with_rows(x, index_m)

    def part(self, first: int, stop: int) -> Minibatch:
        """Return cells first … stop - 1 of dense cells, without a copy."""
        return self._with_rows(self.x_ng[first:stop], slice(first, stop))

    def _with_rows(self, x: Tensor | SparseRows, rows: Tensor | slice) -> Minibatch:
        return replace(
            self,
            x=x,
            library_size_n1=self.library_size_n1[rows],
            batch_n=self.batch_n[rows],
            covariates_nc=self.covariates_nc[rows],
            label_n=None if self.label_n is None else self.label_n[rows],
        )

    def joined(self, other: Minibatch) -> Minibatch:
        """Return these cells followed by others."""
        x: Tensor | SparseRows
        if isinstance(self.x, SparseRows) and isinstance(other.x, SparseRows):
            x = self.x.joined(other.x)
        else:
            x = torch.cat([self.x_ng, other.x_ng])
        label_n = None
        if self.label_n is not None and other.label_n is not None:
            label_n = torch.cat([self.label_n, other.label_n])
        return replace(
            self,
            x=x,
            library_size_n1=torch.cat([self.library_size_n1, other.library_size_n1]),
            batch_n=torch.cat([self.batch_n, other.batch_n]),
            covariates_nc=torch.cat([self.covariates_nc, other.covariates_nc]),
            label_n=label_n,
        )

    @cached_property
    def x_ng(self) -> Tensor:
        """`x` as a dense matrix, made on first use."""
        return self.x.dense() if isinstance(self.x, SparseRows) else self.x

    @property
    def sparse(self) -> SparseRows | None:
        """`x` as sparse rows, if it is stored so."""
        return self.x if isinstance(self.x, SparseRows) else None

    @cached_property
    def batch_nb(self) -> Tensor:
        """One-hot batch of each cell, (n, b); the batch proportions for an average cell."""
        if not self.n_batches:
            return self.covariates_nc[:, :0]
        rows = torch.eye(self.n_batches, device=self.batch_n.device, dtype=self.batch_proportions_b.dtype)
        return torch.cat([rows, self.batch_proportions_b[None]])[self.batch_n]  # -1 is the last row

    @cached_property
    def batch_and_covariates_nc(self) -> Tensor:
        """One-hot batch and further covariates side by side, (n, b + c)."""
        return torch.cat([self.batch_nb, self.covariates_nc], dim=1)


@dataclass(frozen=True)
class Output:
    """One forward pass of a network."""

    posterior: Posterior
    h_nh: Tensor
    """Last hidden layer of the decoder and the batch, which the likelihood's head reads."""


@dataclass(frozen=True)
class Loss:
    """Terms of the loss in nats: means over the cells of a minibatch."""

    total: Tensor
    """reconstruction + kl_weight · kl, and label_weight · cross-entropy of the labels, which training minimizes."""
    reconstruction: Tensor
    """-E_q log p(x|z)."""
    kl: Tensor
    """KL(q(z|x) ‖ p(z)), unweighted."""


@dataclass(frozen=True)
class EpochRecord:
    """One row of the training history: means over the cells of an epoch."""

    number: int
    """1 for the first epoch."""
    loss: float
    """reconstruction_loss + kl_weight · kl; training with labels adds label_weight · cross-entropy of the labels."""
    reconstruction_loss: float
    kl: float
    kl_weight: float
    """beta, or less or more of it during the warm-up: mean over the steps."""
    validation_loss: float | None
    """`loss` of the validation cells after the epoch, with the full weight of the KL; None without validation cells."""
    seconds: float


class CellSource(Protocol):
    """A place that cells are read from: any row numbers, in any order, as sparse rows in the model's units."""

    def __len__(self) -> int:
        """Return the number of cells."""
        ...

    @property
    def edges(self) -> NDArray[np.int64] | None:
        """Rows where stored blocks begin, and the number of cells; None if cells are read in any order at the same cost."""
        ...

    @property
    def identity(self) -> dict[str, Any] | None:
        """What changes if a file changes: size, time, shape; None for a source whose values have to be compared."""
        ...

    def rows(self, index: NDArray[np.integer]) -> SparseRows:
        """Return the cells numbered `index`, in that order, all genes, float32."""
        ...


class BatchProvider(Protocol):
    """The cells of a training run as minibatches."""

    @property
    def n_steps(self) -> int:
        """Number of steps in an epoch."""
        ...

    def batches(self, epoch: int, first: int, last: int) -> Iterable[Minibatch]:
        """Yield the minibatches of steps first … last - 1 of an epoch. Steps count from 0, epochs from 1."""
        ...

    def validation_batches(self) -> Iterable[Minibatch]:
        """Yield the validation cells, always in the same order; nothing without validation cells."""
        ...


class Posterior(Protocol):
    """q(z|x) of the cells of a minibatch."""

    @property
    def mean(self) -> Tensor:
        """E z, the latent representation that is reported, (n, k)."""
        ...

    @property
    def gamma(self) -> Tensor | None:
        """Posterior inclusion probability of each latent, (n, k); None for a model without spikes."""
        ...

    def rsample(self, noise: Noise) -> Tensor:
        """Draw z once for each cell, (n, k), with gradients to the posterior's parameters. Used in training: draw with `nn.noise`."""
        ...

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw z from q(z|x) itself, (n, k), without relaxation and without gradients."""
        ...

    def log_ratio(self, z_nk: Tensor) -> Tensor:
        """Return log q(z|x) - log p(z) of draws of `sample`, (n,). Its mean is the KL, or is bounded by `kl` from above."""
        ...

    def kl(self) -> Tensor:
        """Return the KL to the prior in nats for each cell and latent, (n, k); an upper bound if the prior is a mixture."""
        ...


class LatentEncoder(Protocol):
    """A module that turns the encoder's features into a posterior and knows the prior."""

    def __call__(self, features_nh: Tensor, progress: float | Tensor = 1.0) -> Posterior:
        """Return the posterior; `progress` is the fraction of the warm-up that is done."""
        ...

    def prior(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Draw latents from p(z), (n, k)."""
        ...


class Distribution(Protocol):
    """p(x|z) of the cells of a minibatch."""

    @property
    def mean(self) -> Tensor:
        """Expected expression, (n, g)."""
        ...

    def log_prob(self, x_ng: Tensor) -> Tensor:
        """Return the log density of each entry in nats, (n, g)."""
        ...

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw expression, (n, g)."""
        ...

    def cumulative(self, x_ng: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return P(X < x) and P(X ≤ x) of each value, (n, g). They differ for counts."""
        ...

    def rate_factor(self, x_ng: Tensor) -> Tensor:
        """Return E[rate given x] / E[rate], (n, g): how far an observed count moves the expected one; 1 without overdispersion."""
        ...


class Likelihood(Protocol):
    """A module that owns the output head: from the decoder's last hidden layer to p(x|z)."""

    counts: ClassVar[bool]
    """Whether it explains raw counts; otherwise log-normalized expression."""
    fast_lr_params: ClassVar[frozenset[str]]
    """Names of parameters that get a higher learning rate than weights."""
    head: nn.Linear
    """Linear layer to the mean of each gene; for counts to the log of its fraction, up to a constant per cell."""

    def __init__(self, n_hidden: int, n_genes: int, n_batches: int, config: LikelihoodConfig) -> None: ...

    def nll(self, h_nh: Tensor, batch: Minibatch) -> Tensor:
        """Return -log p(x|z) of each cell in nats, (n,), summed over genes. Used in training; sparse cells stay sparse."""
        ...

    def log_expression(self, h_nh: Tensor, batch: Minibatch, target_sum: float) -> Tensor | None:
        """Return log(1 + x) of the mean, (n, g), with each cell scaled to `target_sum` counts; None if no kernel computes it."""
        ...

    def distribution(self, h_nh: Tensor, batch: Minibatch) -> Distribution:
        """Return the same density as an object, used outside of training. Does not read `batch.x`."""
        ...


class ModelSettings(Protocol):
    """What a fitted model needs of its settings: an Estimator has it."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    name: ClassVar[str]
    generative: ClassVar[bool]

    @property
    def n_latent(self) -> int:
        """Number of latents."""
        ...

    @property
    def encode_covariates(self) -> bool:
        """Whether the encoder reads batch and covariates."""
        ...

    @property
    def seed(self) -> int:
        """Random seed of everything that is drawn."""
        ...

    def network(self, n_genes: int, n_batches: int = 0, n_covariates: int = 0, n_labels: int = 0) -> Any:
        """Build the network (`nn.network.Network`)."""
        ...
