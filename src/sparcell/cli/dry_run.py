"""What `fit --dry-run` and `embed --dry-run` print: shapes, genes, memory and time, measured on a few blocks. Nothing is written."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.config.experiments import FitConfig
    from sparcell.io import StoredCells
    from sparcell.models.estimator import Estimator
    from sparcell.models.fitted import Model

MAX_BLOCKS, MAX_READ_SECONDS = 16, 5.0
"""Blocks from all over the file that are read to measure the speed, and the time after which no further one is read."""
N_CELLS = 4096
"""Cells that a model is trained on, or that are encoded, to measure the speed."""
NOTHING = "dry run: nothing was written"


@dataclass(frozen=True)
class Probe:
    """Some cells in memory, and how fast cells are read from the file."""

    some: AnnData
    n_cells: int
    """Cells of the input."""
    seconds_per_cell: float
    """Time to read a cell; 0 for data in memory."""
    reading: str
    """How fast cells are read, in words."""


def print_fit(
    adata: AnnData | StoredCells, estimator: Estimator, config: FitConfig, data_settings: dict[str, Any]
) -> None:
    """Print what `sparcell fit` would do."""
    from sparcell.cli import fitting
    from sparcell.data.sampler import MAX_VALIDATION_CELLS
    from sparcell.models.labelling import label_column
    from sparcell.training.plan import TrainPlan

    probe = _probe(adata, estimator.batch_size)
    settings = dict(data_settings)
    if config.n_top_genes is not None:
        settings["genes_key"] = fitting.choose_genes(probe.some, config, settings)
    labels_key = settings.pop("labels_key", None)
    if labels_key is not None:
        label_column(adata, labels_key)  # the cells that are measured may have no labels
    short = replace(estimator, epochs=2, validation_fraction=0.0)
    model = short.fit(probe.some, **settings, silent=True)
    per_cell = float(model.history["seconds"].iloc[1]) / probe.some.n_obs
    n_validation = min(int(estimator.validation_fraction * probe.n_cells), MAX_VALIDATION_CELLS)
    n_training = probe.n_cells - n_validation
    epochs = TrainPlan.of(estimator, math.ceil(n_training / estimator.batch_size), 1.0).n_epochs
    epoch_seconds = n_training * max(per_cell, probe.seconds_per_cell) + n_validation * per_cell / 3
    encoding = probe.n_cells * max(_encoding_seconds(model, probe), probe.seconds_per_cell)
    passes = 3 * probe.n_cells * probe.seconds_per_cell
    _print_shapes(adata, model, data_settings.get("batch_key"))
    _print_memory(adata, model, probe, n_validation)
    print(f"{probe.reading}training {1 / per_cell:,.0f} cells/s (measured on {probe.some.n_obs:,} cells)")
    print(
        f"time: {epochs} epochs at most, {_duration(epoch_seconds)} each, {_duration(epochs * epoch_seconds)} together; "
        f"checks and first passes {_duration(passes)}; encoding {_duration(encoding)}"
    )
    print(NOTHING)


def print_embed(adata: AnnData | StoredCells, model: Model, unseen: Any) -> None:
    """Print what `sparcell embed` would do."""
    probe = _probe(adata)
    per_cell = _encoding_seconds(model, probe, unseen)
    seconds = probe.n_cells * max(per_cell, probe.seconds_per_cell) + probe.n_cells * probe.seconds_per_cell
    _print_shapes(adata, model, None)
    _print_memory(adata, model, probe, None)
    print(f"{probe.reading}encoding {1 / per_cell:,.0f} cells/s (measured on {probe.some.n_obs:,} cells)")
    print(f"time: {_duration(seconds)}, without writing --out")
    print(NOTHING)


def _probe(adata: AnnData | StoredCells, least: int = 1) -> Probe:
    """Return some cells in memory, at least `least`, and measure how fast cells are read."""
    from sparcell.data.sampler import subsample
    from sparcell.io import StoredCells

    n_some = max(N_CELLS, least)
    if not isinstance(adata, StoredCells):
        return Probe(adata[subsample(adata.n_obs, n_some, 0)].copy(), adata.n_obs, 0.0, "")
    edges = adata.rows.edges
    blocks = subsample(len(edges) - 1, MAX_BLOCKS, 0)
    started, n_read, n_blocks = time.perf_counter(), 0, 0
    for block in blocks:
        adata.rows.read(int(edges[block]), int(edges[block + 1]))
        n_read, n_blocks = n_read + int(edges[block + 1] - edges[block]), n_blocks + 1
        if time.perf_counter() - started > MAX_READ_SECONDS:
            break
    per_cell = (time.perf_counter() - started) / max(1, n_read)
    read = np.concatenate([np.arange(edges[block], edges[block + 1]) for block in blocks[:n_blocks]])
    rows = read[subsample(len(read), n_some, 0)]
    if len(rows) < least:
        rows = subsample(adata.n_obs, least, 0)
    words = f"speed: reading {1 / per_cell:,.0f} cells/s ({n_blocks} of {len(edges) - 1:,} blocks measured); "
    return Probe(adata[rows], adata.n_obs, per_cell, words)


def _encoding_seconds(model: Model, probe: Probe, unseen: Any = "average") -> float:
    """Return the seconds that encoding takes, per cell."""
    model.transform(probe.some, unseen=unseen)  # compiles
    started = time.perf_counter()
    model.transform(probe.some, unseen=unseen)
    return (time.perf_counter() - started) / len(probe.some.obs)


def _print_shapes(adata: AnnData | StoredCells, model: Model, batch_key: str | None) -> None:
    n_genes = len(model.schema.genes)
    batch = f"batch: {batch_key} ({adata.obs[batch_key].nunique()} values)" if batch_key in adata.obs else ""
    values = "raw counts" if model.schema.counts or model.schema.log_normalize else "log-normalized values"
    parts = [
        f"{adata.n_obs:,} cells × {adata.n_vars:,} genes",
        f"{model.schema.layer or 'X'} holds {values} (of the cells measured)",
        f"{n_genes:,} genes used" if n_genes < adata.n_vars else "all genes used",
        *([batch] if batch else []),
    ]
    print("; ".join(parts))


def _print_memory(adata: AnnData | StoredCells, model: Model, probe: Probe, n_validation: int | None) -> None:
    """Print what is in memory, over the libraries; raise InputError if training cannot keep to the limit."""
    from sparcell.data.budget import BYTES_PER_CELL, BYTES_PER_VALUE, format_size, plan_memory
    from sparcell.data.expression import read_layer
    from sparcell.io import StoredCells
    from sparcell.results.large_arrays import MIN_BYTES

    has_spikes = model.latent_representation(probe.some, unseen="average").inclusion_nk is not None
    per_array = adata.n_obs * model.settings.n_latent * 4
    latents = f"latents {format_size(per_array * (1 + has_spikes))}"
    if isinstance(adata, StoredCells) and per_array >= MIN_BYTES:
        latents += " in a temporary file"
    if not isinstance(adata, StoredCells):
        matrix = read_layer(adata, model.schema.layer)[0]
        n_values = matrix.nnz if hasattr(matrix, "nnz") else matrix.size
        parts = f"the matrix {format_size(n_values * BYTES_PER_VALUE)}, once more if genes or units change"
    elif n_validation is None:
        parts = (
            f"numbers of each cell {format_size(adata.n_obs * BYTES_PER_CELL)}, blocks that are read 150 MB"
        )
    else:
        per_cell = model.schema.matrix(probe.some).nnz / probe.some.n_obs
        n_columns, n_stored = model.schema.covariates.n_columns, len(adata.rows.edges) - 1
        parts = str(plan_memory(adata.n_obs, n_stored, per_cell, n_validation, adata.memory, n_columns))
    print(f"memory over that of the libraries: {parts}; {latents}")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
