"""Measure the flavors of `sp.pp.variable_genes`: recall of marker genes, and markers of a rare type that few donors have.

    python benchmarks/variable_genes.py DATA.h5ad --markers MARKERS.csv --labels-key cell_type [--batch-key batch]
    python benchmarks/variable_genes.py DATA.h5ad --markers MARKERS.csv --labels-key cell_type --rare schwann="schwann" --donors 8

MARKERS.csv has the columns cell_type and gene. With --rare LABEL=CELL_TYPE the cells are dealt to donors at random, each donor is thinned
to another depth, and at most 30 cells of the rare type stay, all in the first donor or the first two. Suffixes: n cells, g genes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

import sparcell as sp
from sparcell.config.genes import FLAVORS

MIN_CELLS = 3
"""A marker gene counts if at least this many cells have it."""
RARE_CELLS = 30
"""Most cells of the rare type that a simulation keeps."""
SHALLOWEST = 0.4
"""Fraction of its counts that the shallowest donor keeps."""


def main() -> None:
    arguments = parse()
    adata = sp.io.read(arguments.data)
    markers = pd.read_csv(arguments.markers)
    print(
        "| flavor | donors with the rare type | markers found | mean over types | markers of the rare type |"
    )
    print("|---|---|---|---|---|")
    if arguments.rare is None:
        report(adata, markers, arguments.batch_key, arguments.n_top_genes)
        return
    label, cell_type = arguments.rare.split("=")
    for n_with in (1, 2):
        cells = simulate_donors(adata, adata.obs[arguments.labels_key] == label, arguments.donors, n_with)
        report(cells, markers, "donor", arguments.n_top_genes, cell_type, n_with)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--markers", required=True)
    parser.add_argument("--labels-key", default="cell_type")
    parser.add_argument("--batch-key")
    parser.add_argument("--n-top-genes", type=int, default=2000)
    parser.add_argument("--rare")
    parser.add_argument("--donors", type=int, default=4)
    return parser.parse_args()


def report(
    adata: ad.AnnData,
    markers: pd.DataFrame,
    batch_key: str | None,
    n_top_genes: int,
    rare: str | None = None,
    n_with: int = 0,
) -> None:
    """Print a line of the table for each flavor."""
    for flavor in FLAVORS:
        sp.pp.variable_genes(adata, n_top_genes=n_top_genes, flavor=flavor, batch_key=batch_key)
        kept = dict(recalls(adata, markers))
        genes = markers["gene"].unique()
        overall = recall(adata, genes)
        of_rare = "" if rare is None else f"{kept[rare]:.3f}"
        print(
            f"| {flavor} | {n_with or ''} | {overall:.3f} | {np.mean(list(kept.values())):.3f} | {of_rare} |"
        )


def recalls(adata: ad.AnnData, markers: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Yield each type with a marker in the data, and the fraction of its markers that are chosen."""
    for cell_type, of_type in markers.groupby("cell_type"):
        fraction = recall(adata, of_type["gene"].to_numpy())
        if np.isfinite(fraction):
            yield str(cell_type), fraction


def recall(adata: ad.AnnData, genes: NDArray[np.str_]) -> float:
    """Return the fraction of the genes in the data that are chosen; NaN if there are none."""
    n_cells_g = np.asarray((adata.X > 0).sum(axis=0)).ravel()
    counted = adata.var["highly_variable"].to_numpy()[adata.var_names.isin(genes) & (n_cells_g >= MIN_CELLS)]
    return float(counted.mean()) if len(counted) else float("nan")


def simulate_donors(adata: ad.AnnData, rare_n: pd.Series, n_donors: int, n_with: int) -> ad.AnnData:
    """Deal the cells to donors of different depth; a few cells of the rare type go to the first `n_with` donors."""
    rng = np.random.default_rng(0)
    donor_n = rng.permutation(adata.n_obs) % n_donors
    rare = rng.permutation(np.flatnonzero(rare_n))
    donor_n[rare] %= n_with
    kept = np.setdiff1d(np.arange(adata.n_obs), rare[RARE_CELLS:])
    depth_n = np.linspace(1, SHALLOWEST, n_donors)[donor_n[kept]]
    counts_ng = sparse.csr_matrix(adata.X)[kept].tocoo()
    counts_ng.data = rng.binomial(counts_ng.data.astype(np.int64), depth_n[counts_ng.row])
    cells = ad.AnnData(sparse.csr_matrix(counts_ng, dtype=np.float32), var=adata.var[[]].copy())
    cells.obs["donor"] = pd.Categorical([f"donor {number}" for number in donor_n[kept]])
    return cells


if __name__ == "__main__":
    main()
