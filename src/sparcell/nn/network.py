"""The network: encoder → latent encoder → decoder → likelihood. It is handed the parts that differ and names no model or likelihood.

Suffixes: n cells, m some of the cells, g genes, k latents, h hidden units, b batches, c covariates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from sparcell import kernels
from sparcell.data.normalize import TARGET_SUM
from sparcell.nn.decoders import DECODERS
from sparcell.nn.mlp import MLP, dropout
from sparcell.nn.noise import integers
from sparcell.protocols import Output, SparseRowsPlusDelta

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.model import NetworkConfig
    from sparcell.protocols import LatentEncoder, Likelihood, Minibatch, Noise, Posterior, SparseRows

MIN_SD, MAX_ZSCORE = 1e-2, 10.0
"""Standardized input: genes that hardly vary are not blown up, and values are cut at this many standard deviations."""


class Network(nn.Module):
    """The parameters of a model: encoder, latent encoder, decoder and the likelihood's head."""

    input_mean: Tensor
    input_sd: Tensor

    def __init__(
        self,
        n_genes: int,
        n_batches: int,
        n_covariates: int,
        config: NetworkConfig,
        latent_encoder: LatentEncoder,
        likelihood: Likelihood,
    ) -> None:
        super().__init__()
        n_known = n_batches + n_covariates
        self.encoder = MLP(
            (n_genes, *config.encoder_widths),
            config,
            n_covariates=n_known if config.encode_covariates else 0,
            linear_first=True,
        )
        kernels.input_major(self.encoder.first)
        self.latent_encoder = latent_encoder
        self.decoder_type = DECODERS[config.decoder_type]
        self.n_latent = config.n_latent
        self.decoder = self.decoder_type.module(config, n_known)
        self.decoder_type.init_head(likelihood.head, config)
        self.likelihood = likelihood
        self.label_head: nn.Linear | None = None
        self.encode_covariates = config.encode_covariates
        self.input_dropout = config.input_dropout
        self.batch_augmentation = config.batch_augmentation
        self.standardize_input = config.standardize_input and likelihood.counts
        if self.standardize_input:
            self.register_buffer("input_mean", torch.zeros(n_genes))
            self.register_buffer("input_sd", torch.ones(n_genes))

    def add_label_head(self, n_labels: int) -> None:
        """Add a linear layer from the latents to the logits of labels, which only training reads."""
        self.label_head = nn.Linear(self.n_latent, n_labels)

    @torch.no_grad()
    def init_from_data(self, batches: Iterable[Minibatch], some: Iterable[Minibatch] = ()) -> None:
        """Initialize the head and the input constants; `batches` are all training cells, `some` at most `nmf_init.MAX_CELLS` of them.

        For count likelihoods, one pass over the training cells sets the head's bias to log gene fractions (per batch) and stores the
        input mean and sd. A nonnegative decoder starts from factors of `some`.
        """
        if self.likelihood.counts:
            self._init_from_counts(batches)
        target_sum = TARGET_SUM if self.likelihood.counts else None
        expression = (self.log_expression(batch) for batch in some)
        self.decoder_type.init_from_data(self.likelihood.head, expression, self.n_latent, target_sum)

    def _init_from_counts(self, batches: Iterable[Minibatch]) -> None:
        total_bg, sum_g, square_g, n_cells = (torch.zeros((), dtype=torch.float64) for _ in range(4))
        for batch in batches:
            one_n1 = torch.ones_like(batch.library_size_n1)
            groups_nb = torch.cat([one_n1, batch.batch_nb], dim=1).double()
            totals = self._totals_of_sparse if batch.sparse is not None else self._totals
            of_batch = [total.cpu() for total in totals(batch, groups_nb)]
            total_bg, sum_g, square_g = total_bg + of_batch[0], sum_g + of_batch[1], square_g + of_batch[2]
            n_cells = n_cells + len(one_n1)
        log_fraction_bg = torch.log((total_bg + 1) / (total_bg + 1).sum(dim=1, keepdim=True))
        head, n_batches = self.likelihood.head, len(log_fraction_bg) - 1
        head.bias.copy_(log_fraction_bg[0])
        weight_gh = self.decoder_type.head_weight(head)
        weight_gh[:, head.in_features - n_batches :] = (log_fraction_bg[1:] - log_fraction_bg[0]).T.to(
            weight_gh
        )
        if self.standardize_input:
            mean_g = sum_g / n_cells
            self.input_mean.copy_(mean_g)
            self.input_sd.copy_((square_g / n_cells - mean_g.square()).clamp_min(0).sqrt().clamp_min(MIN_SD))

    def _totals(self, batch: Minibatch, groups_nb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return counts of groups of cells, (b, g), and sums of the expression and its squares, (g,), in float64."""
        x_ng = self.log_expression(batch).double()
        return groups_nb.T @ batch.x_ng.double(), x_ng.sum(dim=0), x_ng.square().sum(dim=0)

    def _totals_of_sparse(self, batch: Minibatch, groups_nb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same from the values that are not 0."""
        cells = cast("SparseRows", batch.sparse)
        counts_ng, x_ng = cells.matrix(), self.sparse_encoder_input(cells, batch.library_size_n1).matrix()
        value = x_ng.data.astype(np.float64)
        sum_g, square_g = (
            np.bincount(x_ng.indices, weights, minlength=x_ng.shape[1]) for weights in (value, value**2)
        )
        total_gb = counts_ng.T @ groups_nb.numpy()
        return torch.from_numpy(total_gb).T, torch.from_numpy(sum_g), torch.from_numpy(square_g)

    def log_expression(self, batch: Minibatch) -> Tensor:
        """Return the data as log-normalized expression, (n, g): counts are scaled to TARGET_SUM per cell, then log(1 + x)."""
        if not self.likelihood.counts:
            return batch.x_ng
        return torch.log1p(batch.x_ng * (TARGET_SUM / batch.library_size_n1))

    def encoder_input(self, batch: Minibatch) -> Tensor:
        """Return what the encoder reads, (n, g): the expression, standardized if set so."""
        return self._standardize(self.log_expression(batch))

    def _standardize(self, x_ng: Tensor) -> Tensor:
        if not self.standardize_input:
            return x_ng
        return ((x_ng - self.input_mean) / self.input_sd).clamp(-MAX_ZSCORE, MAX_ZSCORE)

    def sparse_encoder_input(self, cells: SparseRows, library_size_n1: Tensor) -> SparseRows:
        """Return what the encoder reads as sparse rows, not standardized: a count of 0 stays 0."""
        if not self.likelihood.counts:
            return cells
        return kernels.log_scaled(cells, TARGET_SUM / library_size_n1.squeeze(1).numpy())

    def posterior(
        self, batch: Minibatch, noise: Noise | None = None, progress: float | Tensor = 1.0
    ) -> Posterior:
        """Return q(z|x) of a minibatch. In training, dropout is drawn from `noise`; `progress` is the fraction of the warm-up done."""
        training_noise = noise if self.training else None
        cells = self._sparse_cells(batch)
        x: Tensor | SparseRows | SparseRowsPlusDelta
        x = (
            self.encoder_input(batch)
            if cells is None
            else self.sparse_encoder_input(cells, batch.library_size_n1)
        )
        if training_noise is not None and self.batch_augmentation and batch.n_batches > 1:
            x, batch = self.augment_batch(x, batch, training_noise, progress)
        if isinstance(x, torch.Tensor):
            x = dropout(x, self.input_dropout, training_noise)
        features_nh = self.encoder(x, self._encoder_covariates(batch), training_noise)
        return self.latent_encoder(features_nh, progress)

    def _sparse_cells(self, batch: Minibatch) -> SparseRows | None:
        """Return the cells as sparse rows if the encoder can read them so: a value of 0 has to be 0 there too."""
        input_is_dropped = self.training and self.input_dropout > 0
        return None if self.standardize_input or input_is_dropped else batch.sparse

    @torch.no_grad()
    def augment_batch(
        self, x: Tensor | SparseRows, batch: Minibatch, noise: Noise, progress: float | Tensor
    ) -> tuple[Tensor | SparseRows | SparseRowsPlusDelta, Minibatch]:
        """Return what the encoder reads of each cell in a random counterfactual batch, and the minibatch with these batches.

        The decoder's expected difference between the two batches, at a draw of the cell's latents, is added to the encoder's input. The
        cell is still reconstructed in its own batch, so the encoder learns to give the same latents whatever the batch seems to be. The
        bound stays a bound, since it holds for any encoder.
        """
        features_nh = self.encoder(x, self._encoder_covariates(batch), None)
        z_nk = self.latent_encoder(features_nh, progress).rsample(noise)
        batch_n = integers(batch.n_batches, z_nk, noise)
        moved = replace(batch, batch_n=batch_n)
        if isinstance(x, torch.Tensor):
            return x + self._batch_delta(z_nk, batch, moved), moved
        index_m = (moved.batch_n != batch.batch_n).nonzero().squeeze(1)
        if not len(index_m):
            return x, moved
        delta_mg = self._batch_delta(z_nk[index_m], batch.take(index_m), moved.take(index_m))
        return SparseRowsPlusDelta(x, index_m, delta_mg), moved

    def _batch_delta(self, z_nk: Tensor, own: Minibatch, other: Minibatch) -> Tensor:
        """Return by how much the expected encoder input is higher in another batch than in the cell's own, (n, g)."""
        of_other, of_own = (
            self._standardize(self._expected_log_expression(self.decode(z_nk, cells), cells))
            for cells in (other, own)
        )
        return of_other.sub_(of_own)

    def _expected_log_expression(self, h_nh: Tensor, batch: Minibatch) -> Tensor:
        fused_ng = self.likelihood.log_expression(h_nh, batch, TARGET_SUM)
        if fused_ng is not None:
            return fused_ng
        return self.log_expression(replace(batch, x=self.likelihood.distribution(h_nh, batch).mean))

    def _encoder_covariates(self, batch: Minibatch) -> Tensor:
        return batch.batch_and_covariates_nc if self.encode_covariates else batch.covariates_nc[:, :0]

    def decode(self, z_nk: Tensor, batch: Minibatch) -> Tensor:
        """Return the decoder's last hidden layer and the one-hot batch, (n, h + b), which the head reads.

        A linear decoder has no hidden layer: the latents and the further covariates take its place.
        """
        h_nh: Tensor = self.decoder(z_nk, self.decoder_type.decoder_covariates(batch))
        return torch.cat([h_nh, batch.batch_nb], dim=1) if batch.n_batches else h_nh

    def forward(self, batch: Minibatch, noise: Noise, progress: float | Tensor = 1.0) -> Output:
        """Encode, draw latents, decode."""
        posterior = self.posterior(batch, noise, progress)
        return Output(posterior, self.decode(posterior.rsample(noise), batch))
