"""Programs of real blood cells: their top genes are textbook markers, and the enrichment names them after their cell types."""

from __future__ import annotations

import numpy as np
import pytest

from sparcell import datasets, pp
from sparcell.metrics.clustering import label_aucs
from sparcell.models import MODELS
from sparcell.tl.enrichment import name_programs
from sparcell.tl.gene_sets import builtin_gene_sets

TYPES = {
    "B": ("B cell", 8),
    "NK": ("NK", 4),
    "CD14+ Mono": ("CD14+ Mono", 3),
    "FCGR3A+ Mono": ("FCGR3A+ Mono", 3),
    "Platelet": ("Platelet", 5),
}
"""Cell type → the set of its markers, and the smallest number of them among the program's top ten genes.

Each of these types had a program from every seed of ten; the worst seed had 9, 5, 3, 4 and 6 markers. Three of twenty markers are in the
top ten by chance once in ten thousand times. The set is the first or the second name: cytotoxic T cells share half of the markers of NK
cells, and rounding decides which name is first.
"""


@pytest.fixture(scope="module")
def cells():
    adata = datasets.pbmc3k()
    pp.seurat(adata)
    return adata


@pytest.fixture(scope="module")
def model(cells):
    return (
        MODELS["beta-vsc"]
        .for_programs()
        .fit(cells, layer="lognorm", genes_key="highly_variable", silent=True)
    )


def test_blood_cells_have_programs_led_by_their_markers_and_named_after_them(cells, model):
    programs = model.programs(cells, labels_key="cell_type")
    sets, ranked = builtin_gene_sets("blood"), programs.ranked_genes
    names = name_programs(ranked, sets, model.schema.genes, n_genes=25)
    names_of = dict(zip(names.index, zip(names["name"], names["second_name"], strict=True), strict=True))
    labels = cells.obs["cell_type"].astype("category")
    latent_nk = model.transform(cells)
    auc_pc = np.array(
        [label_aucs(latent_nk[:, latent], labels.cat.codes) for latent in programs.summary["latent"]]
    )
    for label, (name, min_markers) in TYPES.items():
        markers = {*sets.genes[name], *(sets.genes["MHC class II"] if label == "B" else ())}
        clear = auc_pc[:, list(labels.cat.categories).index(label)] >= 0.95
        keys = [
            key for key, is_clear in zip(ranked, clear, strict=True) if is_clear and name in names_of[key]
        ]
        assert keys, label
        assert max(len(markers & set(ranked[key][:10])) for key in keys) >= min_markers, label
    assert any("CD8 T" in both for both in names_of.values())
