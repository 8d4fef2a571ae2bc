"""What posterior predictive checks say in words: the genes that a model describes badly, and in which direction.

Suffixes: g genes, r rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from sparcell.tl.predictive_checks import CheckSums

    Floats = NDArray[np.floating]

MIN_Z = 4.0
"""Standard errors that a difference must have: among 10,000 genes of a right model about one would have as many by chance."""
MIN_ZEROS, MIN_COVERAGE = 0.05, 0.05
"""Differences in the fraction of zeros, and of cells inside the 90 % interval, that are large enough to be named."""
MIN_VARIANCE, MIN_MEAN = np.log2(1.5), np.log2(1.25)
"""The same for log2 ratios of variances and means."""
MAX_MISFITS = 0.2
"""Fraction of genes with a finding above which the model does not describe the data."""
MIN_EXTREMES = 0.001
"""Fraction of cells with extreme values that is named, ten times that of a right model."""
N_NAMED = 3


@dataclass(frozen=True)
class Rule:
    """A way in which a gene can differ from what the model expects."""

    above: str
    """Finding if the data is above the model, in words."""
    below: str
    difference_g: Floats
    """Data minus model, relative to the smallest difference that is named."""
    z_g: Floats
    """Data minus model in standard errors."""


def findings(table: pd.DataFrame, sums: CheckSums) -> list[str]:
    """Return for each gene in which way the data differs most from the model; empty without a difference that is large and certain.

    Means and variances are compared without extreme values: single counts that are far too high would decide about the whole gene.
    Standard errors take the cells as independent and the latents as given. That of a variance is from the fourth moment:
    Var(s²) ≈ (μ4 - σ⁴) / n (Cramér 1946, 27.4.2). All of them count the noise of the replicates too.
    """
    rules = _rules(table, sums)
    difference_rg = np.array([rule.difference_g for rule in rules])
    z_rg = np.array([rule.z_g for rule in rules])
    strength_rg = np.where((np.abs(difference_rg) >= 1) & (np.abs(z_rg) >= MIN_Z), np.abs(difference_rg), 0)
    first_g = strength_rg.argmax(axis=0)
    return [
        ""
        if strength_rg[first, gene] == 0
        else (rules[first].above if difference_rg[first, gene] > 0 else rules[first].below)
        for gene, first in enumerate(first_g)
    ]


def _rules(table: pd.DataFrame, sums: CheckSums) -> list[Rule]:
    column = {name: table[name].to_numpy(dtype=float) for name in table.columns if name != "gene"}
    n_cells = sums.observed.n
    noise = np.sqrt((1 + 1 / sums.n_samples) / n_cells)
    p_zero_g = column["zeros_expected"].clip(1 / n_cells, 1 - 1 / n_cells)
    variance_g = column["variance_expected"]
    fourth_g = np.mean([replicate.fourth_moment for replicate in sums.replicates], axis=0)
    tiny = np.finfo(np.float64).tiny
    zeros_g, coverage_g = column["zeros_observed"] - column["zeros_expected"], column["coverage_90"] - 0.9
    mean_g, observed_g = (
        np.mean([getattr(bulk, moment) for bulk in sums.without_extremes], axis=0)
        for moment in ("mean", "variance")
    )
    return [
        Rule(
            "more zeros than expected",
            "fewer zeros than expected",
            zeros_g / MIN_ZEROS,
            zeros_g / (noise * np.sqrt(p_zero_g * (1 - p_zero_g))),
        ),
        Rule(
            "fewer values far from the expected ones than there should be",
            "more values far from the expected ones than there should be",
            coverage_g / MIN_COVERAGE,
            coverage_g / (np.sqrt(0.9 * 0.1 / n_cells)),
        ),
        Rule(
            "more variance than expected",
            "less variance than expected",
            _log_ratio(observed_g, variance_g) / MIN_VARIANCE,
            (observed_g - variance_g) / (noise * np.sqrt(np.maximum(fourth_g - variance_g**2, tiny))),
        ),
        Rule(
            "a higher mean than expected",
            "a lower mean than expected",
            _log_ratio(mean_g, column["mean_expected"]) / MIN_MEAN,
            (mean_g - column["mean_expected"]) / (noise * np.sqrt(np.maximum(variance_g, tiny))),
        ),
    ]


def _log_ratio(observed_g: Floats, expected_g: Floats) -> Floats:
    """Return log2 ratios, 0 where both are 0."""
    low = np.finfo(np.float32).tiny
    return np.asarray(np.log2(np.maximum(observed_g, low) / np.maximum(expected_g, low)))


def describe(genes: pd.DataFrame, overall: pd.DataFrame) -> tuple[str, ...]:
    """Return what the checks say in sentences, for tables of `results.criticism.Criticism`."""
    observed, expected = (
        dict(zip(overall["check"], overall[name], strict=True)) for name in ("observed", "expected")
    )
    inside = {nominal: float(observed[f"coverage_{nominal}"]) for nominal in (50, 90)}
    sentences = [
        f"The central 90% intervals of the model hold {inside[90]:.1%} of the values, and the 50% intervals hold {inside[50]:.1%}.",
        f"The data has {observed['zeros']:.1%} zeros, and the model expects {expected['zeros']:.1%}.",
    ]
    extreme = genes[genes["extremes"] >= MIN_EXTREMES].sort_values("extremes", ascending=False)
    if len(extreme):
        sentences.append(
            f"{len(extreme):,} genes have single cells with far higher values than the model allows ({_first(extreme['gene'].tolist())})."
        )
    found = genes[genes["finding"] != ""]
    if found.empty:
        return (*sentences, f"None of the {len(genes):,} genes differs clearly from what the model expects.")
    share = len(found) / len(genes)
    verb = "differs" if len(found) == 1 else "differ"
    kinds = found.groupby("finding", sort=False)["gene"].agg(list)
    kinds = kinds.loc[kinds.map(len).sort_values(ascending=False, kind="stable").index]
    words = [f"{len(names):,} with {finding} ({_first(names)})" for finding, names in kinds.items()]
    return (
        *sentences,
        f"{len(found):,} of {len(genes):,} genes ({share:.0%}) {verb} clearly from what the model expects: {'; '.join(words)}.",
    )


def _first(names: list[str]) -> str:
    return ", ".join(names[:N_NAMED]) + (", …" if len(names) > N_NAMED else "")


def does_not_fit(genes: pd.DataFrame, overall: pd.DataFrame) -> bool:
    """Return whether a model does not describe the data: many genes have a finding, or the intervals of all genes are wrong."""
    inside = float(overall.loc[overall["check"] == "coverage_90", "observed"].iloc[0])
    return bool((genes["finding"] != "").mean() > MAX_MISFITS or abs(inside - 0.9) > MIN_COVERAGE)
