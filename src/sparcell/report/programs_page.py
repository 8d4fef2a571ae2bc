"""The page of gene programs as values for its template: titles, formatted numbers and charts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell._utils.version import VERSION
from sparcell.pl.programs import UNSTABLE, bent_traversals, panel_titles
from sparcell.report import maps, programs_text, sections
from sparcell.report import programs_charts as charts
from sparcell.report.next_steps import after_programs
from sparcell.report.text import format_value, named_values, non_breaking

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.results.programs import ProgramResults

CONTENTS = {
    "conclusions": "Summary", "next": "What to do next", "programs": "All programs", "program": "One program", "genes": "Genes",
    "types": "Cell types", "stability": "Other seeds", "method": "Methods", "settings": "Settings", "provenance": "Provenance",
}  # fmt: skip
N_TABLE_GENES = 8
"""Genes listed in a row of the table."""
MIN_TABLE_AUC = 0.8
"""Below this AUC a program separates no cell type: the table shows the best one in gray."""
SORT_LAST = "-Infinity"
"""Value by which the table sorts a missing number."""


def chart_store(results: ProgramResults) -> dict[str, Any]:
    """Return all charts of the page; charts of a single program by its key."""
    keys, titles = results.programs["key"].tolist(), panel_titles(results)
    embedding = results.embedding
    store: dict[str, Any] = {
        "xy": {"map": maps.axes_of(embedding.xy_m2)},
        "groups": {} if embedding.labels is None else {"labels": maps.shared_groups(embedding.labels)},
        "genes": maps.gene_store(embedding.expression, len(embedding.xy_m2)),
        "gene": {"xy": "xy/map", "gene": True},
        "map": {key: charts.program_map(results, position) for position, key in enumerate(keys)},
        "bars": {key: charts.bars(results, position) for position, key in enumerate(keys)},
        "on": {key: charts.cells_on(results, position) for position, key in enumerate(keys)},
    }
    bent = set(bent_traversals(results))
    if bent:
        store["traversal"] = {
            key: charts.traversal(results, position)
            for position, key in enumerate(keys)
            if key in results.traversals
        }
    if embedding.labels is not None:
        store["labels"] = maps.label_map("map", embedding.xy_m2, embedding.labels)
    if results.matches is not None and keys:
        store["matches"] = charts.matches(results, titles)
    return store


def page_context(results: ProgramResults) -> dict[str, Any]:
    """Return all values of the template except the charts."""
    rows = [_row(results, position) for position in range(len(results.programs))]
    is_absent = {
        "programs": not rows,
        "program": not rows,
        "types": results.label_fractions is None or not rows,
        "genes": results.embedding.expression is None,
        "next": not rows,
        "stability": results.matches is None or not rows,
    }
    labels = results.embedding.labels
    return {
        "title": results.title,
        "version": VERSION,
        "contents": [(key, heading) for key, heading in CONTENTS.items() if not is_absent.get(key, False)],
        "facts": _facts(results),
        "lead": non_breaking(programs_text.lead(results)),
        "paragraphs": [
            {
                "heading": paragraph.heading,
                "texts": [non_breaking(sentence) for sentence in paragraph.sentences],
            }
            for paragraph in programs_text.conclusions(results)
        ],
        "rows": rows,
        "unstable": UNSTABLE,
        "with_labels": results.label_fractions is not None,
        "with_traversals": bool(bent_traversals(results)),
        "on_height": 0
        if results.label_fractions is None
        else charts.height_on(results.label_fractions.shape[1]),
        "with_seeds": results.matches is not None,
        "with_sets": bool(results.sets_source),
        "legend": [] if labels is None else sections.legend(labels),
        "next_steps_": after_programs(results),
        "types": None if results.label_fractions is None or not rows else _type_table(results),
        "genes": sections.gene_groups(results.embedding.expression),
        "gene_unit": "" if results.embedding.expression is None else results.embedding.expression.unit,
        "map_source": results.embedding.source,
        "sample_note": _sample_note(results),
        "n_genes_enrichment": results.n_genes_enrichment,
        "counts": results.counts,
        "spikes": results.spikes,
        "heights": {"matches": 80 + 21 * len(rows)},
        "min_match": f"{results.min_match:g}",
        "sets_source": results.sets_source,
        "settings": [
            (name.replace("_", " "), format_value(value, name)) for name, value in results.settings.items()
        ],
        "provenance": named_values(
            {key: value for key, value in results.provenance.items() if value not in ("", None)}
        ),
    }


def _type_table(results: ProgramResults) -> dict[str, Any]:
    fractions = results.label_fractions
    assert fractions is not None
    columns = [str(label) for label in fractions.columns]
    return sections.heat_table(
        fractions.to_numpy(dtype=float), panel_titles(results), columns, corner="% of cells on"
    )


def _sample_note(results: ProgramResults) -> str:
    """Return a sentence on the cells that the map shows; "" if it shows all cells."""
    n_shown, n_cells = len(results.embedding.xy_m2), results.embedding.n_cells
    if n_shown == n_cells:
        return ""
    return f" The map shows a random sample of {n_shown:,} of the {n_cells:,} cells."


def _facts(results: ProgramResults) -> list[tuple[str, str]]:
    facts = [
        ("cells", f"{results.n_cells:,}"),
        ("genes", f"{results.n_genes:,}"),
        ("model", results.model),
        ("latents", str(results.n_latent)),
        ("active", str(results.n_active)),
    ]
    if results.n_active_predicted is not None:
        facts.append(("predicted active", str(results.n_active_predicted)))
    facts.append(("explain 1% or more", str(int(results.major.sum()))))
    if results.stable is not None:
        facts.append(("stable", str(int(results.stable.sum()))))
    return facts


def _row(results: ProgramResults, position: int) -> dict[str, Any]:
    """Return one program as values for the table and for the section on one program."""
    program = results.programs.iloc[position]
    key, explained = program["key"], program["fraction_explained"]
    title = results.titles[position]
    p = program["p_adjusted"]
    row: dict[str, Any] = {
        "name": key,
        "title": title,
        "preset": "",
        "number": title.split(" ")[0],
        "gene_set": program["name"],
        "second_gene_set": program["second_name"],
        "p": programs_text.format_rate(p),
        "p_csv": f"{p:.3g}" if np.isfinite(p) else "",
        "p_value": _sort_value(-np.log10(max(p, 1e-300)) if np.isfinite(p) else np.nan),
        "set_genes": ", ".join(program["set_genes"]),
        "fraction_on": programs_text.format_fraction(program["fraction_cells_on"]),
        "fraction_on_value": _sort_value(program["fraction_cells_on"]),
        "explained": programs_text.format_fraction(explained),
        "explained_value": _sort_value(explained),
        "bar": f"{100 * min(max(float(np.nan_to_num(explained)), 0), 1):.1f}",
        "genes": results.top_genes(key, N_TABLE_GENES)["gene"].astype(str).tolist(),
        "stable": None if results.stable is None else bool(results.stable[position]),
        "sentences": [
            non_breaking(sentence) for sentence in programs_text.program_sentences(results, program)
        ],
        "sets": _gene_sets(results.enrichment[results.enrichment["key"] == key]),
        "rank": position,
    }
    if results.label_fractions is not None:
        row |= {
            "label": program["label"],
            "auc": f"{program['label_auc']:.3f}",
            "auc_value": _sort_value(program["label_auc"]),
            "clear": program["label_auc"] >= MIN_TABLE_AUC,
        }
    if results.stable is not None:
        row |= {
            "seeds": f"{program['n_reproduced']} of {program['n_others']}",
            "match": f"{program['median_match']:.2f}",
            "match_value": _sort_value(program["median_match"]),
        }
    return row


def _sort_value(number: float) -> str:
    """Return the number by which the table sorts."""
    return f"{float(number):.6g}" if np.isfinite(number) else SORT_LAST


def _gene_sets(enriched: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "set": str(line["set"]),
            "overlap": f"{line['overlap']} of {line['set_size']}",
            "fold": f"{line['fold']:.1f}",
            "p": programs_text.format_rate(line["p_adjusted"]),
            "genes": ", ".join(line["genes"]),
        }
        for _, line in enriched.iterrows()
    ]
