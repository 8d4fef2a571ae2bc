"""Neighbors, Leiden clusters and UMAP of a latent representation, and the genes that set groups of cells apart: all by scanpy.

Suffixes: n cells, k latents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.errors import InputError, did_you_mean
from sparcell.pp.graph import number_by_size

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

N_NEIGHBORS = 15
"""Neighbors of a cell, as in scanpy."""
MAX_EXACT_CELLS = 50_000
"""Up to this many cells neighbors are exact; above, pynndescent's approximate search is faster."""
MIN_TESTED_CELLS = 3
"""A group with fewer cells has no marker genes."""
MARKER_COLUMNS = ("group", "gene", "lead", "log2_fold_change", "share_in", "share_out", "t", "p_adjusted")


class CellGraph:
    """The nearest neighbors of each cell in a latent representation, for clusters and maps.

    Parameters
    ----------
    latent_nk
        Latent representation, n cells × k latents; at least 3 cells.
    n_neighbors
        Neighbors of each cell in the graph. They are exact up to 50,000 cells.
    seed
        Random seed of the approximate search above 50,000 cells.

    Examples
    --------
    >>> graph = sp.pp.CellGraph(model.transform(adata))
    >>> adata.obs["cluster"] = graph.leiden(resolution=1.0).astype(str)
    """

    def __init__(
        self, latent_nk: NDArray[np.floating], *, n_neighbors: int = N_NEIGHBORS, seed: int = 0
    ) -> None:
        import scanpy as sc
        from anndata import AnnData

        from sparcell._utils.torch_runtime import calling_scanpy

        self.cells = AnnData(np.asarray(latent_nk, dtype=np.float32))
        if self.cells.n_obs < 3:
            raise InputError(f"there are {self.cells.n_obs} cells; expected at least 3 to cluster.")
        with calling_scanpy():
            sc.pp.neighbors(
                self.cells,
                n_neighbors=min(n_neighbors, self.cells.n_obs - 1),
                use_rep="X",
                transformer="sklearn" if self.cells.n_obs <= MAX_EXACT_CELLS else "pynndescent",
                random_state=seed,
            )

    def leiden(self, resolution: float = 1.0, *, seed: int = 0) -> NDArray[np.int64]:
        """Return the Leiden cluster of each cell (Traag, Waltman & van Eck 2019), (n,); 0 is the largest.

        Examples
        --------
        >>> cluster_n = graph.leiden(resolution=0.5)
        """
        import scanpy as sc

        from sparcell._utils.torch_runtime import calling_scanpy

        with calling_scanpy():
            sc.tl.leiden(
                self.cells,
                resolution=resolution,
                flavor="igraph",
                directed=False,
                n_iterations=-1,
                random_state=seed,
            )
        return number_by_size(self.cells.obs["leiden"].cat.codes.to_numpy())

    def umap(self, *, seed: int = 0) -> NDArray[np.float32]:
        """Return a UMAP (McInnes, Healy & Melville 2018), (n, 2).

        Examples
        --------
        >>> adata.obsm["X_umap"] = graph.umap()
        """
        import scanpy as sc

        from sparcell._utils.torch_runtime import calling_scanpy

        with calling_scanpy():
            sc.tl.umap(self.cells, random_state=seed)
        return np.asarray(self.cells.obsm["X_umap"], dtype=np.float32)


def rank_markers(
    adata: AnnData, groupby: str, *, layer: str = "lognorm", n_genes: int | None = None
) -> pd.DataFrame:
    """Return the genes that set each group of cells apart from all other cells, the most specific ones first.

    Genes are ordered by their lead: the log2 fold change times the difference of the shares of cells with the gene. The test is scanpy's
    t-test. If the groups were made from the same counts, as clusters are, p-values prove nothing: groups would be found in pure noise too.

    Parameters
    ----------
    adata
        Cells with log-normalized values in a layer.
    groupby
        Categorical column of obs.
    layer
        Layer with the log-normalized values.
    n_genes
        Genes for each group, the largest leads first. Default: all.

    Returns
    -------
    Columns group, gene, lead, log2_fold_change, share_in and share_out (fraction of the cells in the group, and of all others, with a
    count of the gene), t, p_adjusted (Benjamini-Hochberg). Groups with fewer than 3 cells are left out.

    Examples
    --------
    >>> sp.pp.rank_markers(adata, "cluster", n_genes=20).head()
    """
    import scanpy as sc
    from anndata import AnnData

    from sparcell._utils.torch_runtime import calling_scanpy

    if groupby not in adata.obs:
        raise InputError(f"obs has no column {groupby!r}: {did_you_mean(groupby, adata.obs)}")
    if layer not in adata.layers:
        raise InputError(
            f"there is no layer {layer!r}: {did_you_mean(layer, adata.layers)} sp.pp.lognormalize makes it."
        )
    groups = adata.obs[groupby].astype("category").cat.remove_unused_categories()
    groups = groups.cat.rename_categories(
        groups.cat.categories.astype(str)
    )  # scanpy knows groups by text only
    sizes = groups.value_counts()
    tested = [name for name in groups.cat.categories if sizes[name] >= MIN_TESTED_CELLS]
    if len(groups.cat.categories) < 2 or not tested:
        return pd.DataFrame(columns=list(MARKER_COLUMNS))
    cells = AnnData(
        adata.layers[layer], obs=pd.DataFrame({"group": groups}), var=pd.DataFrame(index=adata.var_names)
    )
    cells.uns["log1p"] = {"base": None}
    with calling_scanpy():
        sc.tl.rank_genes_groups(cells, "group", groups=tested, method="t-test", pts=True)
        table = sc.get.rank_genes_groups_df(cells, group=None)
    if len(tested) == 1:
        table.insert(0, "group", str(tested[0]))
    table = table.rename(
        columns={
            "names": "gene",
            "scores": "t",
            "logfoldchanges": "log2_fold_change",
            "pvals_adj": "p_adjusted",
            "pct_nz_group": "share_in",
            "pct_nz_reference": "share_out",
        }
    )
    table["group"] = pd.Categorical(table["group"].astype(str), categories=[str(name) for name in tested])
    table["lead"] = table["log2_fold_change"] * (table["share_in"] - table["share_out"])
    table = table.sort_values(["group", "lead"], ascending=[True, False], kind="stable")
    if n_genes is not None:
        table = table.groupby("group", observed=True, sort=False).head(n_genes)
    found: pd.DataFrame = table.astype({"group": str})[list(MARKER_COLUMNS)].reset_index(drop=True)
    return found
