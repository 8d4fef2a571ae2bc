"""Whether the names that clusters get from gene sets agree with known labels: `sp.tl.name_clusters_by_sets` and `sp.tl.name_subtypes`.

    python benchmarks/cluster_names.py DATA.h5ad [--labels-key cell_type] [--batch-key batch] [--resolutions 1 2]

Clusters are Leiden clusters on 30 principal components of 2,000 variable genes, centered in each batch: no model is trained. A cluster
counts if at least 70 % of its cells have one label and `RIGHT` knows the label. A name is exact (the type of the label), wider (a type that
contains it), wrong, or unknown. Names are compared before and after the second test, which looks for subtypes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

import sparcell as sp
from sparcell.tl.cluster_names import cell_type_sets

MIN_SHARE = 0.7
N_COMPONENTS, MAX_Z = 30, 10
T_CELLS, CYTOTOXIC = ("Naive T cell", "Memory T cell"), ("Cytotoxic T or NK", "T cell")
RIGHT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "B": (("B cell",), ()),
    "B cells": (("B cell",), ()),
    "B Activated": (("B cell",), ()),
    "B_cell": (("B cell",), ()),
    "T_cell": (("T cell", *T_CELLS), ()),
    "T activated": (("T cell", *T_CELLS), ()),
    "CD4 T cells": (T_CELLS, ("T cell",)),
    "Naive CD4 T": (("Naive T cell",), ("T cell",)),
    "CD4 Naive T": (("Naive T cell",), ("T cell",)),
    "Memory CD4 T": (("Memory T cell",), ("T cell",)),
    "CD4 Memory T": (("Memory T cell",), ("T cell",)),
    "CD8 T": (("CD8 T",), CYTOTOXIC),
    "CD8 T cells": (("CD8 T",), CYTOTOXIC),
    "NK": (("NK",), ("Cytotoxic T or NK",)),
    "NK cells": (("NK",), ("Cytotoxic T or NK",)),
    "CD14+ Mono": (("CD14+ Mono",), ("Myeloid cell",)),
    "CD14 Mono": (("CD14+ Mono",), ("Myeloid cell",)),
    "CD14+ Monocytes": (("CD14+ Mono",), ("Myeloid cell",)),
    "FCGR3A+ Mono": (("FCGR3A+ Mono",), ("Myeloid cell",)),
    "CD16 Mono": (("FCGR3A+ Mono",), ("Myeloid cell",)),
    "FCGR3A+ Monocytes": (("FCGR3A+ Mono",), ("Myeloid cell",)),
    "DC": (("DC", "Mature DC"), ("Myeloid cell",)),
    "Dendritic cells": (("DC", "Mature DC"), ("Myeloid cell",)),
    "pDC": (("pDC",), ()),
    "Platelet": (("Platelet",), ()),
    "Mk": (("Platelet",), ()),
    "Megakaryocytes": (("Platelet",), ()),
    "Eryth": (("Erythroid",), ()),
    "macrophage": (("Macrophage",), ("Myeloid cell",)),
    "microglia": (("Microglia",), ("Myeloid cell",)),
    "pyramidal CA1": (("Excitatory neuron",), ("Neuron",)),
    "pyramidal SS": (("Excitatory neuron",), ("Neuron",)),
    "interneurons": (("Inhibitory neuron",), ("Neuron",)),
    "oligodendrocytes": (("Oligodendrocyte",), ()),
    "astrocytes_ependymal": (("Astrocyte", "Ciliated cell"), ()),
    "endothelial-mural": (("Endothelial cell", "Pericyte", "Smooth muscle cell"), ()),
    "alpha": (("Alpha cell",), ("Endocrine cell",)),
    "beta": (("Beta cell",), ("Endocrine cell",)),
    "delta": (("Delta cell",), ("Endocrine cell",)),
    "gamma": (("Gamma cell",), ("Endocrine cell",)),
    "ductal": (("Ductal cell",), ("Epithelial cell",)),
    "endothelial": (("Endothelial cell",), ()),
    "quiescent_stellate": (("Pericyte",), ("Fibroblast",)),
    "activated_stellate": (("Fibroblast",), ("Pericyte",)),
    "schwann": (("Schwann cell",), ()),
}
"""Label of the data sets → the sets that are this type, and wider ones that contain it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--labels-key", default="cell_type")
    parser.add_argument("--batch-key")
    parser.add_argument("--resolutions", type=float, nargs="+", default=[1.0, 2.0])
    options = parser.parse_args()
    adata = sp.io.read(options.data)
    adata = adata[adata.obs[options.labels_key].notna()].copy()
    adata = adata[:, np.asarray((adata.X > 0).sum(axis=0)).ravel() >= 3].copy()
    sp.pp.lognormalize(adata)
    sp.pp.variable_genes(adata, n_top_genes=2000, batch_key=options.batch_key)
    graph = sp.pp.CellGraph(components(adata, options.batch_key))
    sets = cell_type_sets(sp.tl.builtin_gene_sets())
    for resolution in options.resolutions:
        adata.obs["cluster"] = pd.Categorical(graph.leiden(resolution).astype(str))
        markers = sp.pp.rank_markers(adata, "cluster")
        first = sp.tl.name_clusters_by_sets(markers, sets, adata.var_names)
        second = sp.tl.name_subtypes(first, sets, adata.var_names, partial(markers_among, adata))
        shares = pd.crosstab(
            adata.obs["cluster"], adata.obs[options.labels_key].astype(str), normalize="index"
        )
        for title, names in (("first test", first), ("with subtypes", second)):
            print(f"resolution {resolution:g}, {title}: {judged(names, shares)}")


def components(adata: ad.AnnData, batch_key: str | None) -> np.ndarray:
    """Return principal components of scaled variable genes, (n, k); the mean of each batch is 0."""
    x_ng = np.asarray(adata[:, adata.var["highly_variable"]].layers["lognorm"].toarray())
    x_ng = x_ng - x_ng.mean(axis=0)
    x_ng = np.clip(x_ng / np.maximum(x_ng.std(axis=0), 1e-9), -MAX_Z, MAX_Z)
    if batch_key is not None:
        for batch in adata.obs[batch_key].unique():
            of_batch_n = (adata.obs[batch_key] == batch).to_numpy()
            x_ng[of_batch_n] -= x_ng[of_batch_n].mean(axis=0)
    components_nk = PCA(N_COMPONENTS, svd_solver="randomized", random_state=0).fit_transform(x_ng)
    return np.asarray(components_nk, dtype=np.float32)


def markers_among(adata: ad.AnnData, clusters: list[str]) -> pd.DataFrame:
    return sp.pp.rank_markers(adata[adata.obs["cluster"].isin(clusters)], "cluster")


def judged(names: pd.DataFrame, shares: pd.DataFrame) -> str:
    """Return how many names are exact, wider, wrong and unknown, and the wrong ones with the label of their cluster."""
    counted, wrong = Counter[str](), []
    for cluster, name in zip(names["cluster"], names["set"], strict=True):
        label, share = str(shares.loc[cluster].idxmax()), float(shares.loc[cluster].max())
        if share < MIN_SHARE or label not in RIGHT:
            continue
        exact, wider = RIGHT[label]
        verdict = (
            "unknown" if not name else "exact" if name in exact else "wider" if name in wider else "wrong"
        )
        counted[verdict] += 1
        if verdict == "wrong":
            wrong.append(f"{name} ({label})")
    numbers = ", ".join(f"{counted[verdict]} {verdict}" for verdict in ("exact", "wider", "wrong", "unknown"))
    return f"{numbers}{': ' if wrong else ''}{', '.join(wrong)}"


if __name__ == "__main__":
    main()
