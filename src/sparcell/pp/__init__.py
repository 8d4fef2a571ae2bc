"""Preprocessing: quality control, normalization, highly variable genes, clusters and cell types."""

from __future__ import annotations

from sparcell.pp.clustering import cluster, name_clusters
from sparcell.pp.communities import CellGraph, rank_markers
from sparcell.pp.highly_variable import variable_genes
from sparcell.pp.normalization import lognormalize
from sparcell.pp.quality import quality_control
from sparcell.pp.quality_metrics import QualityMetrics, quality_metrics
from sparcell.pp.recipe import cell_types, seurat

__all__ = [
    "CellGraph",
    "QualityMetrics",
    "cell_types",
    "cluster",
    "lognormalize",
    "name_clusters",
    "quality_control",
    "quality_metrics",
    "rank_markers",
    "seurat",
    "variable_genes",
]


def __dir__() -> list[str]:
    return list(__all__)
