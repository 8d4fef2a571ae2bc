"""Latents as gene programs: the cells in which each is on, the genes that it raises there, the fraction of the data that it explains.

Suffixes: n cells, g genes, p programs and their directions, c labels, r rows of the table of genes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparcell.data.sampler import subsample
from sparcell.metrics.clustering import label_aucs
from sparcell.tl.program_effects import DIRECTIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    from sparcell.tl.program_effects import ProgramEffects

    Floats = NDArray[np.floating]

MIN_LABEL_ON = 0.5
"""A program is on in a cell type if it is on in this fraction of the type's cells."""
N_SUMMARY_GENES = 5
"""Genes named in a row of the summary."""


N_CELLS_SAMPLED, N_CELLS_PER_PROGRAM = 5_000, 100
"""`Programs.cells` holds this many random cells, and further cells of programs that are on in fewer of these cells."""


@dataclass(frozen=True, eq=False)
class CellSample:
    """Some cells, with their expression and the programs that are on: names of programs are checked against them."""

    expression_ng: sparse.csr_matrix
    """Log-normalized expression (or z-scores, for a model with `scale`), genes as in `Programs.effects`."""
    on_np: NDArray[np.bool_]
    """Programs that are on, in the order of `Programs.summary`."""


@dataclass(frozen=True, eq=False, repr=False)
class Programs:
    """The gene programs of a model in some cells, as tables: one program for each active latent and direction.

    A program is a latent, called <model>_<number>, counted from 1: ``beta_vsc_3`` is column 2 of ``obsm["X_beta_vsc"]``. Its direction is
    "+" for the cells in which the latent is above 0, and "-" for those below. A program is **on** in a cell if the posterior inclusion
    probability is ½ or more. For a model without spikes it is on if the latent is at least as far from 0 as its root mean square over
    the cells.

    The **effect** on a gene is a log2 fold change with a pseudo-count of 1 per 10,000 counts, as in Seurat's FindMarkers. It compares two
    expected expressions of the same cell (same batch, covariates and library size): with the latent as it is, and with this latent set to
    0. Counts are per 10,000 counts of the model's genes. The effect is a mean over the cells in which the program is on, weighted by the
    distance of the latent from 0. Without the pseudo-count, genes that hardly any cell expresses would lead every list. For log-normalized
    expression the effect is the difference of expected log(1 + x), divided by log(2). With a decoder of several layers, the effect depends
    on the other latents and holds for these cells only.

    The tables list the programs that explain most first. At most 1,000 cells per program and direction, drawn with a seed, are decoded.
    If no latent is active and on in the cells, the tables are empty and a UserWarning says so.

    Examples
    --------
    ::

        programs = model.programs(adata, labels_key="cell_type")
        programs.summary[["program", "fraction_explained", "genes", "label"]]
        programs.ranked_genes["beta_vsc_3+"][:10]
    """

    summary: pd.DataFrame
    """One row per program and direction. Columns:

    - program, direction; latent: number of the latent, counted from 1 as in the program's name (column latent - 1 of ``obsm["X_<key>"]``)
    - fraction_cells_on: fraction of all cells in which the program is on
    - activity: mean distance of the latent from 0 where the program is on
    - delta_nll: increase of -log p(x|z) when the latent is set to 0, in nats per cell; a mean over all cells to which cells on this side
      contribute
    - fraction_explained: delta_nll as a fraction of the increase when all latents are set to 0. Fractions need not add up to 1. Missing if
      setting all latents to 0 does not increase -log p(x|z).
    - cumulative_explained: the same with this latent and those of all rows above set to 0 together
    - genes: the top genes

    With labels also label (the label whose cells stand out most, among the labels with the program on in half of their cells; if there is
    none, among those with the largest fraction), label_auc (probability that the latent of a cell of this label is further on this side
    than that of a cell of another label), label_fraction_on (fraction of the label's cells in which the program is on) and label_share
    (share of the program's activity in the label's cells)."""
    genes: pd.DataFrame
    """One row per program, direction and gene that the program raises, largest effect first. Columns: program, direction, rank (from 1),
    gene, effect, log2_fold (without the pseudo-count; missing for log-normalized expression), mean_on and mean_off (expected expression
    with the latent as it is and at 0, weighted like the effect: counts at the cells' own library sizes, or log-normalized values)."""
    effects: pd.DataFrame
    """All effects, negative ones too: genes × programs and directions ("beta_vsc_3+"), in the order of `summary`."""
    label_fractions: pd.DataFrame | None
    """Fraction of each label's cells in which a program is on: programs and directions × labels. None without labels."""
    label_shares: pd.DataFrame | None = None
    """Share of each program's activity in the cells of each label, over the cells in which the program is on; as `label_fractions`."""
    cells: CellSample | None = field(default=None, repr=False)
    """Some of the cells, against which `name_programs` checks names."""

    def __repr__(self) -> str:
        table = self._short_table()
        return f"Programs: {len(table)} of {len(self.effects):,} genes each\n{table.to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<div>{len(self.summary)} gene programs of {len(self.effects):,} genes{self._short_table().to_html(index=False)}</div>"

    def _short_table(self) -> pd.DataFrame:
        """Return what the short forms show of each program: where it is on, what it explains, its top genes."""
        percent = {"on": "fraction_cells_on", "explained": "fraction_explained"}
        columns = {title: [_percent(value) for value in self.summary[key]] for title, key in percent.items()}
        if "label" in self.summary:
            columns["label"] = self.summary["label"].tolist()
        names = (self.summary["program"] + self.summary["direction"]).tolist()
        return pd.DataFrame({"program": names, **columns, "genes": self.summary["genes"].tolist()})

    @property
    def ranked_genes(self) -> dict[str, list[str]]:
        """Listed genes of each program and direction ("beta_vsc_3+"), in the order of `summary`: the input of `name_programs`."""
        groups = self.genes["gene"].groupby(self.genes["program"] + self.genes["direction"])
        lists = {str(key): genes.tolist() for key, genes in groups}
        return {key: lists.get(key, []) for key in self.effects.columns}


def program_tables(
    effects: ProgramEffects, name: str, genes: Sequence[str], n_genes: int, labels: pd.Categorical | None
) -> Programs:
    """Return programs as tables; `name` is the model's, `labels` holds one label per cell."""
    program_p = _texts(f"{name}_{latent + 1}" for latent in effects.latent_p)
    direction_p = _texts(DIRECTIONS[int(sign)] for sign in effects.sign_p)
    keys = pd.Index(program_p + direction_p, dtype=object)
    gene_names = _texts(genes)
    raised = [_raised_genes(effect_g, n_genes) for effect_g in effects.effect_pg]
    activity_p = (effects.activity_np * effects.on_np).sum(axis=0, dtype=np.float64) / effects.on_np.sum(
        axis=0
    )
    explained_p = effects.delta_nll_p / effects.delta_nll_all if effects.delta_nll_all > 0 else np.nan
    cumulative_p = effects.joint_delta_nll_p / effects.delta_nll_all if effects.delta_nll_all > 0 else np.nan
    summary = pd.DataFrame(
        {
            "program": program_p,
            "latent": effects.latent_p + 1,
            "direction": direction_p,
            "fraction_cells_on": effects.on_np.mean(axis=0),
            "activity": activity_p,
            "delta_nll": effects.delta_nll_p,
            "fraction_explained": explained_p,
            "cumulative_explained": cumulative_p,
            "genes": _texts(", ".join(gene_names[top[:N_SUMMARY_GENES]]) for top in raised),
        }
    )
    program_r = np.repeat(np.arange(len(raised)), [len(top) for top in raised])
    gene_r = np.concatenate([*raised, np.zeros(0, dtype=np.int64)])
    columns: dict[str, Any] = {
        "program": program_p[program_r],
        "direction": direction_p[program_r],
        "rank": np.concatenate([*(np.arange(len(top)) + 1 for top in raised), gene_r[:0]]),
        "gene": gene_names[gene_r],
        "effect": effects.effect_pg[program_r, gene_r],
        "log2_fold": effects.log2_fold_pg[program_r, gene_r],
        "mean_on": effects.mean_on_pg[program_r, gene_r],
        "mean_off": effects.mean_off_pg[program_r, gene_r],
    }
    if not effects.counts:
        del columns["log2_fold"]
    listed = pd.DataFrame(columns)
    effect_table = pd.DataFrame(effects.effect_pg.T, index=pd.Index(gene_names), columns=keys)
    if labels is None:
        return Programs(summary, listed, effect_table, None)
    fractions = _label_fractions(effects.on_np, labels, keys)
    shares = _label_shares(effects, labels, keys)
    summary = _add_label(summary, fractions, shares, effects, labels)
    return Programs(summary, listed, effect_table, fractions, shares)


def _percent(fraction: float) -> str:
    return "–" if np.isnan(fraction) else f"{100 * fraction:.0f} %"


def _texts(words: Iterable[str]) -> NDArray[np.object_]:
    return np.array(list(words), dtype=object)


def _raised_genes(effect_g: Floats, n_genes: int) -> NDArray[np.int64]:
    """Return at most `n_genes` genes with a positive effect, largest effect first."""
    order = np.argsort(-effect_g, kind="stable")[:n_genes]
    return order[effect_g[order] > 0]


def _label_fractions(on_np: NDArray[np.bool_], labels: pd.Categorical, keys: pd.Index) -> pd.DataFrame:
    """Return the fraction of each label's cells in which each program is on, programs × labels."""
    fraction_cp = [on_np[labels.codes == number].mean(axis=0) for number in range(len(labels.categories))]
    return pd.DataFrame(
        np.array(fraction_cp).T, index=keys, columns=pd.Index(labels.categories, dtype=object)
    )


def _label_shares(effects: ProgramEffects, labels: pd.Categorical, keys: pd.Index) -> pd.DataFrame:
    """Return the share of each program's activity, where it is on, in the cells of each label: programs × labels."""
    activity_np = effects.activity_np * effects.on_np
    sum_cp = [
        activity_np[labels.codes == number].sum(axis=0, dtype=np.float64)
        for number in range(len(labels.categories))
    ]
    share_pc = np.array(sum_cp).T / np.maximum(activity_np.sum(axis=0, dtype=np.float64), 1e-300)[:, None]
    return pd.DataFrame(share_pc, index=keys, columns=pd.Index(labels.categories, dtype=object))


def _add_label(
    summary: pd.DataFrame,
    fractions: pd.DataFrame,
    shares: pd.DataFrame,
    effects: ProgramEffects,
    labels: pd.Categorical,
) -> pd.DataFrame:
    """Return the summary with the label whose cells stand out most in each program; the first label wins a tie.

    Only labels in which the program is on count: half of their cells, or as many as in the label with the largest fraction.
    """
    labeled_n, programs = labels.codes >= 0, range(len(fractions))
    auc_pc = np.zeros(fractions.shape)
    for program in programs:
        auc_pc[program] = label_aucs(effects.activity_np[labeled_n, program], labels.codes[labeled_n])
    fraction_pc = fractions.to_numpy()
    least_p = np.minimum(MIN_LABEL_ON, fraction_pc.max(axis=1, initial=0.0))
    label_p = np.where(fraction_pc >= least_p[:, None], auc_pc, -1.0).argmax(axis=1)
    return summary.assign(
        label=_texts(fractions.columns[label_p]),
        label_auc=auc_pc[programs, label_p],
        label_fraction_on=fraction_pc[programs, label_p],
        label_share=shares.to_numpy()[programs, label_p],
    )


def sample_cells(on_np: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Return the numbers of the cells that `Programs.cells` holds, ascending."""
    chosen = set(subsample(len(on_np), N_CELLS_SAMPLED, seed).tolist())
    for on_n in on_np.T:
        on_cells = np.flatnonzero(on_n)
        chosen |= set(on_cells[subsample(len(on_cells), N_CELLS_PER_PROGRAM, seed)].tolist())
    return np.array(sorted(chosen), dtype=np.int64)
