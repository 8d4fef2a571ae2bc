"""Content of a study's report for the template: names, formatted numbers, and all charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell import pl
from sparcell._utils.version import VERSION
from sparcell.pl.colors import row_styles
from sparcell.pl.tables import color_range, presets, score_summary, value_at
from sparcell.report import study_charts, study_text
from sparcell.report.text import format_value, join_words, named_values, non_breaking
from sparcell.results.study import CLUSTERING_METRICS, MethodResult, StudyResults

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PRESET_NOTES = {
    "study-2019": ("Preset study-2019", "networks and settings of the 2019 study (values: see Settings)"),
    "hvg": ("Preset hvg", "same method on highly variable genes"),
    "counts": (
        "Preset counts",
        "raw counts of the highly variable genes, negative binomial: recommended for counts",
    ),
    "programs": ("Preset programs", "latents that are gene programs"),
    "baseline": ("Baselines", "no training; same map, clusters and scores"),
}
"""Preset → heading and note of its rows."""

PUBLISHED = (
    ("Autoencoder", ("0.721", "0.580", "0.770", "0.675"), "3–5 min"),
    ("β-VAE", ("0.609", "0.440", "0.654", "0.567"), "17–25 min"),
    ("β-VSC", ("0.646", "0.465", "0.692", "0.602"), "over 20 min"),
)
"""Model → NMI, ARI, homogeneity and completeness on PBMC3k, and training time, as the 2019 study reported them."""

_CONTENTS = {
    "conclusions": "Summary", "scores": "Scores", "maps": "Labels and clusters", "space": "3-D map",
    "confusion": "Confusion", "generated": "Generated cells", "latents": "Latents", "gene-programs": "Gene programs",
    "training": "Training", "qc": "Quality control", "settings": "Settings", "provenance": "Provenance",
}  # fmt: skip


def preset_note(preset: str) -> tuple[str, str]:
    """Return the heading and the note of a preset."""
    return PRESET_NOTES.get(preset, (f"Preset {preset}", ""))


def chart_store(results: StudyResults) -> dict[str, Any]:
    """Return all charts of the page by name; charts of a row are in a mapping by the name of the row."""
    labels = results.labels
    store: dict[str, Any] = {
        "labels": {row.name: study_charts.label_map(row, labels) for row in results.rows},
        "partition": {row.name: study_charts.partition_map(row, labels) for row in results.rows},
        "confusion": {row.name: study_charts.confusion(row, labels) for row in results.rows},
        "space": {row.name: study_charts.space_map(row, labels) for row in results.rows},
        "generated": {row.name: study_charts.generated_map(row, labels) for row in results.rows},
        "times": study_charts.training_times(results),
    }
    for space in study_text.SPACES:
        store[f"scores:{space}"] = study_charts.score_heatmap(results, space)
    for preset, _ in presets(results.rows):
        for term in ("loss", "kl"):
            store[f"loss:{preset}:{term}"] = study_charts.loss_curves(results, preset, term)
    return store


def page_context(results: StudyResults, image: Callable[[Figure], str]) -> dict[str, Any]:
    """Return all of the page except charts and code; `image` renders a figure as base64 text."""
    rows = [_row(results, row, image) for row in results.rows]
    spaces = {row.name for row in results.rows if row.tsne3d_n3 is not None}
    generated = {
        row.name for row in results.rows if row.generated_m2 is not None or row.interpolated_s2 is not None
    }
    context: dict[str, Any] = {
        "title": results.title,
        "version": VERSION,
        "facts": _facts(results),
        "label_source": results.label_source.rstrip("."),
        "labels_from_pca": results.labels_from_pca,
        "paragraphs": _paragraphs(results),
        "spread_note": _spread_note(results),
        "tables": [
            _score_table(results, space)
            for space in study_text.SPACES
            if (results.scores["space"] == space).any()
        ],
        "metrics": [study_text.METRIC_TITLES[metric] for metric in CLUSTERING_METRICS],
        "published": PUBLISHED,
        "rows": rows,
        "space_rows": [row for row in rows if row["name"] in spaces],
        "generated_rows": [row for row in rows if row["name"] in generated],
        "legend": legend(results.labels),
        "subset_note": study_charts.subset_note(len(results.labels)),
        "split_at": f"{study_text.SPLIT_AT:.0%}",
        "confusion_height": study_charts.confusion(results.rows[0], results.labels)["layout"]["height"]
        if rows
        else 0,
        "latents": [tiles for row in results.rows if (tiles := _latent_tiles(row))],
        "program_pages": [
            (row.title, results.program_pages[row.name][0], non_breaking(results.program_pages[row.name][1]))
            for row in results.rows
            if row.name in results.program_pages
        ],
        "settings": settings_table(results.rows),
        "provenance": named_values(
            {key: value for key, value in results.provenance.items() if key != "qc_limits"}
        ),
    }
    context |= _training(results) | _quality_control(results, image)
    available = {"space": context["space_rows"], "generated": context["generated_rows"], "latents": context["latents"],
             "training": context["has_times"] or context["losses"], "qc": context["qc_image"],
             "gene-programs": context["program_pages"]}  # fmt: skip
    context["contents"] = [(key, text) for key, text in _CONTENTS.items() if available.get(key, True)]
    return context


def _row(results: StudyResults, row: MethodResult, image: Callable[[Figure], str]) -> dict[str, Any]:
    figure = pl.paired_map(row.tsne2d_n2, results.labels, row.kmeans_n, row.centroids_c2, row.title)
    return {
        "name": row.name,
        "title": row.title,
        "preset": row.preset,
        "confusions": [non_breaking(text) for text in study_text.confusions(results.labels, row)],
        "image": image(figure),
    }


def _facts(results: StudyResults) -> list[tuple[str, str]]:
    provenance = results.provenance
    n_genes = provenance.get("n_genes")
    n_seeds = int(results.scores["seed"].nunique()) if len(results.scores) else 0
    facts = [("cells", f"{len(results.labels):,}")]
    if isinstance(n_genes, int):
        facts.append(("genes", f"{n_genes:,}"))
    n_types = len(set(results.labels.codes) - {-1})
    facts += [
        ("cell types", str(n_types)),
        ("rows compared", str(len(results.rows))),
        ("seeds", str(n_seeds)),
    ]
    return [*facts, ("date", str(provenance.get("date", date.today().isoformat()))[:10])]


def _spread_note(results: StudyResults) -> str:
    if len(results.scores) and int(results.scores.groupby("model")["seed"].nunique().max()) > 1:
        return "Mean ± standard deviation over seeds."
    return "One seed, so there is no spread and no order of methods."


def _score_table(results: StudyResults, space: str) -> dict[str, Any]:
    summary = score_summary(results.scores, space)
    styles = row_styles(results.rows)
    groups = []
    for preset, rows in presets(results.rows):
        rows = [row for row in rows if row.name in summary.index]
        if not rows:
            continue
        best = summary.loc[[row.name for row in rows], list(CLUSTERING_METRICS)].max()
        lines = []
        for row in rows:
            cells = []
            for metric in CLUSTERING_METRICS:
                mean, sd = value_at(summary, row.name, metric), value_at(summary, row.name, f"{metric}_sd")
                top = len(rows) > 1 and mean == float(best[metric])
                cells.append(
                    {
                        "value": f"{mean:.6f}",
                        "mean": f"{mean:.3f}",
                        "sd": "" if np.isnan(sd) else f"{sd:.3f}",
                        "best": top,
                    }
                )
            n_seeds = int(value_at(summary, row.name, "n_seeds"))
            lines.append(
                {"title": row.title, "color": styles[row.name][0], "cells": cells, "n_seeds": n_seeds}
            )
        heading, note = preset_note(preset)
        note = _changed_settings(results, rows) or note
        groups.append({"preset": preset, "heading": heading, "note": note, "lines": lines,
                       "baseline": all(row.model is None for row in rows)})  # fmt: skip
    height = study_charts.score_heatmap(results, space)["layout"]["height"]
    low, high = color_range(summary)
    return {
        "space": space,
        "heading": study_text.SPACES[space],
        "groups": groups,
        "height": height,
        "low": f"{low:.1f}",
        "high": f"{high:.1f}",
    }


def _paragraphs(results: StudyResults) -> list[dict[str, Any]]:
    """Return the conclusions, with the subject of a text (a row or a preset) apart, to be set in bold."""
    subjects = [f"{row.title}: " for row in results.rows] + [f"Preset {row.preset}" for row in results.rows]
    paragraphs = []
    for paragraph in study_text.conclusions(results):
        texts = []
        for sentence in paragraph.sentences:
            subject = max((s for s in subjects if sentence.startswith(s)), key=len, default="")
            texts.append((non_breaking(subject), non_breaking(sentence[len(subject) :])))
        paragraphs.append({"heading": non_breaking(paragraph.heading), "texts": texts})
    return paragraphs


def legend(labels: pd.Categorical) -> list[dict[str, str]]:
    """Return name, color and number of cells of each label."""
    codes = np.asarray(labels.codes)
    return [
        {"name": name, "color": color, "count": f"{int((codes == code).sum()):,}"}
        for code, name, color in study_charts.label_groups(labels)
    ]


def _latent_tiles(row: MethodResult) -> dict[str, Any] | None:
    if row.active_k is None:
        return None
    inclusion_k = None if row.inclusion_nk is None else row.inclusion_nk.mean(axis=0)
    largest = float(np.max(row.kl_k)) if row.kl_k is not None and len(row.kl_k) else 0.0
    tiles = []
    for k, active in enumerate(row.active_k):
        tile: dict[str, Any] = {"active": bool(active), "kl": "", "inclusion": ""}
        if row.kl_k is not None:
            kl = float(row.kl_k[k])
            tile |= {"kl": f"{kl:.2f}", "kl_percent": round(100 * kl / (largest or 1), 1)}
        if inclusion_k is not None:
            inclusion = float(inclusion_k[k])
            tile |= {"inclusion": f"{inclusion:.2f}", "inclusion_percent": round(100 * inclusion, 1)}
        tiles.append(tile)
    return {"title": row.title, "preset": row.preset, "tiles": tiles}


def _training(results: StudyResults) -> dict[str, Any]:
    times = study_charts.training_times(results)
    losses = []
    for preset, _ in presets(results.rows):
        terms = [
            term for term in ("loss", "kl") if study_charts.loss_curves(results, preset, term) is not None
        ]
        if terms:
            losses.append((preset, preset_note(preset)[0].lower(), terms))
    return {
        "has_times": times is not None,
        "times_height": times["layout"]["height"] if times else 0,
        "losses": losses,
    }


def _quality_control(results: StudyResults, image: Callable[[Figure], str]) -> dict[str, Any]:
    if results.qc.empty:
        return {"qc_image": "", "qc_text": ""}
    limits = pl.qc_limits(results)
    kept = int(results.qc["kept"].sum())
    text = (
        f"Quality control kept {kept:,} of {len(results.qc):,} cells and removed {len(results.qc) - kept:,}."
    )
    if limits:
        text += f" Limits (dashed): {'; '.join(_limit(name, pair) for name, pair in limits.items())}."
    return {"qc_image": image(pl.qc_histograms(results.qc, limits)), "qc_text": text}


def _changed_settings(results: StudyResults, rows: list[MethodResult]) -> str:
    """Return the settings in which the rows of a preset differ from those of the same models in the first preset."""
    first = {
        row.model: row for row in reversed(results.rows) if row.model and row.preset == results.rows[0].preset
    }
    changed: dict[str, set[str]] = {}
    for row in rows:
        base = first.get(row.model) if row.model else None
        if base is None or base.preset == row.preset:
            continue
        for key, value in row.settings.items():
            if value != base.settings.get(key):
                changed.setdefault(key, set()).add(format_value(value, key))
    changes = [f"{key.replace('_', ' ')} {' or '.join(sorted(values))}" for key, values in changed.items()]
    return f"like preset {results.rows[0].preset}, except for {join_words(changes)}" if changes else ""


def _limit(name: str, pair: tuple[float | None, float | None]) -> str:
    low, high = pair
    sides = ([] if low is None else [f"above {low:,g}"]) + ([] if high is None else [f"below {high:,g}"])
    return f"{pl.QC_TITLES.get(name, name)} {join_words(sides)}"


def settings_table(results: Sequence[MethodResult]) -> dict[str, Any]:
    """Return the table of settings: one column for each row that has settings, one line for each setting."""
    rows = [row for row in results if row.settings]
    keys = list(dict.fromkeys(key for row in rows for key in row.settings))
    lines = []
    for key in keys:
        values = [format_value(row.settings.get(key, "–"), key) for row in rows]
        lines.append({"key": key.replace("_", " "), "values_": values, "differs": len(set(values)) > 1})
    return {"titles": [row.title for row in rows], "lines": lines}
