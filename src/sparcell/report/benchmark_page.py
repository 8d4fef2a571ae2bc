"""Content of a benchmark's page for the template: names, formatted numbers, and all charts."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell._utils.version import VERSION
from sparcell.pl.benchmark import SINGLE_LATENT_AXES, best_method, format_metric, shade
from sparcell.pl.colors import row_styles
from sparcell.pl.tables import value_at
from sparcell.report import benchmark_charts, maps, sections
from sparcell.report.benchmark_text import conclusions, limits, seed_note
from sparcell.report.next_steps import after_benchmark
from sparcell.report.text import named_values, non_breaking
from sparcell.results.benchmark import BASELINE, EXTERNAL, GROUPS, MODEL, available_metrics, summary

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.report.text import Paragraph
    from sparcell.results.benchmark import BenchmarkResults, Metric, MetricGroup

KINDS = {
    MODEL: ("sparcell", "trained on nine tenths of the cells"),
    EXTERNAL: (
        "External models",
        "count models of other packages, trained on the same nine tenths, with the default settings of their libraries",
    ),
    BASELINE: ("Baselines", "computed from log-normalized counts of all cells"),
}
"""Kind of method → heading and note of its rows."""

CONTENTS = {
    "conclusions": "Summary", "next": "What to do next", "scores": "Metrics", "tradeoff": "Trade-off", "single-latents": "Single latents",
    "likelihood": "Held-out likelihood", "cost": "Cost", "maps": "Maps", "composition": "Composition", "limits": "Limits",
    "protocol": "Protocol", "settings": "Settings", "provenance": "Provenance",
}  # fmt: skip

LAST = "-Infinity"
"""Value by which a table sorts a missing number."""


def chart_store(results: BenchmarkResults) -> dict[str, Any]:
    """Return all charts of the page by name; charts of a row are in a mapping by the name of the row."""
    rows = results.rows
    store: dict[str, Any] = {
        "xy": maps.shared_positions(rows)["xy"],
        "groups": {"labels": maps.shared_groups(results.labels)},
        "labels": {row.name: maps.label_map(row.name, row.tsne2d_n2, results.labels) for row in rows},
    }
    if results.batches is not None:
        store["groups"]["batches"] = maps.shared_groups(results.batches)
        store["batches"] = {row.name: maps.batch_map(row) for row in rows}
    present = results.scores.notna()
    if (present["bio_conservation"] & present["batch_correction"]).any():
        store["tradeoff"] = benchmark_charts.trade_off(results)
    for key in SINGLE_LATENT_AXES:
        if present[key].any():
            store[key] = benchmark_charts.dots(results, key, "0 to 1; higher is better")
    if present["log_likelihood"].any():
        title = "nats per held-out cell; higher is better"
        store["likelihood"] = benchmark_charts.dots(results, "log_likelihood", title)
    store["time"] = benchmark_charts.dots(
        results, "train_seconds", "seconds of training, log scale; lower is better", log=True
    )
    if present["peak_mib"].any():
        store["memory"] = benchmark_charts.dots(
            results, "peak_mib", "MiB of memory, log scale; lower is better", log=True
        )
    return store


def page_context(results: BenchmarkResults) -> dict[str, Any]:
    """Return all of the page except charts and code."""
    store = chart_store(results)
    means = summary(results.scores)
    n_seeds = int(means["n_seeds"].max())
    context: dict[str, Any] = {
        "title": results.title,
        "version": VERSION,
        "facts": _facts(results, n_seeds),
        "skipped": [(entry.title, entry.reason.rstrip(".")) for entry in results.skipped],
        "paragraphs": _paragraphs(conclusions(results)),
        "limits": _paragraphs(limits(results)),
        "tables": [
            _table(results, group, means) for group in GROUPS if available_metrics(results.scores, group)
        ],
        "several_seeds": n_seeds > 1,
        "seed_note": seed_note(results),
        "next_steps_": after_benchmark(results),
        "rows": [{"name": row.name, "title": row.title, "preset": row.preset} for row in results.rows],
        "legend": sections.legend(results.labels),
        "batch_legend": [] if results.batches is None else sections.legend(results.batches),
        "composition": sections.composition(results.labels, results.batches),
        "subset_note": maps.subset_note(len(results.labels)),
        "available_charts": set(store),
        "heights": {
            name: store[name]["layout"].get("height", 0) for name in store if "layout" in store[name]
        },
        "notes": [(row.title, results.notes[row.name]) for row in results.rows if row.name in results.notes],
        "settings": sections.settings_table(results.rows),
        "provenance": named_values(results.provenance),
        "n_dropped": results.provenance.get("n_dropped", 0),
    }
    chart_of = {"likelihood": "likelihood", "tradeoff": "tradeoff", "single-latents": "lms_smi"}
    context["contents"] = [
        (key, text)
        for key, text in CONTENTS.items()
        if chart_of.get(key, "time") in store and (key != "composition" or context["composition"])
    ]
    return context


def _facts(results: BenchmarkResults, n_seeds: int) -> list[tuple[str, str]]:
    provenance = results.provenance
    facts = [("cells", f"{len(results.labels):,}")]
    facts += [
        (title, f"{value:,}")
        for key, title in (("n_test", "held-out cells"), ("n_genes", "genes"))
        if isinstance(value := provenance.get(key), int)
    ]
    facts.append(("cell types", str(len(results.labels.categories))))
    if results.batches is not None:
        facts.append(("batches", str(len(results.batches.categories))))
    facts += [("methods", str(len(results.rows))), ("seeds", str(n_seeds))]
    return [*facts, ("date", str(provenance.get("date", date.today().isoformat()))[:10])]


def _paragraphs(paragraphs: list[Paragraph]) -> list[dict[str, Any]]:
    return [
        {
            "heading": non_breaking(paragraph.heading),
            "texts": [non_breaking(sentence) for sentence in paragraph.sentences],
        }
        for paragraph in paragraphs
    ]


def _table(results: BenchmarkResults, group: MetricGroup, means: pd.DataFrame) -> dict[str, Any]:
    metrics, styles = available_metrics(results.scores, group), row_styles(results.rows)
    groups = []
    for kind, (heading, note) in KINDS.items():
        lines = []
        for row in results.rows:
            if row.preset == kind:
                cells = [_cell(means, row.name, metric) for metric in metrics]
                lines.append({"title": row.title, "color": styles[row.name][0], "cells": cells})
        if lines:
            groups.append({"kind": heading, "note": note, "lines": lines})
    return {
        "key": group.key,
        "heading": group.title,
        "description": group.description,
        "metrics": metrics,
        "groups": groups,
    }


def _cell(means: pd.DataFrame, name: str, metric: Metric) -> dict[str, Any]:
    mean, sd = (value_at(means, name, key) for key in (metric.key, f"{metric.key}_sd"))
    fraction = shade(means, name, metric)
    return {
        "value": LAST if np.isnan(mean) else f"{mean:.6f}",
        "mean": format_metric(metric.key, mean),
        "sd": "" if np.isnan(sd) else format_metric(metric.key, sd),
        "best": best_method(means, metric) == name,
        "shade": "" if fraction is None else f"{fraction:.3f}",
    }
