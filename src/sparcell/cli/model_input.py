"""The input of commands that use a saved model: its cells, and the model that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparcell.config.input import MAX_MEMORY

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.config.input import ModelReadingConfig
    from sparcell.io import StoredCells
    from sparcell.models.fitted import Model


def open_input(
    input: list[Path],
    model: Model,
    config: ModelReadingConfig,
    *,
    keys: Sequence[str],
    memory: str = MAX_MEMORY,
    out: Path | None = None,
) -> tuple[AnnData | StoredCells, Model]:
    """Return the cells of files with the columns `keys` of obs, and the model as it reads their genes and layer.

    Raises InputError, before any work, if cells in memory could not be written to the file `out`.
    """
    from sparcell import io
    from sparcell.io import stored

    adata = stored.open_for_model(
        input,
        config.layer or model.schema.layer,
        keys,
        gene_symbols=config.gene_symbols,
        memory=memory,
    )
    if out is not None and not isinstance(adata, io.StoredCells):
        io.check_writable(adata, out.name)
    return adata, model.for_data(adata, layer=config.layer, missing_genes=config.missing_genes)
