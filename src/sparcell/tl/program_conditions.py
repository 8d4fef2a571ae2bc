"""Activity of gene programs between two conditions, within cell types, over samples.

Suffixes: n cells, s samples, p programs and their directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.errors import InputError, did_you_mean
from sparcell.results.stored_programs import stored_programs
from sparcell.tl.enrichment import benjamini_hochberg
from sparcell.tl.sample_comparisons import (
    PAIRED,
    WELCH,
    compare_samples,
    is_paired,
    sample_table,
    untestable_reason,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

MIN_FRACTION_ON = 0.1
"""A program is compared in a cell type if it is on in at least this fraction of the type's cells, of both conditions together."""
MIN_CELLS = 10
"""A sample with fewer cells of a type has no mean of the type."""
COLUMNS = (
    *("cell_type", "program", "group", "reference", "mean_group", "mean_reference", "difference", "effect"),
    *("fraction_on", "n_group", "n_reference", "p", "p_adjusted"),
)


def program_conditions(
    adata: AnnData,
    condition_key: str,
    batch_key: str,
    *,
    within: str | None = None,
    conditions: tuple[str, str] | None = None,
    activity: pd.DataFrame | None = None,
    key: str = "beta_vsc",
) -> pd.DataFrame:
    """Compare the activity of gene programs between two conditions, within each cell type, with samples as the unit of replication.

    A sample is the cells of one batch (donor) in one condition. The value of a sample is the mean activity of a program in its cells of
    a type. A sample needs ten cells of the type. Samples are compared by a paired t-test if every batch has a sample in both conditions,
    else by Welch's t-test. Cells of one sample are not independent, so tests of cells would call differences between donors differences
    between conditions.

    Parameters
    ----------
    adata
        The cells.
    condition_key
        Column of obs with the condition of each cell.
    batch_key
        Column of obs with the donor, or another unit that was sampled. Two libraries of one donor are no two samples.
    within
        Column of obs with cell types. Default: all cells together.
    conditions
        The reference and the condition that is compared with it. Default: the two of the column, in alphabetical order.
    activity
        Activity of each program in each cell, n × programs. Default: `program_activity(adata, key)`.
    key
        Stem of the model's keys, for the default of `activity`.

    Returns
    -------
    One row per cell type and program that is on in a tenth of the type's cells, the smallest p first.

    - cell_type, program; group and reference: the two conditions.
    - mean_group, mean_reference: mean activity over samples. difference: mean_group - mean_reference, the mean over pairs in a paired test.
    - effect: the difference in standard deviations of the program's activity over all cells.
    - fraction_on: fraction of the type's cells in which the program is on.
    - n_group, n_reference: number of samples.
    - p, p_adjusted: of the t-test, and after Benjamini and Hochberg over all rows.

    ``attrs["test"]`` names the test, ``attrs["paired"]`` whether samples are paired.

    Raises
    ------
    InputError
        If columns or conditions do not exist, or a condition has fewer than two samples: donors are then confounded with conditions.

    Notes
    -----
    If each donor has one condition, a model with batch_key removes what differs between donors, and with that part of what differs
    between conditions. The error rate of the test stays; differences can be missed.

    Examples
    --------
    ::

        sp.tl.beta_vsc(adata, preset="programs", batch_key="donor")
        table = sp.tl.program_conditions(adata, "condition", "donor", within="cell_type")
        table[table["p_adjusted"] < 0.05]
    """
    if activity is None:
        stored = stored_programs(adata, key)
        activity = pd.DataFrame(stored.activity_np, index=adata.obs_names, columns=stored.names)
    if len(activity) != adata.n_obs:
        raise InputError(
            f"activity has {len(activity)} rows; expected one for each of the {adata.n_obs} cells."
        )
    condition_n = _values(adata, condition_key)
    pair = _pair(condition_key, sorted(set(condition_n)), conditions)
    name_n, samples = sample_table(_values(adata, batch_key), condition_n)
    reason = untestable_reason(samples, pair)
    if reason:
        raise InputError(f"obs columns {condition_key} and {batch_key}: {reason}")
    type_n = np.full(adata.n_obs, "all cells", dtype=object) if within is None else _values(adata, within)
    return compare_activity(activity, type_n, name_n, samples, pair)


def compare_activity(
    activity: pd.DataFrame,
    type_n: NDArray[np.object_],
    name_n: NDArray[np.object_],
    samples: pd.DataFrame,
    pair: tuple[str, str],
) -> pd.DataFrame:
    """Return the table of `program_conditions` for cells whose samples are known.

    Parameters
    ----------
    activity
        Activity of each program in each cell, n × programs.
    type_n
        Type of each cell as text, (n,).
    name_n, samples
        Sample of each cell, and all samples, from `sample_table`.
    pair
        The reference and the condition that is compared with it. Cells of other conditions only count for the standard deviations.
    """
    sd_p = np.maximum(activity.to_numpy(dtype=np.float64).std(axis=0), 1e-12)
    used_n = pd.Series(name_n).isin(samples.index[samples["condition"].isin(pair)]).to_numpy()
    used = activity.loc[used_n].astype(np.float64)
    blocks = list(_by_type(used, type_n[used_n], name_n[used_n], samples, pair))
    table = pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame(columns=list(COLUMNS))
    sd_of = dict(zip(activity.columns, sd_p, strict=True))
    table["effect"] = table["difference"] / table["program"].map(sd_of).astype(float)
    table["p_adjusted"] = benjamini_hochberg(table["p"].to_numpy(dtype=float)) if len(table) else []
    table = table.sort_values("p", kind="stable").reset_index(drop=True)[list(COLUMNS)]
    paired = is_paired(samples, pair)
    table.attrs = {"test": PAIRED if paired else WELCH, "paired": paired}
    found: pd.DataFrame = table
    return found


def _by_type(
    activity: pd.DataFrame,
    type_n: NDArray[np.object_],
    name_n: NDArray[np.object_],
    samples: pd.DataFrame,
    pair: tuple[str, str],
) -> Iterator[pd.DataFrame]:
    """Yield the comparisons of each cell type that can be compared."""
    activity_np = activity.to_numpy()
    for kind in sorted(set(type_n)):
        own_n = type_n == kind
        on_p = (activity_np[own_n] > 0).mean(axis=0)
        tested_p = np.flatnonzero(on_p >= MIN_FRACTION_ON)
        means, n_cells = sample_means(activity_np[own_n][:, tested_p], name_n[own_n], samples.index)
        value_sp = pd.DataFrame(means, index=samples.index).loc[n_cells >= MIN_CELLS]
        compared = compare_samples(value_sp, samples, pair) if len(tested_p) else None
        if compared is None:
            continue
        condition_s = samples.loc[value_sp.index, "condition"]
        yield pd.DataFrame(
            {
                "cell_type": kind,
                "program": activity.columns[tested_p],
                "group": pair[1],
                "reference": pair[0],
                "mean_group": value_sp[condition_s == pair[1]].mean().to_numpy(),
                "mean_reference": value_sp[condition_s == pair[0]].mean().to_numpy(),
                "difference": compared.difference_v,
                "fraction_on": on_p[tested_p],
                "n_group": compared.n_second,
                "n_reference": compared.n_first,
                "p": compared.p_v,
            }
        )


def sample_means(
    value_np: NDArray[np.floating], name_n: NDArray[np.object_], samples: pd.Index
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean of each sample's cells, (s, p), and the number of its cells, (s,); a sample without cells has means of 0."""
    sample_n = samples.get_indexer(pd.Index(name_n))
    member_sn = sparse.csr_matrix(
        (np.ones(len(name_n)), (sample_n, np.arange(len(name_n)))), shape=(len(samples), len(name_n))
    )
    n_cells = np.bincount(sample_n, minlength=len(samples))
    return np.asarray(member_sn @ value_np) / np.maximum(n_cells, 1)[:, None], n_cells


def _values(adata: AnnData, key: str) -> NDArray[np.object_]:
    """Return a column of obs as text, (n,)."""
    if key not in adata.obs:
        raise InputError(f"obs has no column {key!r}; {did_you_mean(key, list(adata.obs.columns))}")
    if adata.obs[key].isna().any():
        raise InputError(
            f"obs[{key!r}] is empty for {int(adata.obs[key].isna().sum())} cell(s); expected a value for each cell."
        )
    return np.asarray(adata.obs[key].astype(str), dtype=object)


def _pair(key: str, names: list[str], conditions: tuple[str, str] | None) -> tuple[str, str]:
    """Return the two conditions to compare."""
    if conditions is None:
        if len(names) != 2:
            raise InputError(
                f"obs[{key!r}] holds {len(names)} conditions ({', '.join(names[:6])}); expected two: name them with conditions=(REFERENCE, "
                "OTHER)."
            )
        return names[0], names[1]
    for name in conditions:
        if name not in names:
            raise InputError(f"obs[{key!r}] has no condition {name!r}; {did_you_mean(name, names)}")
    if conditions[0] == conditions[1]:
        raise InputError(f"conditions are both {conditions[0]!r}; expected two different ones.")
    return conditions
