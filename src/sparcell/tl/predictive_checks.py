"""Posterior predictive checks: sums over blocks of cells, then tables of what was observed and what a model expects.

Suffixes: n cells, g genes, e edges, w intervals between edges, b batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

EDGES = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
"""Probabilities between which probability integral transforms are counted."""
WIDTHS = np.diff(np.concatenate([[0], EDGES, [1]]))
COVERAGES = {0.5: (0.25, 0.75), 0.9: (0.05, 0.95)}
"""Central intervals: nominal coverage → lower and upper probability."""
ZERO = 5e-4
"""Values below count as zeros: no count, or log-normalized values that are rounding (less than one in a million counts)."""


P_EXTREME = 1e-4
"""A value is extreme if the model reaches or exceeds it with a lower probability."""


class PowerSums:
    """Sums of the first four powers of values, and the number of zeros: of each gene (g,), or of cells ()."""

    def __init__(self) -> None:
        self.n = 0
        self.powers: list[Floats] = []
        self.n_zeros: Floats = np.zeros(())

    def add(self, values_n: Floats) -> None:
        """Add the values of some cells, (n, g) or (n,)."""
        values_n = np.asarray(values_n, dtype=np.float64)
        squares_n = values_n * values_n
        powers = [
            values_n.sum(axis=0),
            squares_n.sum(axis=0),
            np.einsum("n...,n...->...", squares_n, values_n),
            np.einsum("n...,n...->...", squares_n, squares_n),
        ]
        self.powers = [old + new for old, new in zip(self.powers, powers, strict=True)] if self.n else powers
        self.n_zeros = self.n_zeros + (values_n < ZERO).sum(axis=0)
        self.n += len(values_n)

    @property
    def mean(self) -> Floats:
        """Mean over cells."""
        return np.asarray(self.powers[0] / self.n)

    @property
    def variance(self) -> Floats:
        """Variance over cells, divided by n as in scvi-tools' criticism."""
        return np.asarray((self.powers[1] / self.n - self.mean**2).clip(0))

    @property
    def fourth_moment(self) -> Floats:
        """Mean fourth power of the distance from the mean."""
        first, second, third, fourth = (power / self.n for power in self.powers)
        return np.asarray((fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4).clip(0))

    @property
    def zeros(self) -> Floats:
        """Fraction of zeros."""
        return np.asarray(self.n_zeros / self.n)


@dataclass
class BatchSums:
    """Sums over the cells and genes of a batch."""

    n_cells: int = 0
    zeros_observed: float = 0.0
    zeros_expected: float = 0.0
    below_e: Floats = field(default_factory=lambda: np.zeros(len(EDGES)))


@dataclass(frozen=True)
class Replicate:
    """One replicate of some cells, drawn from p(x|z) with z from q(z|x), and where the observed values lie in p(x|z)."""

    values_ng: Floats
    low_ng: Floats
    """P(X < x)."""
    high_ng: Floats
    """P(X ≤ x)."""


class CheckSums:
    """What the checks need of all cells, in memory that does not grow with the number of cells."""

    def __init__(self, n_genes: int, n_samples: int, n_batches: int) -> None:
        self.n_samples = n_samples
        self.observed = PowerSums()
        self.replicates = [PowerSums() for _ in range(n_samples)]
        self.without_extremes = [PowerSums() for _ in range(n_samples)]
        """Observed values, with those of the replicate in place of extreme ones."""
        self.n_extreme_g = np.zeros(n_genes)
        self.total_observed = PowerSums()
        self.total_replicates = [PowerSums() for _ in range(n_samples)]
        self.total_difference = 0.0
        self.below_eg = np.zeros((len(EDGES), n_genes))
        self.pit_sum_g = np.zeros(n_genes)
        self.batches = [BatchSums() for _ in range(n_batches)]

    def add(self, observed_ng: Floats, replicates: Sequence[Replicate], batch_n: NDArray[np.integer]) -> None:
        """Add a block of cells with all their replicates. `batch_n` is the number of each cell's batch, -1 for none."""
        self.observed.add(observed_ng)
        total_n = observed_ng.sum(axis=1, dtype=np.float64)
        self.total_observed.add(total_n)
        below_nw = np.zeros((len(observed_ng), len(EDGES)))
        zeros_n = np.zeros(len(observed_ng))
        for number, replicate in enumerate(replicates):
            self.replicates[number].add(replicate.values_ng)
            replicate_total_n = replicate.values_ng.sum(axis=1, dtype=np.float64)
            self.total_replicates[number].add(replicate_total_n)
            self.total_difference += float(np.abs(replicate_total_n - total_n).sum())
            extreme_ng = replicate.low_ng > 1 - P_EXTREME
            self.n_extreme_g += extreme_ng.sum(axis=0)
            self.without_extremes[number].add(np.where(extreme_ng, replicate.values_ng, observed_ng))
            self.pit_sum_g += (replicate.low_ng + replicate.high_ng).sum(axis=0) / 2
            zeros_n += (replicate.values_ng < ZERO).mean(axis=1)
            for number_of_edge, edge in enumerate(EDGES):
                below_ng = mass_below(edge, replicate.low_ng, replicate.high_ng)
                self.below_eg[number_of_edge] += below_ng.sum(axis=0)
                below_nw[:, number_of_edge] += below_ng.mean(axis=1)
        for batch, sums in enumerate(self.batches):
            in_batch_n = batch_n == batch
            sums.n_cells += int(in_batch_n.sum())
            sums.zeros_observed += float((observed_ng[in_batch_n] < ZERO).mean(axis=1).sum())
            sums.zeros_expected += float(zeros_n[in_batch_n].sum()) / self.n_samples
            sums.below_e += below_nw[in_batch_n].sum(axis=0) / self.n_samples


def mass_below(edge: float, low_ng: Floats, high_ng: Floats) -> Floats:
    """Return P(U < edge) of U uniform between P(X < x) and P(X ≤ x), (n, g).

    U is the probability integral transform, randomized over the atom at x (Smith 1985; Dunn & Smyth 1996). Its probability takes the place
    of draws of U, as in the nonrandomized transform of Czado, Gneiting & Held 2009 (eq. 2).
    """
    width_ng = np.maximum(high_ng - low_ng, 1e-12)
    return np.asarray(((edge - low_ng) / width_ng).clip(0, 1))


def coverage(below_e: Floats, nominal: float) -> Floats:
    """Return the fraction inside a central interval from the fractions below each of `EDGES`, (e, …)."""
    lower, upper = (int(np.flatnonzero(edge == EDGES)[0]) for edge in COVERAGES[nominal])
    return np.asarray(below_e[upper] - below_e[lower])


def gene_table(sums: CheckSums, genes: Sequence[str]) -> pd.DataFrame:
    """Return the table of genes but for the column finding, in the order of the model: see `results.criticism.Criticism`."""
    observed, replicates = sums.observed, sums.replicates
    n_pit = observed.n * sums.n_samples
    below_eg = sums.below_eg / n_pit
    observed_wg = np.diff(below_eg, axis=0, prepend=0, append=1)
    expected_cv_g = np.mean([_cv(replicate) for replicate in replicates], axis=0)
    table = {
        "gene": list(genes),
        "mean_observed": observed.mean,
        "mean_expected": np.mean([replicate.mean for replicate in replicates], axis=0),
        "variance_observed": observed.variance,
        "variance_expected": np.mean([replicate.variance for replicate in replicates], axis=0),
        "cv_observed": _cv(observed),
        "cv_expected": expected_cv_g,
        "zeros_observed": observed.zeros,
        "zeros_expected": np.mean([replicate.zeros for replicate in replicates], axis=0),
        "coverage_50": coverage(below_eg, 0.5),
        "coverage_90": coverage(below_eg, 0.9),
        "pit_mean": sums.pit_sum_g / n_pit,
        "extremes": sums.n_extreme_g / n_pit,
        "misfit": np.abs(observed_wg - WIDTHS[:, None]).sum(axis=0) / 2,
    }
    return pd.DataFrame(table)


def _cv(sums: PowerSums) -> Floats:
    """Return standard deviation over mean; 0 for a gene without counts."""
    mean_g = np.abs(sums.mean)
    return np.asarray(np.sqrt(sums.variance) / np.where(mean_g > 0, mean_g, np.inf))


def overall_table(sums: CheckSums, table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per check: see `results.criticism.Criticism.overall`."""
    rows = [
        _compared(name, table[f"{name}_observed"], table[f"{name}_expected"])
        for name in ("mean", "variance", "cv", "zeros")
    ]
    for nominal in COVERAGES:
        values_g = table[f"coverage_{nominal * 100:.0f}"]
        error = float((values_g - nominal).abs().mean())
        rows.append((f"coverage_{nominal * 100:.0f}", float(values_g.mean()), nominal, error, np.nan))
    expected = float(np.mean([total.mean for total in sums.total_replicates]))
    error = sums.total_difference / (sums.observed.n * sums.n_samples)
    rows.append(("total", float(sums.total_observed.mean), expected, error, np.nan))
    return pd.DataFrame(rows, columns=["check", "observed", "expected", "error", "correlation"])


def _compared(
    name: str, observed_g: pd.Series, expected_g: pd.Series
) -> tuple[str, float, float, float, float]:
    varies = observed_g.nunique() > 1 and expected_g.nunique() > 1
    correlation = float(stats.spearmanr(observed_g, expected_g).statistic) if varies else np.nan
    error = float((observed_g - expected_g).abs().mean())
    return name, float(observed_g.mean()), float(expected_g.mean()), error, correlation


def batch_table(sums: CheckSums, names: Sequence[str]) -> pd.DataFrame | None:
    """Return one row per batch with cells: see `results.criticism.Criticism.batches`. None for fewer than two batches."""
    rows = [
        {
            "batch": name,
            "n_cells": batch.n_cells,
            "zeros_observed": batch.zeros_observed / batch.n_cells,
            "zeros_expected": batch.zeros_expected / batch.n_cells,
            "coverage_50": float(coverage(batch.below_e, 0.5)) / batch.n_cells,
            "coverage_90": float(coverage(batch.below_e, 0.9)) / batch.n_cells,
        }
        for name, batch in zip(names, sums.batches, strict=True)
        if batch.n_cells
    ]
    return pd.DataFrame(rows) if len(rows) > 1 else None
