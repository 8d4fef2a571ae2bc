"""How well a fitted model describes cells: posterior predictive checks as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

N_SHOWN = 5
"""Genes in the short form."""


@dataclass(frozen=True, eq=False, repr=False)
class Criticism:
    """Posterior predictive checks of a fitted model: what the data holds, and what the model expects of the same cells.

    "Expected" is a mean over replicates: latents drawn from q(z|x), then expression drawn from the likelihood. Values are counts, or
    log-normalized values for a model of expression.

    Examples
    --------
    ::

        criticism = model.criticize(adata)
        print(criticism)
        criticism.worst(10)
    """

    genes: pd.DataFrame
    """One row per gene, the worst fit first. Columns:

    - gene
    - mean_observed, mean_expected, variance_observed, variance_expected, cv_observed, cv_expected: over cells; cv is the standard
      deviation over the mean
    - zeros_observed, zeros_expected: fraction of cells without counts of the gene
    - coverage_50, coverage_90: fraction of cells inside the central 50 % and 90 % predictive intervals; .5 and .9 if the model is right
    - pit_mean: mean probability integral transform. .5 if the model is right; above .5: the data is higher than expected
    - extremes: fraction of cells with a value that the model reaches or exceeds with a probability below .0001
    - misfit: total variation distance between the probability integral transforms and the uniform distribution, 0 to 1
    - finding: in which way the data differs most from what the model expects, in words; empty if no difference is large and certain"""
    overall: pd.DataFrame
    """One row per check. Columns check, observed, expected, error (mean absolute difference over genes; over cells for total counts) and
    correlation (Spearman's, over genes or cells). Means over genes for cv, zeros and coverage; over cells for total counts."""
    batches: pd.DataFrame | None
    """The same cells by batch: batch, n_cells, zeros_observed, zeros_expected, coverage_50, coverage_90. None without batches."""
    verdict: tuple[str, ...]
    """What the checks say, in sentences."""
    n_cells: int
    """Number of cells that were checked."""
    n_cells_given: int
    """Number of cells they were drawn from."""
    n_samples: int
    """Replicates of each cell."""

    @property
    def misfits(self) -> pd.DataFrame:
        """The rows of `genes` with a finding."""
        return self.genes[self.genes["finding"] != ""]

    def worst(self, n_genes: int = 10) -> pd.DataFrame:
        """Return the genes with a finding that fit worst.

        Examples
        --------
        ::

            criticism.worst(20)[["gene", "misfit", "finding"]]
        """
        return self.misfits.head(n_genes)

    def __repr__(self) -> str:
        lines = [f"Criticism: {self._size()}", *self.verdict]
        if len(self.misfits):
            lines.append(self._short_table().to_string(index=False))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        text = "<br>".join([self._size(), *self.verdict])
        return f"<div>{text}{self._short_table().to_html(index=False)}</div>"

    def _size(self) -> str:
        drawn = f" of {self.n_cells_given:,}" if self.n_cells < self.n_cells_given else ""
        return f"{self.n_cells:,}{drawn} cells, {len(self.genes):,} genes, {self.n_samples} replicates"

    def _short_table(self) -> pd.DataFrame:
        table = self.worst(N_SHOWN)[["gene", "misfit", "coverage_90", "finding"]]
        return table.round({"misfit": 2, "coverage_90": 2})
