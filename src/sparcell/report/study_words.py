"""From the numbers to sentences: pure functions, no HTML. Every number in the text is computed here.

Suffixes: l labels, c clusters, k latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sparcell.pl.tables import contingency, presets, score_summary, seconds_in_words, value_at
from sparcell.results.study import MEASURES, MethodResult, StudyResults

if TYPE_CHECKING:
    import pandas as pd

SPLIT_AT = 0.6
"""A label is split when no cluster holds more than this share of its cells."""

SPACES = {"tsne2d": "the 2-D map", "latent": "the codes"}
MEASURE_NAMES = {"nmi": "NMI", "ari": "ARI", "homogeneity": "homogeneity", "completeness": "completeness"}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Paragraph:
    """A heading and what is to be said under it."""

    heading: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """How far the mean of one row lies above that of another, against the spread over seeds."""

    difference: float
    spread: float
    """Root of the summed variances over seeds; NaN where a row has a single seed."""

    @property
    def clear(self) -> bool:
        """Whether the difference exceeds the spread; never with one seed."""
        return self.difference > self.spread

    def format_value(self) -> str:
        """The judgement as a clause."""
        if math.isnan(self.spread):
            return "one seed gives no spread, so nothing is claimed"
        if self.clear:
            return f"that is more than the spread over seeds ({self.spread:.3f})"
        return f"that is within the spread over seeds ({self.spread:.3f}), so it decides nothing"


def conclusions(results: StudyResults) -> list[Paragraph]:
    """All that is to be concluded, in the order it is read; passages with nothing to say are left out."""
    passages = [
        Paragraph("Which model leads", tuple(best_methods(results))),
        Paragraph("Autoencoder and β-models", tuple(against_autoencoder(results))),
        Paragraph("Against PCA", tuple(against_pca(results))),
        Paragraph("What is merged or split", tuple(merged_clusters(results))),
        Paragraph("Latents", tuple(latents(results))),
        Paragraph("Generated cells", tuple(generation(results))),
        Paragraph("Training time", tuple(times(results))),
        Paragraph("How far to trust this", tuple(trust(results))),
    ]
    return [passage for passage in passages if passage.sentences]


def several(n: int, noun: str, plural: str | None = None) -> str:
    """Count something: "one latent", "no latents", "12 cells"."""
    word = noun if n == 1 else plural or f"{noun}s"
    return f"{_NUMBERS[n] if n < len(_NUMBERS) else format(n, ',')} {word}"


def listed(words: Sequence[str], limit: int = 8) -> str:
    """Join words as a sentence does: "a", "a and b", "a, b and c", "a, b and 7 more"."""
    shown = list(words[:limit])
    if len(words) > limit:
        shown.append(f"{len(words) - limit} more")
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def capital(sentence: str) -> str:
    """Start a sentence with a capital letter, leaving a Greek one alone."""
    return sentence[:1].upper() + sentence[1:] if sentence[:1].isascii() else sentence


def gap(summary: pd.DataFrame, first: str, second: str, measure: str = "nmi") -> Difference:
    """Compare two rows of `score_summary`."""
    difference = value_at(summary, first, measure) - value_at(summary, second, measure)
    spreads = [value_at(summary, name, f"{measure}_sd") for name in (first, second)]
    return Difference(difference, math.sqrt(spreads[0] ** 2 + spreads[1] ** 2))


def with_sd(summary: pd.DataFrame, name: str, measure: str = "nmi") -> str:
    """Write a score as "0.712 ± 0.010", or without the spread where there is one seed."""
    mean, sd = (value_at(summary, name, key) for key in (measure, f"{measure}_sd"))
    return f"{mean:.3f}" if math.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"


def _ranked(rows: Sequence[MethodResult], summary: pd.DataFrame, measure: str) -> list[MethodResult]:
    there = [
        row
        for row in rows
        if row.name in summary.index and not math.isnan(value_at(summary, row.name, measure))
    ]
    return sorted(there, key=lambda row: -value_at(summary, row.name, measure))


def short_titles(group: Sequence[MethodResult]) -> dict[str, str]:
    """Titles by name, without the part after the comma where all rows of a preset share it."""
    tails = {row.title.partition(", ")[2] for row in group}
    drop = len(group) > 1 and len(tails) == 1
    return {row.name: row.title.partition(", ")[0] if drop else row.title for row in group}


def best_methods(results: StudyResults) -> list[str]:
    """Which trained model leads under each preset: on which measures, by how much, and whether that says anything."""
    sentences = []
    summary = score_summary(results.scores)
    for preset, group in presets(results.rows):
        trained = [row for row in group if row.model is not None]
        titles, ranked = short_titles(trained), _ranked(trained, summary, "nmi")
        if len(ranked) < 2:
            continue
        first, second = ranked[0], ranked[1]
        by = gap(summary, first.name, second.name)
        distance = "level with" if by.difference < 0.0005 else f"{by.difference:.3f} above"
        lead = (
            f"Preset {preset}, on the 2-D map: {titles[first.name]} has the highest NMI, {with_sd(summary, first.name)}, "
            f"{distance} {titles[second.name]} ({with_sd(summary, second.name)}); {by.format_value()}."
        )
        sentences.append(
            " ".join(
                [lead, *_other_measures(ranked, titles, summary), *_other_space(results, ranked, titles)]
            )
        )
    return sentences


def _other_measures(
    ranked: Sequence[MethodResult], titles: Mapping[str, str], summary: pd.DataFrame
) -> list[str]:
    winners: dict[str, list[str]] = {}
    for measure in MEASURES[1:]:
        winner = _ranked(ranked, summary, measure)[0].name
        winners.setdefault(titles[winner], []).append(MEASURE_NAMES[measure])
    if list(winners) == [titles[ranked[0].name]]:
        return ["It is also first on ARI, homogeneity and completeness."]
    clauses = [f"{title} on {listed(measures)}" for title, measures in winners.items()]
    return [f"On the other measures the highest mean is that of {'; '.join(clauses)}."]


def _other_space(
    results: StudyResults, ranked: Sequence[MethodResult], titles: Mapping[str, str]
) -> list[str]:
    summary = score_summary(results.scores, "latent")
    order = _ranked(ranked, summary, "nmi")
    if len(order) < 2:
        return []
    by = gap(summary, order[0].name, order[1].name)
    same = "leads as well" if order[0] is ranked[0] else "leads instead"
    return [
        f"On the codes themselves {titles[order[0].name]} {same}: NMI {with_sd(summary, order[0].name)}, "
        f"{by.difference:.3f} above {titles[order[1].name]}; {by.format_value()}."
    ]


def against_autoencoder(results: StudyResults) -> list[str]:
    """How each model with a KL stands against the plain autoencoder of its preset, on NMI of the map."""
    sentences = []
    summary = score_summary(results.scores)
    for preset, group in presets(results.rows):
        trained = [row for row in group if row.model is not None and row.name in summary.index]
        plain = [row for row in trained if row.kl_k is None]
        others = [row for row in trained if row.kl_k is not None]
        titles = short_titles(trained)
        for base in plain:
            clauses = [_clause_against(summary, row, base, titles[row.name]) for row in others]
            if clauses:
                tail = (
                    "; with one seed this is no evidence of an order"
                    if _one_seed(summary, [base, *others])
                    else ""
                )
                sentences.append(
                    f"Preset {preset}: {titles[base.name]} has NMI {with_sd(summary, base.name)} on the 2-D map; "
                    f"{listed(clauses)}{tail}."
                )
    return sentences


def _clause_against(summary: pd.DataFrame, row: MethodResult, base: MethodResult, title: str) -> str:
    by = gap(summary, row.name, base.name)
    side = "above" if by.difference >= 0 else "below"
    size = Difference(abs(by.difference), by.spread)
    verdict = (
        "" if math.isnan(by.spread) else " (more than the spread)" if size.clear else " (within the spread)"
    )
    return f"{title} is {size.difference:.3f} {side} it{verdict}"


def _one_seed(summary: pd.DataFrame, rows: Sequence[MethodResult]) -> bool:
    return any(int(value_at(summary, row.name, "n_seeds")) < 2 for row in rows)


def against_pca(results: StudyResults) -> list[str]:
    """The best trained row against the best baseline, with what the origin of the labels does to the comparison."""
    summary = score_summary(results.scores)
    baselines = _ranked([row for row in results.rows if row.model is None], summary, "nmi")
    trained = _ranked([row for row in results.rows if row.model is not None], summary, "nmi")
    if not baselines or not trained:
        return []
    base, best = baselines[0], trained[0]
    by = gap(summary, best.name, base.name)
    size = Difference(abs(by.difference), by.spread)
    ahead = "trained row" if by.difference >= 0 else "baseline"
    sentences = [
        f"The best baseline on the 2-D map is {base.title} (NMI {with_sd(summary, base.name)}), the best trained row is "
        f"{best.title} (NMI {with_sd(summary, best.name)}). The {ahead} is {size.difference:.3f} ahead; {size.format_value()}."
    ]
    if results.labels_from_pca:
        sentences.append(
            "The labels come from principal components or agree with a clustering of them, so PCA has an advantage by construction: "
            "agreement with them does not show that PCA is the better code."
        )
    else:
        sentences.append(
            "The labels do not agree with a clustering of principal components, so PCA has no advantage by construction."
        )
    return sentences


def confusions(labels: pd.Categorical, row: MethodResult) -> list[str]:
    """What one partition merges and splits: majorities that share a cluster, labels that no cluster holds."""
    table_lc = contingency(labels, row.kmeans_n)
    names = [str(name) for name in labels.categories]
    total_l = table_lc.sum(axis=1)
    share_lc = table_lc / np.maximum(total_l, 1)[:, None]
    home_l, most_l = share_lc.argmax(axis=1), share_lc.max(axis=1)
    together: dict[int, list[str]] = {}
    for label in np.flatnonzero((most_l > 0.5) & (total_l > 0)):
        together.setdefault(int(home_l[label]), []).append(names[label])
    merged = [f"{listed(group)} share cluster {c}" for c, group in sorted(together.items()) if len(group) > 1]
    split = [
        f"{names[label]} ({most_l[label]:.0%})"
        for label in np.flatnonzero((most_l <= SPLIT_AT) & (total_l > 0))
    ]
    sentences = []
    if merged:
        sentences.append(f"Merged: {'; '.join(merged)}.")
    if split:
        sentences.append(f"Split (share in the largest cluster): {listed(split)}.")
    if not sentences:
        sentences.append(
            "Nothing is merged or split: every label has a cluster of its own that holds most of it."
        )
    return sentences


def merged_clusters(results: StudyResults) -> list[str]:
    """The partitions of all trained rows and the best baseline, one sentence or two each."""
    summary = score_summary(results.scores)
    baselines = _ranked([row for row in results.rows if row.model is None], summary, "nmi")
    told = [row for row in results.rows if row.model is not None] + baselines[:1]
    return [f"{row.title}: {' '.join(confusions(results.labels, row))}" for row in told]


def latents(results: StudyResults) -> list[str]:
    """Which latents of each row are dead, and how many spikes are on per cell."""
    sentences, alive = [], []
    for row in results.rows:
        if row.active_k is None:
            continue
        n = len(row.active_k)
        dead = [str(number) for number in np.flatnonzero(~np.asarray(row.active_k)) + 1]
        parts = []
        if len(dead) == 1:
            parts.append(f"latent {dead[0]} of {n} is dead")
        elif dead:
            parts.append(f"{len(dead)} of {n} latents are dead ({listed(dead, 12)})")
        else:
            alive.append(row.title)
        if row.inclusion_nk is not None:
            living = row.inclusion_nk[:, np.asarray(row.active_k)]
            parts.append(
                f"of the {living.shape[1]} live ones {living.sum(axis=1).mean():.1f} are on in the mean cell"
            )
        if parts:
            sentences.append(f"{row.title}: {'; '.join(parts)}.")
    if alive:
        sentences.append(f"No latent is dead in {'; '.join(alive)}.")
    return sentences


def generation(results: StudyResults) -> list[str]:
    """Which types the generated cells of each row land on, by the nearest labelled real cell of the map."""
    from scipy.spatial import cKDTree

    sentences = []
    codes_n = np.asarray(results.labels.codes)
    names = [str(name) for name in results.labels.categories]
    known = codes_n >= 0
    for row in results.rows:
        if row.generated_m2 is None or not len(row.generated_m2) or not known.any():
            continue
        _, nearest = cKDTree(row.tsne2d_n2[known]).query(row.generated_m2)
        made = np.bincount(codes_n[known][nearest], minlength=len(names)) / len(nearest)
        real = np.bincount(codes_n[known], minlength=len(names)) / known.sum()
        absent = [names[i] for i in np.flatnonzero((made == 0) & (real > 0))]
        reach = f"land on {int((made > 0).sum())} of {int((real > 0).sum())} types"
        far = int(np.abs(made - real).argmax())
        sentences.append(
            f"{row.title}: {len(nearest):,} cells drawn from the prior {reach}"
            f"{f'; none on {listed(absent)}' if absent else ''}. "
            f"Farthest from its real share is {names[far]}: {made[far]:.0%} of generated cells, {real[far]:.0%} of real ones."
        )
    return sentences


def times(results: StudyResults) -> list[str]:
    """Mean training time of each row, and its ratio to the fastest of its preset."""
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
        clauses = [f"{titles[timed[0].name]} trained in {seconds_in_words(fastest)}"]
        for row in timed[1:]:
            taken = float(seconds[row.name])
            clause = f"{titles[row.name]} in {seconds_in_words(taken)}"
            if fastest > 0:
                ratio = f"{taken / fastest:.1f}"
                clause += ", about as long" if ratio == "1.0" else f", {ratio} times as long"
            clauses.append(clause)
        sentences.append(f"Preset {preset}: {'; '.join(clauses)}.")
    return sentences


def trust(results: StudyResults) -> list[str]:
    """The limits of these numbers: seeds, unlabelled cells, where the labels come from, what a map is."""
    summary = score_summary(results.scores)
    fewest, most = (
        (int(n) for n in (summary["n_seeds"].min(), summary["n_seeds"].max())) if len(summary) else (0, 0)
    )
    sentences = []
    if most == 1:
        sentences.append(
            "Every row was run with one seed, so no difference between rows can be told from chance."
        )
    elif most > 1:
        span = several(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
        sentences.append(f"Spreads are standard deviations over {span}: they cover chance in training and mapping, "
                         "not the choice of cells or of labels.")  # fmt: skip
    n_missing = int((results.labels.codes < 0).sum())
    if n_missing:
        verb = "has" if n_missing == 1 else "have"
        sentences.append(
            capital(
                f"{several(n_missing, 'cell')} of {len(results.labels):,} {verb} no label and count in no score."
            )
        )
    sentences.append(
        "Maps, partitions and codes shown are those of the first seed; scores are means over all seeds."
    )
    return sentences
