"""What the template is handed: names, numbers as they are written, and the store of charts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell import __version__, pl
from sparcell.pl.colors import row_styles
from sparcell.pl.tables import colour_range, presets, score_summary, seconds_in_words, value_at
from sparcell.report import study_charts, study_words
from sparcell.results.study import MEASURES, MethodResult, StudyResults

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PRESETS = {
    "seed": ("Preset seed", "the networks and settings of the published study (as run: see Settings)"),
    "hvg": ("Preset hvg", "the setting on variable genes"),
    "counts": (
        "Preset counts",
        "raw counts of the variable genes, negative binomial: the recommended setting for counts",
    ),
    "baseline": ("Baselines", "nothing trained; mapped, clustered and scored in the same way"),
}

PUBLISHED = (
    ("Autoencoder", ("0.721", "0.580", "0.770", "0.675"), "3–5 min"),
    ("β-VAE", ("0.609", "0.440", "0.654", "0.567"), "17–25 min"),
    ("β-VSC", ("0.646", "0.465", "0.692", "0.602"), "over 20 min"),
)
"""NMI, ARI, homogeneity and completeness that the study of 2019 reported on PBMC3k."""

_CONTENTS = {
    "conclusions": "Conclusions", "scores": "Scores", "maps": "Labels and clusters", "space": "3-D map",
    "confusion": "Confusions", "generated": "Generated cells", "latents": "Latents", "gene-programs": "Gene programs",
    "training": "Training", "qc": "Quality control", "settings": "Settings", "provenance": "Provenance",
}  # fmt: skip


def preset_words(preset: str) -> tuple[str, str]:
    """Heading and note of a preset."""
    return PRESETS.get(preset, (f"Preset {preset}", ""))


def chart_store(results: StudyResults) -> dict[str, Any]:
    """Every chart of the page; those that follow the chosen row by its name."""
    labels = results.labels
    store: dict[str, Any] = {
        "labels": {row.name: study_charts.label_map(row, labels) for row in results.rows},
        "partition": {row.name: study_charts.partition_map(row, labels) for row in results.rows},
        "confusion": {row.name: study_charts.confusion(row, labels) for row in results.rows},
        "space": {row.name: study_charts.space_map(row, labels) for row in results.rows},
        "generated": {row.name: study_charts.generated_map(row, labels) for row in results.rows},
        "times": study_charts.training_times(results),
    }
    for space in study_words.SPACES:
        store[f"scores:{space}"] = study_charts.score_heatmap(results, space)
    for preset, _ in presets(results.rows):
        for term in ("loss", "kl"):
            store[f"loss:{preset}:{term}"] = study_charts.loss_curves(results, preset, term)
    return store


def page_context(results: StudyResults, image: Callable[[Figure], str]) -> dict[str, Any]:
    """Everything but charts and code; `image` turns a figure into base64 text."""
    rows = [_row(results, row, image) for row in results.rows]
    spaces = {row.name for row in results.rows if row.tsne3d_n3 is not None}
    made = {
        row.name for row in results.rows if row.generated_m2 is not None or row.interpolated_s2 is not None
    }
    context: dict[str, Any] = {
        "title": results.title,
        "version": __version__,
        "facts": _facts(results),
        "label_source": results.label_source.rstrip("."),
        "labels_from_pca": results.labels_from_pca,
        "passages": _passages(results),
        "spread_note": _spread_note(results),
        "tables": [
            _score_table(results, space)
            for space in study_words.SPACES
            if (results.scores["space"] == space).any()
        ],
        "measures": [study_words.MEASURE_NAMES[measure] for measure in MEASURES],
        "published": PUBLISHED,
        "rows": rows,
        "space_rows": [row for row in rows if row["name"] in spaces],
        "generated_rows": [row for row in rows if row["name"] in made],
        "legend": legend(results.labels),
        "drawn_note": study_charts.drawn_note(len(results.labels)),
        "split_at": f"{study_words.SPLIT_AT:.0%}",
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
        "provenance": [
            (str(key).replace("_", " "), format_value(value, str(key)))
            for key, value in results.provenance.items()
            if key != "qc_limits"
        ],
    }
    context |= _training(results) | _quality(results, image)
    there = {"space": context["space_rows"], "generated": context["generated_rows"], "latents": context["latents"],
             "training": context["has_times"] or context["losses"], "qc": context["qc_image"],
             "gene-programs": context["program_pages"]}  # fmt: skip
    context["contents"] = [(key, text) for key, text in _CONTENTS.items() if there.get(key, True)]
    return context


def _row(results: StudyResults, row: MethodResult, image: Callable[[Figure], str]) -> dict[str, Any]:
    figure = pl.paired_map(row.tsne2d_n2, results.labels, row.kmeans_n, row.centroids_c2, row.title)
    return {
        "name": row.name,
        "title": row.title,
        "preset": row.preset,
        "confusions": [non_breaking(said) for said in study_words.confusions(results.labels, row)],
        "image": image(figure),
    }


def _facts(results: StudyResults) -> list[tuple[str, str]]:
    told = results.provenance
    n_genes = told.get("n_genes")
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
    return [*facts, ("date", str(told.get("date", date.today().isoformat()))[:10])]


def _spread_note(results: StudyResults) -> str:
    if len(results.scores) and int(results.scores.groupby("model")["seed"].nunique().max()) > 1:
        return "Mean ± standard deviation over seeds."
    return "One seed, so there is no spread to show and no order to claim."


def _score_table(results: StudyResults, space: str) -> dict[str, Any]:
    summary = score_summary(results.scores, space)
    styles = row_styles(results.rows)
    groups = []
    for preset, rows in presets(results.rows):
        rows = [row for row in rows if row.name in summary.index]
        if not rows:
            continue
        best = summary.loc[[row.name for row in rows], list(MEASURES)].max()
        lines = []
        for row in rows:
            cells = []
            for measure in MEASURES:
                mean, sd = value_at(summary, row.name, measure), value_at(summary, row.name, f"{measure}_sd")
                top = len(rows) > 1 and mean == float(best[measure])
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
                {"title": row.title, "colour": styles[row.name][0], "cells": cells, "n_seeds": n_seeds}
            )
        heading, note = preset_words(preset)
        note = _difference(results, rows) or note
        groups.append({"preset": preset, "heading": heading, "note": note, "lines": lines,
                       "baseline": all(row.model is None for row in rows)})  # fmt: skip
    height = study_charts.score_heatmap(results, space)["layout"]["height"]
    heading = {"tsne2d": "k-means on the 2-D map", "latent": "k-means on the codes"}.get(space, space)
    low, high = colour_range(summary)
    return {
        "space": space,
        "heading": heading,
        "groups": groups,
        "height": height,
        "low": f"{low:.1f}",
        "high": f"{high:.1f}",
    }


def _passages(results: StudyResults) -> list[dict[str, Any]]:
    """The conclusions, with the subject of a sentence (a row, a preset) apart, to be set in bold."""
    subjects = [f"{row.title}: " for row in results.rows] + [f"Preset {row.preset}" for row in results.rows]
    passages = []
    for passage in study_words.conclusions(results):
        told = []
        for sentence in passage.sentences:
            subject = max((s for s in subjects if sentence.startswith(s)), key=len, default="")
            told.append((non_breaking(subject), non_breaking(sentence[len(subject) :])))
        passages.append({"heading": non_breaking(passage.heading), "told": told})
    return passages


def non_breaking(text: str) -> str:
    """Keep "0.7 ± 0.1", "β-VAE" and "3 min 05 s" each on one line."""
    text = re.sub(r" (?=±)|(?<=±) |(?<=\d) (?=(min|s|h)\b)|(?<=min) (?=\d)|(?<=\bh) (?=\d)", "\u00a0", text)
    return re.sub(r"(?<=β)-(?=\w)", "-\u2060", text)


def legend(labels: pd.Categorical) -> list[dict[str, str]]:
    """Name, colour and number of cells of each label."""
    codes = np.asarray(labels.codes)
    return [
        {"name": name, "colour": colour, "count": f"{int((codes == code).sum()):,}"}
        for code, name, colour in study_charts.label_groups(labels)
    ]


def _latent_tiles(row: MethodResult) -> dict[str, Any] | None:
    if row.active_k is None:
        return None
    gamma_k = None if row.inclusion_nk is None else row.inclusion_nk.mean(axis=0)
    largest = float(np.max(row.kl_k)) if row.kl_k is not None and len(row.kl_k) else 0.0
    tiles = []
    for k, live in enumerate(row.active_k):
        tile: dict[str, Any] = {"live": bool(live), "kl": "", "gamma": ""}
        if row.kl_k is not None:
            tile |= {
                "kl": f"{float(row.kl_k[k]):.2f}",
                "kl_share": round(100 * float(row.kl_k[k]) / (largest or 1), 1),
            }
        if gamma_k is not None:
            tile |= {"gamma": f"{float(gamma_k[k]):.2f}", "gamma_share": round(100 * float(gamma_k[k]), 1)}
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
            losses.append((preset, preset_words(preset)[0].lower(), terms))
    return {
        "has_times": times is not None,
        "times_height": times["layout"]["height"] if times else 0,
        "losses": losses,
    }


def _quality(results: StudyResults, image: Callable[[Figure], str]) -> dict[str, Any]:
    if results.qc.empty:
        return {"qc_image": "", "qc_words": ""}
    limits = pl.qc_limits(results)
    kept = int(results.qc["kept"].sum())
    told = f"{kept:,} of {len(results.qc):,} cells were kept, {len(results.qc) - kept:,} removed."
    if limits:
        told += f" Limits (dashed): {'; '.join(_limit(name, pair) for name, pair in limits.items())}."
    return {"qc_image": image(pl.qc_histograms(results.qc, limits)), "qc_words": told}


def _difference(results: StudyResults, rows: list[MethodResult]) -> str:
    """In which settings the rows of a preset differ from those of the same models in the first preset."""
    first = {
        row.model: row for row in reversed(results.rows) if row.model and row.preset == results.rows[0].preset
    }
    told: dict[str, set[str]] = {}
    for row in rows:
        base = first.get(row.model) if row.model else None
        if base is None or base.preset == row.preset:
            continue
        for key, value in row.settings.items():
            if value != base.settings.get(key):
                told.setdefault(key, set()).add(format_value(value, key))
    changes = [f"{key.replace('_', ' ')} {' or '.join(sorted(values))}" for key, values in told.items()]
    return f"as preset {results.rows[0].preset}, but {study_words.listed(changes)}" if changes else ""


def _limit(name: str, pair: tuple[float | None, float | None]) -> str:
    low, high = pair
    sides = ([] if low is None else [f"above {low:,g}"]) + ([] if high is None else [f"below {high:,g}"])
    return f"{pl.QC_TITLES.get(name, name)} {study_words.listed(sides)}"


def settings_table(every: Sequence[MethodResult]) -> dict[str, Any]:
    """One column a row that has settings, one line a setting."""
    rows = [row for row in every if row.settings]
    keys = list(dict.fromkeys(key for row in rows for key in row.settings))
    lines = []
    for key in keys:
        values = [format_value(row.settings.get(key, "–"), key) for row in rows]
        lines.append({"key": key.replace("_", " "), "values_": values, "differs": len(set(values)) > 1})
    return {"titles": [row.title for row in rows], "lines": lines}


def format_value(value: object, key: str = "") -> str:
    """Write a setting or a fact of the provenance as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {format_value(part)}" for name, part in value.items())
    if isinstance(value, list | tuple | set):
        return ", ".join(format_value(part) for part in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if key == "seconds" and isinstance(value, int | float):
        return seconds_in_words(float(value))
    if isinstance(value, int):
        return f"{value:,}" if key.startswith("n_") else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
