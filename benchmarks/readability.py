"""Can the latents of the preset `programs` be read? Compares KL weights on measured cells, shallow counts and branching paths.

    python benchmarks/readability.py FOLDER [--sets pbmc3k branches-shallow …] [--rows beta-2 beta-1 nmf] [--seeds 0 1] [--out readability]

FOLDER holds .h5ad files with raw counts in X, cell types in obs["cell_type"], and optionally obs["batch"]. More than 3,100 cells are cut to
3,000 random ones, and genes to the 2,000 most variable within batches. A name that ends in "-shallow" keeps each count with probability
¼. Simulated sets, with the seed of the model as the seed of the data:

    programs    12 programs, each on in a quarter of the cells
    branches    branching paths with 6 fates and 11 programs
    wide        12 fates and 23 programs
    faint       6 fates, with effects half as large

Each beta has two rows: as trained, and with copies merged. The latents of each fit are stored in the folder `--out` and used again.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.decomposition import NMF
from sklearn.metrics import roc_auc_score

import sparcell as sp
from sparcell.data.normalize import log_normalized
from sparcell.models.duplicates import representatives

LARGE, MAX_CELLS, N_GENES = 3100, 3000, 2000
SHALLOW, N_LATENT = 0.25, 32
SHALLOW_NAME = "-shallow"
MIN_REPRODUCED = 0.8
"""|r| of two latents over the cells from which one reproduces the other, as in `sparcell benchmark`."""

COUNTS: dict[str, Any] = {
    "likelihood": "nb",
    "n_latent": N_LATENT,
    "decoder_type": "nonnegative-linear",
    "slab": "softplus-normal",
    "n_prior_components": 1,
    "alpha": 0.3,
    "beta": 1.0,
    "learning_rate": 0.01,
    "kl_warmup_fraction": 0.5,
    "kl_warmup_start": 2.0,
    "max_steps": 2300,
}
"""The settings for counts of docs/notes/beta_vsc.md."""

ROWS: dict[str, Callable[[int], sp.BetaVSC] | None] = {
    "beta-2": lambda seed: sp.BetaVSC.for_programs(beta=2.0, merge_duplicates=False, seed=seed),
    "beta-1": lambda seed: sp.BetaVSC.for_programs(beta=1.0, merge_duplicates=False, seed=seed),
    "beta-0.5": lambda seed: sp.BetaVSC.for_programs(beta=0.5, merge_duplicates=False, seed=seed),
    "beta-1-rising": lambda seed: sp.BetaVSC.for_programs(
        beta=1.0, kl_warmup_start=0.0, merge_duplicates=False, seed=seed
    ),
    "nb": lambda seed: sp.BetaVSC(**COUNTS, seed=seed),
    "nmf": None,
}
"""Row → settings of a seed; None for NMF."""

SIMULATIONS: dict[str, Callable[[int], ad.AnnData]] = {
    "programs": lambda seed: sp.datasets.simulate_programs(seed=seed),
    "branches": lambda seed: sp.datasets.simulate_branches(seed=seed),
    "wide": lambda seed: sp.datasets.simulate_branches(12, seed=seed),
    "faint": lambda seed: sp.datasets.simulate_branches(log_fold=0.5, seed=seed),
}

Arrays = dict[str, np.ndarray]


def cells_of(folder: Path, name: str, seed: int) -> ad.AnnData:
    """Raw counts of the genes; obs["label"] where there are types or branches."""
    stem = name.removesuffix(SHALLOW_NAME)
    adata = (
        SIMULATIONS[stem](seed) if stem in SIMULATIONS else measured(ad.read_h5ad(folder / f"{stem}.h5ad"))
    )
    for column in ("cell_type", "branch"):
        if column in adata.obs:
            adata.obs["label"] = adata.obs[column]
    if name.endswith(SHALLOW_NAME):
        adata = sp.datasets.thin_counts(adata, SHALLOW)
    return adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()


def measured(adata: ad.AnnData) -> ad.AnnData:
    """MAX_CELLS cells of a large set, and the variable genes."""
    if adata.n_obs > LARGE:
        chosen = np.random.default_rng(0).choice(adata.n_obs, MAX_CELLS, replace=False)
        adata = adata[np.sort(chosen)].copy()
    adata.layers["counts"] = adata.X.copy()
    sp.pp.variable_genes(adata, n_top_genes=N_GENES, batch_key="batch" if "batch" in adata.obs else None)
    return adata[:, adata.var["highly_variable"]].copy()


def fit(adata: ad.AnnData, row: str, seed: int) -> dict[str, Any]:
    """Latents, inclusion probabilities, effects, and which latents are active."""
    settings = ROWS[row]
    if settings is None:
        method = NMF(N_LATENT, init="nndsvda", max_iter=300, random_state=seed)
        mean_nk = method.fit_transform(log_normalized(adata.X))
        active_k = np.ptp(mean_nk, axis=0) > 0
        return {"mean": mean_nk, "incl": np.zeros(0), "act": active_k, "W": method.components_.T}
    batch_key = "batch" if "batch" in adata.obs else None
    model = settings(seed).fit(adata, batch_key=batch_key, silent=True)
    latents = model.latent_representation(adata)
    effect_gk = model.network.likelihood.head.weight.detach().numpy()[:, : latents.mean_nk.shape[1]]
    return {
        "mean": latents.mean_nk,
        "incl": latents.inclusion_nk,
        "act": latents.active_k,
        "W": effect_gk,
    }


def merged(arrays: Arrays) -> Arrays:
    """The same latents without those that `merge_duplicates` switches off."""
    representative_k = representatives(arrays["mean"], arrays["W"][:, : arrays["mean"].shape[1]])
    return arrays | {"act": arrays["act"] & (representative_k == np.arange(len(representative_k)))}


def scores_of(adata: ad.AnnData, arrays: Arrays) -> dict[str, float]:
    """Scores of one fit against types, and against the simulated activities."""
    mean_nk, active_k = np.where(arrays["act"], arrays["mean"], 0), arrays["act"]
    inclusion_nk = arrays["incl"] if arrays["incl"].size else None
    scores = {"active": float(active_k.sum())}
    if "label" in adata.obs:
        label_n = adata.obs["label"].astype(str).to_numpy()
        names, sizes = np.unique(label_n, return_counts=True)
        member_nc = label_n[:, None] == names[sizes > 1]
        scores |= sp.metrics.disentanglement_scores(mean_nk, member_nc, active_k)
    if inclusion_nk is not None:
        scores["included"] = sp.metrics.mean_included(np.where(active_k, inclusion_nk, 0), 0.5)
    if "activity" in adata.obsm:
        activity_np = adata.obsm["activity"]
        match = sp.metrics.matched_correlation(mean_nk, activity_np)
        scores |= {"mcc": match.mean, "recovered": float((match.correlation_p >= 0.9).mean())}
        if inclusion_nk is not None:
            aucs = [
                roc_auc_score(activity_n > 0, inclusion_nk[:, latent]) if latent >= 0 else 0.5
                for activity_n, latent in zip(activity_np.T, match.latent_p, strict=True)
            ]
            scores |= {"auc": float(np.mean(aucs)), "auc_min": float(np.min(aucs))}
    return scores


def reproduced(runs: list[Arrays]) -> float:
    """Fraction of the active latents that most other seeds reproduce."""
    latents = [np.where(arrays["act"], arrays["mean"], 0) for arrays in runs]
    fractions = sp.metrics.program_reproducibility(latents, MIN_REPRODUCED).fraction
    shares = [
        (fraction_k[arrays["act"]] >= MIN_REPRODUCED).mean()
        for fraction_k, arrays in zip(fractions, runs, strict=True)
    ]
    return float(np.mean(shares))


def lines_of(options: argparse.Namespace, name: str, row: str) -> list[dict[str, Any]]:
    """Scores of all seeds of one row, and of the same fits with copies merged."""
    versions: dict[str, list[Arrays]] = {row: []}
    if row.startswith("beta"):
        versions[f"{row}-merged"] = []
    lines = []
    for seed in options.seeds:
        file = options.out / f"{name}_{row}_{seed}.npz"
        adata = cells_of(options.folder, name, seed)
        if not file.exists():
            np.savez_compressed(file, **fit(adata, row, seed))
        with np.load(file) as stored:
            arrays = {key: stored[key] for key in ("mean", "incl", "act", "W")}
        for version, runs in versions.items():
            runs.append(arrays if version == row else merged(arrays))
            lines.append({"set": name, "row": version, "seed": seed} | scores_of(adata, runs[-1]))
            print(
                {key: round(v, 3) if isinstance(v, float) else v for key, v in lines[-1].items()}, flush=True
            )
    same_cells = name.removesuffix(SHALLOW_NAME) not in SIMULATIONS
    if same_cells and len(options.seeds) > 1:
        for line in lines:
            line["reproduced"] = reproduced(versions[line["row"]])
    return lines


def main() -> None:
    """Fit what is not stored, print the tables, and write them into `--out`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--rows", nargs="+", default=["beta-2", "beta-1", "nmf"], choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--out", type=Path, default=Path("readability"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    names = options.sets or [*sorted(path.stem for path in options.folder.glob("*.h5ad")), *SIMULATIONS]
    lines = [line for name in names for row in options.rows for line in lines_of(options, name, row)]
    table = pd.DataFrame(lines)
    table.to_csv(options.out / "scores.csv", index=False)
    mean = table.drop(columns="seed").groupby(["set", "row"], sort=False).mean()
    print(mean.round(3).to_string(na_rep="–"))


if __name__ == "__main__":
    main()
