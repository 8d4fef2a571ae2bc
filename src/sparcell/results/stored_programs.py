"""Gene programs as `Model.embed` and `Model.programs` write them into an AnnData, for figures and columns of obs.

Suffixes: n cells, k latents, p programs and their directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sparcell.errors import InputError, did_you_mean
from sparcell.results.latents import MIN_INCLUSION

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]


@dataclass(frozen=True)
class StoredPrograms:
    """The tables of a model's programs, and the latents of all cells."""

    summary: pd.DataFrame
    """`Programs.summary`, one row per program and direction."""
    genes: pd.DataFrame
    """`Programs.genes`."""
    latent_nk: Floats
    inclusion_nk: Floats | None

    @property
    def names(self) -> list[str]:
        """Name of each program with its direction: "beta_vsc_3+"."""
        return [
            f"{program}{sign}"
            for program, sign in zip(self.summary["program"], self.summary["direction"], strict=True)
        ]

    @property
    def activity_np(self) -> Floats:
        """Distance of the latent from 0 on the program's side, else 0; with spikes also 0 where the latent is off, (n, p)."""
        latent_p = self.summary["latent"].to_numpy(dtype=np.int64) - 1  # counted from 1
        sign_p = np.where(self.summary["direction"] == "-", -1.0, 1.0)
        activity_np = np.clip(self.latent_nk[:, latent_p] * sign_p, 0, None)
        if self.inclusion_nk is None:
            return activity_np
        return np.where(self.inclusion_nk[:, latent_p] >= MIN_INCLUSION, activity_np, 0)

    def positions(self, name: str) -> list[int]:
        """Return the rows of the summary of a program: one for "beta_vsc_3+", all directions for "beta_vsc_3"."""
        names, programs = self.names, [str(program) for program in self.summary["program"]]
        found = [place for place in range(len(names)) if name in (names[place], programs[place])]
        if not found:
            raise InputError(f"no program {name!r}; {did_you_mean(name, dict.fromkeys([*programs, *names]))}")
        return found

    def top_genes(self, name: str, n_genes: int) -> pd.DataFrame:
        """Return the first rows of `genes` of a program with its direction."""
        rows = (self.genes["program"].astype(str) + self.genes["direction"].astype(str)) == name
        return self.genes[rows].head(n_genes)


def stored_programs(adata: AnnData, key: str = "beta_vsc") -> StoredPrograms:
    """Return the programs that `Model.programs` wrote into `adata`.

    Parameters
    ----------
    adata
        Data with ``uns["<key>_programs"]`` and ``obsm["X_<key>"]``.
    key
        Stem of the keys, as `key_added` of `embed` and `programs`.

    Raises
    ------
    InputError
        If the programs or the latent representation are missing; the message says what to run.
    """
    key = key.removeprefix("X_")
    stems = [str(name).removesuffix("_programs") for name in adata.uns if str(name).endswith("_programs")]
    if key not in stems:
        remedy = (
            f"programs of other models are there: key={' or key='.join(map(repr, stems))}."
            if stems
            else f"write them with model.programs(adata), or train with sp.tl.{key}(adata)."
        )
        raise InputError(f"there are no gene programs in uns['{key}_programs']; {remedy}")
    if f"X_{key}" not in adata.obsm:
        raise InputError(
            f"there is no obsm['X_{key}'], the latent representation; write it with model.embed(adata)."
        )
    tables, inclusion = adata.uns[f"{key}_programs"], adata.obsm.get(f"{key}_inclusion")
    return StoredPrograms(
        tables["summary"],
        tables["genes"],
        np.asarray(adata.obsm[f"X_{key}"]),
        None if inclusion is None else np.asarray(inclusion),
    )
