"""Cells, gene sets and settings for analyses that take seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.simulated import N_TYPES, simulated_cells

CHANGES = {"epochs": 12, "batch_size": 64, "n_latent": 6, "encoder_widths": (32,), "learning_rate": 0.01}
KINDS = ("Alpha", "Beta", "Gamma", "Delta")


def typed_cells(n_cells=320):
    """Return cells of four types whose marker genes have names, from two donors in two conditions; one type is rarer in "treated"."""
    adata = simulated_cells(n_cells, n_genes=160)
    del adata.layers["lognorm"], adata.obsm["X_other"], adata.uns["other"]
    adata.var_names = [
        f"{KINDS[number // 15][:1]}{number % 15}" if number < 15 * N_TYPES else f"gene{number}"
        for number in range(adata.n_vars)
    ]
    kind_n = adata.obs["type"].str[-1].astype(int).to_numpy()
    adata.obs["known"] = pd.Categorical([KINDS[kind] for kind in kind_n])
    adata.obs["donor"] = pd.Categorical([f"donor {number % 4}" for number in range(n_cells)])
    treated_n = np.arange(n_cells) // 4 % 2 == 0
    adata.obs["condition"] = pd.Categorical(np.where(treated_n, "treated", "control"))
    keep_n = ~(treated_n & (kind_n == 0) & (np.arange(n_cells) % 3 != 0))
    return adata[keep_n].copy()


def write_sets(path):
    """Write gene sets of the four types, and one that no type has."""
    lines = [
        f"{kind}\tblood: marker genes\t" + "\t".join(f"{kind[0]}{g}" for g in range(10)) for kind in KINDS
    ]
    lines.append("Omega\tblood: marker genes\t" + "\t".join(f"gene{g}" for g in range(100, 110)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
