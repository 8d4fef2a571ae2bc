"""The tables of a model's programs as CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sparcell.io import files

if TYPE_CHECKING:
    from sparcell.results.programs import ProgramResults

MIN_GZIPPED_EFFECTS = 1_000_000
"""The table of effects is gzipped from this number of effects on."""


def write_tables(results: ProgramResults, folder: Path) -> None:
    """Write the tables into a folder as CSV, each atomically."""
    genes_as_text = [" ".join(genes) for genes in results.enrichment["genes"]]
    tables = {
        "programs": results.programs,
        "genes": results.genes,
        "enrichment": results.enrichment.assign(genes=genes_as_text),
    }
    for name, table in tables.items():
        files.write_text(folder / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    for name, wide in (("labels", results.label_fractions), ("matches", results.matches)):
        if wide is not None:
            files.write_text(folder / f"{name}.csv", wide.to_csv(index_label="program", lineterminator="\n"))
    ending = ".csv.gz" if results.effects.size >= MIN_GZIPPED_EFFECTS else ".csv"
    with files.atomic_write(folder / f"effects{ending}") as temporary:
        results.effects.to_csv(temporary, index_label="gene", float_format="%.5g", lineterminator="\n")
