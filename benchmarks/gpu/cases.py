"""What the timings of a GPU share: cells, trainings, and the time that a card needs at least.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse

import sparcell as sp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HIDDEN = 128


@cache
def counts(n_cells: int, n_genes: int = 2000, n_batches: int = 0) -> Any:
    """Counts of 8 groups of cells, of which about a tenth are not 0, as sparse rows; obs["donor"] if there are batches."""
    import anndata

    draw = np.random.default_rng(0)
    rate_kg = draw.gamma(0.3, 0.4, n_genes) * draw.lognormal(0, 0.7, (8, n_genes))
    # Draws of fresh counts take long: 4,000 cells are drawn, and each is used again with its genes in place and another size.
    drawn = min(4000, n_cells)
    blocks = [draw.poisson(rate_kg[number % 8], n_genes).astype(np.float32) for number in range(drawn)]
    pattern = sparse.csr_matrix(np.stack(blocks))
    rows = draw.integers(0, drawn, n_cells)
    adata = anndata.AnnData(pattern[rows])
    adata.obs_names = [f"cell{number}" for number in range(n_cells)]
    adata.var_names = [f"gene{number}" for number in range(n_genes)]
    if n_batches:
        adata.obs["donor"] = [f"donor{number % n_batches}" for number in range(n_cells)]
    return adata


def settings(model: str = "BetaVAE", **changes: Any) -> Any:
    """scvi-tools' default network, 128 hidden units and 10 latents, without validation cells or warm-up."""
    usual: dict[str, Any] = {
        "likelihood": "nb",
        "n_latent": 10,
        "encoder_widths": (HIDDEN,),
        "decoder_widths": (HIDDEN,),
        "validation_fraction": 0.0,
        "early_stopping_patience": 0,
        "kl_warmup_fraction": 0.0,
        "device": DEVICE,
    }
    return getattr(sp, model)(**(usual | changes))


@dataclass
class Timed:
    """One training."""

    cells_per_second: float
    epoch: float
    """Seconds of the median epoch, without the first one."""
    warm_up: float
    """Seconds from the call of `fit` to the end of the first epoch, less one epoch."""
    peak_mb: float
    """Most memory of the device."""
    losses: list[float]


def train(adata: Any, config: Any, **keywords: Any) -> Timed:
    """Fit and time the epochs."""
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    ends: list[float] = []
    start = time.perf_counter()
    model = config.fit(
        adata, silent=True, on_epoch=lambda record: ends.append(time.perf_counter()), **keywords
    )
    seconds = model.history["seconds"].to_numpy()
    epoch = statistics.median(seconds[1:].tolist() or seconds.tolist())
    peak = torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else 0.0
    losses = model.history["loss"].tolist()
    return Timed(adata.n_obs / epoch, epoch, ends[0] - start - epoch, peak, losses)


@contextmanager
def without(module: Any, name: str, value: Any) -> Iterator[None]:
    """Replace a name of a module for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def tensor_cores() -> Iterator[None]:
    """Allow products of float32 matrices in TF32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def seconds_of(work: Callable[[], Any], repeats: int = 10) -> float:
    """Median seconds on the device."""
    taken = []
    for _ in range(repeats + 2):
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:])


@dataclass
class Card:
    """What the device reaches: measured, not from a data sheet."""

    bytes_per_second: float
    float32: float
    """FLOP per second of a product of float32 matrices."""
    tf32: float
    bfloat16: float

    @classmethod
    def measured(cls, size: int = 8192) -> Card:
        """Time a copy of a gigabyte and products of square matrices."""
        if DEVICE != "cuda":
            size = 256
        source = torch.rand(2**28 if DEVICE == "cuda" else 2**20, device=DEVICE)
        target = torch.empty_like(source)
        copied = 8 * len(source) / seconds_of(lambda: target.copy_(source))
        a, b = torch.rand((2, size, size), device=DEVICE).unbind()
        flop = 2 * size**3
        plain = flop / seconds_of(lambda: a @ b)
        with tensor_cores():
            tf32 = flop / seconds_of(lambda: a @ b)
        a, b = a.bfloat16(), b.bfloat16()
        return cls(copied, plain, tf32, flop / seconds_of(lambda: a @ b))

    def least_seconds(self, n_cells: int, n_genes: int, flop_rate: float) -> float:
        """Seconds that an epoch of nb takes at least: by its products or by its bytes, whichever is more.

        Products: two of the encoder, three of the head, each 2 · n · g · h operations. Bytes: 16 passes over n × g float32 values. Cells
        are gathered (2), turned into the encoder's input (2) and read there by two products (2). Logits are written by a product and read
        for their sum (2); they and the counts are read for the loss (2) and for the gradients (2), which are written (1), read by two
        products and summed (3).
        """
        flop = 5 * 2 * n_cells * n_genes * HIDDEN
        return max(flop / flop_rate, 4 * 16 * n_cells * n_genes / self.bytes_per_second)
