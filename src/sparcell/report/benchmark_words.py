"""From the numbers of a benchmark to sentences: pure functions, no HTML. Every number in the text is computed here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sparcell.pl.benchmark import in_units, written
from sparcell.pl.tables import value_at
from sparcell.report.study_words import Difference, Paragraph, capital, gap, listed, several
from sparcell.results.benchmark import (
    BASELINE,
    COST,
    EXTERNAL,
    LIKELIHOOD,
    MEASURES,
    MODEL,
    READABILITY,
    measured,
    summary,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from sparcell.results.benchmark import BenchmarkResults, Metric
    from sparcell.results.study import MethodResult

LEADING = {
    "Integration": ("total", "bio_conservation", "batch_correction"),
    "Clusters": ("map_nmi", "map_ari", "code_nmi", "code_ari"),
    "Readable codes": ("lms_smi", "lms_spn", "msas_smi", "msgs_smi", "reproduced"),
    "Counts explained": ("log_likelihood",),
    "Cost of training": ("train_seconds", "cpu_seconds", "peak_mib"),
}
"""Heading → measures whose leader is told."""

BUSY = 1.3
"""From this ratio of clock to processor time on, a training is said to have waited for other work."""

COSTS = {measure.key for measure in COST.measures}

COMPARED = (
    *("total", "bio_conservation", "batch_correction", "map_nmi", "map_ari", "code_nmi", "code_ari"),
    *("lms_smi", "lms_spn", "msas_smi", "msgs_smi", "reproduced"),
    *("log_likelihood", "train_seconds", "cpu_seconds", "peak_mib"),
)  # fmt: skip
"""Measures on which each of our models is set against each peer."""


def conclusions(standings: BenchmarkResults) -> list[Paragraph]:
    """All that is to be concluded, in the order it is read; passages with nothing to say are left out."""
    numbers = summary(standings.scores)
    told = [
        Paragraph(heading, tuple(best_methods(standings.rows, numbers, keys)))
        for heading, keys in LEADING.items()
    ]
    compared = tuple(pairwise_comparisons(standings.rows, numbers))
    passages = [
        *told,
        Paragraph("sparcell and its peers", (*compared, *(decided(standings) if compared else ()))),
    ]
    return [passage for passage in passages if passage.sentences]


def best_methods(rows: Sequence[MethodResult], numbers: pd.DataFrame, keys: Sequence[str]) -> Iterator[str]:
    """Who is first on each measure, by how much, and whether that says anything; of cost among those that are trained."""
    titles = {row.name: row.title for row in rows}
    trained = [row.name for row in rows if row.preset != BASELINE]
    for key in keys:
        measure = MEASURES[key]
        told = numbers.loc[trained, key] if key in COSTS else numbers[key]
        column = told.dropna().sort_values(ascending=not measure.higher, kind="stable")
        if len(column) < 2:
            continue
        first, second = str(column.index[0]), str(column.index[1])
        by = better_by(numbers, first, second, measure)
        yield (
            f"{capital(measure.title)}: {titles[first]} is first ({written(numbers, first, key)}), "
            f"{in_units(key, by.difference)} ahead of {titles[second]} ({written(numbers, second, key)}); {verdict(by, key)}."
        )


def better_by(numbers: pd.DataFrame, first: str, second: str, measure: Metric) -> Difference:
    """By how much one method is better than another: above 0 where it is."""
    by = gap(numbers, first, second, measure.key)
    return by if measure.higher else Difference(-by.difference, by.spread)


def verdict(by: Difference, key: str) -> str:
    """The judgement on a gap as a clause."""
    if math.isnan(by.spread):
        return "one seed gives no spread, so nothing is claimed"
    if by.clear:
        return f"more than the spread over seeds ({in_units(key, by.spread)})"
    return f"within the spread over seeds ({in_units(key, by.spread)}), so it decides nothing"


def pairwise_comparisons(rows: Sequence[MethodResult], numbers: pd.DataFrame) -> Iterator[str]:
    """Each of our models against each peer: where it is better, where worse, where nothing can be said."""
    for ours in (row for row in rows if row.preset == MODEL):
        for peer in (row for row in rows if row.preset == EXTERNAL):
            sides: dict[str, list[str]] = {"better on": [], "worse on": [], "within the spread on": []}
            for key in COMPARED:
                by = better_by(numbers, ours.name, peer.name, MEASURES[key])
                if math.isnan(by.difference):
                    continue
                known = not math.isnan(by.spread) and abs(by.difference) > by.spread
                side = ("better on" if by.difference > 0 else "worse on") if known else "within the spread on"
                amount = f" ({in_units(key, abs(by.difference))})" if known else ""
                sides[side].append(f"{MEASURES[key].title}{amount}")
            clauses = [f"{side} {listed(items, 12)}" for side, items in sides.items() if items]
            if clauses and int(value_at(numbers, ours.name, "n_seeds")) > 1:
                yield f"{ours.title} against {peer.title}: {'; '.join(clauses)}."


def decided(standings: BenchmarkResults) -> Iterator[str]:
    """How long the peers were trained, which a reader of the comparison must know."""
    notes = [(row.title, standings.notes[row.name]) for row in standings.rows if row.name in standings.notes]
    yield from (f"{title}: {note}" for title, note in notes)
    if notes:
        yield "A peer that made fewer epochs than usual might do better, or worse, with all of them."


def limits(standings: BenchmarkResults) -> list[Paragraph]:
    """What cannot be compared, and why."""
    numbers, rows = summary(standings.scores), standings.rows
    return [
        Paragraph("Total", (
            "Totals of other data, of other genes or of other sets of cell types are on another scale: compare rows of this page only. "
            "Benchmarks that scale each measure to the best and worst method (min-max) give other totals from the same numbers.",
            "Most of the measures use distances, and so depend a little on the number of latents: rows of unlike length are comparable "
            "in what one gets, not in how well a length is used.",
        )),
        *(_of_batches(standings)),
        *(_of_readability(standings)),
        *(_of_likelihood(standings, numbers)),
        Paragraph("Held-out cells", tuple(_of_held_out([row.title for row in rows if row.preset == BASELINE]))),
        Paragraph("Labels", (
            "Every score of biology takes the labels for true. Labels that come from clusters of principal components, or of an earlier "
            "integration of the same cells, favour the method they came from.",
        )),
        Paragraph("Time and memory", tuple(_of_time(rows, numbers))),
        Paragraph("Spread", (_spread(standings, numbers),)),
    ]  # fmt: skip


def _of_held_out(baselines: Sequence[str]) -> Iterator[str]:
    yield "Trained models learn from nine tenths of the cells and encode all of them."
    if baselines:
        verb = "has" if len(baselines) == 1 else "have"
        yield f"{listed(baselines)} {verb} no notion of held-out cells: computed on all of them, which can only help."


def _of_time(rows: Sequence[MethodResult], numbers: pd.DataFrame) -> Iterator[str]:
    yield (
        "Measured on this machine, one run at a time in a process of its own. Baselines are no models: they are quick because they do less."
    )
    trained = [row for row in rows if row.preset != BASELINE]
    shares = {
        row.title: value_at(numbers, row.name, "train_seconds") / value_at(numbers, row.name, "cpu_seconds")
        for row in trained
        if value_at(numbers, row.name, "cpu_seconds") > 0
    }
    waited = [f"{title} ({share:.1f} times)" for title, share in shares.items() if share > BUSY]
    if waited:
        yield (
            f"The clock ran longer than the processor worked for {listed(waited)}: other work kept the machine busy, or a GPU computed. "
            "Without a GPU, compare processor times; they too grow where programs share a core."
        )


def _of_batches(standings: BenchmarkResults) -> Iterator[Paragraph]:
    if standings.batches is None:
        yield Paragraph(
            "Batches", ("No batches were given, so nothing is said of mixing, and scIB's total is not made.",)
        )
        return
    yield Paragraph("Batches", (
        "A high score of mixing is good only where batches differ for technical reasons. Where they are treatments or tissues, mixing "
        "removes biology, and scIB's total rewards it all the same.",
    ))  # fmt: skip


def _of_readability(standings: BenchmarkResults) -> Iterator[Paragraph]:
    if not measured(standings.scores, READABILITY):
        return
    yield Paragraph("Readable codes", (
        "The measures ask for one latent a type. Programs that cells of several types share, and what varies within a type, earn nothing, "
        "however well they can be read; coarser or finer labels give other numbers.",
        "More latents make it easier to find one for each type: rows with fewer latents than there are types cannot reach 1.",
        "The bins of SMI have equal widths, so a few cells that lie far out change it; SPN sees the order of the cells alone. Trust what "
        "both say.",
    ))  # fmt: skip


def _of_likelihood(standings: BenchmarkResults, numbers: pd.DataFrame) -> Iterator[Paragraph]:
    if not measured(standings.scores, LIKELIHOOD):
        return
    without = [
        row.title for row in standings.rows if math.isnan(value_at(numbers, row.name, "log_likelihood"))
    ]
    sentences = [
        "All models explain the same counts of the same genes of the same cells, with the library size given, and are scored with the same "
        "number of draws: their likelihoods compare with each other, and with nothing else.",
        "It is a bound: a model whose encoder is poor is made to look a little worse than it is.",
    ]
    if without:
        verb = "explains" if len(without) == 1 else "explain"
        sentences.append(
            f"{listed(without)} {verb} no counts by a probability, and {'has' if len(without) == 1 else 'have'} none."
        )
    yield Paragraph("Likelihood", tuple(sentences))


def _spread(standings: BenchmarkResults, numbers: pd.DataFrame) -> str:
    fewest, most = int(numbers["n_seeds"].min()), int(numbers["n_seeds"].max())
    if most == 1:
        return "Every method was run with one seed, so no difference can be told from chance."
    span = several(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    return (
        f"± is the standard deviation over {span}: chance in training, mapping and clustering. It does not cover the choice of cells, "
        "of labels or of held-out cells, which are the same for all."
    )
