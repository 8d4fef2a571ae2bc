"""Preprocessing: quality control, normalization, variable genes, clusters and their names."""

from __future__ import annotations

from sparcell.pp.highly_variable import variable_genes
from sparcell.pp.recipe import cell_types, cluster, lognormalize, name_clusters, quality_control, seurat

__all__ = [
    "cell_types",
    "cluster",
    "lognormalize",
    "name_clusters",
    "quality_control",
    "seurat",
    "variable_genes",
]


def __dir__() -> list[str]:
    return list(__all__)
