"""Tools: maps and partitions, gene sets and enrichment, stability of gene programs over seeds."""

from __future__ import annotations

from sparcell.tl.embedding import kmeans, tsne, tsne_transform
from sparcell.tl.enrichment import benjamini_hochberg, enrich, name_programs
from sparcell.tl.gene_sets import GeneSets, builtin, gmt_text, read_gmt
from sparcell.tl.programs import Programs
from sparcell.tl.stability import Stability, across_seeds, compare

__all__ = [
    "GeneSets",
    "Programs",
    "Stability",
    "across_seeds",
    "benjamini_hochberg",
    "builtin",
    "compare",
    "enrich",
    "gmt_text",
    "kmeans",
    "name_programs",
    "read_gmt",
    "tsne",
    "tsne_transform",
]


def __dir__() -> list[str]:
    return list(__all__)
