"""Two conditions compared over samples: the sample is the unit of replication, not the cell.

Suffixes: s samples, v values that are compared.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

MIN_SAMPLES = 2
"""Samples of each condition that a test needs."""
PAIRED, WELCH = "paired t-test", "Welch's t-test"


@dataclass(frozen=True)
class SampleComparison:
    """The second condition against the first, (v,) each."""

    difference_v: Floats
    p_v: Floats
    test: str
    n_first: int
    n_second: int


def sample_table(
    batch_n: NDArray[np.object_], condition_n: NDArray[np.object_]
) -> tuple[NDArray[np.object_], pd.DataFrame]:
    """Return the sample of each cell, and the samples with their batch and condition; a sample is one batch in one condition."""
    name_n = np.array(
        [
            f"{batch}, {condition}" if batch != condition else str(batch)
            for batch, condition in zip(batch_n, condition_n, strict=True)
        ],
        dtype=object,
    )
    samples = pd.DataFrame({"sample": name_n, "batch": batch_n, "condition": condition_n})
    return name_n, samples.drop_duplicates("sample").set_index("sample").sort_index()


def is_paired(samples: pd.DataFrame, conditions: tuple[str, str]) -> bool:
    """Return whether every batch has one sample in each of the two conditions."""
    batches = [samples.loc[samples["condition"] == name, "batch"].tolist() for name in conditions]
    return sorted(batches[0]) == sorted(batches[1]) and len(set(batches[0])) == len(batches[0])


def untestable_reason(samples: pd.DataFrame, conditions: tuple[str, str]) -> str:
    """Return why two conditions cannot be compared over samples, as a sentence; "" if they can."""
    counts = {name: int((samples["condition"] == name).sum()) for name in conditions}
    few = [name for name, count in counts.items() if count < MIN_SAMPLES]
    if not few:
        return ""
    found = " and ".join(f"{name} has {count}" for name, count in counts.items())
    return (
        f"{found} sample{'s' * (max(counts.values()) != 1)}; expected at least {MIN_SAMPLES} samples (donors) of each condition. With "
        "fewer, a difference between conditions cannot be told from one between samples."
    )


def compare_samples(
    value_sv: pd.DataFrame, samples: pd.DataFrame, conditions: tuple[str, str]
) -> SampleComparison | None:
    """Compare values of samples between two conditions by t-tests; None with fewer than two samples of a condition.

    The test is a paired one if every batch of `samples` has a sample in both conditions, else Welch's. Rows of `value_sv` are the samples
    with a value: of a paired design without one of its samples, the other one is left out too.
    """
    first, second = (
        value_sv.loc[value_sv.index.isin(samples.index[samples["condition"] == name])] for name in conditions
    )
    if is_paired(samples, conditions):
        batch = samples["batch"]
        first, second = (part.set_axis(batch[part.index].tolist(), axis=0) for part in (first, second))
        shared = first.index.intersection(second.index).sort_values()
        first, second = first.loc[shared], second.loc[shared]
        test = PAIRED
    else:
        test = WELCH
    if min(len(first), len(second)) < MIN_SAMPLES:
        return None
    values = (second.to_numpy(dtype=np.float64), first.to_numpy(dtype=np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, where all samples have one value
        found = (
            stats.ttest_rel(*values, axis=0)
            if test == PAIRED
            else stats.ttest_ind(*values, axis=0, equal_var=False)
        )
    p_v = np.nan_to_num(np.asarray(found.pvalue, dtype=np.float64), nan=1.0)
    difference_v = values[0].mean(axis=0) - values[1].mean(axis=0)
    return SampleComparison(difference_v, p_v, test, len(first), len(second))
