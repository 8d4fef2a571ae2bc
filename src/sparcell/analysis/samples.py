"""Shares of cell types in samples, and whether they differ between conditions.

Suffixes: s samples, t cell types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.tl.enrichment import benjamini_hochberg
from sparcell.tl.sample_comparisons import compare_samples, untestable_reason

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.config.analysis import AnalysisConfig

PSEUDOCOUNT = 0.5
"""Added to each number of cells, so that a share of 0 has a logarithm."""


def composition(adata: AnnData, type_n: pd.Series, config: AnalysisConfig) -> pd.DataFrame | None:
    """Return the share of each cell type in each sample; None without batches and conditions.

    A sample is a batch, or with conditions the cells of one batch in one condition.
    """
    keys = [key for key in (config.batch_key, config.condition_key) if key is not None]
    if not keys:
        return None
    columns = {key: np.asarray(adata.obs[key].astype(str)) for key in dict.fromkeys(keys)}
    sample_n = pd.Series([", ".join(parts) for parts in zip(*columns.values(), strict=True)])
    condition_n = columns.get(config.condition_key or "", np.full(adata.n_obs, ""))
    counted = pd.crosstab(sample_n.to_numpy(), np.asarray(type_n.astype(str)))
    condition_of = dict(zip(sample_n, condition_n, strict=True))
    batch_of = dict(zip(sample_n, columns.get(config.batch_key or "", condition_n), strict=True))
    counted.index.name, counted.columns.name = "sample", "cell_type"
    long = counted.reset_index().melt("sample", value_name="n_cells")
    long["condition"] = long["sample"].map(condition_of)
    long["batch"] = long["sample"].map(batch_of)
    long["share"] = long["n_cells"] / long.groupby("sample")["n_cells"].transform("sum")
    return long[["cell_type", "sample", "batch", "condition", "n_cells", "share"]]


def composition_test(shares: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return whether the shares of cell types differ between two conditions; None unless each has two samples.

    Shares add up to 1, so each sample's numbers of cells are turned into centered log ratios first (Aitchison 1982). Conditions are
    compared by a t-test over samples: a paired one if every batch has a sample in both conditions, else Welch's.

    Returns
    -------
    Columns cell_type, mean share in each condition, difference (log2 of the ratio, from centered log ratios), p, p_adjusted
    (Benjamini-Hochberg), sorted by p. `attrs["test"]` names the test.
    """
    if shares is None:
        return None
    names = sorted(set(shares["condition"]) - {""})
    if len(names) != 2:
        return None
    counts_st = shares.pivot(index="sample", columns="cell_type", values="n_cells") + PSEUDOCOUNT
    logs_st = counts_st.map(np.log2)
    ratios_st = logs_st.sub(logs_st.mean(axis=1), axis=0)
    samples = shares.drop_duplicates("sample").set_index("sample")
    pair = (names[0], names[1])
    compared = None if untestable_reason(samples, pair) else compare_samples(ratios_st, samples, pair)
    if compared is None:
        return None
    means = shares.groupby(["cell_type", "condition"])["share"].mean().unstack()
    table = pd.DataFrame(
        {
            "cell_type": ratios_st.columns,
            **{f"share_{name}": means.loc[ratios_st.columns, name].to_numpy() for name in names},
            "difference": compared.difference_v,
            "p": compared.p_v,
            "p_adjusted": benjamini_hochberg(compared.p_v),
        }
    )
    table = table.sort_values("p", kind="stable").reset_index(drop=True)
    table.attrs = {"test": compared.test, "conditions": names}
    return table
