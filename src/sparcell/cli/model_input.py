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

    Raises InputError, before any work, if cells in memory could not be written to `out`.
    """
    from sparcell.io import result_files, stored

    adata = stored.open_for_model(
        input,
        config.layer or model.schema.layer,
        keys,
        gene_symbols=config.gene_symbols,
        memory=memory,
    )
    if out is not None:
        result_files.check_result(adata, out)
    return adata, model.for_data(adata, layer=config.layer, missing_genes=config.missing_genes)
