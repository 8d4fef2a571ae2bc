"""Whether training from a file in the order of its types and donors ends where training on fully shuffled cells ends.

    python benchmarks/sorted_file.py kang_ifnb.h5ad --batch-key batch --labels-key cell_type

Writes a copy with 2,000 variable genes, sorted by type and batch. A β-VSC is trained on it for each seed: from memory, where each
epoch shuffles all cells, and from disk with windows of a half, a quarter and an eighth of the values. Both have the same
validation cells. A block is one stored chunk, so that a window holds many blocks, as it does of a file of a million cells.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from unittest import mock

import anndata as ad
import numpy as np

import sparcell as sp
from sparcell.io import matrix_files
from sparcell.io.matrix_files import MatrixFile
from sparcell.io.stored import StoredCells


def write_sorted(path: Path, out: Path, batch_key: str, labels_key: str) -> None:
    """Write the cells of `path` in the order of types and batches, with their variable genes."""
    adata = ad.read_h5ad(path)
    adata = adata[adata.obs[labels_key].notna()].copy()
    sp.pp.variable_genes(adata, n_top_genes=2000, batch_key=batch_key)
    adata = adata[:, adata.var["highly_variable"]].copy()
    adata = adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0]
    order = np.lexsort((adata.obs[batch_key].astype(str), adata.obs[labels_key].astype(str)))
    adata[order].copy().write_h5ad(out, compression="gzip")


def main() -> None:
    """Train and print one line per run, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--batch-key", required=True)
    parser.add_argument("--labels-key", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--block-values", type=int, default=1, help="least values in a block; 65536 in real use"
    )
    parser.add_argument("--windows", type=int, nargs="+", default=[2, 4, 8])
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sorted.h5ad"
        write_sorted(options.path, path, options.batch_key, options.labels_key)
        matrix_files.BLOCK_VALUES = options.block_values
        in_memory, file = ad.read_h5ad(path), MatrixFile(path)
        n_values, n_blocks = in_memory.X.nnz, len(file.edges) - 1
        types = in_memory.obs[options.labels_key]
        n_types = types.nunique()
        print(f"{in_memory.n_obs:,} cells, {n_values:,} values, {n_blocks} blocks")
        for seed in options.seeds:
            for share in (1, *options.windows):
                data = in_memory if share == 1 else StoredCells(path, obs_keys=[options.batch_key])
                with mock.patch("sparcell.data.budget.MAX_WINDOW_VALUES", n_values // share):
                    model = sp.BetaVSC(seed=seed).fit(data, batch_key=options.batch_key, silent=True)
                name = "memory" if share == 1 else f"disk, windows of 1/{share}"
                clusters, _ = sp.tl.kmeans(model.transform(in_memory), n_types, seed=seed)
                nmi = sp.metrics.clustering_scores(types, clusters)["nmi"]
                found.setdefault(name, []).append((model.history["validation_loss"].min(), nmi))
                print(seed, name, found[name][-1], len(model.history), flush=True)
    print("| cells from | lowest validation loss: mean (least to most) | NMI |\n|---|---|---|")
    for name, runs in found.items():
        losses, scores = np.array(runs).T
        print(
            f"| {name} | {losses.mean():.2f} ({losses.min():.2f} to {losses.max():.2f}) | {scores.mean():.3f} ({scores.min():.3f} to "
            f"{scores.max():.3f}) |"
        )


if __name__ == "__main__":
    main()
