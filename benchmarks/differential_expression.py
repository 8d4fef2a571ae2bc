"""Measure `Model.differential_expression`: calls between equal groups, power at equal error, agreement with pseudobulk.

    python benchmarks/differential_expression.py null DATA.h5ad --labels-key cell_type [--batch-key batch] [--runs 6]
    python benchmarks/differential_expression.py power [--runs 3] [--external scvi]
    python benchmarks/differential_expression.py overlap DATA.h5ad --condition-key batch --pair STIM CTRL [--external scvi]

null: the labels of each type's cells are random within each batch, so that every call is false. One run is one type with one random label:
half of the cells, a fifth, or five cells of each batch. power: simulated programs, of which three are on more often in one group; the true
log2 fold change is that of the expected fractions. The power is the share of the true genes that a method ranks before its false discovery
proportion passes .05. overlap: the first 100 genes of each type beside those of DESeq2 on pseudobulk counts (needs pydeseq2). Data without
donors get eight random pseudo-donors per condition. Suffixes: n cells, g genes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from numpy.typing import NDArray
from scipy import sparse

import sparcell as sp
from sparcell.benchmark.methods import planned_epochs, scvi_epochs

Floats = NDArray[np.floating]

FDR, TRUE_LFC, N_FIRST, N_DONORS = 0.05, 0.1, 100, 8
SIZES = (50, 200, 800)
"""Cells in each group of a simulation."""
FIVE = 5
MIN_TOTAL = 20
"""A gene with fewer counts in both conditions together is not tested by pseudobulk."""


def main() -> None:
    arguments = parse()
    if arguments.what == "power":
        power(arguments)
        return
    adata = sp.io.read(arguments.data)
    sp.pp.variable_genes(adata, n_top_genes=2000, batch_key=arguments.batch_key or arguments.condition_key)
    adata = adata[:, adata.var["highly_variable"]].copy()
    adata = adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()
    model = fitted(adata, arguments)
    measure = null if arguments.what == "null" else overlap
    measure(model, adata, arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["null", "power", "overlap"])
    parser.add_argument("data", nargs="?")
    parser.add_argument("--labels-key", default="cell_type")
    parser.add_argument("--batch-key")
    parser.add_argument("--condition-key")
    parser.add_argument("--pair", nargs=2)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--delta", type=float, default=0.25)
    parser.add_argument("--model-dir", help="model to use, or to write if there is none")
    parser.add_argument("--external", choices=["none", "scvi"], default="none")
    parser.add_argument(
        "--external-dir", help="trained model of scvi-tools to use, or to write if there is none"
    )
    return parser.parse_args()


def fitted(adata: ad.AnnData, arguments: argparse.Namespace, seed: int = 0) -> sp.Model:
    folder = arguments.model_dir
    if folder is not None and Path(folder).exists():
        return sp.load(folder)
    model = sp.BetaVSC(seed=seed).fit(adata, batch_key=arguments.batch_key, silent=True)
    if folder is not None:
        model.save(folder)
    return model


def null(model: sp.Model, adata: ad.AnnData, arguments: argparse.Namespace) -> None:
    """Print the share of runs with a call, and the largest number that chance explains."""
    batch_n = adata.obs[arguments.batch_key] if arguments.batch_key else pd.Series("", adata.obs_names)
    sets = adata.obs.groupby([adata.obs[arguments.labels_key].astype(str), batch_n.astype(str)]).indices
    n_runs, n_called, n_wilcoxon = 0, 0, 0
    for run in range(arguments.runs):
        generator = np.random.default_rng(run)
        label_n = np.full(adata.n_obs, "b", dtype=object)
        for cells in sets.values():
            n_chosen = (len(cells) // 2, len(cells) // 5, FIVE)[run % 3]
            label_n[generator.permutation(cells)[:n_chosen]] = "a"
        adata.obs["label"] = label_n
        table = model.differential_expression(
            adata,
            "label",
            "a",
            "b",
            within=arguments.labels_key,
            batch_key=arguments.batch_key,
            delta=arguments.delta,
        )
        called = table.groupby("within")["is_de"].any()
        n_runs, n_called = n_runs + len(called), n_called + int(called.sum())
        n_wilcoxon += sum(
            wilcoxon(adata[adata.obs[arguments.labels_key] == cell_type].copy(), "label", "a", "b")[
                "pvals_adj"
            ].min()
            <= FDR
            for cell_type in called.index
        )
    limit = FDR + 2 * np.sqrt(FDR * (1 - FDR) / n_runs)
    print("| data | runs | share with a call | limit | Wilcoxon |\n|---|---|---|---|---|")
    print(
        f"| {Path(arguments.data).stem} | {n_runs} | {n_called / n_runs:.3f} | {limit:.3f} | {n_wilcoxon / n_runs:.3f} |"
    )


def power(arguments: argparse.Namespace) -> None:
    """Print power and error of each method on simulated groups."""
    rows = []
    for seed in range(arguments.runs):
        adata, group_n, lfc_g = simulated_groups(seed)
        model = sp.BetaVSC(seed=seed).fit(adata, silent=True)
        external = scvi_model(adata, None, seed) if arguments.external == "scvi" else None
        for size in SIZES:
            generator = np.random.default_rng(seed)
            adata.obs["group"] = "other"
            for name in ("a", "b"):
                cells = generator.permutation(np.flatnonzero(group_n == name))[:size]
                adata.obs.iloc[cells, adata.obs.columns.get_loc("group")] = name
            is_true_g = np.abs(lfc_g) > TRUE_LFC
            scores = method_scores(model, external, adata)
            rows += [
                {
                    "cells": size,
                    "method": method,
                    **rated(score, is_true_g, called),
                    "error": error_of(lfc, lfc_g),
                }
                for method, (score, called, lfc) in scores.items()
            ]
            print(pd.DataFrame(rows[-len(scores) :]).to_string(), flush=True)
    mean = pd.DataFrame(rows).groupby(["cells", "method"]).agg(["mean", "std"])
    print(mean.round(3).to_string())


def simulated_groups(seed: int) -> tuple[ad.AnnData, NDArray[np.object_], Floats]:
    """Return simulated cells, the group of each cell, and the true log2 fold change of each gene between the groups."""
    adata = sp.datasets.simulate_programs(seed=seed, log_fold=0.7)
    activity_np = adata.obsm["activity"].astype(np.float64)
    drive_n = activity_np[:, 0] + activity_np[:, 1] - activity_np[:, 2]
    probability_n = 1 / (1 + np.exp(-(drive_n - drive_n.mean())))
    group_n = np.where(np.random.default_rng(100 + seed).random(adata.n_obs) < probability_n, "b", "a")
    counts = sp.datasets.simulate_programs(n_programs=1, log_fold=1e-6, seed=seed).X
    base_g = np.log(np.asarray(counts.mean(axis=0)).ravel() + 1e-9)
    rate_ng = np.exp(base_g + activity_np @ adata.varm["effects"].T)
    fraction_ng = rate_ng / rate_ng.sum(axis=1, keepdims=True)
    lfc_g = np.log2(fraction_ng[group_n == "a"].mean(axis=0) / fraction_ng[group_n == "b"].mean(axis=0))
    return adata, group_n.astype(object), lfc_g


def method_scores(
    model: sp.Model, external: Any, adata: ad.AnnData
) -> dict[str, tuple[Floats, NDArray[np.bool_], Floats]]:
    """Return for each method the score by which genes are ranked, the genes that it calls, and its log2 fold changes."""
    table = model.differential_expression(adata, "group", "a", "b", delta=TRUE_LFC).set_index("names")
    table = table.loc[adata.var_names]
    tests = wilcoxon(adata, "group", "a", "b").loc[adata.var_names]
    z_g = table["scores"].abs().to_numpy()
    found = {
        "sparcell": (
            table["prob_de"].to_numpy() + 1e-9 * z_g,
            table["is_de"].to_numpy(),
            table["logfoldchanges"].to_numpy(),
        ),
        "Wilcoxon": (
            -tests["pvals"].to_numpy(),
            tests["pvals_adj"].to_numpy() <= FDR,
            tests["logfoldchanges"].to_numpy(),
        ),
    }
    if external is not None:
        result = scvi_test(external, "group", "a", "b", TRUE_LFC).loc[adata.var_names]
        found["scVI"] = (
            result["proba_de"].to_numpy(),
            result["is_de_fdr_0.05"].to_numpy(),
            result["lfc_mean"].to_numpy(),
        )
    return found


def rated(score_g: Floats, is_true_g: NDArray[np.bool_], called_g: NDArray[np.bool_]) -> dict[str, float]:
    """Return the power at a false discovery proportion of FDR by the ranking, and what the method's own calls are worth."""
    true_r = is_true_g[np.argsort(-score_g, kind="stable")]
    proportion_r = np.cumsum(~true_r) / np.arange(1, len(true_r) + 1)
    allowed = np.flatnonzero(proportion_r <= FDR)
    n_true = true_r[: allowed[-1] + 1].sum() if len(allowed) else 0
    return {
        "power": float(n_true / is_true_g.sum()),
        "calls": float(called_g.sum()),
        "false": float((called_g & ~is_true_g).sum() / max(1, called_g.sum())),
    }


def error_of(lfc_g: Floats, true_g: Floats) -> float:
    """Return the root mean squared error of log2 fold changes, cut at ± 5."""
    return float(np.sqrt(np.mean((lfc_g.clip(-5, 5) - true_g) ** 2)))


def overlap(model: sp.Model, adata: ad.AnnData, arguments: argparse.Namespace) -> None:
    """Print for each type how many of the first genes are among those of pseudobulk."""
    pair, key = arguments.pair, arguments.condition_key
    table = model.differential_expression(
        adata, key, *pair, within=arguments.labels_key, delta=arguments.delta
    )
    external = scvi_model(adata, arguments.external_dir, 0) if arguments.external == "scvi" else None
    rows = []
    for cell_type, of_type in table.groupby("within"):
        cells = adata[adata.obs[arguments.labels_key] == cell_type].copy()
        reference = set(first_genes(pseudobulk(cells, key, pair)))
        ordered = of_type.assign(size=of_type["scores"].abs()).sort_values(
            ["prob_de", "size"], ascending=False
        )
        row = {
            "cell type": cell_type,
            "cells": cells.n_obs,
            "sparcell": len(reference & set(ordered["names"][:N_FIRST])),
        }
        row["Wilcoxon"] = len(reference & set(first_genes(-wilcoxon(cells, key, *pair)["pvals"])))
        if external is not None:
            for_type = adata.obs[arguments.labels_key] == cell_type
            cells_of = [np.flatnonzero(for_type & (adata.obs[key] == name)) for name in pair]
            result = external.differential_expression(
                idx1=cells_of[0], idx2=cells_of[1], delta=arguments.delta, mode="change", silent=True
            )
            size = result["proba_de"] + 1e-6 * result["lfc_mean"].abs() / result["lfc_std"]
            row["scVI"] = len(reference & set(first_genes(size)))
        rows.append(row)
        print(row, flush=True)
    frame = pd.DataFrame(rows)
    print(frame.to_string())
    print(frame.drop(columns=["cell type"]).mean())


def first_genes(score: pd.Series) -> pd.Index:
    return score.sort_values(ascending=False, kind="stable").index[:N_FIRST]


def pseudobulk(adata: ad.AnnData, key: str, pair: list[str]) -> pd.Series:
    """Return |Wald statistic| of each gene by DESeq2 (pydeseq2) on sums over pseudo-donors; 0 for genes that it does not test."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    generator = np.random.default_rng(0)
    sums, conditions = [], []
    for name in pair:
        x_ng = sparse.csr_matrix(adata.X)[np.flatnonzero(adata.obs[key] == name)]
        donor_n = generator.permutation(x_ng.shape[0]) % N_DONORS
        of_donors = np.stack(
            [np.asarray(x_ng[donor_n == donor].sum(axis=0)).ravel() for donor in range(N_DONORS)]
        )
        of_donors = of_donors[of_donors.sum(axis=1) > 0]
        sums.append(of_donors)
        conditions += [name] * len(of_donors)
    samples = [f"sample {number}" for number in range(len(conditions))]
    counts = pd.DataFrame(np.concatenate(sums).astype(int), index=samples, columns=adata.var_names)
    counts = counts.loc[:, counts.sum() >= MIN_TOTAL]
    inference = DefaultInference(n_cpus=1)
    metadata = pd.DataFrame({"condition": conditions}, index=samples)
    data = DeseqDataSet(
        counts=counts, metadata=metadata, design="~condition", inference=inference, quiet=True
    )
    data.deseq2()
    test = DeseqStats(data, contrast=["condition", *pair], inference=inference, quiet=True)
    test.run_wald_test()
    statistic: pd.Series = test.statistics.abs().reindex(adata.var_names).fillna(0)
    return statistic


def wilcoxon(adata: ad.AnnData, key: str, group: str, reference: str) -> pd.DataFrame:
    """Return scanpy's Wilcoxon test on log-normalized counts, by gene."""
    cells = adata[adata.obs[key].isin([group, reference])].copy()
    cells.obs[key] = pd.Categorical(cells.obs[key].astype(str))
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.tl.rank_genes_groups(cells, key, groups=[group], reference=reference, method="wilcoxon")
    table: pd.DataFrame = sc.get.rank_genes_groups_df(cells, group).set_index("names")
    return table


def scvi_model(adata: ad.AnnData, folder: str | None, seed: int) -> Any:
    """Return a trained scVI model without batches; its DE mode "change" is used with its defaults."""
    import scvi

    scvi.settings.seed = seed
    if folder is not None and Path(folder).exists():
        return scvi.model.SCVI.load(folder, adata=adata)
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata, gene_likelihood="nb")
    epochs = planned_epochs(scvi_epochs(adata.n_obs), adata.n_obs, "auto")
    model.train(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False)
    if folder is not None:
        model.save(folder)
    return model


def scvi_test(model: Any, key: str, group: str, reference: str, delta: float) -> pd.DataFrame:
    table: pd.DataFrame = model.differential_expression(
        groupby=key, group1=group, group2=reference, delta=delta, mode="change", silent=True
    )
    return table


if __name__ == "__main__":
    main()
