"""How fast a GPU trains, beside scvi-tools on the same card: a part of `benchmarks/gpu/run.sh`.

    python benchmarks/gpu/timings.py {card,batches,genes,study,use,stream,disk,scvi,compile} [FOLDER]

Each word is a part, run in a process of its own; it prints lines of a markdown table as they are measured. Without a GPU the parts run on
a few cells on the CPU, to try the script itself.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from cases import DEVICE, Card, counts, seconds_of, settings, tensor_cores, train, without

import sparcell as sp
from sparcell.config.presets import PRESETS, STUDY_2019
from sparcell.kernels import counts as count_kernels
from sparcell.training import cuda_graph

if TYPE_CHECKING:
    from collections.abc import Callable

BIG = DEVICE == "cuda"
N_CELLS = 2**16 if BIG else 600
BATCHES = (128, 256, 1024, 4096, 16384) if BIG else (128, 256)
HEAD = "| case | cells/s | s per epoch | s before | MB | share of the card |\n|---|---|---|---|---|---|"


def line(name: str, timed: Any, share: float | None = None) -> None:
    """Print a row of the table."""
    of_card = "" if share is None else f"{share:.2f}"
    print(
        f"| {name} | {timed.cells_per_second:,.0f} | {timed.epoch:.4f} | {timed.warm_up:.2f} | {timed.peak_mb:,.0f} | {of_card} |",
        flush=True,
    )


def card() -> None:
    """What the card reaches, and the versions."""
    found = Card.measured()
    if BIG:
        print(
            f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}, sparcell {sp.__version__}"
        )
    print(
        f"copy {found.bytes_per_second / 1e12:.2f} TB/s; products {found.float32 / 1e12:.0f} TFLOP/s in float32, "
        f"{found.tf32 / 1e12:.0f} in TF32, {found.bfloat16 / 1e12:.0f} in bfloat16"
    )


def batches() -> None:
    """nb over 2,000 genes at several sizes of minibatch and precisions; without each of the fast paths; other likelihoods."""
    found, adata = Card.measured(), counts(N_CELLS)
    least = found.least_seconds(N_CELLS, 2000, found.float32)
    print(HEAD)
    few = (256, 4096) if BIG else (256,)
    for size in BATCHES:
        timed = train(adata, settings(batch_size=size, epochs=3))
        line(f"nb, {size}", timed, least / timed.epoch)
    for size in few:
        config = settings(batch_size=size, epochs=3)
        with tensor_cores():
            line(f"nb, {size}, TF32", train(adata, config))
        with without(count_kernels, "gpu_kernels", lambda *of: None):
            line(f"nb, {size}, plain formulas", train(adata, config))
        with without(cuda_graph, "recorder_for", lambda device: None):
            line(f"nb, {size}, not recorded", train(adata, config))
        line(f"nb, {size}, bfloat16", train(adata, settings(batch_size=size, epochs=3, precision="bfloat16")))
    for likelihood in ("zinb", "poisson"):
        line(f"{likelihood}, 256", train(adata, settings(batch_size=256, epochs=3, likelihood=likelihood)))


def genes() -> None:
    """More genes; three batches; the usual settings."""
    found = Card.measured()
    print(HEAD)
    for n_genes in (13_714, 20_000):
        n_cells = 20_000 if BIG else 600
        adata = counts(n_cells, n_genes)
        for size in (256, 4096) if BIG else (256,):
            timed = train(adata, settings(batch_size=size, epochs=3))
            share = found.least_seconds(n_cells, n_genes, found.float32) / timed.epoch
            line(f"nb, {n_genes:,} genes, {size}", timed, share)
            if BIG:
                config = settings(batch_size=size, epochs=3, precision="bfloat16")
                line(f"nb, {n_genes:,} genes, {size}, bfloat16", train(adata, config))
    donors = counts(N_CELLS, 2000, 3)
    for size in (256, 4096) if BIG else (256,):
        timed = train(donors, settings(batch_size=size, epochs=3), batch_key="donor")
        line(f"nb, three batches, {size}", timed)
    adata = counts(N_CELLS)
    usual = sp.BetaVSC(epochs=4, device=DEVICE)
    line("β-VSC as it is, minibatches of 128, with validation cells", train(adata, usual))
    preset = {
        name: value
        for name, value in PRESETS["programs"].settings.items()
        if name in sp.BetaVSC.__dataclass_fields__
    }
    config = sp.BetaVSC(**(preset | {"epochs": 3, "device": DEVICE}))
    line("β-VSC, preset programs", train(adata, config, log_normalize=True))


def study() -> None:
    """The three models of the 2019 study, 200 epochs on 2,638 cells and 13,714 genes; the second of two trainings."""
    adata = counts(2638 if BIG else 600, 13_714)
    print("| model | s for 200 epochs | s of the whole fit | MB |\n|---|---|---|---|")
    for name in ("Autoencoder", "BetaVAE", "BetaVSC"):
        fields = getattr(sp, name).__dataclass_fields__
        shared = {key: value for key, value in STUDY_2019.items() if key in fields}
        config = getattr(sp, name)(**(shared | {"device": DEVICE, "epochs": 200 if BIG else 2}))
        for number in range(2):
            start = time.perf_counter()
            timed = train(adata, config, log_normalize=True)
            whole = time.perf_counter() - start
            total = timed.epoch * config.epochs
            print(
                f"| {name}, {('first', 'second')[number]} | {total:.2f} | {whole:.2f} | {timed.peak_mb:,.0f} |",
                flush=True,
            )


def use() -> None:
    """What comes after training: latents, programs, marginal likelihood."""
    adata = counts(N_CELLS)
    model = settings(batch_size=256, epochs=2).fit(adata, silent=True)
    some = adata[: N_CELLS // 10].copy()
    work: dict[str, Callable[[], Any]] = {
        f"transform, {N_CELLS:,} cells": lambda: model.transform(adata),
        f"score, {N_CELLS:,} cells": lambda: model.score(adata),
        f"reconstruct, {len(some):,} cells": lambda: model.reconstruct(some),
        f"marginal_log_likelihood, {len(some):,} cells": lambda: model.marginal_log_likelihood(some),
        f"programs, {len(some):,} cells": lambda: model.programs(some.copy()),
    }
    print("| | s | cells/s |\n|---|---|---|")
    for name, call in work.items():
        seconds = seconds_of(call, 1)
        n_cells = N_CELLS if f"{N_CELLS:,}" in name else len(some)
        print(f"| {name} | {seconds:.2f} | {n_cells / seconds:,.0f} |", flush=True)


def stream() -> None:
    """Cells that do not fit on the device: windows from the computer's memory."""
    from sparcell.data import loader

    adata = counts(4 * N_CELLS)
    print(HEAD)
    for size in (256, 4096) if BIG else (256,):
        config = settings(batch_size=size, epochs=3)
        resident = train(adata, config)
        with without(loader, "_resident_limit", lambda device: 0):
            streamed = train(adata, config)
        line(f"{4 * N_CELLS:,} cells, resident, {size}", resident)
        ratio = streamed.cells_per_second / resident.cells_per_second
        line(f"the same in windows, {size} ({ratio:.2f} of resident)", streamed)
        print("same losses:", resident.losses == streamed.losses, flush=True)


def disk() -> None:
    """Cells that stay in a file."""
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else ".")
    adata = counts(10 * N_CELLS)
    path = folder / "cells.h5ad"
    start = time.perf_counter()
    adata.write_h5ad(path)
    print(f"written in {time.perf_counter() - start:.1f} s, {path.stat().st_size / 2**30:.1f} GiB")
    print(HEAD)
    cells = sp.io.StoredCells(path)
    for size in (256, 4096) if BIG else (256,):
        timed = train(cells, settings(batch_size=size, epochs=3))
        line(f"{10 * N_CELLS:,} cells from an uncompressed file, {size}", timed)
    path.unlink()


def scvi() -> None:
    """scvi-tools' SCVI: the same network and cells."""
    import logging
    import statistics
    import warnings

    import lightning.pytorch as lightning
    from scvi.model import SCVI

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    n_cells = 30_000 if BIG else 600
    adata = counts(n_cells)
    SCVI.setup_anndata(adata)
    print("| scvi-tools | cells/s | s per epoch |\n|---|---|---|")
    for size in BATCHES[:4]:
        seconds: list[float] = []

        class Clock(lightning.Callback):  # type: ignore[misc]
            start = 0.0

            def on_train_epoch_start(self, *arguments: Any) -> None:
                self.start = time.perf_counter()

            def on_train_epoch_end(self, *arguments: Any) -> None:
                if BIG:
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - self.start)  # noqa: B023

        model = SCVI(adata, n_hidden=128, n_latent=10, n_layers=1, gene_likelihood="nb")
        model.train(
            max_epochs=3,
            batch_size=size,
            train_size=1.0,
            accelerator="gpu" if BIG else "cpu",
            enable_progress_bar=False,
            logger=False,
            callbacks=[Clock()],
        )
        epoch = statistics.median(seconds[1:])
        print(f"| nb, {size} | {n_cells / epoch:,.0f} | {epoch:.3f} |", flush=True)


PARTS: dict[str, Callable[[], None]] = {
    "card": card,
    "batches": batches,
    "genes": genes,
    "study": study,
    "use": use,
    "stream": stream,
    "disk": disk,
    "scvi": scvi,
}

if __name__ == "__main__":
    if sys.argv[1:2] == [] or sys.argv[1] not in PARTS:
        sys.exit(f"say which part: {', '.join(PARTS)}")
    PARTS[sys.argv[1]]()
