"""Content of a study's report for the template: names, formatted numbers, and all charts."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np

from sparcell import pl
from sparcell._utils.version import VERSION
from sparcell.pl.colors import GENERATED, PATH, row_styles
from sparcell.pl.tables import color_range, presets, score_summary, value_at
from sparcell.report import maps, sections, study_charts, study_text
from sparcell.report.next_steps import after_study
from sparcell.report.text import join_words, named_values, non_breaking, pluralize
from sparcell.results.study import CLUSTERING_METRICS, MethodResult, StudyResults

PRESET_NOTES = {
    "study-2019": ("Preset study-2019", "networks and settings of the 2019 study (values: see Settings)"),
    "hvg": ("Preset hvg", "method of the 2019 study with wider layers, on highly variable genes"),
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
    "conclusions": "Summary", "next": "What to do next", "scores": "Scores", "maps": "Labels and clusters", "genes": "Genes",
    "composition": "Composition", "space": "3-D map",
    "confusion": "Confusion", "generated": "Generated cells", "latents": "Latents", "gene-programs": "Gene programs",
    "training": "Training", "qc": "Quality control", "settings": "Settings", "provenance": "Provenance",
}  # fmt: skip


def preset_note(preset: str) -> tuple[str, str]:
    """Return the heading and the note of a preset."""
    return PRESET_NOTES.get(preset, (f"Preset {preset}", ""))


def chart_store(results: StudyResults) -> dict[str, Any]:
    """Return all charts and maps of the page by name; those of a row are in a mapping by the name of the row."""
    labels, rows = results.labels, results.rows
    store: dict[str, Any] = {
        **maps.shared_positions(rows),
        "groups": {"labels": maps.shared_groups(labels)},
        "labels": {row.name: maps.label_map(row.name, row.tsne2d_n2, labels) for row in rows},
        "partition": {row.name: maps.partition_map(row, labels) for row in rows},
        "space": {row.name: maps.space_map(row, labels) for row in rows},
        "generated": {row.name: maps.generated_map(row) for row in rows},
        "genes": maps.gene_store(results.expression, len(labels)),
        "gene": {row.name: {"xy": f"xy/{row.name}", "gene": True} for row in rows},
        "times": study_charts.training_times(results),
    }
    for preset, _ in presets(rows):
        for term in ("loss", "kl"):
            store[f"loss:{preset}:{term}"] = study_charts.loss_curves(results, preset, term)
    for name in sections.qc_columns(results.qc):
        store[f"qc:{name}"] = study_charts.qc_histogram(results.qc, name, pl.qc_limits(results).get(name))
    return store


def page_context(results: StudyResults) -> dict[str, Any]:
    """Return all of the page except charts and code."""
    rows = [_row(results, row) for row in results.rows]
    # A model without a prior has an interpolation only, so it stands last.
    generated = sorted(
        (row for row in results.rows if row.generated_m2 is not None or row.interpolated_s2 is not None),
        key=lambda row: row.generated_m2 is None,
    )
    by_name = {row["name"]: row for row in rows}
    context: dict[str, Any] = {
        "title": results.title,
        "version": VERSION,
        "facts": _facts(results),
        "label_source": results.label_source.rstrip("."),
        "labels_from_pca": results.labels_from_pca,
        "seed_note": study_text.seed_note(results),
        "paragraphs": _paragraphs(results),
        "next_steps_": after_study(results),
        "spread_note": "" if study_text.seed_note(results) else "± is the standard deviation over seeds.",
        "tables": [
            _score_table(results, space)
            for space in study_text.SPACES
            if (results.scores["space"] == space).any()
        ],
        "metrics": [study_text.METRIC_TITLES[metric] for metric in CLUSTERING_METRICS],
        "published": PUBLISHED,
        "rows": rows,
        "space_rows": [by_name[row.name] for row in results.rows if row.tsne3d_n3 is not None],
        "generated_rows": [by_name[row.name] for row in generated],
        "generated_color": GENERATED,
        "path_color": PATH,
        "legend": sections.legend(results.labels),
        "subset_note": maps.subset_note(len(results.labels)),
        "composition": sections.composition(results.labels, results.batches),
        "genes": sections.gene_groups(results.expression),
        "gene_unit": "" if results.expression is None else results.expression.unit,
        "markers": sections.marker_plot(results.expression, results.labels),
        "split_at": f"{study_text.SPLIT_AT:.0%}",
        "latents": [tiles for row in results.rows if (tiles := _latent_tiles(row))],
        "program_pages": [
            (row.title, *results.program_pages[row.name], study_text.not_sparse(row))
            for row in sorted(results.rows, key=lambda row: bool(study_text.not_sparse(row)))
            if row.name in results.program_pages
        ],
        "settings": sections.settings_table(results.rows),
        "provenance": named_values(
            {key: value for key, value in results.provenance.items() if key != "qc_limits"}
        ),
    }
    context |= _training(results) | _quality_control(results)
    available = {"space": context["space_rows"], "generated": context["generated_rows"], "latents": context["latents"],
             "training": context["has_times"] or context["losses"], "qc": context["qc_charts"], "genes": context["genes"],
             "composition": context["composition"], "gene-programs": context["program_pages"]}  # fmt: skip
    context["contents"] = [(key, text) for key, text in _CONTENTS.items() if available.get(key, True)]
    return context


def _row(results: StudyResults, row: MethodResult) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "preset": row.preset,
        "confusions": [non_breaking(text) for text in study_text.confusions(results.labels, row)],
        "confusion": sections.confusion(row, results.labels),
        "generated_note": study_text.generated_note(row),
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
        ("labels", str(n_types)),
        ("methods", str(len(results.rows))),
        ("seeds", str(n_seeds)),
    ]
    return [*facts, ("date", str(provenance.get("date", date.today().isoformat()))[:10])]


def _score_table(results: StudyResults, space: str) -> dict[str, Any]:
    summary = score_summary(results.scores, space)
    styles = row_styles(results.rows)
    low, high = color_range(summary)
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
                        "shade": f"{np.nan_to_num((mean - low) / (high - low)):.3f}",
                    }
                )
            n_seeds = int(value_at(summary, row.name, "n_seeds"))
            lines.append(
                {"title": row.title, "color": styles[row.name][0], "cells": cells, "n_seeds": n_seeds}
            )
        heading, note = preset_note(preset)
        note += _changed_settings(results, rows)
        groups.append({"preset": preset, "heading": heading, "note": note, "lines": lines,
                       "baseline": all(row.model is None for row in rows)})  # fmt: skip
    return {"space": space, "heading": study_text.SPACES[space], "groups": groups}


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
    note = ""
    if row.kl_k is None and row.inclusion_nk is None and row.active_k.all():
        note, tiles = f"All {len(row.active_k)} latents are active.", []
    return {"title": row.title, "preset": row.preset, "tiles": tiles, "note": note}


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


def _quality_control(results: StudyResults) -> dict[str, Any]:
    if results.qc.empty:
        return {"qc_charts": [], "qc_text": ""}
    limits = {
        name: pair for name, pair in pl.qc_limits(results).items() if any(side is not None for side in pair)
    }
    kept = int(results.qc["kept"].sum())
    text = (
        f"Quality control kept {kept:,} of {len(results.qc):,} cells and removed {len(results.qc) - kept:,}."
    )
    if limits:
        text += f" Limits: {'; '.join(_limit(name, pair) for name, pair in limits.items())}."
    if "pct_mito" in results.qc.columns and not results.qc["pct_mito"].any():
        text += " No cell has counts of mitochondrial genes."
    return {"qc_charts": sections.qc_columns(results.qc), "qc_text": text}


def _changed_settings(results: StudyResults, rows: list[MethodResult]) -> str:
    """Return in how many settings the rows of a preset differ from those of the same models in the first preset; "" for the first."""
    first = {
        row.model: row for row in reversed(results.rows) if row.model and row.preset == results.rows[0].preset
    }
    changed = {
        key
        for row in rows
        if row.model in first and first[row.model].preset != row.preset
        for key, value in row.settings.items()
        if value != first[row.model].settings.get(key)
    }
    if not changed:
        return ""
    number = f"{pluralize(len(changed), 'setting')} {'differs' if len(changed) == 1 else 'differ'}"
    return f"; {number} from preset {results.rows[0].preset} (see Settings)"


def _limit(name: str, pair: tuple[float | None, float | None]) -> str:
    low, high = pair
    sides = ([] if low is None else [f"above {low:,g}"]) + ([] if high is None else [f"below {high:,g}"])
    return f"{pl.QC_TITLES.get(name, name)} {join_words(sides)}"
