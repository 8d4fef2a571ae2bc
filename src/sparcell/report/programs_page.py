"""What the page of programs is handed: names, numbers as they are written, and the store of charts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell import __version__
from sparcell.pl.programs import UNSTABLE, panel_titles
from sparcell.report import programs_charts as charts
from sparcell.report import programs_words as words
from sparcell.report.study_page import format_value, legend, non_breaking

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.results.programs import ProgramResults

CONTENTS = {
    "conclusions": "In short", "programs": "All programs", "program": "One program", "types": "Cell types", "stability": "Other seeds",
    "method": "How it was done", "settings": "Settings", "provenance": "Provenance",
}  # fmt: skip
N_LISTED = 8
"""Genes named in a line of the table."""
LEAST_AUC = 0.8
"""Below this a program is said to stand out in no type: the table greys the one where it does so most."""
LAST = "-Infinity"
"""What a table sorts a missing number as."""


def chart_store(found: ProgramResults) -> dict[str, Any]:
    """Every chart of the page; those that follow the chosen program by its key."""
    keys, titles = found.programs["key"].tolist(), panel_titles(found)
    store: dict[str, Any] = {
        "labels": charts.labels(found),
        "cells": charts.cells(found),
        "map": {key: charts.program_map(found, place) for place, key in enumerate(keys)},
        "bars": {key: charts.bars(found, place) for place, key in enumerate(keys)},
        "walk": {
            key: charts.traversal(found, place) for place, key in enumerate(keys) if key in found.traversals
        },
    }
    if found.shares is not None and keys:
        store["types"] = charts.shares(found, titles)
    if found.matches is not None and keys:
        store["matches"] = charts.matches(found, titles)
    return store


def page_context(found: ProgramResults) -> dict[str, Any]:
    """Everything but charts and code."""
    rows = [_row(found, place) for place in range(len(found.programs))]
    gone = {
        "programs": not rows,
        "program": not rows,
        "types": found.shares is None or not rows,
        "stability": found.matches is None or not rows,
    }
    n_types = 0 if found.shares is None else found.shares.shape[1]
    labels = found.map.labels
    return {
        "title": found.title,
        "version": __version__,
        "contents": [(key, text) for key, text in CONTENTS.items() if not gone.get(key, False)],
        "facts": _facts(found),
        "lead": non_breaking(words.lead(found)),
        "passages": [
            {"heading": passage.heading, "told": [non_breaking(sentence) for sentence in passage.sentences]}
            for passage in words.conclusions(found)
        ],
        "rows": rows,
        "unstable": UNSTABLE,
        "with_labels": found.shares is not None,
        "with_seeds": found.matches is not None,
        "with_sets": bool(found.sets_source),
        "legend": [] if labels is None else legend(labels),
        "map_source": found.map.source,
        "drawn_note": _drawn(found),
        "n_named": found.n_genes_enrichment,
        "counts": found.counts,
        "spikes": found.spikes,
        "n_types": n_types,
        "heights": {
            "types": 130 + 21 * len(rows),
            "matches": 80 + 21 * len(rows),
        },
        "least_match": f"{found.least_match:g}",
        "sets_source": found.sets_source,
        "settings": [(name, "–" if value is None else str(value)) for name, value in found.settings.items()],
        "provenance": [
            (str(key).replace("_", " "), format_value(value, str(key)))
            for key, value in found.provenance.items()
            if value not in ("", None)
        ],
    }


def _drawn(found: ProgramResults) -> str:
    n_drawn = len(found.map.xy_m2)
    return (
        ""
        if n_drawn == found.map.n_all
        else f" Drawn are {n_drawn:,} cells chosen at random of {found.map.n_all:,}."
    )


def _facts(found: ProgramResults) -> list[tuple[str, str]]:
    facts = [
        ("cells", f"{found.n_cells:,}"),
        ("genes", f"{found.n_genes:,}"),
        ("model", found.model),
        ("latents, at most", str(found.n_latent)),
        ("live", str(found.n_active)),
    ]
    if found.n_expected is not None:
        facts.append(("expected", str(found.n_expected)))
    facts.append(("explain 1 % or more", str(int(found.large.sum()))))
    if found.stable is not None:
        facts.append(("stable", str(int(found.stable.sum()))))
    return facts


def _row(found: ProgramResults, place: int) -> dict[str, Any]:
    row = found.programs.iloc[place]
    genes = found.first_genes(row["key"], N_LISTED)["gene"].astype(str).tolist()
    stable = found.stable
    kept = None if stable is None else bool(stable[place])
    title = found.titles[place]
    made: dict[str, Any] = {
        "name": row["key"],
        "title": title,
        "preset": "",
        "number": title.split(" ")[0],
        "called": row["name"],
        "also": row["also"],
        "fdr": words.rate(row["fdr"]),
        "fdr_value": _value(-np.log10(max(row["fdr"], 1e-300)) if np.isfinite(row["fdr"]) else np.nan),
        "share_on": words.share(row["share_on"]),
        "share_value": _value(row["share_on"]),
        "explained": words.share(row["explained"]),
        "explained_value": _value(row["explained"]),
        "bar": f"{100 * min(max(float(np.nan_to_num(row['explained'])), 0), 1):.1f}",
        "genes": genes,
        "stable": kept,
        "about": [non_breaking(sentence) for sentence in words.about(found, row)],
        "sets": _sets(found.enrichment[found.enrichment["key"] == row["key"]]),
        "walk": row["key"] in found.traversals,
        "rank": place,
    }
    if found.shares is not None:
        made |= {
            "label": row["label"],
            "auc": f"{row['label_auc']:.3f}",
            "auc_value": _value(row["label_auc"]),
            "clear": row["label_auc"] >= LEAST_AUC,
        }
    if stable is not None:
        made |= {
            "seeds": f"{row['n_found']} of {row['n_others']}",
            "match": f"{row['median_match']:.2f}",
            "match_value": _value(row["median_match"]),
        }
    return made


def _value(number: float) -> str:
    """A number as a table sorts by it."""
    return f"{float(number):.6g}" if np.isfinite(number) else LAST


def _sets(enriched: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "set": str(line["set"]),
            "overlap": f"{line['overlap']} of {line['set_size']}",
            "fold": f"{line['fold']:.1f}",
            "fdr": words.rate(line["fdr"]),
            "genes": ", ".join(line["genes"]),
        }
        for _, line in enriched.iterrows()
    ]
