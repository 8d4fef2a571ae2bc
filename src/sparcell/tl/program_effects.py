"""Effects of latents by ablation: what a decoder expects with a latent as it is, and with the latent set to 0.

Suffixes: n cells, g genes, k latents, p programs and their directions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from sparcell.data.normalize import TARGET_SUM
from sparcell.data.sampler import subsample
from sparcell.errors import NoProgramsWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.data.loader import Loader
    from sparcell.data.schema import Schema
    from sparcell.nn.network import Network
    from sparcell.protocols import Minibatch
    from sparcell.results.latents import LatentRepresentation

    Floats = NDArray[np.floating]

MAX_CELLS = 1000
"""Effects are means over at most this many cells in which a program is on; the explained fraction is a mean over as many of all cells."""
PSEUDO_COUNT = 1.0
"""Effects compare counts per 10,000 plus this pseudo-count, as log-normalized values do."""
BLOCK_CELLS = 256
"""Cells decoded at a time."""
DIRECTIONS = {1: "+", -1: "-"}


@dataclass(frozen=True)
class ProgramEffects:
    """Programs as arrays, before they have names; those that explain most come first."""

    latent_p: NDArray[np.int64]
    """Latent of each program."""
    sign_p: NDArray[np.int64]
    """Direction of each program: 1 or -1."""
    on_np: NDArray[np.bool_]
    """Cells in which each program is on."""
    activity_np: Floats
    """Distance of the latent from 0 on the program's side, else 0."""
    effect_pg: Floats
    """log2 fold changes with a pseudo-count."""
    log2_fold_pg: Floats
    """log2 fold changes without a pseudo-count; NaN for log-normalized expression."""
    mean_on_pg: Floats
    """Expected expression with the latent as it is."""
    mean_off_pg: Floats
    """Expected expression with the latent at 0."""
    delta_nll_p: Floats
    """Increase of -log p(x|z) when the latent is set to 0, in nats per cell."""
    joint_delta_nll_p: Floats
    """The same when the latents of this program and of all programs before are set to 0 together."""
    delta_nll_all: float
    """Increase of -log p(x|z) when all latents are set to 0, in nats per cell."""
    counts: bool = True
    """Whether the model describes counts; then `log2_fold_pg` has values."""

    def by_latent(self, n_latent: int) -> Floats:
        """Return the effects of an increase of each latent, (g, k); 0 for a latent without a program.

        Effects of the direction "-" change their sign. The two directions of a latent are weighted by their numbers of cells.
        """
        total_gk, cells_k = np.zeros((self.effect_pg.shape[1], n_latent)), np.zeros(n_latent)
        for program, (latent, sign) in enumerate(zip(self.latent_p, self.sign_p, strict=True)):
            n_on = self.on_np[:, program].sum()
            total_gk[:, latent] += n_on * sign * self.effect_pg[program]
            cells_k[latent] += n_on
        return np.asarray(total_gk / np.maximum(cells_k, 1))


@dataclass(frozen=True)
class ProgramDecoder:
    """Cells with their latent representation, and the network that decodes them."""

    network: Network
    schema: Schema
    loader: Loader
    latents: LatentRepresentation

    def blocks(self, cells_n: NDArray[np.int64]) -> Iterator[tuple[Minibatch, Tensor]]:
        """Yield the minibatches and latents of some cells, `BLOCK_CELLS` at a time."""
        plan = [cells_n[start : start + BLOCK_CELLS] for start in range(0, len(cells_n), BLOCK_CELLS)]
        for index, batch in zip(plan, self.loader.batches(plan), strict=True):
            yield batch, torch.from_numpy(self.latents.mean_nk[index]).to(batch.library_size_n1)

    def expected(self, z_nk: Tensor, batch: Minibatch) -> Tensor:
        """Return expected expression in the model's units, (n, g)."""
        return self.network.likelihood.distribution(self.network.decode(z_nk, batch), batch).mean

    def nll(self, z_nk: Tensor, batch: Minibatch) -> Floats:
        """Return -log p(x|z) in nats, (n,)."""
        nll_n = self.network.likelihood.nll(self.network.decode(z_nk, batch), batch)
        return nll_n.cpu().numpy().astype(np.float64)

    def ablate(self, latent: int, cells_n: NDArray[np.int64]) -> Floats:
        """Return effect, log2 fold change and expected expression with and without a latent, (4, g).

        Each is a mean over some cells, weighted by the distance of the latent from 0.
        """
        total, weight = np.zeros((4, len(self.schema.genes))), 0.0
        for batch, z_nk in self.blocks(cells_n):
            on_ng, off_ng = self.expected(z_nk, batch), self.expected(zero_latent(z_nk, latent), batch)
            scale_n1 = TARGET_SUM / batch.library_size_n1
            effect_ng = (on_ng * scale_n1 + PSEUDO_COUNT).log2() - (off_ng * scale_n1 + PSEUDO_COUNT).log2()
            smallest = torch.finfo(on_ng.dtype).tiny  # a frequency can underflow in single precision
            log2_fold_ng = on_ng.clamp_min(smallest).log2() - off_ng.clamp_min(smallest).log2()
            weight_n = z_nk[:, latent].abs().double()
            weight += float(weight_n.sum())
            for row, values_ng in enumerate((effect_ng, log2_fold_ng, on_ng, off_ng)):
                total[row] += (weight_n @ values_ng.double()).cpu().numpy()
        mean = total / weight
        if not self.network.likelihood.counts:
            mean[2:] = self.schema.inverse_zscore(mean[2:])
            mean[:2] = [(mean[2] - mean[3]) / math.log(2), np.full_like(mean[3], np.nan)]
        return np.asarray(mean)

    def ablation_delta_nll(
        self, latents: Sequence[int], cells_n: NDArray[np.int64]
    ) -> tuple[dict[int, Floats], Floats]:
        """Return the increase of each cell's nll without each latent, (n,) per latent, and without all latents, (n,)."""
        blocks_of: dict[int, list[Floats]] = {latent: [] for latent in latents}
        blocks_of_all = []
        for batch, z_nk in self.blocks(cells_n):
            nll_n = self.nll(z_nk, batch)
            blocks_of_all.append(self.nll(torch.zeros_like(z_nk), batch) - nll_n)
            for latent, blocks in blocks_of.items():
                blocks.append(self.nll(zero_latent(z_nk, latent), batch) - nll_n)
        without = {latent: np.concatenate(blocks) for latent, blocks in blocks_of.items()}
        return without, np.concatenate(blocks_of_all)

    def joint_delta_nll(self, latents: Sequence[int], cells_n: NDArray[np.int64]) -> dict[int, float]:
        """Return the mean increase of the nll without each latent and all latents before it, in nats per cell."""
        totals = dict.fromkeys(latents, 0.0)
        for batch, z_nk in self.blocks(cells_n):
            nll_n, ablated_nk = self.nll(z_nk, batch), z_nk
            for latent in totals:
                ablated_nk = zero_latent(ablated_nk, latent)
                totals[latent] += float((self.nll(ablated_nk, batch) - nll_n).sum())
        return {latent: total / len(cells_n) for latent, total in totals.items()}


def zero_latent(z_nk: Tensor, latent: int) -> Tensor:
    """Return a copy of latents with one of them set to 0, (n, k)."""
    ablated_nk = z_nk.clone()
    ablated_nk[:, latent] = 0
    return ablated_nk


@torch.no_grad()
def find_programs(decoder: ProgramDecoder, seed: int) -> ProgramEffects:
    """Return the programs of all active latents, found by setting one latent at a time to 0.

    The cells that are decoded depend on the seed and on the number of cells, and on nothing else.
    """
    mean_nk, on_nk = decoder.latents.mean_nk, decoder.latents.on_nk
    sides = _directions(decoder.latents)
    sample_n = subsample(len(mean_nk), MAX_CELLS, seed)
    decoded = {side: _cells_to_decode(mean_nk, on_nk, side, seed) for side in sides}
    decoder.loader.hold(np.concatenate([sample_n, *decoded.values()]))
    delta_nk, delta_all_n = decoder.ablation_delta_nll(sorted({k for k, _ in sides}), sample_n)
    delta_nll = {(k, sign): (delta_nk[k] * (sign * mean_nk[sample_n, k] > 0)).mean() for k, sign in sides}
    sides.sort(key=lambda side: (-delta_nk[side[0]].mean(), side[0], -delta_nll[side]))

    joint = decoder.joint_delta_nll([k for k, _ in sides], sample_n)

    latent_p, sign_p = np.array(sides, dtype=np.int64).reshape(-1, 2).T
    activity_np = np.maximum(mean_nk[:, latent_p] * sign_p, 0)
    on_np = on_nk[:, latent_p] & (activity_np > 0)
    means_4pg = np.zeros((4, len(sides), len(decoder.schema.genes)))
    for program, side in enumerate(sides):
        means_4pg[:, program] = decoder.ablate(side[0], decoded[side])
    effect_pg, log2_fold_pg, mean_on_pg, mean_off_pg = means_4pg
    return ProgramEffects(
        latent_p=latent_p,
        sign_p=sign_p,
        on_np=on_np,
        activity_np=activity_np,
        effect_pg=effect_pg,
        log2_fold_pg=log2_fold_pg,
        mean_on_pg=mean_on_pg,
        mean_off_pg=mean_off_pg,
        delta_nll_p=np.array([delta_nll[side] for side in sides], dtype=np.float64),
        joint_delta_nll_p=np.array([joint[k] for k, _ in sides], dtype=np.float64),
        delta_nll_all=float(delta_all_n.mean()),
        counts=decoder.network.likelihood.counts,
    )


def _cells_to_decode(
    mean_nk: Floats, on_nk: NDArray[np.bool_], side: tuple[int, int], seed: int
) -> NDArray[np.int64]:
    """Return the numbers of at most `MAX_CELLS` cells in which the program of a latent and direction is on."""
    latent, sign = side
    on_cells = np.flatnonzero(on_nk[:, latent] & (sign * mean_nk[:, latent] > 0))
    return np.asarray(on_cells[subsample(len(on_cells), MAX_CELLS, seed)])


def _directions(latents: LatentRepresentation) -> list[tuple[int, int]]:
    """Return the active latents with each direction in which some cell is on; warn if there is none."""
    mean_nk, on_nk = latents.mean_nk, latents.on_nk
    sides = [(int(k), sign) for k in np.flatnonzero(latents.active_k) for sign in DIRECTIONS]
    sides = [(k, sign) for k, sign in sides if (on_nk[:, k] & (sign * mean_nk[:, k] > 0)).any()]
    if not sides:
        warnings.warn(
            f"no latent is active and on in these {len(mean_nk)} cells, so there are no programs and the tables are empty. A "
            "latent is active if its posterior mean varies over the cells by more than 0.01. Train with a smaller beta or for "
            "longer, or pass more cells.",
            NoProgramsWarning,
            stacklevel=4,
        )
    return sides
