"""The tables of a model's programs as CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparcell.io import files

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.results.programs import ProgramResults

FLOAT_FORMAT = "%.6g"
"""Numbers in the tables have six significant digits."""
MIN_GZIPPED_EFFECTS = 1_000_000
"""The table of effects is gzipped from this number of effects on."""


def write_tables(results: ProgramResults, folder: Path) -> None:
    """Write the tables into a folder as CSV, each atomically."""
    set_genes = [" ".join(genes) for genes in results.programs["set_genes"]]
    shared_genes = [" ".join(genes) for genes in results.enrichment["genes"]]
    tables = {
        "programs": results.programs.assign(set_genes=set_genes),
        "genes": results.genes,
        "enrichment": results.enrichment.assign(genes=shared_genes),
    }
    for name, table in tables.items():
        files.write_text(folder / f"{name}.csv", _csv(table, index=False))
    for name, wide in (("labels", results.label_fractions), ("matches", results.matches)):
        if wide is not None:
            files.write_text(folder / f"{name}.csv", _csv(wide, index_label="program"))
    ending = ".csv.gz" if results.effects.size >= MIN_GZIPPED_EFFECTS else ".csv"
    with files.atomic_write(folder / f"effects{ending}") as temporary:
        results.effects.to_csv(temporary, index_label="gene", float_format="%.5g", lineterminator="\n")


def _csv(table: pd.DataFrame, **index: Any) -> str:
    return str(table.to_csv(float_format=FLOAT_FORMAT, lineterminator="\n", **index))
