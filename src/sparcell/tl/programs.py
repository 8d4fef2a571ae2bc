"""Latents read as gene programs: in which cells each is on, which genes it raises there, how much of the data it explains.

Suffixes: n cells, g genes, k latents, p programs and their directions, c labels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from sparcell.data.sampler import subsample
from sparcell.metrics.clustering import label_aucs

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
"""Effects are means over at most so many of the cells in which a program is on, `explained` over so many of all cells."""
PER, PSEUDO = 1e4, 1.0
"""Effects compare counts per 10,000 plus 1, as log-normalised values do."""
BLOCK_CELLS = 256
"""Cells decoded at a time."""
SHOWN_GENES = 5
"""Genes named in a row of the summary."""
DIRECTIONS = {1: "+", -1: "-"}


@dataclass(frozen=True, eq=False)
class Programs:
    """The gene programs of a model in some cells: one for each live latent that is on somewhere, in each direction it takes.

    A program is a latent, called <model>_<number>, counted from 1: ``beta_vsc_3`` is column 2 of ``obsm["X_beta_vsc"]``. Its directions
    are "+", the cells in which the code is above 0, and "-", below. It is **on** in a cell where gamma is ½ or more; for a model without
    spikes, where the code lies as far from 0 as its root mean square over the cells, or further.

    The **effect** on a gene is a log2-fold change with a pseudo-count of 1 per 10,000 (that of Seurat's FindMarkers): of 1 + the counts
    per 10,000 that a cell is expected to have with the code as it is, against the same cell (batch, covariates and library size too) with
    this one latent set to 0. It is the mean over cells in which the program is on, each weighed by the distance of its code from 0, so
    that cells far on say more than the many that are barely on. Without the pseudo-count genes that hardly any cell has would lead every
    list. Counts are per 10,000 of the model's genes. For log-normalised expression, which has its 1 already, it is the difference of
    expected log(1 + x), divided by ln 2. With layers between code and genes it holds for these cells, beside whatever else is on in them.

    Tables are in the order of what the programs explain, most first. At most 1,000 cells a program and direction are decoded, drawn with
    a seed. Where no latent is live in the cells, or none is on, the tables are empty and a UserWarning says so.
    """

    summary: pd.DataFrame
    """One row a program and direction: program; latent, the column of obsm["X_<key>"], from 0; direction; share_on, of all cells;
    activity, mean distance of the code from 0 where on; nll_rise, by how much -log p(x|z) rises when the latent is set to 0, in nats a
    cell (mean over all cells; those with the code on this side count); explained, this as a share of the rise when all latents are set
    to 0 (shares need not add up to 1; missing where the code as a whole does not help); genes, the first ones. With labels: label, the
    one whose cells stand out most; label_auc, by what: the probability that the code of one of its cells is further on this side than that
    of a cell with another label; label_share, the share of its cells in which the program is on."""
    genes: pd.DataFrame
    """One row a program, direction and gene that it raises, largest effect first: program, direction, rank from 1, gene, effect,
    log2_fold, the same without the pseudo-count (missing for log-normalised expression), mean_on and mean_off, expected expression with
    the program as it is and switched off (counts at the cells' own library sizes, or log-normalised values), weighed alike."""
    effects: pd.DataFrame
    """All effects, those below 0 too: genes × programs and directions ("beta_vsc_3+"), in the order of `summary`."""
    labels: pd.DataFrame | None
    """Share of each label's cells in which a program is on: programs and directions × labels; None where no labels were given."""

    @property
    def ranked_genes(self) -> dict[str, list[str]]:
        """The genes listed for each program and direction ("beta_vsc_3+"), in the order of `summary`: what `enrichment` reads."""
        of = self.genes["gene"].groupby(self.genes["program"] + self.genes["direction"])
        lists = {str(name): genes.tolist() for name, genes in of}
        return {name: lists.get(name, []) for name in self.effects.columns}


@dataclass(frozen=True)
class ProgramEffects:
    """The same as arrays, before names are put to it; in the order of what is explained."""

    latent_p: NDArray[np.int64]
    sign_p: NDArray[np.int64]
    """1 or -1."""
    on_np: NDArray[np.bool_]
    amount_np: Floats
    """The code on this side, above 0, else 0."""
    effect_pg: Floats
    """log2-fold changes with a pseudo-count."""
    fold_pg: Floats
    """The same without; NaN for log-normalised expression."""
    high_pg: Floats
    """Expected expression as it is."""
    low_pg: Floats
    """The same, switched off."""
    rise_p: Floats
    """Of -log p(x|z), in nats a cell."""
    whole: float
    """The same for all latents together."""

    def by_latent(self, n_latent: int) -> Floats:
        """Effects of a rise of each latent, (g, k): those of "-" with the sign turned, both directions weighed by their cells; else 0."""
        total_gk, cells_k = np.zeros((self.effect_pg.shape[1], n_latent)), np.zeros(n_latent)
        for place, (latent, sign) in enumerate(zip(self.latent_p, self.sign_p, strict=True)):
            n_on = self.on_np[:, place].sum()
            total_gk[:, latent] += n_on * sign * self.effect_pg[place]
            cells_k[latent] += n_on
        return np.asarray(total_gk / np.maximum(cells_k, 1))


@dataclass(frozen=True)
class ProgramDecoder:
    """Cells with their codes, and the network that decodes them."""

    network: Network
    schema: Schema
    loader: Loader
    codes: LatentRepresentation

    def blocks(self, cells_n: NDArray[np.int64]) -> Iterator[tuple[Minibatch, Tensor]]:
        """Give some cells, by number, and their codes, BLOCK_CELLS at a time."""
        plan = [cells_n[start : start + BLOCK_CELLS] for start in range(0, len(cells_n), BLOCK_CELLS)]
        for index, batch in zip(plan, self.loader.batches(plan), strict=True):
            yield batch, torch.from_numpy(self.codes.mean_nk[index]).to(batch.library_size_n1)

    def expected(self, z_nk: Tensor, batch: Minibatch) -> Tensor:
        """Expected expression in the model's units, (n, g)."""
        return self.network.likelihood.distribution(self.network.decode(z_nk, batch), batch).mean

    def nll(self, z_nk: Tensor, batch: Minibatch) -> Floats:
        """-log p(x|z) in nats, (n,)."""
        nll_n = self.network.likelihood.nll(self.network.decode(z_nk, batch), batch)
        return nll_n.cpu().numpy().astype(np.float64)

    def ablate(self, latent: int, cells_n: NDArray[np.int64]) -> Floats:
        """Effect of a latent on each gene, log2-fold change, expected expression with and without it, (4, g).

        Means over some cells, weighed by the distance of the latent's code from 0.
        """
        total, weight = np.zeros((4, len(self.schema.genes))), 0.0
        for batch, z_nk in self.blocks(cells_n):
            high_ng, low_ng = self.expected(z_nk, batch), self.expected(zero_latent(z_nk, latent), batch)
            per_n1 = PER / batch.library_size_n1
            effect_ng = (high_ng * per_n1 + PSEUDO).log2() - (low_ng * per_n1 + PSEUDO).log2()
            least = torch.finfo(high_ng.dtype).tiny  # of a share that single precision cannot hold
            fold_ng = high_ng.clamp_min(least).log2() - low_ng.clamp_min(least).log2()
            far_n = z_nk[:, latent].abs().double()
            weight += float(far_n.sum())
            for row, values_ng in enumerate((effect_ng, fold_ng, high_ng, low_ng)):
                total[row] += (far_n @ values_ng.double()).cpu().numpy()
        mean = total / weight
        if not self.network.likelihood.counts:
            mean[2:] = self.schema.inverse_zscore(mean[2:])
            mean[:2] = [(mean[2] - mean[3]) / math.log(2), np.full_like(mean[3], np.nan)]
        return np.asarray(mean)

    def ablation_delta_nll(
        self, latents: Sequence[int], cells_n: NDArray[np.int64]
    ) -> tuple[dict[int, Floats], Floats]:
        """By how much the nll of some cells rises without each of the latents, (n,) each, and without all."""
        rise: dict[int, list[Floats]] = {latent: [] for latent in latents}
        whole = []
        for batch, z_nk in self.blocks(cells_n):
            nll_n = self.nll(z_nk, batch)
            whole.append(self.nll(torch.zeros_like(z_nk), batch) - nll_n)
            for latent, pieces in rise.items():
                pieces.append(self.nll(zero_latent(z_nk, latent), batch) - nll_n)
        return {latent: np.concatenate(pieces) for latent, pieces in rise.items()}, np.concatenate(whole)


def zero_latent(z_nk: Tensor, latent: int) -> Tensor:
    """Switch a latent off."""
    switched_nk = z_nk.clone()
    switched_nk[:, latent] = 0
    return switched_nk


@torch.no_grad()
def find_programs(reader: ProgramDecoder, seed: int) -> ProgramEffects:
    """Switch the live latents off one by one. Draws depend on the seed and on which cells there are, and on nothing else."""
    mean_nk, on_nk = reader.codes.mean_nk, reader.codes.on_nk
    sides = [(int(k), sign) for k in np.flatnonzero(reader.codes.active_k) for sign in DIRECTIONS]
    sides = [(k, sign) for k, sign in sides if (on_nk[:, k] & (sign * mean_nk[:, k] > 0)).any()]
    if not sides:
        warnings.warn(
            f"no latent is live and on in these {len(mean_nk)} cells, so there are no programs and the tables are empty; a latent is live "
            "when its code varies by more than .01: train with a smaller beta, or longer, or give more cells.",
            UserWarning,
            stacklevel=3,
        )
    looked_n = subsample(len(mean_nk), MAX_CELLS, seed)
    rise_nk, whole_n = reader.ablation_delta_nll(sorted({k for k, _ in sides}), looked_n)
    rise = {(k, sign): (rise_nk[k] * (sign * mean_nk[looked_n, k] > 0)).mean() for k, sign in sides}
    sides.sort(key=lambda side: (-rise_nk[side[0]].mean(), side[0], -rise[side]))

    latent_p, sign_p = np.array(sides, dtype=np.int64).reshape(-1, 2).T
    amount_np = np.maximum(mean_nk[:, latent_p] * sign_p, 0)
    on_np = on_nk[:, latent_p] & (amount_np > 0)
    means_4pg = np.zeros((4, len(sides), len(reader.schema.genes)))
    for place, (latent, _) in enumerate(sides):
        cells_n = np.flatnonzero(on_np[:, place])
        chosen_n = cells_n[subsample(len(cells_n), MAX_CELLS, seed)]
        means_4pg[:, place] = reader.ablate(latent, chosen_n)
    rise_p = np.array([rise[side] for side in sides], dtype=np.float64)
    whole = float(whole_n.mean())
    effect_pg, fold_pg, high_pg, low_pg = means_4pg
    return ProgramEffects(
        latent_p, sign_p, on_np, amount_np, effect_pg, fold_pg, high_pg, low_pg, rise_p, whole
    )


def tables(
    found: ProgramEffects, name: str, genes: Sequence[str], n_top: int, labels: pd.Categorical | None
) -> Programs:
    """Put names to what was found: `name` is the model's, `labels` one a cell."""
    program_p = _texts(f"{name}_{latent + 1}" for latent in found.latent_p)
    direction_p = _texts(DIRECTIONS[int(sign)] for sign in found.sign_p)
    columns, names = pd.Index(program_p + direction_p, dtype=object), _texts(genes)
    raised = [_raised(effect_g, n_top) for effect_g in found.effect_pg]
    activity_p = (found.amount_np * found.on_np).sum(axis=0, dtype=np.float64) / found.on_np.sum(axis=0)
    summary = pd.DataFrame(
        {
            "program": program_p,
            "latent": found.latent_p,
            "direction": direction_p,
            "share_on": found.on_np.mean(axis=0),
            "activity": activity_p,
            "nll_rise": found.rise_p,
            "explained": found.rise_p / found.whole if found.whole > 0 else np.nan,
            "genes": _texts(", ".join(names[chosen[:SHOWN_GENES]]) for chosen in raised),
        }
    )
    place_r = np.repeat(np.arange(len(raised)), [len(chosen) for chosen in raised])
    gene_r = np.concatenate([*raised, np.zeros(0, dtype=np.int64)])
    listed = pd.DataFrame(
        {
            "program": program_p[place_r],
            "direction": direction_p[place_r],
            "rank": np.concatenate([*(np.arange(len(chosen)) + 1 for chosen in raised), gene_r[:0]]),
            "gene": names[gene_r],
            "effect": found.effect_pg[place_r, gene_r],
            "log2_fold": found.fold_pg[place_r, gene_r],
            "mean_on": found.high_pg[place_r, gene_r],
            "mean_off": found.low_pg[place_r, gene_r],
        }
    )
    effects = pd.DataFrame(found.effect_pg.T, index=pd.Index(names), columns=columns)
    if labels is None:
        return Programs(summary, listed, effects, None)
    shares = _label_shares(found.on_np, labels, columns)
    return Programs(_with_label(summary, shares, found, labels), listed, effects, shares)


def _texts(words: Iterable[str]) -> NDArray[np.object_]:
    return np.array(list(words), dtype=object)


def _raised(effect_g: Floats, n_top: int) -> NDArray[np.int64]:
    """Which genes a program raises, largest effect first, at most `n_top`."""
    order = np.argsort(-effect_g, kind="stable")[:n_top]
    return order[effect_g[order] > 0]


def _label_shares(on_np: NDArray[np.bool_], labels: pd.Categorical, columns: pd.Index) -> pd.DataFrame:
    share_cp = [on_np[labels.codes == code].mean(axis=0) for code in range(len(labels.categories))]
    return pd.DataFrame(
        np.array(share_cp).T, index=columns, columns=pd.Index(labels.categories, dtype=object)
    )


def _with_label(
    summary: pd.DataFrame, shares: pd.DataFrame, found: ProgramEffects, labels: pd.Categorical
) -> pd.DataFrame:
    """Add the label whose cells stand out most by each program, of equal ones the first."""
    known_n, programs = labels.codes >= 0, range(len(shares))
    auc_pc = np.zeros(shares.shape)
    for place in programs:
        auc_pc[place] = label_aucs(found.amount_np[known_n, place], labels.codes[known_n])
    top_p = auc_pc.argmax(axis=1)
    return summary.assign(
        label=_texts(shares.columns[top_p]),
        label_share=shares.to_numpy()[programs, top_p],
        label_auc=auc_pc[programs, top_p],
    )
