"""What 10 and 100 million cells take, computed from what `scale.py` measured on smaller files: `python benchmarks/scale.py paper`."""

from __future__ import annotations

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


def print_tables() -> None:
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
