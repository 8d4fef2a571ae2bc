"""Markers of labels, and the genes that pages show on maps."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.tl.markers import MAX_GENES, gene_expression, marker_genes

GENES = ["everywhere", "B1", "NK1", "both", "none"]
LABELS = pd.Categorical(["B"] * 4 + ["NK"] * 4 + [None], categories=["B", "NK", "unused"])
X = np.zeros((9, 5), dtype=np.float32)
X[:4, 0], X[4:, 0] = 6, 4  # high in all cells, and a little higher in B
X[:4, 1] = 2
X[4:8, 2] = 1
X[:8, 3] = 3
X[8] = 9  # without a label


def test_a_marker_leads_in_mean_and_in_the_fraction_of_cells():
    assert marker_genes(sparse.csr_matrix(X), GENES, LABELS) == (("B", "B1"), ("NK", "NK1"))


def test_one_label_has_no_markers():
    assert marker_genes(sparse.csr_matrix(X), GENES, pd.Categorical(["B"] * 9)) == ()


def test_chosen_genes_keep_their_order_and_unknown_ones_are_passed_over():
    expression = gene_expression(
        sparse.csr_matrix(X), GENES, ["NK1", "unknown", "B1", "NK1"], (("B", "B1"), ("B", "both"))
    )
    assert expression.genes == ("NK1", "B1")
    np.testing.assert_array_equal(expression.values_ng, X[:, [2, 1]])
    assert expression.markers == (("B", "B1"),), "only markers that are shown"
    assert gene_expression(sparse.csr_matrix(X), GENES, ["unknown"]) is None


def test_a_page_shows_at_most_so_many_genes():
    names = [f"gene {number}" for number in range(100)]
    expression = gene_expression(sparse.csr_matrix(np.ones((3, 100))), names, names)
    assert len(expression.genes) == MAX_GENES
