"""Sentences of a study's report, from its numbers: pure functions, no HTML. Every number in the text is computed here.

Suffixes: l labels, c clusters, k latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sparcell.metrics.sparsity import sparsity_summary
from sparcell.pl.tables import contingency, format_seconds, presets, score_summary, value_at
from sparcell.report.text import (
    Difference,
    Paragraph,
    capitalize,
    difference_of,
    join_words,
    pluralize,
    sample_sentence,
)
from sparcell.results.study import CLUSTERING_METRICS, MethodResult, StudyResults

if TYPE_CHECKING:
    import pandas as pd

SPLIT_AT = 0.6
"""A label is split if no cluster holds more than this fraction of its cells."""

SPACES = {"tsne2d": "k-means on the 2-D map", "latent": "k-means on the latents"}
"""Space → title of its scores."""

METRIC_TITLES = {"nmi": "NMI", "ari": "ARI", "homogeneity": "homogeneity", "completeness": "completeness"}


def conclusions(results: StudyResults) -> list[Paragraph]:
    """Return all paragraphs of the conclusions in reading order, without empty ones."""
    paragraphs = [
        Paragraph("Best models", tuple(best_methods(results))),
        Paragraph("β-models and autoencoder", tuple(against_autoencoder(results))),
        Paragraph("Comparison with PCA", tuple(against_pca(results))),
        Paragraph("Merged and split labels", tuple(merged_clusters(results))),
        Paragraph("Latents", tuple(inactive_latents(results))),
        Paragraph("Generated cells", tuple(generated_cells(results))),
        Paragraph("Training time", tuple(training_times(results))),
        Paragraph("Caveats", tuple(caveats(results))),
    ]
    return [paragraph for paragraph in paragraphs if paragraph.sentences]


def seed_note(results: StudyResults) -> str:
    """Return what a single seed means for all comparisons of the page; "" with several seeds."""
    if not len(results.scores) or int(results.scores.groupby("model")["seed"].nunique().max()) > 1:
        return ""
    return (
        "Every method was run with one seed. One seed gives no spread, so a lead or a difference on this page may be chance. Nothing is "
        "claimed about the order of methods."
    )


def generated_note(row: MethodResult) -> str:
    """Return what the map of generated cells shows for a method."""
    if row.generated_m2 is None:
        return "This model has no prior, so there is nothing to sample from. The map shows only the interpolation between two real cells."
    return f"{len(row.generated_m2):,} generated cells."


def mean_with_sd(summary: pd.DataFrame, name: str, metric: str = "nmi") -> str:
    """Return a score as "0.712 ± 0.010", or without the sd where there is one seed."""
    mean, sd = (value_at(summary, name, key) for key in (metric, f"{metric}_sd"))
    return f"{mean:.3f}" if math.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"


def _ranked(rows: Sequence[MethodResult], summary: pd.DataFrame, metric: str) -> list[MethodResult]:
    scored = [
        row
        for row in rows
        if row.name in summary.index and not math.isnan(value_at(summary, row.name, metric))
    ]
    return sorted(scored, key=lambda row: -value_at(summary, row.name, metric))


def short_titles(rows: Sequence[MethodResult]) -> dict[str, str]:
    """Return titles by name, without the part after the comma where all rows of a preset have the same."""
    tails = {row.title.partition(", ")[2] for row in rows}
    shorten = len(rows) > 1 and len(tails) == 1
    return {row.name: row.title.partition(", ")[0] if shorten else row.title for row in rows}


def best_methods(results: StudyResults) -> list[str]:
    """Return for each preset which trained model has the highest scores, by how much, and whether the lead exceeds the spread."""
    texts = []
    summary = score_summary(results.scores)
    for preset, group in presets(results.rows):
        trained = [row for row in group if row.model is not None]
        titles, ranked = short_titles(trained), _ranked(trained, summary, "nmi")
        if len(ranked) < 2:
            continue
        best = ranked[0]
        sentences = [
            f"Preset {preset}: {titles[best.name]} has the highest NMI on the 2-D map, {mean_with_sd(summary, best.name)}.",
            _lead(summary, best, ranked[1], titles),
            *_other_metrics(ranked, titles, summary),
            *_latent_space(results, ranked, titles),
        ]
        texts.append(" ".join(sentences))
    return texts


def _lead(summary: pd.DataFrame, best: MethodResult, second: MethodResult, titles: Mapping[str, str]) -> str:
    by = difference_of(summary, best.name, second.name)
    name = f"{titles[second.name]} ({mean_with_sd(summary, second.name)})"
    if by.difference < 0.0005:
        return f"{name} is level with {titles[best.name]}."
    return f"The lead over {name} is {by.difference:.3f}{by.clause()}."


def _other_metrics(
    ranked: Sequence[MethodResult], titles: Mapping[str, str], summary: pd.DataFrame
) -> list[str]:
    winners: dict[str, list[str]] = {}
    for metric in CLUSTERING_METRICS[1:]:
        winner = _ranked(ranked, summary, metric)[0].name
        winners.setdefault(titles[winner], []).append(METRIC_TITLES[metric])
    if list(winners) == [titles[ranked[0].name]]:
        return [f"{titles[ranked[0].name]} also has the highest ARI, homogeneity and completeness."]
    clauses = [f"{title} (on {join_words(metrics)})" for title, metrics in winners.items()]
    return [f"The highest means of the other metrics are those of {join_words(clauses)}."]


def _latent_space(
    results: StudyResults, ranked: Sequence[MethodResult], titles: Mapping[str, str]
) -> list[str]:
    summary = score_summary(results.scores, "latent")
    order = _ranked(ranked, summary, "nmi")
    if len(order) < 2:
        return []
    also = "also has" if order[0] is ranked[0] else "has"
    best = f"{titles[order[0].name]} {also} the highest NMI on the latents, {mean_with_sd(summary, order[0].name)}."
    return [best, _lead(summary, order[0], order[1], titles)]


def against_autoencoder(results: StudyResults) -> list[str]:
    """Return how each model with a KL compares with the autoencoder of its preset, in NMI on the map."""
    texts = []
    summary = score_summary(results.scores)
    for preset, group in presets(results.rows):
        trained = [row for row in group if row.model is not None and row.name in summary.index]
        without_kl = [row for row in trained if row.kl_k is None]
        with_kl = [row for row in trained if row.kl_k is not None]
        titles = short_titles(trained)
        for base in without_kl:
            clauses = [_clause_against(summary, row, base, titles) for row in with_kl]
            if clauses:
                score = mean_with_sd(summary, base.name)
                sentences = [
                    f"Preset {preset}: {titles[base.name]} has NMI {score} on the 2-D map.",
                    f"{join_words(clauses)}.",
                ]
                texts.append(" ".join(sentences))
    return texts


def _clause_against(
    summary: pd.DataFrame, row: MethodResult, base: MethodResult, titles: Mapping[str, str]
) -> str:
    by = difference_of(summary, row.name, base.name)
    side = "above" if by.difference >= 0 else "below"
    size = Difference(abs(by.difference), by.spread)
    verdict = (
        "" if math.isnan(by.spread) else " (beyond the spread)" if size.clear else " (within the spread)"
    )
    return f"{titles[row.name]} is {size.difference:.3f} {side} {titles[base.name]}{verdict}"


def against_pca(results: StudyResults) -> list[str]:
    """Return how the best trained model compares with the best baseline, and what the origin of the labels means for PCA."""
    summary = score_summary(results.scores)
    baselines = _ranked([row for row in results.rows if row.model is None], summary, "nmi")
    trained = _ranked([row for row in results.rows if row.model is not None], summary, "nmi")
    if not baselines or not trained:
        return []
    base, best = baselines[0], trained[0]
    by = difference_of(summary, best.name, base.name)
    size = Difference(abs(by.difference), by.spread)
    leader = "trained model" if by.difference >= 0 else "baseline"
    comparison = (
        f"The best baseline on the 2-D map is {base.title} (NMI {mean_with_sd(summary, base.name)}). "
        f"The best trained model is {best.title} (NMI {mean_with_sd(summary, best.name)}). "
        f"The {leader} leads by {size.difference:.3f}{size.clause()}."
    )
    if results.labels_from_pca:
        return [
            comparison,
            "The labels come from principal components, or agree with a clustering of them. PCA therefore has an advantage by "
            "construction. Agreement with such labels does not show that PCA is the better representation.",
        ]
    return [
        comparison,
        "The labels do not agree with a clustering of principal components, so PCA has no advantage by construction.",
    ]


def confusions(labels: pd.Categorical, row: MethodResult) -> list[str]:
    """Return what a partition merges (labels whose majorities share a cluster) and splits (labels without a cluster of most cells)."""
    table_lc = contingency(labels, row.kmeans_n)
    names = [str(name) for name in labels.categories]
    total_l = table_lc.sum(axis=1)
    fraction_lc = table_lc / np.maximum(total_l, 1)[:, None]
    cluster_l, largest_l = fraction_lc.argmax(axis=1), fraction_lc.max(axis=1)
    together: dict[int, list[str]] = {}
    for label in np.flatnonzero((largest_l > 0.5) & (total_l > 0)):
        together.setdefault(int(cluster_l[label]), []).append(names[label])
    merged = [
        f"{join_words(group)} share cluster {c}" for c, group in sorted(together.items()) if len(group) > 1
    ]
    split = [
        f"{names[label]} ({largest_l[label]:.0%})"
        for label in np.flatnonzero((largest_l <= SPLIT_AT) & (total_l > 0))
    ]
    sentences = []
    if merged:
        sentences.append(f"Merged: {'; '.join(merged)}.")
    if split:
        sentences.append(f"Split (percentage in the largest cluster): {join_words(split)}.")
    return sentences or [
        "No label is merged or split: each label has a cluster of its own with most of its cells."
    ]


def merged_clusters(results: StudyResults) -> list[str]:
    """Return the confusions of all trained models and of the best baseline."""
    summary = score_summary(results.scores)
    baselines = _ranked([row for row in results.rows if row.model is None], summary, "nmi")
    rows = [row for row in results.rows if row.model is not None] + baselines[:1]
    return [f"{row.title}: {' '.join(confusions(results.labels, row))}" for row in rows]


def inactive_latents(results: StudyResults) -> list[str]:
    """Return which latents of each model are inactive, and how many latents are on in a cell."""
    sentences, all_active = [], []
    for row in results.rows:
        if row.active_k is None:
            continue
        n = len(row.active_k)
        inactive = [str(number) for number in np.flatnonzero(~np.asarray(row.active_k)) + 1]
        parts = []
        if len(inactive) == 1:
            parts.append(f"latent {inactive[0]} of {n} is inactive")
        elif inactive:
            parts.append(f"{len(inactive)} of {n} latents are inactive ({join_words(inactive, 12)})")
        else:
            all_active.append(row.title)
        if row.inclusion_nk is not None:
            inclusion_na = row.inclusion_nk[:, np.asarray(row.active_k)]
            mean = inclusion_na.sum(axis=1).mean()
            parts.append(
                f"{mean:.1f} of the {inclusion_na.shape[1]} active latents are on in the average cell"
            )
        if parts:
            sentences.append(f"{row.title}: {'; '.join(parts)}.{not_sparse(row)}")
    if all_active:
        sentences.append(f"All latents are active in {'; '.join(all_active)}.")
    return sentences


def not_sparse(row: MethodResult) -> str:
    """Return a sentence, after a space, if a model with spikes did not become sparse; "" otherwise."""
    if row.inclusion_nk is None or row.active_k is None:
        return ""
    summary = sparsity_summary(row.inclusion_nk, row.active_k)
    if summary.is_sparse or not summary.n_active:
        return ""
    n_dense = summary.n_active - summary.n_sparse
    return (
        f" The model did not become sparse: {n_dense} of its {summary.n_active} active latents "
        f"{'is' if n_dense == 1 else 'are'} on in nearly every cell, so its latents are no gene programs."
    )


def generated_cells(results: StudyResults) -> list[str]:
    """Return the labels of each model's generated cells, which are those of the nearest labeled real cells on the map."""
    from scipy.spatial import cKDTree

    sentences = []
    type_n = np.asarray(results.labels.codes)
    names = [str(name) for name in results.labels.categories]
    labeled_n = type_n >= 0
    for row in results.rows:
        if row.generated_m2 is None or not len(row.generated_m2) or not labeled_n.any():
            continue
        _, nearest = cKDTree(row.tsne2d_n2[labeled_n]).query(row.generated_m2)
        generated = np.bincount(type_n[labeled_n][nearest], minlength=len(names)) / len(nearest)
        real = np.bincount(type_n[labeled_n], minlength=len(names)) / labeled_n.sum()
        absent = [names[i] for i in np.flatnonzero((generated == 0) & (real > 0))]
        n_types = f"{int((generated > 0).sum())} of {int((real > 0).sum())} labels"
        missing = f" Labels without generated cells: {join_words(absent)}." if absent else ""
        farthest = int(np.abs(generated - real).argmax())
        sentences.append(
            f"{row.title}: {len(nearest):,} cells sampled from the prior fall on {n_types}.{missing} "
            f"The largest difference is in {names[farthest]}: {generated[farthest]:.0%} of generated cells, "
            f"{real[farthest]:.0%} of real cells."
        )
    return sentences


def training_times(results: StudyResults) -> list[str]:
    """Return the mean training time of each model, and its ratio to the fastest of its preset."""
    sentences: list[str] = []
    if not len(results.times):
        return sentences
    seconds = results.times.groupby("model")["train_seconds"].mean()
    for preset, group in presets(results.rows):
        timed = sorted((row for row in group if row.name in seconds.index), key=lambda row: seconds[row.name])
        if not timed:
            continue
        fastest = float(seconds[timed[0].name])
        titles = short_titles(timed)
        clauses = [f"{titles[timed[0].name]} trained in {format_seconds(fastest)}"]
        for row in timed[1:]:
            row_seconds = float(seconds[row.name])
            clause = f"{titles[row.name]} in {format_seconds(row_seconds)}"
            if fastest > 0:
                ratio = f"{row_seconds / fastest:.1f}"
                clause += ", about as long" if ratio == "1.0" else f", {ratio} times as long"
            clauses.append(clause)
        sentences.append(f"Preset {preset}: {'; '.join(clauses)}.")
    return sentences


def caveats(results: StudyResults) -> list[str]:
    """Return the limits of these numbers: seeds, cells without a label, and which seed is shown."""
    summary = score_summary(results.scores)
    fewest, most = (
        (int(n) for n in (summary["n_seeds"].min(), summary["n_seeds"].max())) if len(summary) else (0, 0)
    )
    sentences = [sample_sentence(results.provenance)] if "sampled" in results.provenance else []
    if most > 1:
        span = pluralize(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
        sentences.append(
            f"Spreads are standard deviations over {span}. They cover chance in training and mapping, but not the choice of cells "
            "or labels."
        )
    n_missing = int((results.labels.codes < 0).sum())
    if n_missing:
        verb = "has no label and is" if n_missing == 1 else "have no label and are"
        count = f"{pluralize(n_missing, 'cell')} of {len(results.labels):,}"
        sentences.append(f"{capitalize(count)} {verb} not scored.")
    if most > 1:
        sentences.append(
            "Maps, partitions and latents are those of the first seed; scores are means over all seeds."
        )
    return sentences
