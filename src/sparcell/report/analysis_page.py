"""Content of an analysis's report for the template: names, formatted numbers, and all charts and maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell._utils.version import VERSION
from sparcell.pl.charts import qc_limits
from sparcell.report import analysis_text, fit_charts, maps, sections, study_charts
from sparcell.report.next_steps import after_analysis
from sparcell.report.text import format_value, join_words, named_values, non_breaking

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.results.analysis import AnalysisResults

_CONTENTS = {
    "conclusions": "Summary", "doubts": "What to trust less", "next": "What to do next", "maps": "Maps", "clusters": "Clusters",
    "genes": "Genes", "markers": "Markers", "composition": "Composition", "conditions": "Conditions", "gene-programs": "Gene programs",
    "fit": "Does the model fit?",
    "qc": "Quality control", "methods": "Methods", "settings": "Settings", "provenance": "Provenance",
}  # fmt: skip
PLURALS = {
    "Known labels": "known labels", "Batch": "batches", "Condition": "conditions", "Predicted types": "predicted types",
}  # fmt: skip
N_CHANGED = 8
"""Genes listed for each cell type that rise, and that fall."""
MIN_UNKNOWN = 0.005
"""Smaller shares of unknown cells are not listed."""
TYPES = "cell-types"
"""Name of the maps that are colored by cell type."""


def chart_store(results: AnalysisResults) -> dict[str, Any]:
    """Return all charts and maps of the page by name; those of a coloring are in a mapping by its name."""
    colorings = _colorings(results)
    store: dict[str, Any] = {
        "xy": {
            name: maps.axes_of(xy_n2[maps.subset_of_cells(len(xy_n2))])
            for name, xy_n2 in (("umap", results.umap_n2), ("tsne", results.tsne_n2))
        },
        "groups": {
            "labels" if name == TYPES else name: maps.shared_groups(labels)
            for name, (_, labels) in colorings.items()
        },
        "genes": maps.gene_store(results.expression, len(results.cell_types)),
        "gene": {"xy": "xy/umap", "gene": True},
        "types": maps.label_map("umap", results.umap_n2, results.cell_types),
    }
    for place, xy_n2 in (("umap", results.umap_n2), ("tsne", results.tsne_n2)):
        store[place] = {
            name: maps.label_map(place, xy_n2, labels, f"groups/{'labels' if name == TYPES else name}")
            for name, (_, labels) in colorings.items()
        }
    if results.criticism is not None:
        store["mean-variance"] = fit_charts.mean_variance(results.criticism)
        store["zeros"] = fit_charts.zeros(results.criticism)
    limits = qc_limits(results)
    for name in sections.qc_columns(results.qc):
        store[f"qc:{name}"] = study_charts.qc_histogram(results.qc, name, limits.get(name))
    return store


def page_context(results: AnalysisResults) -> dict[str, Any]:
    """Return all of the page except charts and code."""
    colorings = _colorings(results)
    batches = results.columns.get("Batch")
    context: dict[str, Any] = {
        "title": results.title,
        "version": VERSION,
        "facts": _facts(results),
        "paragraphs": [
            {"heading": part.heading, "texts": [non_breaking(text) for text in part.sentences]}
            for part in analysis_text.conclusions(results)
        ],
        "doubts": results.doubts,
        "next_steps_": after_analysis(results),
        "rows": [{"name": name, "title": heading, "preset": ""} for name, (heading, _) in colorings.items()],
        "legends": [
            (name, sections.legend(labels)) for name, (_, labels) in colorings.items() if name != TYPES
        ],
        "legend": sections.legend(results.cell_types),
        "subset_note": maps.subset_note(len(results.cell_types)),
        "numbers": analysis_text.numbers(results),
        "clusters": [_cluster(row) for _, row in results.cluster_table.iterrows()],
        "with_batches": "largest_batch" in results.cluster_table,
        "with_labels": "label" in results.cluster_table,
        "with_predictions": "predicted" in results.cluster_table,
        "genes": sections.gene_groups(results.expression),
        "gene_unit": "" if results.expression is None else results.expression.unit,
        "markers": sections.marker_plot(results.expression, results.cell_types),
        "composition": sections.composition(results.cell_types, batches),
        "test": _test_lines(results),
        "changes": _change_lines(results),
        "program_changes": sections.program_changes(results.program_changes),
        "programs": results.programs,
        "fit": results.criticism,
        "worst_genes": None if results.criticism is None else fit_charts.worst_genes(results.criticism),
        "qc_charts": sections.qc_columns(results.qc),
        "methods": analysis_text.methods(results),
        "references": analysis_text.REFERENCES,
        "settings": [
            (name.replace("_", " "), format_value(value, name)) for name, value in results.settings.items()
        ],
        "provenance": named_values(
            {key: value for key, value in results.provenance.items() if key != "qc_limits"}
        ),
    }
    present = {"doubts": context["doubts"], "genes": context["genes"], "markers": context["markers"],
               "composition": context["composition"],
               "conditions": context["test"] or context["changes"] or context["program_changes"], "gene-programs": context["programs"],
               "fit": context["fit"], "qc": context["qc_charts"]}  # fmt: skip
    context["contents"] = [(key, text) for key, text in _CONTENTS.items() if present.get(key, True)]
    return context


def _colorings(results: AnalysisResults) -> dict[str, tuple[str, pd.Categorical]]:
    """Return name → heading and values of the columns that color the maps, the cell types first."""
    further = {
        heading.lower().replace(" ", "-"): (heading, labels) for heading, labels in results.columns.items()
    }
    return {TYPES: ("Cell types", results.cell_types), **further}


def _facts(results: AnalysisResults) -> list[tuple[str, str]]:
    facts = [("cells", f"{len(results.cell_types):,}")]
    n_genes = results.provenance.get("n_genes")
    if isinstance(n_genes, int):
        facts.append(("genes", f"{n_genes:,}"))
    facts += [
        (PLURALS[heading], str(len(labels.categories)))
        for heading, labels in results.columns.items()
        if heading in PLURALS
    ]
    return [*facts, ("clusters", str(len(results.cluster_table)))]


def _cluster(row: pd.Series) -> dict[str, Any]:
    fdr = float(row["fdr"]) if np.isfinite(row["fdr"]) else 1.0
    evidence = join_words(list(row["set_genes"]), 6)
    return {
        "cluster": row["cluster"],
        "name": row["title"],
        "n_cells": f"{row['n_cells']:,}",
        "n_cells_value": int(row["n_cells"]),
        "share": f"{row['share']:.1%}",
        "stability": f"{row['stability']:.2f}",
        "genes": list(row["genes"]),
        "evidence": f"{evidence} (FDR {fdr:.0e})" if row["set"] and len(row["set_genes"]) else "",
        "batch": f"{row['largest_batch']} {row['batch_share']:.0%}" if "largest_batch" in row else "",
        "label": f"{row['label']} {row['label_share']:.0%}" if row.get("label") else "",
        "predicted": _predicted(row) if "predicted" in row else "",
    }


def _predicted(row: pd.Series) -> str:
    """Return the most frequent predicted type and the share of unknown cells, the larger one first."""
    parts = [(row["predicted_share"], f"{row['predicted']} {row['predicted_share']:.0%}")]
    if row["unknown_share"] >= MIN_UNKNOWN:
        parts.append((row["unknown_share"], f"unknown {row['unknown_share']:.0%}"))
    return ", ".join(text for _, text in sorted(parts, key=lambda part: -part[0]))


def _test_lines(results: AnalysisResults) -> dict[str, Any] | None:
    table = results.composition_test
    if table is None:
        return None
    names = table.attrs["conditions"]
    lines = [
        {
            "name": row["cell_type"],
            "shares": [f"{row[f'share_{name}']:.1%}" for name in names],
            "difference": f"{row['difference']:+.2f}",
            "p": f"{row['p']:.2g}",
            "p_adjusted": f"{row['p_adjusted']:.2g}",
        }
        for _, row in table.iterrows()
    ]
    return {"conditions": names, "lines": lines, "test": table.attrs["test"]}


def _change_lines(results: AnalysisResults) -> dict[str, Any] | None:
    """Return for each cell type how many genes rise and fall, and the first of them."""
    table = results.changes
    if table is None:
        return None
    lines = []
    for kind, rows in table.groupby("within", sort=False):
        found = rows[rows["is_de"]]
        up, down = found[found["logfoldchanges"] > 0], found[found["logfoldchanges"] < 0]
        lines.append(
            {
                "name": kind,
                "n_up": f"{len(up):,}",
                "n_down": f"{len(down):,}",
                "up": _changed(up.sort_values("scores", ascending=False, kind="stable")),
                "down": _changed(down.sort_values("scores", kind="stable")),
            }
        )
    return {"group": table["group"].iloc[0], "reference": table["reference"].iloc[0], "lines": lines}


def _changed(rows: pd.DataFrame) -> str:
    return ", ".join(
        f"{gene} {change:+.1f}"
        for gene, change in zip(
            rows["names"].head(N_CHANGED), rows["logfoldchanges"].head(N_CHANGED), strict=True
        )
    )
