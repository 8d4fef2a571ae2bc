"""Sentences of a benchmark's page, from its numbers: pure functions, no HTML. Every number in the text is computed here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sparcell.pl.benchmark import format_mean, format_metric
from sparcell.pl.tables import value_at
from sparcell.report.text import (
    Difference,
    Paragraph,
    capitalize,
    difference_of,
    join_words,
    pluralize,
    sample_sentence,
)
from sparcell.results.benchmark import (
    BASELINE,
    COST,
    DISENTANGLEMENT,
    EXTERNAL,
    LIKELIHOOD,
    LOCAL_MIXING,
    METRICS,
    MODEL,
    available_metrics,
    other_epochs,
    summary,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from sparcell.results.benchmark import BenchmarkResults, Metric
    from sparcell.results.study import MethodResult

PARAGRAPHS = {
    "Aggregate scores": ("total", "bio_conservation", "batch_correction", "kbet", "ilisi"),
    "Clusters and types": ("map_nmi", "map_ari", "latent_nmi", "latent_ari"),
    "Types in single latents": ("lms_smi", "lms_spn", "msas_smi", "msgs_smi", "reproduced"),
    "Held-out likelihood": ("log_likelihood",),
    "Cost of training": ("train_seconds", "cpu_seconds", "peak_mib"),
}
"""Heading → metrics whose best method is named."""

REWARD_MIXING = ("total", "batch_correction", "kbet", "ilisi")
"""Metrics that are no merit if the batches are treatments."""

COMPARED = tuple(key for keys in PARAGRAPHS.values() for key in keys)
"""Metrics in which each model of sparcell is compared with each external model."""

MAX_CLOCK_RATIO = 1.3
"""Wall-clock time above this multiple of processor time means that training waited for other work."""

COSTS = {metric.key for metric in COST.metrics}


def conclusions(results: BenchmarkResults) -> list[Paragraph]:
    """Return all paragraphs of the summary in reading order, without empty ones."""
    means = summary(results.scores)
    best = {heading: tuple(best_methods(results, means, keys)) for heading, keys in PARAGRAPHS.items()}
    if best["Aggregate scores"] and means["batch_correction"].notna().any():
        best["Aggregate scores"] += (LOCAL_MIXING,)
    compared = tuple(pairwise_comparisons(results.rows, means))
    notes = tuple(training_notes(results)) if compared else ()
    paragraphs = [
        *first_of_all(results),
        *(Paragraph(heading, sentences) for heading, sentences in best.items()),
        Paragraph("sparcell and external models", (*compared, *notes)),
    ]
    return [paragraph for paragraph in paragraphs if paragraph.sentences]


def first_of_all(results: BenchmarkResults) -> Iterator[Paragraph]:
    """Yield what limits every conclusion: batches that are treatments, and other epochs than usual."""
    if results.batch_warning:
        yield Paragraph("Warning: batches that look like treatments", (results.batch_warning,))
    others = other_epochs(results.scores)
    titles = [row.title for row in results.rows if row.name in others]
    if titles:
        text = (
            f"{join_words(titles)}: another number of epochs than the package's own rule gives. The scores may be better or worse with its "
            "own number, so all ranks hold for these epochs only. --external-epochs full trains every model by its own rule."
        )
        yield Paragraph("Epochs of external models", (text,))


def best_methods(results: BenchmarkResults, means: pd.DataFrame, keys: Sequence[str]) -> Iterator[str]:
    """Yield for each metric the best method, its lead, and whether the lead exceeds the spread; costs compare trained methods only.

    A sentence about methods with another number of epochs than their own rule names all of them.
    """
    titles = {row.name: row.title for row in results.rows}
    trained = [row.name for row in results.rows if row.preset != BASELINE]
    others = other_epochs(results.scores)
    for key in keys:
        metric = METRICS[key]
        values = means.loc[trained, key] if key in COSTS else means[key]
        ranked = values.dropna().sort_values(ascending=not metric.higher_is_better, kind="stable")
        if len(ranked) < 2:
            continue
        first, second = str(ranked.index[0]), str(ranked.index[1])
        by = better_by(means, first, second, metric)
        unnamed = [titles[name] for name in ranked.index[2:] if name in others]
        among = f" The comparison includes {join_words(unnamed)}." if unnamed else ""
        is_best = (
            "mixes the batches most" if results.batch_warning and key in REWARD_MIXING[1:] else "is best"
        )
        if results.batch_warning and key == "total":
            is_best = "has the highest total, which rewards mixing of treatments"
        heading = metric.title if metric.title[1:2].isupper() else capitalize(metric.title)  # kBET, iLISI
        yield (
            f"{heading}: {titles[first]} {is_best} ({format_mean(means, first, key)}). "
            f"The lead over {titles[second]} ({format_mean(means, second, key)}) is {format_metric(key, by.difference)}"
            f"{by.clause(format_metric(key, by.spread))}.{among}"
        )


def better_by(means: pd.DataFrame, first: str, second: str, metric: Metric) -> Difference:
    """Return by how much the first method is better than the second; negative if it is worse."""
    by = difference_of(means, first, second, metric.key)
    return by if metric.higher_is_better else Difference(-by.difference, by.spread)


def pairwise_comparisons(rows: Sequence[MethodResult], means: pd.DataFrame) -> Iterator[str]:
    """Yield for each model of sparcell and each external model the metrics in which the model is better, worse, or within the spread."""
    for model in (row for row in rows if row.preset == MODEL):
        for external in (row for row in rows if row.preset == EXTERNAL):
            sides: dict[str, list[str]] = {"better in": [], "worse in": [], "within the spread in": []}
            for key in COMPARED:
                by = better_by(means, model.name, external.name, METRICS[key])
                if math.isnan(by.difference):
                    continue
                clear = not math.isnan(by.spread) and abs(by.difference) > by.spread
                side = ("better in" if by.difference > 0 else "worse in") if clear else "within the spread in"
                amount = f" ({format_metric(key, abs(by.difference))})" if clear else ""
                sides[side].append(f"{METRICS[key].title}{amount}")
            clauses = [f"{side} {join_words(items, 12)}" for side, items in sides.items() if items]
            if clauses and int(value_at(means, model.name, "n_seeds")) > 1:
                yield f"{model.title} against {external.title}: {'; '.join(clauses)}."


def training_notes(results: BenchmarkResults) -> Iterator[str]:
    """Yield how long the external models were trained, which qualifies the comparison."""
    notes = [(row.title, results.notes[row.name]) for row in results.rows if row.name in results.notes]
    yield from (f"{title}: {note}" for title, note in notes)


def limits(results: BenchmarkResults) -> list[Paragraph]:
    """Return what cannot be compared, and why."""
    means, rows = summary(results.scores), results.rows
    baselines = [row.title for row in rows if row.preset == BASELINE]
    return [
        Paragraph(
            "Total",
            (
                "Compare totals within this page only. Other data, other genes or other sets of cell types give another scale. Benchmarks "
                "with min-max scaling compute other totals from the same numbers.",
                "Most metrics use distances and depend a little on the number of latents. Methods with different numbers of latents can be "
                "compared in their results, but not in how well they use their latents.",
            ),
        ),
        *_batches(results),
        *_single_latents(results),
        *_likelihood(results, means),
        *(
            [Paragraph("Cells", (sample_sentence(results.provenance),))]
            if "sampled" in results.provenance
            else []
        ),
        Paragraph("Held-out cells", tuple(_held_out_cells(baselines))),
        Paragraph(
            "Labels",
            (
                "All metrics of bio conservation assume that the labels are true. Labels from clusters of principal components, or from an "
                "earlier integration of the same cells, favor the method behind the labels.",
            ),
        ),
        Paragraph("Time and memory", tuple(_time(rows, means))),
        *([] if seed_note(results) else [Paragraph("Spread", (_spread(means),))]),
    ]


def seed_note(results: BenchmarkResults) -> str:
    """Return what a single seed means for all comparisons of the page; "" with several seeds."""
    if results.scores.groupby("method")["seed"].nunique().max() > 1:
        return ""
    return (
        "Every method was run with one seed. One seed gives no spread, so a lead or a difference on this page may be chance. Nothing is "
        "claimed about the order of methods."
    )


def _held_out_cells(baselines: Sequence[str]) -> Iterator[str]:
    yield "Trained models learn from nine tenths of the cells and encode all cells."
    if baselines:
        verb = "uses" if len(baselines) == 1 else "use"
        yield f"{join_words(baselines)} {verb} all cells, the held-out cells included. This can only raise the scores."


def _time(rows: Sequence[MethodResult], means: pd.DataFrame) -> Iterator[str]:
    yield (
        "Measured on this machine, with one run at a time in a separate process. Baselines are fast because they compute less than a model."
    )
    trained = [row for row in rows if row.preset != BASELINE]
    ratios = {
        row.title: value_at(means, row.name, "train_seconds") / value_at(means, row.name, "cpu_seconds")
        for row in trained
        if value_at(means, row.name, "cpu_seconds") > 0
    }
    waited = [f"{title} ({ratio:.1f} times)" for title, ratio in ratios.items() if ratio > MAX_CLOCK_RATIO]
    if waited:
        yield (
            f"Wall-clock time exceeds processor time for {join_words(waited)}: the machine did other work, or a GPU computed. "
            "Without a GPU, compare processor times. Processor times also increase if programs share a core."
        )


def _batches(results: BenchmarkResults) -> Iterator[Paragraph]:
    if results.batches is None:
        text = "No batches are given, so batch correction is not scored, and there is no total."
        yield Paragraph("Batches", (text,))
        return
    text = (
        "High batch correction is good only if batches differ for technical reasons. If batches are treatments or tissues, mixing them "
        "removes biology, and scIB's total still rewards the mixing."
    )
    yield Paragraph("Batches", (text, LOCAL_MIXING))


def _single_latents(results: BenchmarkResults) -> Iterator[Paragraph]:
    if available_metrics(results.scores, DISENTANGLEMENT):
        yield Paragraph(
            "Types in single latents",
            (
                "These metrics look for one latent per type. They do not reward programs that several types share, or variation within a "
                "type. Coarser or finer labels give other numbers.",
                "With more latents, each type more easily has a latent of its own. Methods with fewer latents than types cannot reach 1.",
                "The bins of SMI have equal widths, so a few outlying cells change SMI. SPN uses only the order of the cells. A conclusion "
                "needs support from both.",
            ),
        )


def _likelihood(results: BenchmarkResults, means: pd.DataFrame) -> Iterator[Paragraph]:
    if not available_metrics(results.scores, LIKELIHOOD):
        return
    missing = [row.title for row in results.rows if math.isnan(value_at(means, row.name, "log_likelihood"))]
    sentences = [
        "All likelihoods are those of the same counts, given the library size, with the same number of draws. They can be compared with "
        "each other, but not with numbers from elsewhere.",
        "The likelihood is a lower bound, and a poor encoder makes the bound a little looser.",
    ]
    if missing:
        verb = "is no probability model" if len(missing) == 1 else "are no probability models"
        sentences.append(f"{join_words(missing)} {verb} of the counts, so there is no likelihood.")
    yield Paragraph("Held-out likelihood", tuple(sentences))


def _spread(means: pd.DataFrame) -> str:
    fewest, most = int(means["n_seeds"].min()), int(means["n_seeds"].max())
    span = pluralize(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    return (
        f"± is the standard deviation over {span}. It covers chance in training, mapping and clustering. It does not cover the choice of "
        "cells, labels or held-out cells, which are the same for all seeds."
    )
