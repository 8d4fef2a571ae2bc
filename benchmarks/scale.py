"""Reading, training and encoding from files larger than memory is meant for: cells a second and peak memory.

    python benchmarks/scale.py make FOLDER [--cells 250000 1000000] [--genes 2000 13714]
    python benchmarks/scale.py measure FOLDER --out scale.md
    python benchmarks/scale.py ranks FILE
    python benchmarks/scale.py paper

`make` resamples PBMC3k: a new cell is a Poisson draw around the mean of two cells of one type, so counts are fresh and types, library sizes
and zeros are those of real cells. Each file is written without compression, with lzf and with gzip, and as zarr. `measure` runs each case
in a new process and reports its peak memory over that of the imports. `ranks` trains by one process and by two that torchrun starts, each
with one thread, by turns: with 256 cells a process (weak) and with 256 cells together (strong).
`paper` prints what 10 and 100 million cells would take, computed from what was measured on smaller files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

BLOCK = 20_000
"""Cells that are drawn and written at a time."""
KINDS = ("none", "lzf", "gzip", "zarr")


def source_cells(n_genes: int) -> tuple[sparse.csr_matrix, np.ndarray, list[str]]:
    """Counts, type numbers and gene names of PBMC3k; the variable genes if `n_genes` is 2,000."""
    import sparcell as sp

    adata = sp.datasets.pbmc3k()
    sp.pp.seurat(adata)
    if n_genes < adata.n_vars:
        sp.pp.variable_genes(adata, n_top_genes=n_genes)
        adata = adata[:, adata.var["highly_variable"]].copy()
    counts_ng = sparse.csr_matrix(adata.layers["counts"], dtype=np.float32)
    return counts_ng, adata.obs["cell_type"].cat.codes.to_numpy(), list(adata.var_names)


def drawn(
    counts_ng: sparse.csr_matrix, type_n: np.ndarray, first: np.ndarray, rng: np.random.Generator
) -> Any:
    """Fresh counts of cells that resemble the cells numbered `first`."""
    of_type = {kind: np.flatnonzero(type_n == kind) for kind in np.unique(type_n)}
    second = np.array([rng.choice(of_type[kind]) for kind in type_n[first]])
    mean_ng = (counts_ng[first] + counts_ng[second]) / 2
    mean_ng.data = rng.poisson(mean_ng.data).astype(np.float32)
    mean_ng.eliminate_zeros()
    return sparse.csr_matrix(mean_ng)


def make(folder: Path, n_cells: int, n_genes: int) -> None:
    """Write the files of one size; cells lie in the order of their types, the worst case for reading blocks."""
    import anndata as ad
    import h5py
    import pandas as pd
    import zarr
    from anndata.io import sparse_dataset, write_elem

    counts_ng, type_n, genes = source_cells(n_genes)
    order = np.argsort(type_n, kind="stable")
    counts_ng, type_n = counts_ng[order], type_n[order]
    stems = {
        kind: folder / f"{n_cells}x{n_genes}-{kind}.{'zarr' if kind == 'zarr' else 'h5ad'}" for kind in KINDS
    }
    shell = ad.AnnData(sparse.csr_matrix((0, len(genes)), dtype=np.float32))
    shell.var_names = genes
    warnings.simplefilter("ignore")
    for kind, path in stems.items():
        if kind == "zarr":
            shell.write_zarr(path)
            root: Any = zarr.open_group(path, mode="r+", use_consolidated=False)
        else:
            shell.write_h5ad(path)
            root = h5py.File(path, "r+")
        rng, compression = np.random.default_rng(0), {} if kind in ("none", "zarr") else {"compression": kind}
        first = np.sort(rng.integers(0, len(type_n), n_cells))
        for start in range(0, n_cells, BLOCK):
            block = drawn(counts_ng, type_n, first[start : start + BLOCK], rng)
            if start == 0:
                write_elem(root, "X", block, dataset_kwargs=compression)
            else:
                sparse_dataset(root["X"]).append(block)
        names = [f"cell {number}" for number in range(n_cells)]
        write_elem(root, "obs", pd.DataFrame({"cell_type": pd.Categorical(type_n[first])}, index=names))
        if kind == "zarr":
            zarr.consolidate_metadata(path)
        else:
            root.close()


def peak_mb() -> float:
    """Peak memory of this process in MB. Not by getrusage: on Linux a new process starts with the peak of its parent there."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def drop_from_cache(path: Path) -> None:
    """Ask the system to forget the pages of a file or folder, so that the next read is from the disk."""
    for file in [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def load(path: Path, genes_of: str | None) -> dict[str, float]:
    """Cells a second of shuffled minibatches, without training; only the genes of another file if one is named."""
    import torch

    from sparcell.data.covariates import Covariates
    from sparcell.data.loader import Loader
    from sparcell.data.schema import Schema
    from sparcell.data.streaming import StreamedTrainingData
    from sparcell.io.stored import StoredCells

    cells = StoredCells(path)
    genes = StoredCells(genes_of).var_names if genes_of else cells.var_names
    schema = Schema(tuple(genes), None, counts=True, log_normalize=False)
    before = peak_mb()
    loader = Loader(schema.cells(cells), Covariates().average(cells.n_obs), len(genes), torch.device("cpu"))
    data = StreamedTrainingData(loader, np.arange(cells.n_obs), np.empty(0, dtype=np.int64), 128, 0)
    drop_from_cache(path)
    speeds = []
    for epoch in (1, 2):
        started = time.perf_counter()
        n_cells = sum(len(batch) for batch in data.batches(epoch, 0, data.n_steps))
        speeds.append(n_cells / (time.perf_counter() - started))
    return {"cold": speeds[0], "warm": speeds[1], "peak": peak_mb() - before}


def train(path: Path, memory: str) -> dict[str, float]:
    """Cells a second of the second epoch of a β-VSC, from disk or, with a large `memory`, from memory."""
    import sparcell as sp

    before = peak_mb()
    data = sp.io.StoredCells(path) if memory == "1KB" else path  # a limit of 1 KB would make windows small
    model = sp.BetaVSC(epochs=3).fit(data, memory=memory, silent=True)
    n_cells = len_of(path)
    n_training = n_cells - min(n_cells // 10, 65_536)
    return {"cells/s": n_training / model.history["seconds"].iloc[1:].min(), "peak": peak_mb() - before}


def len_of(path: Path) -> int:
    """Number of cells of a file."""
    from sparcell.io.matrix_files import MatrixFile

    return len(MatrixFile(path))


def encode(path: Path, model_dir: str) -> dict[str, float]:
    """Seconds of `sparcell embed` without the start of Python, and its peak memory."""
    import sparcell as sp
    from sparcell.io.stored import StoredCells

    model = sp.load(model_dir)
    before, started = peak_mb(), time.perf_counter()
    cells = StoredCells(path)
    model.embed(cells)
    with tempfile.TemporaryDirectory() as folder:
        cells.write(Path(folder) / "out.h5ad")
    return {"seconds": time.perf_counter() - started, "peak": peak_mb() - before}


def train_in_ranks(path: Path, batch_size: str) -> dict[str, float]:
    """Cells a second of the best epoch after the first, by all processes together, and processor time of one of them for a step."""
    import sparcell as sp

    clocks: list[tuple[float, float]] = []
    sp.BetaVSC(epochs=6, batch_size=int(batch_size), validation_fraction=0.0).fit(
        path,
        silent=True,
        on_epoch=lambda record: clocks.append((time.perf_counter(), time.process_time())),
    )
    seconds, cpu_seconds = np.diff(np.array(clocks), axis=0).min(axis=0)
    n_cells = len_of(path)
    return {
        "cells/s": n_cells / seconds,
        "cpu ms": 1000 * cpu_seconds / -(-n_cells // int(batch_size)),
    }


CASES: dict[str, Callable[[Path, Any], dict[str, float]]] = {
    "load": load,
    "train": train,
    "encode": encode,
    "ranks": train_in_ranks,
}


def run(case: str, path: Path, argument: str = "", n_ranks: int = 1) -> dict[str, float]:
    """Run a case in a new process, or in several that torchrun starts, each with one thread."""
    launcher, environment = [sys.executable], dict(os.environ)
    if case == "ranks":
        environment |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    if n_ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_ranks}"]
    command = [*launcher, __file__, "case", case, str(path), argument]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


RANK_CASES = {
    "1 process, 256 cells": (256, 1),
    "2 processes, 256 cells each": (512, 2),
    "2 processes, 128 cells each": (256, 2),
}


def measure_ranks(path: Path, n_rounds: int) -> None:
    """Print the speed of one and of two processes, measured by turns: the best round, the range, and the processor time."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RANK_CASES}
    for _ in range(n_rounds):
        for name, (batch_size, n_ranks) in RANK_CASES.items():
            found[name].append(run("ranks", path, str(batch_size), n_ranks))
    for name, rounds in found.items():
        speeds = sorted(one["cells/s"] for one in rounds)
        cpu_ms = min(one["cpu ms"] for one in rounds)
        print(
            f"| {name} | {speeds[-1]:,.0f} cells/s | {speeds[0]:,.0f} to {speeds[-1]:,.0f} | {cpu_ms:.1f} ms |"
        )


def load_repeatedly(path: Path, genes_of: str, repeats: int) -> tuple[str, float]:
    """Run the case `load` in several processes; return the median speeds with the range of the warm ones, and the highest peak memory."""
    runs = [run("load", path, genes_of) for _ in range(repeats)]
    cold, warm = (sorted(one[name] for one in runs) for name in ("cold", "warm"))
    text = f"{cold[repeats // 2]:,.0f} cells/s cold, {warm[repeats // 2]:,.0f} warm ({warm[0]:,.0f} to {warm[-1]:,.0f})"
    return text, max(one["peak"] for one in runs)


def measure(folder: Path, out: Path, repeats: int) -> None:
    """Run all cases over the files of a folder and write the table."""
    import sparcell as sp

    lines = ["| case | file | result | peak over imports |", "|---|---|---|---|"]

    def row(case: str, file: str, result: str, peak: float) -> None:
        lines.append(f"| {case} | {file} | {result} | {peak:,.0f} MB |")
        print(lines[-1], flush=True)
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")

    files = sorted(folder.glob("*x*-*"), key=lambda path: (int(path.name.split("x")[0]), path.name))
    for path in files:
        row("shuffled minibatches", path.name, *load_repeatedly(path, "", repeats))
    narrow = [path for path in files if "x2000-" in path.name]
    for path in [path for path in files if "x13714-" in path.name]:
        row("2,000 of the genes", path.name, *load_repeatedly(path, str(narrow[0]), repeats))
    with tempfile.TemporaryDirectory() as model_dir:
        sp.BetaVSC(epochs=1).fit(narrow[0], memory="100TB", silent=True).save(Path(model_dir) / "m")
        for path in narrow:
            for memory in ("1KB", "100TB"):
                found = run("train", path, memory)
                where = "from disk" if memory == "1KB" else "from memory"
                row(f"training {where}", path.name, f"{found['cells/s']:,.0f} cells/s", found["peak"])
            found = run("encode", path, str(Path(model_dir) / "m"))
            row("embed", path.name, f"{found['seconds']:.1f} s", found["peak"])


VALUES_PER_CELL = {2000: 168, 20_000: 730}
"""Of PBMC3k resampled: its 2,000 most variable genes, and all 13,714, which stand for the 20,000 of an atlas of the same depth."""
GZIP_BYTES_PER_VALUE = {2000: 1.88, 20_000: 2.18}
"""Values and indices together; 8 without compression."""
LOADER_CELLS_PER_CORE = {2000: 168_000, 20_000: 48_900}
"""Shuffled minibatches of 2,000 genes from gzip with isal, cells a second: half of what two cores reach (docs/guide/scale.md)."""
MAX_READERS = 8
"""Most threads that read (`io.selection.MAX_THREADS`)."""
TRAINING_SPEED = {"2 cores": 21_000, "H200, 256 cells": 444_000, "H200, 4,096 cells": 2_719_000}
"""Cells a second of 2,000 genes that are in memory, by minibatch: docs/guide/scale.md (β-VSC) and benchmarks/gpu.md (nb)."""
DISKS = {"0.5 GB/s": 0.5e9, "3 GB/s": 3e9}
BYTES_PER_CELL = {
    "training cells in their order (int32)": 4,
    "totals of the facts (float32)": 4,
    "library sizes (float32)": 4,
    "batch numbers in obs, as int32 and as int16": 7,
    "lengths of the rows (uint16)": 2,
    "numbers of values of the facts (uint16)": 2,
}
"""Arrays with a number for each cell that training from a file holds."""
N_LATENTS = 10


def paper() -> None:
    """Print the tables of docs/guide/scale.md on 10 and 100 million cells."""
    print(
        "| cells | genes in the file | values | uncompressed | gzip | disk, 0.5 GB/s | disk, 3 GB/s |", end=""
    )
    print(" decompression, 2 cores | 8 cores | training, 2 cores | H200, 256 cells | H200, 4,096 cells |")
    print("|" + "---|" * 12)
    for n_cells in (10_000_000, 100_000_000):
        for n_genes, per_cell in VALUES_PER_CELL.items():
            n_values = n_cells * per_cell
            n_bytes = n_values * GZIP_BYTES_PER_VALUE[n_genes]
            seconds = [n_bytes / speed for speed in DISKS.values()]
            seconds += [n_cells / (LOADER_CELLS_PER_CORE[n_genes] * n) for n in (2, MAX_READERS)]
            seconds += [n_cells / speed for speed in TRAINING_SPEED.values()]
            row = [
                f"{n_cells:,}",
                f"{n_genes:,}",
                f"{n_values / 1e9:.3g} billion",
                f"{n_values * 8 / 1e9:,.3g} GB",
            ]
            row += [f"{n_bytes / 1e9:,.3g} GB", *map(duration, seconds)]
            print("| " + " | ".join(row) + " |")
    sizes = {f"{name}, {size} bytes a cell": size for name, size in BYTES_PER_CELL.items()}
    sizes["all of these"] = sum(BYTES_PER_CELL.values())
    sizes[f"latents and inclusion, {N_LATENTS} latents, in a temporary file"] = 8 * N_LATENTS
    print("\n| array | 10,000,000 cells | 100,000,000 cells |\n|---|---|---|")
    for name, size in sizes.items():
        print(f"| {name} | {size * 10 / 1000:.3g} GB | {size * 100 / 1000:.3g} GB |")


def duration(seconds: float) -> str:
    """Return seconds as they are read best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    making = commands.add_parser("make")
    making.add_argument("folder", type=Path)
    making.add_argument("--cells", type=int, nargs="+", default=[250_000, 1_000_000])
    making.add_argument("--genes", type=int, nargs="+", default=[2000, 13714])
    measuring = commands.add_parser("measure")
    measuring.add_argument("folder", type=Path)
    measuring.add_argument("--out", type=Path, default=Path("scale.md"))
    measuring.add_argument("--repeats", type=int, default=3, help="processes that each loader is run in")
    ranks = commands.add_parser("ranks")
    ranks.add_argument("path", type=Path)
    ranks.add_argument("--rounds", type=int, default=5)
    commands.add_parser("paper")
    one = commands.add_parser("case")
    one.add_argument("name", choices=CASES)
    one.add_argument("path", type=Path)
    one.add_argument("argument")
    options = parser.parse_args()
    if options.command == "make":
        options.folder.mkdir(parents=True, exist_ok=True)
        for n_cells in options.cells:
            for n_genes in options.genes:
                make(options.folder, n_cells, n_genes)
    elif options.command == "measure":
        measure(options.folder, options.out, options.repeats)
    elif options.command == "ranks":
        measure_ranks(options.path, options.rounds)
    elif options.command == "paper":
        paper()
    else:
        found = CASES[options.name](options.path, options.argument or None)
        if os.environ.get("RANK", "0") == "0":  # of several processes the first one reports
            print(json.dumps(found))


if __name__ == "__main__":
    main()
