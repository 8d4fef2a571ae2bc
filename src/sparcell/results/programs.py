"""Programs of one model in some cells, as plain arrays and tables: computed in `programs`, read by figures (`pl`) and pages (`report`).

Suffixes: m cells on the map, g genes, p programs and their directions, s steps of a traversal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from sparcell.results.expression import GeneExpression

    Floats = NDArray[np.floating]

UNNAMED = "unnamed "
"""Beginning of the names of programs without a name."""
MIN_FRACTION_EXPLAINED = 0.01
"""A program that explains at least this fraction is called a major program."""


@dataclass(frozen=True)
class Traversal:
    """Expected expression of a program's top genes along its latent, from 0 to a value that few cells exceed."""

    distance_s: Floats
    """Distance of the latent from 0."""
    genes: tuple[str, ...]
    expected_sg: Floats
    """Expected expression, log(1 + x)."""


@dataclass(frozen=True)
class Embedding2D:
    """A two-dimensional map of some cells, with the activity of each program."""

    xy_m2: Floats
    source: str
    """Origin of the map, as the end of a sentence "The map is …": "the t-SNE of the latents", "obsm['X_umap'] of the data"."""
    activity_mp: Floats
    """Distance of the latent from 0 on the program's side, else 0. With spikes also 0 where the program is off. Columns as
    `ProgramResults.programs`."""
    labels: pd.Categorical | None
    """Labels of these cells."""
    n_cells: int
    """Number of all cells, on the map or not."""
    expression: GeneExpression | None = None
    """Expression of the programs' top genes in these cells."""


@dataclass(frozen=True)
class ProgramResults:
    """Everything that figures, tables and page show of a model's programs."""

    title: str
    """Name of the data."""
    model: str
    """Name of the model, as shown."""
    programs: pd.DataFrame
    """`Programs.summary` with these columns: key, the program with its direction ("beta_vsc_3+"), and those of
    `tl.name_programs`. With several seeds also n_reproduced, n_others, median_match and stable (see `tl.Stability`)."""
    genes: pd.DataFrame
    """`Programs.genes`."""
    effects: pd.DataFrame
    """`Programs.effects`."""
    enrichment: pd.DataFrame
    """Best gene sets of each program: the columns of `tl.enrich_programs`."""
    label_fractions: pd.DataFrame | None
    """`Programs.label_fractions`."""
    embedding: Embedding2D
    traversals: Mapping[str, Traversal]
    """Traversal of each program, by key."""
    n_cells: int
    n_genes: int
    n_latent: int
    n_active: int
    n_active_predicted: int | None
    """Number of active latents that `metrics.predict_active_latents` predicts; None where the theory does not apply."""
    prediction_exact: bool
    """Whether the theory of the prediction covers the model; otherwise the number is a guide."""
    counts: bool
    """Whether the model describes counts."""
    spikes: bool
    """Whether the latents have spikes, that is, can be off."""
    sets_source: str
    """Origin of the gene sets, as shown: "the 96 built-in gene sets"; "" if no gene of any set is among the model's genes."""
    n_genes_enrichment: int
    """Number of first genes per program that are tested."""
    matches: pd.DataFrame | None = None
    """`Stability.matches`; None for a single seed."""
    min_match: float = 0.0
    """`Stability.min_match`."""
    n_cells_predicted: int = 0
    """Number of cells whose covariance gave `n_active_predicted`: fewer than `n_cells` for a file that stays on disk."""
    seconds_for_seeds: float = 0.0
    """Seconds that the training of four more seeds takes."""
    settings: Mapping[str, object] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)

    @property
    def major(self) -> NDArray[np.bool_]:
        """Which programs explain at least 1 %, (p,)."""
        return np.asarray(self.programs["fraction_explained"] >= MIN_FRACTION_EXPLAINED, dtype=np.bool_)

    @property
    def named(self) -> NDArray[np.bool_]:
        """Which programs have a name, (p,); the others are called "unnamed" with their first genes."""
        return np.asarray(self.programs["source"] != "", dtype=np.bool_)

    @property
    def stable(self) -> NDArray[np.bool_] | None:
        """Which programs the other seeds reproduce, (p,); None for a single seed."""
        return None if self.matches is None else np.asarray(self.programs["stable"], dtype=np.bool_)

    @property
    def titles(self) -> list[str]:
        """Titles of the programs in figures: number and name or first genes, with the direction if some latent has two."""
        signed = (self.programs["direction"] != "+").any()
        parts = zip(self.programs["latent"], self.programs["direction"], self.programs["name"], strict=True)
        return [
            f"{latent}{direction.replace('-', '−') if signed else ''}{f' {name.removeprefix(UNNAMED)}' if name else ''}"
            for latent, direction, name in parts
        ]

    def top_genes(self, key: str, n: int) -> pd.DataFrame:
        """Return the first n rows of `genes` of a program."""
        rows = (self.genes["program"] + self.genes["direction"]) == key
        return self.genes[rows].head(n)
