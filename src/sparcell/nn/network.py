"""Encoder → latent → decoder. It is handed its latent and names no model and no likelihood.

Suffixes: n cells, g genes, k latents, h hidden units, c covariates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.nn.functional import one_hot

from sparcell import kernels
from sparcell.nn.decoders import Additive, NonNegative
from sparcell.protocols import Output, ShiftedRows, SparseRows

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.settings import NetworkConfig
    from sparcell.protocols import Batch, Latent, Likelihood, Posterior

TARGET_SUM = 1e4
"""Counts a cell is scaled to before the encoder sees log(1 + x) of them."""
LIGHT = 2**17
"""Numbers of a hidden layer, over all cells of a step, with which one thread is as quick as several that have to be woken."""
LEAST_SD, MOST_SDS = 1e-2, 10.0
"""Genes that hardly vary are not blown up, and no value lies further from the mean than this many standard deviations."""


def drop(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Set a share of the values to 0 and raise the others, so that the sum is the same in expectation; none without a generator."""
    if generator is None or share == 0:
        return x
    kept = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype).ge_(share)
    return x * kept.div_(1 - share)


class Layers(nn.Module):
    """Linear layers, each with its norm, a ReLU and dropout; covariates join the input of every layer.

    With `linear_first` and no norm the first layer is linear, as the seed study's encoder has it.
    """

    def __init__(
        self, widths: Sequence[int], config: NetworkConfig, *, n_known: int, linear_first: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for number, (n_in, n_out) in enumerate(pairwise(widths)):
            parts: list[nn.Module] = [kernels.Linear(n_in + n_known, n_out)]
            if config.norm != "none":
                parts.append(nn.LayerNorm(n_out))
            if number > 0 or not linear_first or config.norm != "none":
                parts.append(nn.ReLU())
            self.layers.append(nn.Sequential(*parts))
        self.dropout = config.dropout if linear_first else 0.0

    @property
    def first(self) -> nn.Linear:
        """The layer that reads the input."""
        return cast("nn.Linear", cast("nn.Sequential", self.layers[0])[0])

    def forward(
        self,
        x: Tensor | SparseRows | ShiftedRows,
        known_nc: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Pass through all layers; units are left out only in training, by draws of `generator`."""
        for layer in cast("Iterable[nn.Sequential]", self.layers):
            if isinstance(x, SparseRows | ShiftedRows):
                linear, *parts = layer
                given = through(cast("nn.Linear", linear), x, known_nc)
                for part in parts:
                    given = part(given)
            else:
                given = layer(torch.cat([x, known_nc], dim=1) if known_nc.shape[1] else x)
            x = drop(given, self.dropout, generator if self.training else None)
        return cast("Tensor", x)


def through(layer: nn.Linear, x: SparseRows | ShiftedRows, known_nc: Tensor) -> Tensor:
    """Pass sparse cells, and what is known of them, through a linear layer."""
    n_genes = layer.in_features - known_nc.shape[1]
    out_nh = kernels.sparse_linear(x, layer.weight[:, :n_genes], layer.bias)
    return out_nh + known_nc @ layer.weight[:, n_genes:].t() if known_nc.shape[1] else out_nh


class Free(Additive):
    """Hidden layers between the code and the head, told all that is known: any function of the code, whose latents may act together."""

    def n_hidden(self, config: NetworkConfig, n_others: int) -> int:
        """Give the width of the last layer."""
        return config.decoder[-1]

    def decoder(self, config: NetworkConfig, n_known: int) -> nn.Module:
        """Build the layers."""
        return Layers((config.n_latent, *config.decoder), config, n_known=n_known)

    def told(self, batch: Batch) -> Tensor:
        """Tell each layer the batch too."""
        return batch.known_nc


EFFECTS: dict[str, Additive] = {"free": Free(), "additive": Additive(), "nonnegative": NonNegative()}
"""How latents reach the genes, by the setting's name."""


def branch(n_features: int, n_hidden: int, n_out: int) -> nn.Sequential:
    """From the shared encoder to one quantity of the code: a ReLU layer (none with n_hidden 0) and a linear one."""
    if n_hidden == 0:
        return nn.Sequential(nn.Linear(n_features, n_out))
    return nn.Sequential(nn.Linear(n_features, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out))


class Network(nn.Module):
    """A model's parameters: encoder, latent, decoder and the likelihood's head."""

    input_mean: Tensor
    input_sd: Tensor

    def __init__(
        self, n_genes: int, n_known: int, config: NetworkConfig, latent: Latent, likelihood: Likelihood
    ) -> None:
        super().__init__()
        seen = n_known if config.encode_covariates else 0
        self.encoder = Layers((n_genes, *config.encoder), config, n_known=seen, linear_first=True)
        kernels.by_input(self.encoder.first)
        self.latent = latent
        self.effects = EFFECTS[config.effects]
        self.n_latent = config.n_latent
        self.widest = max(*config.encoder, *config.decoder)
        self.decoder = self.effects.decoder(config, n_known)
        self.effects.prepare(likelihood.head, config)
        self.likelihood = likelihood
        self.encode_covariates = config.encode_covariates
        self.input_dropout = config.input_dropout
        self.translate = config.translate
        self.standardise = config.standardise and likelihood.counts
        if self.standardise:
            self.register_buffer("input_mean", torch.zeros(n_genes))
            self.register_buffer("input_sd", torch.ones(n_genes))

    @torch.no_grad()
    def begin(self, batches: Iterable[Batch], some: Iterable[Batch] = ()) -> None:
        """Start from the data: `batches` are all cells that train, `some` at most `start.MOST_CELLS` of them.

        Of counts the head begins with the genes' shares of all counts, each batch's with its own, and the constants of the input are
        noted, in one pass. Effects that may not be negative begin from some of the cells.
        """
        if self.likelihood.counts:
            self._begin_counts(batches)
        target_sum = TARGET_SUM if self.likelihood.counts else None
        seen = (self.expression(batch) for batch in some)
        self.effects.begin(self.likelihood.head, seen, self.n_latent, target_sum)

    def _begin_counts(self, batches: Iterable[Batch]) -> None:
        total_bg, sum_g, square_g, n_cells = (torch.zeros((), dtype=torch.float64) for _ in range(4))
        for batch in batches:
            one_nb = torch.ones_like(batch.size_n1)
            groups_nb = torch.cat([one_nb, batch.batch_nb], dim=1).double()
            totals = self._totals_of_sparse if batch.sparse is not None else self._totals
            of_batch = [total.cpu() for total in totals(batch, groups_nb)]
            total_bg, sum_g, square_g = total_bg + of_batch[0], sum_g + of_batch[1], square_g + of_batch[2]
            n_cells = n_cells + len(one_nb)
        share_bg = torch.log((total_bg + 1) / (total_bg + 1).sum(dim=1, keepdim=True))
        head, n_batches = self.likelihood.head, len(share_bg) - 1
        head.bias.copy_(share_bg[0])
        weight_gh = self.effects.trained(head)
        weight_gh[:, head.in_features - n_batches :] = (share_bg[1:] - share_bg[0]).T.to(weight_gh)
        if self.standardise:
            mean_g = sum_g / n_cells
            self.input_mean.copy_(mean_g)
            self.input_sd.copy_(
                (square_g / n_cells - mean_g.square()).clamp_min(0).sqrt().clamp_min(LEAST_SD)
            )

    def _totals(self, batch: Batch, groups_nb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Counts of groups of cells, (b, g), and the sums of the expression and of its squares, (g,); in float64."""
        x_ng = self.expression(batch).double()
        return groups_nb.T @ batch.x_ng.double(), x_ng.sum(dim=0), x_ng.square().sum(dim=0)

    def _totals_of_sparse(self, batch: Batch, groups_nb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from the values that are not 0."""
        cells = cast("SparseRows", batch.sparse)
        counts_ng, x_ng = cells.matrix(), self.sparse_input(cells, batch.size_n1).matrix()
        value = x_ng.data.astype(np.float64)
        sum_g, square_g = (
            np.bincount(x_ng.indices, of_each, minlength=x_ng.shape[1]) for of_each in (value, value**2)
        )
        total_gb = counts_ng.T @ groups_nb.numpy()
        return torch.from_numpy(total_gb).T, torch.from_numpy(sum_g), torch.from_numpy(square_g)

    def expression(self, batch: Batch) -> Tensor:
        """The data, (n, g); of counts log(1 + x) of the cell scaled to TARGET_SUM."""
        return (
            torch.log1p(batch.x_ng * (TARGET_SUM / batch.size_n1)) if self.likelihood.counts else batch.x_ng
        )

    def input(self, batch: Batch) -> Tensor:
        """What the encoder sees, (n, g): the expression, standardised if set so."""
        return self._standardised(self.expression(batch))

    def _standardised(self, x_ng: Tensor) -> Tensor:
        if not self.standardise:
            return x_ng
        return ((x_ng - self.input_mean) / self.input_sd).clamp(-MOST_SDS, MOST_SDS)

    def sparse_input(self, cells: SparseRows, size_n1: Tensor) -> SparseRows:
        """The same, not standardised, as sparse rows: a count of 0 stays 0."""
        if not self.likelihood.counts:
            return cells
        return kernels.log_scaled(cells, TARGET_SUM / size_n1.squeeze(1).numpy())

    def posterior(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> Posterior:
        """q(z|x) of the cells of a batch. In training `generator` draws the dropout; `progress` is the share of the warm-up done."""
        drawn = generator if self.training else None
        sparse = self._read_sparse(batch)
        x: Tensor | SparseRows | ShiftedRows
        x = self.input(batch) if sparse is None else self.sparse_input(sparse, batch.size_n1)
        if drawn is not None and self.translate and batch.batch_nb.shape[1] > 1:
            x, batch = self.translated(x, batch, drawn, progress)
        if isinstance(x, torch.Tensor):
            x = drop(x, self.input_dropout, drawn)
        return self.latent(self.encoder(x, self._seen(batch), drawn), progress)

    def light(self, batch: Batch) -> bool:
        """Whether all that is large in a training step on these cells is done by kernels, which share it out."""
        return self._read_sparse(batch) is not None and len(batch.size_n1) * self.widest <= LIGHT

    def _read_sparse(self, batch: Batch) -> SparseRows | None:
        """Give the cells as sparse rows, if the encoder can read them so: a value of 0 is to be 0 there too."""
        dropped = self.training and self.input_dropout > 0
        return None if self.standardise or dropped else batch.sparse

    @torch.no_grad()
    def translated(
        self, x: Tensor | SparseRows, batch: Batch, generator: torch.Generator, progress: float
    ) -> tuple[Tensor | SparseRows | ShiftedRows, Batch]:
        """Show each cell as if it had been measured in a batch drawn at random: what the encoder sees, and the batch.

        To its input comes the difference that the decoder makes between the two batches at a code of the cell. The cell is still
        restored in its own batch, so the encoder learns to give the same code whichever batch a cell seems to be of. The bound stays a
        bound: it holds for any encoder.
        """
        z_nk = self.latent(self.encoder(x, self._seen(batch), None), progress).rsample(generator)
        n_batches = batch.batch_nb.shape[1]
        drawn_n = torch.randint(n_batches, (len(z_nk),), generator=generator, device=z_nk.device)
        moved = replace(batch, batch_nb=one_hot(drawn_n, n_batches).to(batch.batch_nb))
        if isinstance(x, torch.Tensor):
            return x + self._shift(z_nk, batch, moved), moved
        index_m = (moved.batch_nb != batch.batch_nb).any(dim=1).nonzero().squeeze(1)
        if not len(index_m):
            return x, moved
        shift_mg = self._shift(z_nk[index_m], batch.take(index_m), moved.take(index_m))
        return ShiftedRows(x, index_m, shift_mg), moved

    @kernels.together
    def _shift(self, z_nk: Tensor, here: Batch, there: Batch) -> Tensor:
        """By how much what the encoder is to see of codes is more in some batches than in others, (n, g)."""
        of_there, of_here = (
            self._standardised(self._expected(self.decode(z_nk, cells), cells)) for cells in (there, here)
        )
        return of_there.sub_(of_here)

    def _expected(self, h_nh: Tensor, batch: Batch) -> Tensor:
        fused_ng = self.likelihood.expression(h_nh, batch, TARGET_SUM)
        if fused_ng is not None:
            return fused_ng
        return self.expression(replace(batch, x=self.likelihood.distribution(h_nh, batch).mean))

    def _seen(self, batch: Batch) -> Tensor:
        return batch.known_nc if self.encode_covariates else batch.known_nc[:, :0]

    def decode(self, z_nk: Tensor, batch: Batch) -> Tensor:
        """Last hidden layer of the decoder for cells with the covariates of `batch`, and their batch, (n, h + b).

        Where effects add up there is no hidden layer: the code and the further covariates stand in its place.
        """
        h_nh: Tensor = self.decoder(z_nk, self.effects.told(batch))
        return torch.cat([h_nh, batch.batch_nb], dim=1) if batch.batch_nb.shape[1] else h_nh

    def forward(self, batch: Batch, generator: torch.Generator, progress: float = 1.0) -> Output:
        """Encode, draw a code, decode."""
        posterior = self.posterior(batch, generator, progress)
        return Output(posterior, self.decode(posterior.rsample(generator), batch))
