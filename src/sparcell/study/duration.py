"""About how long a study takes on two cores, from cells, genes, network and epochs: it decides the default number of seeds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from sparcell.training.plan import TrainPlan

if TYPE_CHECKING:
    from sparcell.experiments.presets import StudyEntry

log = logging.getLogger("sparcell")

LIMIT_SECONDS = 240
"""A study has several seeds by default if it takes less than this."""

DEFAULT_SEEDS = 3

SECONDS_PER_CELL, SECONDS_PER_WEIGHT = 2e-5, 2.2e-11
"""Seconds of one cell in one epoch, and more for each weight of the network. Measured on PBMC3k (2 cores of an AMD EPYC, AVX-512)."""

MAP_SECONDS, BASE_SECONDS = 3.0, 25.0
"""Seconds of maps and k-means of one run, and of all else, at 2,638 cells."""


def seeds_within_limit(entries: Sequence[StudyEntry], n_cells: int, n_genes: tuple[int, int]) -> int:
    """Return 3 if a study with as many seeds takes less than four minutes, else 1, and say so in one line.

    `entries` are the trained rows of one seed, `n_genes` the number of all genes and of variable genes.
    """
    base, per_seed = estimate_seconds(entries, n_cells, n_genes)
    seconds = base + DEFAULT_SEEDS * per_seed
    if seconds < LIMIT_SECONDS:
        log.info("%d seeds: the study takes about %.0f s on two cores", DEFAULT_SEEDS, seconds)
        return DEFAULT_SEEDS
    log.info(
        "one seed, about %.0f min on two cores; --seeds 3 takes about %.0f min and gives scores with their spread",
        *((base + per_seed) / 60, seconds / 60),
    )
    return 1


def estimate_seconds(
    entries: Sequence[StudyEntry], n_cells: int, n_genes: tuple[int, int]
) -> tuple[float, float]:
    """Return about how many seconds a study takes on two cores: once, and for each seed."""
    size = n_cells / 2638
    of_maps = (
        MAP_SECONDS * size * max(1.0, min(size, 4.0)) * (len(entries) + 2)
    )  # and two baselines; forces between all pairs
    return BASE_SECONDS * size, of_maps + sum(_training_seconds(entry, n_cells, n_genes) for entry in entries)


def _training_seconds(entry: StudyEntry, n_cells: int, n_genes: tuple[int, int]) -> float:
    settings = entry.estimator
    genes = n_genes[0] if entry.data.genes_key is None else n_genes[1]
    widths = (genes, *settings.encoder_widths, settings.n_latent, *settings.decoder_widths, genes)
    n_weights = sum(first * second for first, second in pairwise(widths))
    n_steps = max(1, n_cells // settings.batch_size)
    n_epochs = TrainPlan.of(settings, n_steps, settings.kl_weight).n_epochs
    return n_epochs * n_cells * (SECONDS_PER_CELL + SECONDS_PER_WEIGHT * n_weights)
