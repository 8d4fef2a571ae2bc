"""Does training just work? Fits every model with its defaults over data sets, likelihoods and seeds, and looks for anything not finite.

    python benchmarks/dependable.py FOLDER [--seeds 2] [--models beta-vsc …] [--out dependable.csv]

FOLDER holds .h5ad files with raw counts in X, with or without a column `batch` in obs. Each is reduced to 2,000 variable genes.
One line per run: what was fitted, epochs, the lowest validation loss, rollbacks, seconds, and whether weights, losses and latents are
finite.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np

import sparcell as sp
from sparcell.likelihoods import LIKELIHOODS
from sparcell.models import MODELS


def prepared(path: Path) -> tuple[ad.AnnData, str | None]:
    """Counts of the variable genes, with those of cells that have any, and the batch key where there is one."""
    adata = ad.read_h5ad(path)
    key = "batch" if "batch" in adata.obs else None
    adata.layers["counts"] = adata.X.copy()
    sp.pp.variable_genes(adata, n_top_genes=2000, batch_key=key)
    adata = adata[:, adata.var["highly_variable"]].copy()
    adata = adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()
    return adata, key


def finite(model: sp.Model, adata: ad.AnnData) -> bool:
    """Whether weights, losses, latents and the bound are all finite."""
    weights = all(bool(values.isfinite().all()) for values in model.network.state_dict().values())
    losses = np.isfinite(model.history[["loss", "reconstruction_loss", "kl"]].to_numpy()).all()
    bound = np.isfinite(model.marginal_log_likelihood(adata[:200].copy(), n_samples=2)).all()
    return bool(weights and losses and np.isfinite(model.transform(adata)).all() and bound)


def main() -> None:
    """Run all combinations; exit status 1 if any was not finite."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=["beta-vsc"], choices=list(MODELS))
    parser.add_argument("--out", type=Path, default=Path("dependable.csv"))
    wanted = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[dict[str, object]] = []
    for path in sorted(wanted.folder.glob("*.h5ad")):
        adata, key = prepared(path)
        for name in wanted.models:
            for likelihood in LIKELIHOODS:
                for seed in range(wanted.seeds):
                    started = time.perf_counter()
                    settings: dict[str, Any] = {"likelihood": likelihood, "seed": seed}
                    model = MODELS[name](**settings).fit(adata, batch_key=key, silent=True)
                    rows.append(
                        {
                            "data": path.stem,
                            "model": name,
                            "likelihood": likelihood,
                            "seed": seed,
                            "epochs": len(model.history),
                            "validation_loss": model.history["validation_loss"].min(),
                            "seconds": round(time.perf_counter() - started, 1),
                            "finite": finite(model, adata),
                        }
                    )
                    print(*rows[-1].values(), flush=True)
        with wanted.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    bad = [row for row in rows if not row["finite"]]
    print(f"{len(rows)} runs, {len(bad)} not finite")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
