"""A two-dimensional map of some cells, with the activity of each program.

Suffixes: n cells, m cells on the map, p programs and their directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.data.normalize import log_normalized
from sparcell.data.sampler import subsample
from sparcell.io.stored import StoredCells
from sparcell.results.programs import Embedding2D
from sparcell.tl.embedding import tsne
from sparcell.tl.markers import gene_expression

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.schema import Schema
    from sparcell.results.expression import GeneExpression
    from sparcell.results.latents import LatentRepresentation
    from sparcell.tl.programs import Programs

    Floats = NDArray[np.floating]

MAX_MAP_CELLS = 6_000
"""Largest number of cells on the map: more cells would make the page large and slow, and would not show more."""
N_TOP = 3
"""Top genes of each program that the maps can show."""
MAP_KEYS = ("X_umap", "X_tsne")
"""Keys of obsm that can hold the map, in order of preference."""


def embed_cells(
    adata: AnnData,
    latents: LatentRepresentation,
    programs: Programs,
    labels: pd.Categorical | None,
    map_n2: Floats | None,
    seed: int,
    schema: Schema | None = None,
) -> Embedding2D:
    """Return a map of at most `MAX_MAP_CELLS` cells: `map_n2`, a map in obsm, or a t-SNE of the latents, in this order.

    A map with NaN or infinite values is passed over. With a schema, the top genes of the programs that explain most are added.
    """
    cells_m = np.sort(subsample(adata.n_obs, MAX_MAP_CELLS, seed))
    stored = {"the map passed by the caller": map_n2}
    read = adata.read_obsm if isinstance(adata, StoredCells) else adata.obsm.get
    stored |= {f"obsm[{key!r}] of the data": read(key) for key in MAP_KEYS}
    maps = {
        source: np.asarray(xy_n2[cells_m, :2], dtype=np.float64)
        for source, xy_n2 in stored.items()
        if isinstance(xy_n2, np.ndarray) and xy_n2.ndim == 2 and xy_n2.shape[1] >= 2
    }
    tsne_source = "a t-SNE of the latents"
    source = next((name for name, xy_m2 in maps.items() if np.isfinite(xy_m2).all()), tsne_source)
    xy_m2 = maps[source] if source in maps else np.array(tsne(latents.mean_nk[cells_m], seed=seed))
    sign_p = np.where(programs.summary["direction"] == "+", 1, -1)
    latent_p = programs.summary["latent"].to_numpy(dtype=np.int64) - 1
    activity_mp = np.maximum(latents.mean_nk[np.ix_(cells_m, latent_p)] * sign_p, 0)
    if latents.inclusion_nk is not None:  # posterior means are hardly ever exactly 0, but off in most cells
        activity_mp *= latents.on_nk[np.ix_(cells_m, latent_p)]
    labels_m = None if labels is None else labels[cells_m]
    expression = None if schema is None else top_gene_expression(adata, cells_m, programs, schema)
    return Embedding2D(xy_m2, source, activity_mp, labels_m, adata.n_obs, expression)


def top_gene_expression(
    adata: AnnData, cells_m: NDArray[np.integer], programs: Programs, schema: Schema
) -> GeneExpression | None:
    """Return the log-normalized expression of the programs' top genes; counts are scaled by the total of the model's genes."""
    x_mg = schema.matrix(adata[cells_m])
    owners: dict[str, str] = {}
    for rank in range(N_TOP):
        for key, genes in programs.ranked_genes.items():
            if rank < len(genes):
                owners.setdefault(genes[rank], key)
    pairs = [
        (f"program {key.rsplit('_', 1)[-1].removesuffix('+')}", gene)
        for key in programs.ranked_genes
        for gene, owner in owners.items()
        if owner == key
    ]
    return gene_expression(
        log_normalized(x_mg) if schema.counts else x_mg, schema.genes, list(owners), tuple(pairs)
    )
