"""Tools: training into an AnnData, differential expression, checks of a fit, t-SNE and k-means, gene sets, gene programs, stability."""

from __future__ import annotations

from sparcell.results.criticism import Criticism
from sparcell.tl.cluster_names import name_clusters_by_sets, name_subtypes
from sparcell.tl.embedding import kmeans, tsne, tsne_transform
from sparcell.tl.enrichment import benjamini_hochberg, enrich
from sparcell.tl.fit_into import autoencoder, beta_vae, beta_vsc, program_activity
from sparcell.tl.gene_sets import GeneSets, builtin_gene_sets, gmt_text, read_gmt
from sparcell.tl.program_conditions import program_conditions
from sparcell.tl.program_enrichment import enrich_programs
from sparcell.tl.program_names import name_programs
from sparcell.tl.programs import Programs
from sparcell.tl.stability import Stability, compare_programs, seed_stability
from sparcell.tl.with_model import criticize, denoise, differential_expression

__all__ = [
    "Criticism",
    "GeneSets",
    "Programs",
    "Stability",
    "autoencoder",
    "benjamini_hochberg",
    "beta_vae",
    "beta_vsc",
    "builtin_gene_sets",
    "compare_programs",
    "criticize",
    "denoise",
    "differential_expression",
    "enrich",
    "enrich_programs",
    "gmt_text",
    "kmeans",
    "name_clusters_by_sets",
    "name_programs",
    "name_subtypes",
    "program_activity",
    "program_conditions",
    "read_gmt",
    "seed_stability",
    "tsne",
    "tsne_transform",
]


def __dir__() -> list[str]:
    return list(__all__)
