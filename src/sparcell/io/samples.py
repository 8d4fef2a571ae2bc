"""Random cells of a file, for work that needs all its cells in memory at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparcell.config.input import MAX_MEMORY
from sparcell.config.validation import require_size
from sparcell.data.sampler import subsample
from sparcell.errors import InputError, format_settings
from sparcell.io.files import as_paths, title_of
from sparcell.io.rules import apply_rules, name_uniquely
from sparcell.io.several_files import read_whole
from sparcell.io.stored import StoredCells, bytes_in_memory

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger("sparcell")

MAX_ADVISED = 100_000
"""Most cells that the message about a file that is too large advises to draw: t-SNE and clustering of more take hours."""


def read_sample(
    path: str | Path | Sequence[str | Path],
    n_cells: int | None = None,
    *,
    layer: str | None = None,
    gene_symbols: str | None = None,
    memory: str | int = MAX_MEMORY,
    seed: int = 0,
) -> tuple[AnnData, str]:
    """Read one file or several into memory, or `n_cells` random cells from all over them.

    Parameters
    ----------
    path
        Any format that `read` reads. Several files are joined by gene name, and obs["file"] names the file of each cell.
    n_cells
        Largest number of cells. Default: all. Cells keep the order of the file.
    layer, gene_symbols
        As for `StoredCells`. Of a file whose matrix would take more than `memory`, this matrix alone is read.
    memory
        Largest matrix in memory: bytes, or text such as "4GB".
    seed
        Draws the cells.

    Returns
    -------
    The cells, and how many of how many there are: "50,000 of 1,000,000 cells, drawn at random". The text is empty for all cells.

    Raises
    ------
    InputError
        See `read`; and if all cells of a file that is larger than `memory` are wanted.

    Examples
    --------
    ::

        adata, sampled = read_sample("atlas.h5ad", 50_000)
    """
    paths = as_paths(path)
    limit = require_size("memory", memory)
    n_bytes = bytes_in_memory(paths, layer)
    if n_bytes <= limit:
        adata = read_whole(paths, gene_symbols)
        n_all = adata.n_obs
        if n_cells is not None and n_cells < n_all:
            adata = adata[subsample(n_all, n_cells, seed)].copy()
    else:
        cells = StoredCells(paths, layer, gene_symbols=gene_symbols)
        n_all = cells.n_obs
        _require_fitting(cells.rows.where, n_all, n_cells, n_bytes, limit)
        assert cells.file is not None
        cells.read_obs(cells.file.obs_columns)
        rows = subsample(n_all, n_cells or n_all, seed)
        adata = cells[rows]
        adata.obs = adata.obs[cells.file.obs_columns].set_axis(cells.file.cell_names[rows])
        adata = apply_rules(adata, paths[0])
    if adata.n_obs == n_all:
        return adata, ""
    sampled = f"{adata.n_obs:,} of {n_all:,} cells, drawn at random"
    log.info("%s: %s", title_of(paths), sampled)
    return adata, sampled


def sample_in_memory(
    adata: AnnData, n_cells: int | None = None, *, gene_symbols: str | None = None, seed: int = 0
) -> tuple[AnnData, str]:
    """Return a copy of cells in memory, or of `n_cells` random ones, and which they are in words: as `read_sample` for a file.

    Parameters
    ----------
    adata
        The cells; data that a file backs are read.
    n_cells, gene_symbols, seed
        As for `read_sample`.

    Examples
    --------
    ::

        some, sampled = sample_in_memory(adata, 50_000)
    """
    n_all = adata.n_obs
    if n_cells is not None and n_cells < n_all:
        adata = adata[subsample(n_all, n_cells, seed)]
    copy = adata.to_memory() if adata.isbacked else adata.copy()
    name_uniquely(copy, "data in memory", gene_symbols)
    if copy.n_obs == n_all:
        return copy, ""
    sampled = f"{copy.n_obs:,} of {n_all:,} cells, drawn at random"
    log.info("data in memory: %s", sampled)
    return copy, sampled


def _require_fitting(where: str, n_all: int, n_cells: int | None, n_bytes: int, limit: int) -> None:
    """Raise InputError unless the cells that are wanted take at most `limit` bytes."""
    if min(n_cells or n_all, n_all) * n_bytes <= limit * n_all:
        return
    most = max(1, min(MAX_ADVISED, limit * n_all // n_bytes))
    most -= most % 10 ** max(0, len(str(most)) - 2)
    size = (n_cells or n_all) / n_all * n_bytes / 1e9
    raise InputError(
        f"{where} holds {n_all:,} cells, and {'all' if n_cells is None else f'{n_cells:,}'} of them would take {size:,.3g} GB, more "
        f"than memory={limit / 1e9:,.3g}GB. All cells that are compared are read into memory. Compare fewer cells, drawn at random: "
        f"{format_settings(n_cells=most)}; or raise the limit with memory."
    )
