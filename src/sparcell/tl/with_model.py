"""What a fitted model says about expression, and how well it describes cells. The AnnData comes first, then the model or its folder."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from sparcell.results.criticism import Criticism


def differential_expression(
    adata: AnnData,
    model: Any,
    groupby: str,
    group1: str | None = None,
    group2: str | None = None,
    *,
    batch_key: str | None = None,
    within: str | None = None,
    delta: float = 0.25,
) -> pd.DataFrame:
    """Return the log2 fold change of each gene between groups of cells, with its credible interval and error rate.

    Parameters
    ----------
    adata
        The cells.
    model
        A fitted model, or the folder of a saved one.
    groupby, group1, group2, batch_key, within, delta
        As for `Model.differential_expression`.

    Returns
    -------
    One row per comparison and gene: see `Model.differential_expression`.

    Writes
    ------
    ``uns["<key>_de"]``, such as beta_vsc_de, for `scanpy.get.rank_genes_groups_df`.

    Examples
    --------
    ::

        table = sp.tl.differential_expression(adata, "vsc", "cell_type", "B")
        sc.get.rank_genes_groups_df(adata, "B", key="beta_vsc_de")
    """
    table: pd.DataFrame = _loaded(model).differential_expression(
        adata, groupby, group1, group2, batch_key=batch_key, within=within, delta=delta
    )
    return table


def denoise(
    adata: AnnData,
    model: Any,
    *,
    layer_added: str = "denoised",
    library_size: float | str = "own",
    batch: str | None = None,
    copy: bool = False,
    own_counts: bool = True,
) -> AnnData | None:
    """Write the expected expression of each cell into a layer: see `Model.denoise`.

    Parameters
    ----------
    adata
        The cells.
    model
        A fitted model, or the folder of a saved one.
    layer_added, library_size, batch, copy, own_counts
        As for `Model.denoise`.

    Returns
    -------
    None, or with `copy` a new AnnData of the model's genes.

    Writes
    ------
    ``layers[layer_added]``, (n, g), float32.

    Examples
    --------
    ::

        denoised = sp.tl.denoise(adata, "vsc", library_size="median", copy=True)
    """
    result: AnnData | None = _loaded(model).denoise(
        adata,
        layer_added=layer_added,
        library_size=library_size,
        batch=batch,
        copy=copy,
        own_counts=own_counts,
    )
    return result


def criticize(
    adata: AnnData,
    model: Any,
    *,
    n_cells: int | None = 2000,
    n_samples: int = 3,
    seed: int = 0,
) -> Criticism:
    """Compare cells with replicates that a model generates of the same cells: see `Model.criticize`.

    Parameters
    ----------
    adata
        The cells.
    model
        A fitted model, or the folder of a saved one.
    n_cells, n_samples, seed
        As for `Model.criticize`.

    Returns
    -------
    Tables of genes and checks, and a verdict in sentences.

    Writes
    ------
    ``uns["<key>_criticism"]`` and ``var["<key>_misfit"]``, as `Model.criticize`.

    Examples
    --------
    ::

        criticism = sp.tl.criticize(adata, "vsc")
        criticism.worst(20)
    """
    criticism: Criticism = _loaded(model).criticize(adata, n_cells=n_cells, n_samples=n_samples, seed=seed)
    return criticism


def _loaded(model: Any) -> Any:
    """Return the model, read from its folder if need be; imported late, since models build on this module's tools."""
    return importlib.import_module("sparcell.models").load(model) if isinstance(model, str | Path) else model
