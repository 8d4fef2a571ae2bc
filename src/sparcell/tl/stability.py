"""Which programs of a model are reproduced when the same settings are trained from other seeds.

Suffixes: g genes, p programs and their directions, o other models.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from anndata import AnnData

from sparcell.config.validation import require_whole
from sparcell.data.expression import in_memory
from sparcell.errors import InputError
from sparcell.io.labels import usable_labels
from sparcell.io.stored import StoredCells
from sparcell.metrics.matching import program_reproducibility

if TYPE_CHECKING:
    from sparcell.data.covariates import Unseen
    from sparcell.data.schema import Schema
    from sparcell.tl.programs import Programs

log = logging.getLogger("sparcell")

MIN_MATCH = 0.7
"""Default correlation of gene effects from which two programs count as the same.

On PBMC3k programs of one cell type correlate by 0.65 to 0.99 between seeds. Programs that are matched only because no better match is left
correlate by 0.15 to 0.5.
"""
STABLE_FRACTION = 0.8
"""A program is stable if at least this fraction of all seeds has it, the model's own seed included: 4 of 5."""


class Model(Protocol):
    """The part of a fitted model that this file uses."""

    settings: Any
    schema: Schema

    def programs(self, adata: AnnData, *, seed: int = 0, unseen: Unseen = "error") -> Programs:
        """Return the gene programs of the model in some cells."""
        ...


@dataclass(frozen=True, eq=False)
class Stability:
    """How well the models of other seeds reproduce each program of the first model.

    Examples
    --------
    ::

        stability = sp.tl.seed_stability(model, adata, n_seeds=3)
        stability.matches
    """

    table: pd.DataFrame
    """One row per program and direction, in the order of the first model's summary. Columns: program, direction, n_reproduced (number of
    other seeds that reproduce it), n_others (number of other seeds), median_match (median of `matches`), stable."""
    matches: pd.DataFrame
    """Correlation of gene effects between each program and its match: programs and directions ("beta_vsc_3+") × other seeds. 0 where no
    program was left to match."""
    programs: tuple[Programs, ...]
    """Programs of each model, the first model's first."""
    seeds: tuple[int, ...]
    """Seeds in the same order."""
    min_match: float
    """Correlation from which a program counts as reproduced."""


def compare_programs(
    models: Sequence[Model],
    adata: AnnData,
    *,
    min_match: float = MIN_MATCH,
    seed: int = 0,
    unseen: Unseen = "error",
) -> Stability:
    """Return how well other models reproduce the programs of the first model.

    The programs of two models are matched one to one by the correlation of their gene effects (Hungarian algorithm; see
    `sp.metrics.program_reproducibility`). Effects are those on the genes of the models. Another model reproduces a program if the
    correlation with its match is at least `min_match`. A program is stable if at least four fifths of all models have it, the first
    included.

    Parameters
    ----------
    models
        Two or more models of the same genes.
    adata
        Cells in which the programs are computed. Nothing is written into it.
    min_match
        Correlation from which a program counts as reproduced, above 0 and up to 1.
    seed, unseen
        As for `Model.programs`.

    Raises
    ------
    InputError
        If there are fewer than two models, or their genes differ.

    Examples
    --------
    ::

        stability = sp.tl.compare_programs([model, other_model], adata)
        stability.table.query("stable")
    """
    if len(models) < 2:
        raise InputError(f"found {len(models)} model; expected two or more, trained from different seeds.")
    genes = models[0].schema.genes
    if any(set(model.schema.genes) != set(genes) for model in models):
        counts = ", ".join(str(len(model.schema.genes)) for model in models)
        raise InputError(
            f"the models differ in their genes ({counts} genes); expected the same genes in each model."
        )
    tables = tuple(model.programs(copy_without_results(adata), seed=seed, unseen=unseen) for model in models)
    first = tables[0]
    effects = [_effects(programs, genes) for programs in tables]
    reproducibility = program_reproducibility(effects, min_match, signed=True)
    n_programs, n_others = len(first.summary), len(models) - 1
    match_op = reproducibility.matches[0][:, :n_programs]
    n_reproduced = (match_op >= min_match).sum(axis=0)
    table = first.summary[["program", "direction"]].assign(
        n_reproduced=n_reproduced,
        n_others=n_others,
        median_match=np.median(match_op, axis=0) if n_programs else np.zeros(0),
        stable=(n_reproduced + 1) >= STABLE_FRACTION * (n_others + 1),
    )
    seeds = tuple(int(model.settings.seed) for model in models)
    columns = pd.Index([f"seed {number}" for number in seeds[1:]], dtype=object)
    matches = pd.DataFrame(match_op.T, index=first.effects.columns, columns=columns)
    return Stability(table, matches, tables, seeds, min_match)


def seed_stability(
    model: Model,
    adata: AnnData,
    n_seeds: int = 5,
    *,
    min_match: float = MIN_MATCH,
    seed: int = 0,
    silent: bool = False,
) -> Stability:
    """Return how well models trained from other seeds reproduce a model's programs (see `compare_programs`).

    The function trains the model's settings from other seeds on `adata`, with the same genes, layer, batches, covariates and
    labels.

    Parameters
    ----------
    model
        A fitted model. The other models get the lowest seeds 0, 1, … that differ from the model's seed.
    adata
        Cells to train on, best those that the model was trained on. On other cells a program can also be missing because the cells
        differ. Nothing is written into it.
    n_seeds
        Number of seeds, the model's own included; 2 or more.
    min_match, seed
        As for `compare_programs`.
    silent
        Show no progress.

    Raises
    ------
    InputError
        Before any training, if the data does not fit the model, has fewer cells than the model's batch size, or lacks the labels that the
        training of the model read.

    Examples
    --------
    ::

        stability = sp.tl.seed_stability(model, adata, n_seeds=5)
        stability.table[["program", "n_reproduced", "stable"]]
    """
    require_whole("n_seeds", n_seeds, 2)
    models = [model, *_train_other_seeds(model, adata, n_seeds, silent)]
    return compare_programs(models, adata, min_match=min_match, seed=seed)


def has_labels(adata: AnnData, model: Model) -> bool:
    """Return whether data has labels that the training of a model reads, two or more; true for a model that was trained without labels.

    Examples
    --------
    ::

        can_train_other_seeds = has_labels(adata, model)
    """
    if model.schema.labels is None:
        return True
    try:
        labels = usable_labels(adata, model.schema.labels.key)
    except InputError:
        return False
    return len(set(labels.categories) & set(model.schema.labels.names)) >= 2


def _train_other_seeds(model: Model, adata: AnnData, n_seeds: int, silent: bool) -> list[Model]:
    """Return models of the same settings, trained from the other seeds among `n_seeds`."""
    settings = model.settings
    if adata.n_obs < settings.batch_size:
        raise InputError(
            f"the data has {adata.n_obs} cells, fewer than the model's batch_size ({settings.batch_size}), so other seeds "
            "cannot be trained on it. Pass the cells that the model was trained on."
        )
    labels = model.schema.labels
    if labels is not None and not has_labels(adata, model):
        raise InputError(
            f"the model was trained with the labels of obs[{labels.key!r}], and the data has no such labels, so other seeds cannot be "
            "trained on it. Pass the cells that the model was trained on."
        )
    others = [number for number in range(n_seeds) if number != settings.seed][: n_seeds - 1]
    models = []
    for position, number in enumerate(others, 1):
        log.info("training seed %d (%d of %d)", number, position, len(others))
        models.append(replace(settings, seed=number).train(adata, model.schema, None, None, silent))
    return models


def copy_without_results(adata: AnnData) -> AnnData:
    """Return AnnData with the same X, layers, raw, obs and var, and without obsm, varm and uns: results can be written into it.

    X and the layers are shared with `adata`, not copied. Cells that stay on disk do so.
    """
    if isinstance(adata, StoredCells):
        return adata.without_results()
    raw = None if adata.raw is None else {"X": adata.raw.X, "var": adata.raw.var}
    x_ng = None if adata.X is None else in_memory(adata.X)
    return AnnData(x_ng, obs=adata.obs.copy(), var=adata.var.copy(), layers=dict(adata.layers), raw=raw)


def _effects(programs: Programs, genes: tuple[str, ...]) -> np.ndarray:
    """Return effects, (g, p); for a model without programs one column of zeros, which matches nothing."""
    effect_gp = programs.effects.loc[list(genes)].to_numpy(dtype=np.float64)
    return effect_gp if effect_gp.shape[1] else np.zeros((len(genes), 1))
