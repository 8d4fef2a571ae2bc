"""Reading, training and encoding from files larger than memory is meant for: cells a second and peak memory.

    python benchmarks/scale.py make FOLDER [--cells 250000 1000000] [--genes 2000 13714]
    python benchmarks/scale.py measure FOLDER --out scale.md
    python benchmarks/scale.py sizes FOLDER
    python benchmarks/scale.py ranks FILE
    python benchmarks/scale.py paper

`make` resamples PBMC3k: a new cell is a Poisson draw around the mean of two cells of one type, so counts are fresh and types, library sizes
and zeros are those of real cells. Each file is written without compression, with lzf and with gzip, and as zarr. `measure` runs each case
in a new process and reports its peak memory over that of the imports. `sizes` compares the speed of reading and of training at 10,000,
100,000 and 1,000,000 cells (2,000 genes, gzip), by turns. It makes files that are missing. Small files get more epochs than large ones.
`ranks` trains by one process and by two that torchrun starts, each with one thread, by turns: with 256 cells a process (weak) and with 256
cells together (strong). `paper` prints what 10 and 100 million cells would take, computed from what was measured on smaller files.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scale_paper import print_tables
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


def path_of(folder: Path, n_cells: int, n_genes: int, kind: str) -> Path:
    """Return the file of one size and kind."""
    return folder / f"{n_cells}x{n_genes}-{kind}.{'zarr' if kind == 'zarr' else 'h5ad'}"


def make(folder: Path, n_cells: int, n_genes: int, kinds: Sequence[str] = KINDS) -> None:
    """Write the files of one size; cells lie in the order of their types, the worst case for reading blocks."""
    import anndata as ad
    import h5py
    import pandas as pd
    import zarr
    from anndata.io import sparse_dataset, write_elem

    counts_ng, type_n, genes = source_cells(n_genes)
    order = np.argsort(type_n, kind="stable")
    counts_ng, type_n = counts_ng[order], type_n[order]
    stems = {kind: path_of(folder, n_cells, n_genes, kind) for kind in kinds}
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


def load(path: Path, genes_of: str | None, n_epochs: int = 2) -> dict[str, Any]:
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
    for epoch in range(1, n_epochs + 1):
        started = time.perf_counter()
        n_cells = sum(len(batch) for batch in data.batches(epoch, 0, data.n_steps))
        speeds.append(n_cells / (time.perf_counter() - started))
    return {"cold": speeds[0], "warm": speeds[1], "speeds": speeds, "peak": peak_mb() - before}


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


def sized_load(path: Path, _: str) -> dict[str, float]:
    """Cells a second of shuffled minibatches in the median epoch after the first, without training."""
    return {"cells/s": float(np.median(load(path, None, epochs_for(path, MIN_CELLS_READ))["speeds"][1:]))}


def sized_train(path: Path, _: str) -> dict[str, float]:
    """Cells a second of a β-VSC in the median epoch after the first, from disk, without validation cells, and the peak memory."""
    import sparcell as sp

    before, n_epochs = peak_mb(), epochs_for(path, MIN_CELLS_TRAINED)
    model = sp.BetaVSC(epochs=n_epochs, validation_fraction=0.0).fit(sp.io.StoredCells(path), silent=True)
    return {
        "cells/s": len_of(path) / model.history["seconds"].iloc[1:].median(),
        "peak": peak_mb() - before,
    }


def epochs_for(path: Path, n_cells: int) -> int:
    """Epochs that show about `n_cells` cells, at least three."""
    return max(3, -(-n_cells // len_of(path)))


CASES: dict[str, Callable[[Path, Any], dict[str, Any]]] = {
    "load": load,
    "train": train,
    "encode": encode,
    "ranks": train_in_ranks,
    "sized load": sized_load,
    "sized train": sized_train,
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


SIZES = (10_000, 100_000, 1_000_000)
MIN_CELLS_READ, MIN_CELLS_TRAINED = 1_000_000, 200_000
MAX_SPREAD = 0.15
"""Largest allowed difference of the speeds at all sizes, as a fraction of the fastest."""


def measure_sizes(folder: Path, n_rounds: int) -> None:
    """Print the speeds at each size, median and range over the rounds, and whether they are the same within 15 %."""
    paths = [path_of(folder, n_cells, 2000, "gzip") for n_cells in SIZES]
    for path, n_cells in zip(paths, SIZES, strict=True):
        if not path.exists():
            make(folder, n_cells, 2000, ["gzip"])
    for case in ("sized load", "sized train"):
        found: dict[Path, list[dict[str, float]]] = {path: [] for path in paths}
        for _ in range(n_rounds):
            for path in paths:
                found[path].append(run(case, path))
        medians = []
        for path, rounds in found.items():
            speeds = sorted(one["cells/s"] for one in rounds)
            medians.append(float(np.median(speeds)))
            peak = f"; {max(one['peak'] for one in rounds):,.0f} MB" if "peak" in rounds[0] else ""
            print(
                f"{case}: {path.name}: {medians[-1]:,.0f} cells/s ({speeds[0]:,.0f} to {speeds[-1]:,.0f}){peak}",
                flush=True,
            )
        spread = 1 - min(medians) / max(medians)
        print(
            f"{case}: {spread:.1%} between the slowest and the fastest size; "
            f"{'within' if spread <= MAX_SPREAD else 'above'} {MAX_SPREAD:.0%}"
        )


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
    sizes = commands.add_parser("sizes")
    sizes.add_argument("folder", type=Path)
    sizes.add_argument("--rounds", type=int, default=3)
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
    elif options.command == "sizes":
        options.folder.mkdir(parents=True, exist_ok=True)
        measure_sizes(options.folder, options.rounds)
    elif options.command == "ranks":
        measure_ranks(options.path, options.rounds)
    elif options.command == "paper":
        print_tables()
    else:
        found = CASES[options.name](options.path, options.argument or None)
        if os.environ.get("RANK", "0") == "0":  # of several processes the first one reports
            print(json.dumps(found))


if __name__ == "__main__":
    main()
