"""Which programs of a model are found again when the same settings are trained from other seeds.

Suffixes: g genes, p programs and their directions.
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
from sparcell.errors import InputError
from sparcell.metrics.disentanglement import program_reproducibility

if TYPE_CHECKING:
    from sparcell.data.covariates import Unseen
    from sparcell.data.schema import Schema
    from sparcell.tl.programs import Programs

log = logging.getLogger("sparcell")

LEAST_MATCH = 0.7
"""Least correlation of gene effects at which two programs count as the same. On PBMC3k programs of one cell type correlate by .65 to .99
between seeds; those that are matched only because nothing better is left, by .15 to .5."""
STABLE_SHARE = 0.8
"""A program is stable when so many of the seeds have it, its own among them: 4 of 5."""


class Model(Protocol):
    """What is needed of a fitted model here."""

    settings: Any
    schema: Schema

    def programs(self, adata: AnnData, *, seed: int = 0, unseen: Unseen = "error") -> Programs:
        """Read the gene programs."""
        ...


@dataclass(frozen=True, eq=False)
class Stability:
    """What became of each program of the first model in the models of the other seeds."""

    table: pd.DataFrame
    """One row a program and direction, in the order of the first model's summary: program, direction, n_found, in how many of the other
    seeds it was found, n_others, median_match, the median of `matches`, stable."""
    matches: pd.DataFrame
    """Correlation of gene effects with the program it was matched to: programs and directions ("beta_vsc_3+") × the other seeds; 0 where
    there was none left."""
    programs: tuple[Programs, ...]
    """The tables of each seed, the first model's first."""
    seeds: tuple[int, ...]
    """In the same order."""
    least_match: float


def compare(
    models: Sequence[Model],
    adata: AnnData,
    *,
    least_match: float = LEAST_MATCH,
    seed: int = 0,
    unseen: Unseen = "error",
) -> Stability:
    """Look for the programs of the first model in the others.

    Programs and their directions are matched one to one between two models by the correlation of their gene effects (Hungarian, see
    `readability.program_reproducibility`), over the genes of the models. A program is found where its match reaches `least_match`, and
    stable where at least four fifths of the seeds have it, its own among them.

    Parameters
    ----------
    models
        Two or more, over the same genes.
    adata
        Cells in which the programs are read; nothing is written into it.
    least_match
        Least correlation, above 0 and up to 1.
    seed, unseen
        As for `Model.programs`.

    Raises
    ------
    InputError
        With fewer than two models, or where these do not have the same genes.
    """
    if len(models) < 2:
        raise InputError(f"{len(models)} model given; expected two or more, trained from different seeds.")
    genes = models[0].schema.genes
    if any(set(model.schema.genes) != set(genes) for model in models):
        counts = ", ".join(str(len(model.schema.genes)) for model in models)
        raise InputError(f"the models have other genes ({counts} of them); expected the same ones in each.")
    tables = tuple(model.programs(shallow(adata), seed=seed, unseen=unseen) for model in models)
    own = tables[0]
    effects = [_effects(programs, genes) for programs in tables]
    found = program_reproducibility(effects, least_match, signed=True)
    n_programs, n_others = len(own.summary), len(models) - 1
    match_op = found.matches[0][:, :n_programs]
    n_found = (match_op >= least_match).sum(axis=0)
    table = own.summary[["program", "direction"]].assign(
        n_found=n_found,
        n_others=n_others,
        median_match=np.median(match_op, axis=0) if n_programs else np.zeros(0),
        stable=(n_found + 1) >= STABLE_SHARE * (n_others + 1),
    )
    seeds = tuple(seed_of(model) for model in models)
    columns = pd.Index([f"seed {number}" for number in seeds[1:]], dtype=object)
    matches = pd.DataFrame(match_op.T, index=own.effects.columns, columns=columns)
    return Stability(table, matches, tables, seeds, least_match)


def across_seeds(
    model: Model,
    adata: AnnData,
    n_seeds: int = 5,
    *,
    least_match: float = LEAST_MATCH,
    seed: int = 0,
    silent: bool = False,
) -> Stability:
    """Train a model's settings from other seeds on `adata`, and look for its programs there (see `compare`).

    Parameters
    ----------
    model
        One of the `n_seeds`; the others get the lowest of the seeds 0, 1, … that are not its own. They see the same genes, layer,
        batches and covariates.
    adata
        Best the cells that the model was trained on: else a program can also be missing because the cells are others.
    n_seeds
        2 or more, the model's own among them.
    least_match, seed
        As for `compare`.
    silent
        Show no progress.

    Raises
    ------
    InputError
        Before any training, where the data does not fit the model or is smaller than its batch size.
    """
    require_whole("n_seeds", n_seeds, 2)
    return compare(
        [model, *retrained(model, adata, n_seeds, silent)], adata, least_match=least_match, seed=seed
    )


def retrained(model: Model, adata: AnnData, n_seeds: int, silent: bool) -> list[Model]:
    """Train the settings of a model from the seeds that are missing among `n_seeds`."""
    settings = model.settings
    if adata.n_obs < settings.batch_size:
        raise InputError(
            f"the data has {adata.n_obs} cells, fewer than the model's batch_size ({settings.batch_size}), so other seeds "
            "cannot be trained on it; give the cells that the model was trained on."
        )
    others = [number for number in range(n_seeds) if number != settings.seed][: n_seeds - 1]
    models = []
    for place, number in enumerate(others, 1):
        log.info("seed %d: training %d of %d more", number, place, len(others))
        models.append(replace(settings, seed=number).train(adata, model.schema, None, None, silent))
    return models


def seed_of(model: Model) -> int:
    """Seed that a model was trained from."""
    return int(model.settings.seed)


def shallow(adata: AnnData) -> AnnData:
    """The same matrices and names without what else is in the data: a place to write to that is not the user's."""
    return AnnData(adata.X, obs=adata.obs.copy(), var=adata.var.copy(), layers=dict(adata.layers))


def _effects(programs: Programs, genes: tuple[str, ...]) -> np.ndarray:
    """Effects, (g, p); of a model without programs one column of zeros, which nothing matches."""
    effect_gp = programs.effects.loc[list(genes)].to_numpy(dtype=np.float64)
    return effect_gp if effect_gp.shape[1] else np.zeros((len(genes), 1))
