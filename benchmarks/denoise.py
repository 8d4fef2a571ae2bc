"""Measure `Model.denoise` by molecular cross-validation, beside raw counts, PCA, smoothing over neighbors and scVI.

    python benchmarks/denoise.py DATA.h5ad [--batch-key batch] [--n-top-genes 2000] [--seeds 3] [--external scvi] [--external-epochs 400]

A fraction .8 of the molecules of each cell trains each method, and the rest is predicted (count splitting; Batson et al. 2019). The
score is the mean Poisson deviance of the held-out counts per entry; lower is better. Raw counts, PCA and smoothing are mixed with the mean
of each gene, since a prediction of 0 has an infinite deviance; their number of components, of neighbors and their share of that mean are
those with the best score, which favors them. Suffixes: n cells, g genes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

import sparcell as sp
from sparcell.benchmark.methods import planned_epochs, scvi_epochs

Floats = NDArray[np.floating]

TRAIN_FRACTION = 0.8
HELD_OUT = "held_out"
RANKS = (2, 5, 10, 20, 40, 80)
NEIGHBORS = (5, 10, 20, 40, 80)
SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
"""Shares of the mean of each gene in a prediction."""
SCORES: dict[str, list[float]] = {}


def main() -> None:
    arguments = parse()
    for seed in range(arguments.seeds):
        cells = split(sp.io.read(arguments.data), seed, arguments.n_top_genes, arguments.batch_key)
        for name, predicted_ng in predictions(cells, seed, arguments):
            score = deviance(cells.layers[HELD_OUT].toarray(), predicted_ng)
            SCORES.setdefault(name, []).append(score)
            print(f"seed {seed}, {name}: {score:.5f}", flush=True)
    print("| method | deviance per entry |\n|---|---|")
    for name, scores in SCORES.items():
        print(f"| {name} | {np.mean(scores):.4f} ± {np.std(scores):.4f} |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--batch-key")
    parser.add_argument("--n-top-genes", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--external", choices=["none", "scvi"], default="none")
    parser.add_argument("--external-epochs", type=int)
    return parser.parse_args()


def split(adata: ad.AnnData, seed: int, n_top_genes: int, batch_key: str | None) -> ad.AnnData:
    """Return the cells with the training molecules in X and the held-out ones in a layer, on genes chosen by the training molecules."""
    adata = adata.copy()
    counts_ng = sparse.csr_matrix(adata.X)
    train_ng = counts_ng.copy()
    drawn = np.random.default_rng(seed).binomial(counts_ng.data.astype(np.int64), TRAIN_FRACTION)
    train_ng.data = drawn.astype(np.float32)
    train_ng.eliminate_zeros()
    adata.layers[HELD_OUT], adata.X = sparse.csr_matrix(counts_ng - train_ng), train_ng
    sp.pp.variable_genes(adata, n_top_genes=n_top_genes, batch_key=batch_key)
    adata = adata[:, adata.var["highly_variable"]].copy()
    return adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()


def predictions(cells: ad.AnnData, seed: int, arguments: argparse.Namespace) -> Iterator[tuple[str, Floats]]:
    """Yield each method and what it expects of the training molecules."""
    model = sp.BetaVSC(seed=seed).fit(cells, batch_key=arguments.batch_key, silent=True)
    yield "sparcell", denoised(model, cells, own_counts=True)
    yield "sparcell, decoder alone", denoised(model, cells, own_counts=False)
    if arguments.external == "scvi":
        yield "scVI", scvi(cells, seed, arguments)
    counts_ng = cells.X.toarray()
    size_n1 = counts_ng.sum(axis=1, keepdims=True)
    mean_ng = size_n1 * (counts_ng / size_n1).mean(axis=0)
    held_out_ng = cells.layers[HELD_OUT].toarray()
    yield "mean of each gene", mean_ng
    yield "raw counts", best([counts_ng], mean_ng, held_out_ng)
    log_ng = np.log1p(counts_ng / size_n1 * 1e4)
    components = PCA(max(RANKS), random_state=0).fit(log_ng)
    scores_nk = components.transform(log_ng)
    smooth = [from_components(components, scores_nk, rank, size_n1, mean_ng) for rank in RANKS]
    yield "PCA", best(smooth, mean_ng, held_out_ng)
    neighbors = NearestNeighbors(n_neighbors=max(NEIGHBORS)).fit(scores_nk[:, :30])
    number_nm = neighbors.kneighbors(return_distance=False)
    fraction_ng = counts_ng / size_n1
    smooth = [size_n1 * averaged(fraction_ng, number_nm[:, :n]) for n in NEIGHBORS]
    yield "mean over neighbors", best(smooth, mean_ng, held_out_ng)


def denoised(model: sp.Model, cells: ad.AnnData, *, own_counts: bool) -> Floats:
    result = model.denoise(cells, copy=True, own_counts=own_counts)
    assert result is not None
    return np.asarray(result.layers["denoised"])


def scvi(cells: ad.AnnData, seed: int, arguments: argparse.Namespace) -> Floats:
    """Return the mean of 25 draws of scVI's decoder at each cell's library size."""
    import scvi as library

    library.settings.seed = seed
    epochs = arguments.external_epochs or planned_epochs(scvi_epochs(cells.n_obs), cells.n_obs, "auto")
    library.model.SCVI.setup_anndata(cells, batch_key=arguments.batch_key)
    model = library.model.SCVI(cells, gene_likelihood="nb")
    model.train(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False)
    fraction_ng = model.get_normalized_expression(library_size=1, n_samples=25, return_numpy=True)
    size_n1 = np.asarray(cells.X.sum(axis=1)).reshape(-1, 1)
    return np.asarray(fraction_ng * size_n1)


def from_components(
    components: PCA, scores_nk: Floats, rank: int, size_n1: Floats, mean_ng: Floats
) -> Floats:
    """Return counts from some components of log-normalized counts, with the mean of each gene as in the data."""
    log_ng = scores_nk[:, :rank] @ components.components_[:rank] + components.mean_
    counts_ng = np.expm1(log_ng.clip(0)) * size_n1 / 1e4
    total_g = counts_ng.sum(axis=0)
    return np.asarray(
        counts_ng * np.divide(mean_ng.sum(axis=0), total_g, out=np.zeros_like(total_g), where=total_g > 0)
    )


def averaged(fraction_ng: Floats, number_nm: NDArray[np.integer]) -> Floats:
    """Return the mean over each cell and its neighbors."""
    n_cells, n_neighbors = number_nm.shape
    rows = np.repeat(np.arange(n_cells), n_neighbors)
    graph = sparse.csr_matrix((np.ones(len(rows)), (rows, number_nm.ravel())), shape=(n_cells, n_cells))
    graph = graph + sparse.eye_array(n_cells)
    smooth_ng = graph @ sparse.csr_matrix(fraction_ng)
    return np.asarray(smooth_ng.toarray() / (n_neighbors + 1))


def best(candidates: list[Floats], mean_ng: Floats, held_out_ng: Floats) -> Floats:
    """Return the candidate, mixed with the mean of each gene, that predicts the held-out molecules best."""
    mixed = ((1 - share) * one + share * mean_ng for one in candidates for share in SHARES)
    scored = ((deviance(held_out_ng, one), number, one) for number, one in enumerate(mixed))
    return min(scored, key=lambda entry: entry[:2])[2]


def deviance(held_out_ng: Floats, expected_ng: Floats) -> float:
    """Return the mean Poisson deviance of the held-out counts; `expected_ng` is in the units of the training molecules."""
    mean_ng = np.maximum(expected_ng * (1 - TRAIN_FRACTION) / TRAIN_FRACTION, 1e-12)
    terms_ng = mean_ng - held_out_ng
    found = held_out_ng > 0
    terms_ng[found] += held_out_ng[found] * np.log(held_out_ng[found] / mean_ng[found])
    return float(2 * terms_ng.mean(dtype=np.float64))


if __name__ == "__main__":
    main()
