"""What the page of a benchmark is handed: names, numbers as they are written, and the store of charts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell import __version__, pl
from sparcell.pl.benchmark import TYPE_MATCHES, best, in_units, shade
from sparcell.pl.colors import ink_on, row_styles
from sparcell.pl.tables import value_at
from sparcell.report import benchmark_charts, study_charts
from sparcell.report.benchmark_words import conclusions, limits
from sparcell.report.study_page import format_value, legend, non_breaking, settings_table
from sparcell.results.benchmark import BASELINE, EXTERNAL, GROUPS, MODEL, measured, summary

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from sparcell.report.study_words import Paragraph
    from sparcell.results.benchmark import BenchmarkResults, MetricGroup

KINDS = {
    MODEL: ("sparcell", "trained on nine tenths of the cells"),
    EXTERNAL: (
        "Peers",
        "other packages' models of counts, trained on the same nine tenths, settings as their library has them",
    ),
    BASELINE: ("Baselines", "computed on log-normalised counts of all cells, not trained"),
}
"""Kind of method → heading and note of its rows."""

CONTENTS = {
    "conclusions": "In short", "scores": "Measures", "tradeoff": "Biology and mixing", "readability": "Readable codes",
    "likelihood": "Likelihood", "cost": "Cost",
    "maps": "Maps", "limits": "What cannot be compared", "protocol": "How it was done", "settings": "Settings", "provenance": "Provenance",
}  # fmt: skip

LAST = "-Infinity"
"""What a table sorts a missing number as."""


def chart_store(standings: BenchmarkResults) -> dict[str, Any]:
    """Every chart of the page; those that follow the chosen row by its name."""
    store: dict[str, Any] = {
        "labels": {row.name: study_charts.label_map(row, standings.labels) for row in standings.rows}
    }
    if standings.batches is not None:
        batches = standings.batches
        store["batches"] = {row.name: benchmark_charts.batch_map(row, batches) for row in standings.rows}
    there = standings.scores.notna()
    if (there["bio_conservation"] & there["batch_correction"]).any():
        store["tradeoff"] = benchmark_charts.trade_off(standings)
    for key in TYPE_MATCHES:
        if there[key].any():
            store[key] = benchmark_charts.dots(standings, key, "0 to 1; further right is better")
    if there["log_likelihood"].any():
        title = "nats per held-out cell; further right is better"
        store["likelihood"] = benchmark_charts.dots(standings, "log_likelihood", title)
    store["time"] = benchmark_charts.dots(
        standings, "train_seconds", "seconds of training, logarithmic; further left is better", log=True
    )
    if there["peak_mib"].any():
        store["memory"] = benchmark_charts.dots(
            standings, "peak_mib", "MiB of memory, logarithmic; further left is better", log=True
        )
    return store


def page_context(standings: BenchmarkResults, image: Callable[[Figure], str]) -> dict[str, Any]:
    """Everything but charts and code; `image` turns a figure into base64 text."""
    store = chart_store(standings)
    numbers = summary(standings.scores)
    n_seeds = int(numbers["n_seeds"].max())
    context: dict[str, Any] = {
        "title": standings.title,
        "version": __version__,
        "facts": _facts(standings, n_seeds),
        "skipped": [(entry.title, entry.reason.rstrip(".")) for entry in standings.skipped],
        "passages": _told(conclusions(standings)),
        "limits": _told(limits(standings)),
        "tables": [
            _table(standings, group, numbers) for group in GROUPS if measured(standings.scores, group)
        ],
        "several_seeds": n_seeds > 1,
        "rows": [_row(standings, place, image) for place in range(len(standings.rows))],
        "legend": legend(standings.labels),
        "batch_legend": [] if standings.batches is None else legend(standings.batches),
        "drawn_note": study_charts.drawn_note(len(standings.labels)),
        "charts_there": set(store),
        "heights": {
            name: store[name]["layout"].get("height", 0) for name in store if "layout" in store[name]
        },
        "notes": [
            (row.title, standings.notes[row.name]) for row in standings.rows if row.name in standings.notes
        ],
        "settings": settings_table(standings.rows),
        "provenance": [
            (str(key).replace("_", " "), format_value(value, str(key)))
            for key, value in standings.provenance.items()
        ],
        "n_dropped": standings.provenance.get("n_dropped", 0),
    }
    drawn_by = {"likelihood": "likelihood", "tradeoff": "tradeoff", "readability": "lms_smi"}
    context["contents"] = [
        (key, text) for key, text in CONTENTS.items() if drawn_by.get(key, "time") in store
    ]
    return context


def _facts(standings: BenchmarkResults, n_seeds: int) -> list[tuple[str, str]]:
    told = standings.provenance
    facts = [("cells", f"{len(standings.labels):,}")]
    facts += [
        (word, f"{value:,}")
        for key, word in (("n_test", "of them held out"), ("n_genes", "genes"))
        if isinstance(value := told.get(key), int)
    ]
    facts.append(("cell types", str(len(standings.labels.categories))))
    if standings.batches is not None:
        facts.append(("batches", str(len(standings.batches.categories))))
    facts += [("methods", str(len(standings.rows))), ("seeds", str(n_seeds))]
    return [*facts, ("date", str(told.get("date", date.today().isoformat()))[:10])]


def _told(passages: list[Paragraph]) -> list[dict[str, Any]]:
    return [
        {
            "heading": non_breaking(passage.heading),
            "told": [non_breaking(sentence) for sentence in passage.sentences],
        }
        for passage in passages
    ]


def _row(standings: BenchmarkResults, place: int, image: Callable[[Figure], str]) -> dict[str, Any]:
    row = standings.rows[place]
    figure = pl.type_and_batch(row, standings.labels, standings.batches)
    return {"name": row.name, "title": row.title, "preset": row.preset, "image": image(figure)}


def _table(standings: BenchmarkResults, group: MetricGroup, numbers: pd.DataFrame) -> dict[str, Any]:
    measures, styles = measured(standings.scores, group), row_styles(standings.rows)
    groups = []
    for kind, (heading, note) in KINDS.items():
        lines = []
        for row in standings.rows:
            if row.preset != kind:
                continue
            cells = []
            for measure in measures:
                mean, sd = (value_at(numbers, row.name, key) for key in (measure.key, f"{measure.key}_sd"))
                colour = shade(numbers, row.name, measure)
                cells.append({
                    "value": LAST if np.isnan(mean) else f"{mean:.6f}",
                    "mean": in_units(measure.key, mean),
                    "sd": "" if np.isnan(sd) else in_units(measure.key, sd),
                    "best": best(numbers, measure) == row.name,
                    "style": "" if colour is None else f"background:{colour};color:{ink_on(colour)}",
                })  # fmt: skip
            lines.append({"title": row.title, "colour": styles[row.name][0], "cells": cells})
        if lines:
            groups.append({"kind": heading, "note": note, "lines": lines})
    return {
        "key": group.key,
        "heading": group.title,
        "says": group.says,
        "measures": measures,
        "groups": groups,
    }
