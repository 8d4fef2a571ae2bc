"""The programs of one model in some cells, as plain arrays and tables: made by `program_report`, drawn by `pl`, told by `report`.

Suffixes: m cells on the map, g genes, p programs and their directions, s steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

LARGE = 0.01
"""A program that explains at least this share is called one that matters."""


@dataclass(frozen=True)
class Traversal:
    """What a decoder expects of a program's first genes while its latent goes from 0 to where few cells reach."""

    amount_s: Floats
    """Distance of the code from 0."""
    genes: tuple[str, ...]
    expected_sg: Floats
    """Expected expression, log(1 + x)."""


@dataclass(frozen=True)
class Embedding2D:
    """Some of the cells on a map, with how far each program is on in them."""

    xy_m2: Floats
    source: str
    """For people, after "The map is": "the t-SNE of the code", "obsm['X_umap'] of the data"."""
    amount_mp: Floats
    """Distance of the code from 0 on the program's side, else 0; with spikes also 0 where it is off. Columns as `Catalogue.programs`."""
    labels: pd.Categorical | None
    """Of these cells."""
    n_all: int
    """Cells that there are."""


@dataclass(frozen=True)
class ProgramResults:
    """All that is shown of a model's programs."""

    title: str
    """The data's name."""
    model: str
    """For people: "β-VSC"."""
    programs: pd.DataFrame
    """`Programs.summary`, and: key, the program with its direction ("beta_vsc_3+"); name, fdr, also and also_fdr (`name_programs`);
    where seeds were compared n_found, n_others, median_match and stable (`Stability`)."""
    genes: pd.DataFrame
    """`Programs.genes`."""
    effects: pd.DataFrame
    """`Programs.effects`."""
    enrichment: pd.DataFrame
    """Sets found in the first genes of each program: key, then the columns of `enrichment.enrich`; the best ones of each."""
    shares: pd.DataFrame | None
    """`Programs.labels`."""
    map: Embedding2D
    traversals: Mapping[str, Traversal]
    """By key."""
    n_cells: int
    n_genes: int
    n_latent: int
    n_active: int
    n_expected: int | None
    """Latents that were to be expected to live, by `metrics.expected_live`; None where its theory says nothing."""
    exact: bool
    """Whether the theory covers the model: else the number is a guide."""
    counts: bool
    spikes: bool
    sets_source: str
    """For people: "the 18 built-in sets"; "" where no gene of any set is among the model's."""
    n_genes_enrichment: int
    """Genes of each program that were tested."""
    matches: pd.DataFrame | None = None
    """`Stability.matches`; None where one seed alone was looked at."""
    least_match: float = 0.0
    settings: Mapping[str, object] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)

    @property
    def large(self) -> NDArray[np.bool_]:
        """Which programs explain at least a hundredth, (p,)."""
        return np.asarray(self.programs["explained"] >= LARGE, dtype=np.bool_)

    @property
    def stable(self) -> NDArray[np.bool_] | None:
        """Which were found again in the other seeds, (p,); None where one seed alone was looked at."""
        return None if self.matches is None else np.asarray(self.programs["stable"], dtype=np.bool_)

    @property
    def titles(self) -> list[str]:
        """What each program is called in figures: its number, with the direction where latents have two, and its name."""
        signed = (self.programs["direction"] != "+").any()
        parts = zip(self.programs["latent"], self.programs["direction"], self.programs["name"], strict=True)
        return [
            f"{latent + 1}{side.replace('-', '−') if signed else ''}{f' {name}' if name else ''}"
            for latent, side, name in parts
        ]

    def first_genes(self, key: str, n: int) -> pd.DataFrame:
        """Rows of `genes` of a program, the first n."""
        own = (self.genes["program"] + self.genes["direction"]) == key
        return self.genes[own].head(n)
