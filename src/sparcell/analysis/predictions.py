"""Whether the types that a reference predicts agree with the names that marker genes give.

The two use different words for one type. Each label of the reference therefore gets a gene set too: the decoder says which genes the
label's cells are expected to express. Suffixes: t types (labels), g genes, k latents.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.analysis.doubts import listed_clusters
from sparcell.errors import InputError
from sparcell.programs.naming import read_gene_sets
from sparcell.results.analysis import UNKNOWN, Doubt
from sparcell.tl.cluster_names import cell_type_sets, name_clusters_by_sets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sparcell.config.analysis import AnalysisConfig
    from sparcell.models.fitted import Model
    from sparcell.results.analysis import ReferenceMapping
    from sparcell.tl.gene_sets import GeneSets

    Floats = NDArray[np.floating]

MANY_UNKNOWN, MANY_UNKNOWN_OVERALL = 0.5, 0.2
"""Share of unknown cells in a cluster, and in all cells, from which on it is a doubt. The reference's own cells have .05."""
MIN_SHARE = 0.5
"""A cluster has a predicted type if at least this share of its cells has it."""
PER = 10_000
PSEUDO_COUNT = 0.1
"""Added to expected counts per 10,000, so that genes that hardly any cell expresses do not lead."""


def about_predictions(
    table: pd.DataFrame,
    mapping: ReferenceMapping | None,
    model: Model,
    config: AnalysisConfig,
) -> Iterator[Doubt]:
    """Yield doubts about cells that the reference does not know, and about clusters whose two names disagree."""
    if mapping is None or mapping.predicted is None:
        return
    overall = float(np.mean(np.asarray(mapping.predicted.astype(str)) == UNKNOWN))
    if overall >= MANY_UNKNOWN_OVERALL:
        yield Doubt(
            f"{overall:.0%} of the cells are unknown to the reference.",
            "They lie further from every type of the reference than nearly all of its own cells do. The data can hold new types, another "
            "state of known types, or a difference between chemistries that mapping did not remove.",
        )
    strange = table[table["unknown_share"] >= MANY_UNKNOWN]
    if len(strange):
        yield Doubt(
            f"{listed_clusters(strange)} with many cells that are unknown to the reference.",
            "At least half of the cells lie far from every type of the reference. Such a cluster can be a type that the reference lacks.",
        )
    sets = None if config.markers is not None else cell_type_sets(read_gene_sets(config.gmt)[0])
    differing = table[disagreements(table, mapping, model, sets)]
    if len(differing):
        words = "; ".join(
            f"{title}: predicted {predicted} ({share:.0%})"
            for title, predicted, share in zip(
                differing["title"], differing["predicted"], differing["predicted_share"], strict=True
            )
        )
        yield Doubt(
            f"{listed_clusters(differing)} whose markers and predicted type disagree.",
            f"{words}. Read the markers: the reference may lack this type, or the gene set may not fit.",
        )


def disagreements(
    table: pd.DataFrame, mapping: ReferenceMapping, model: Model, sets: GeneSets | None
) -> NDArray[np.bool_]:
    """Return for each cluster whether its name from markers and its predicted type are different cell types.

    Two names agree if they share a word, if the gene set of the label is the cluster's own or a relative, or if either has no set.
    """
    classifier = model.label_classifiers[str(mapping.labels_key)]
    set_of = {} if sets is None else sets_of_labels(model, str(mapping.labels_key), sets)
    found = []
    for kind, predicted, share in zip(
        table["set"], table["predicted"], table["predicted_share"], strict=True
    ):
        if not kind or share < MIN_SHARE or share_a_word(kind, predicted):
            found.append(False)
        elif kind in classifier.labels:
            found.append(True)  # both use the same words
        else:
            other = set_of.get(predicted, "")
            found.append(bool(other) and sets is not None and not are_related(kind, other, sets))
    return np.array(found, dtype=np.bool_)


def share_a_word(one: str, other: str) -> bool:
    """Return whether two names of cell types have a word in common, such as CD14 Mono and Monocyte; "cell" is no word."""
    words = [
        {word.removesuffix("s") for word in re.split(r"[^a-z]+", re.sub(r"\d+", "", name.lower()))}
        - {"", "cell", "cd", "like", "positive", "negative"}
        for name in (one, other)
    ]
    return any(
        first == second or (min(len(first), len(second)) >= 3 and first[:4] == second[:4])
        for first in words[0]
        for second in words[1]
    )


def are_related(one: str, other: str, sets: GeneSets) -> bool:
    """Return whether two sets are the same, one is a subtype of the other, or both are subtypes of one type."""
    return not {one, *sets.parents(one)}.isdisjoint({other, *sets.parents(other)})


def sets_of_labels(model: Model, labels_key: str, sets: GeneSets) -> dict[str, str]:
    """Return the gene set of each label that a model has learned: that of the genes which the decoder expects in the label's cells."""
    classifier = model.label_classifiers[labels_key]
    center_tk = classifier.center_tk * classifier.sd_k + classifier.mean_k
    expected_tg = np.asarray(model.decode(center_tk.astype(np.float32)), dtype=np.float64)
    if not model.schema.counts:
        expected_tg = np.expm1(expected_tg.clip(0))
    expected_tg = PER * expected_tg / np.maximum(expected_tg.sum(axis=1, keepdims=True), 1e-9)
    genes = pd.Index(model.schema.genes)
    try:
        named = name_clusters_by_sets(expected_markers(expected_tg, genes, classifier.labels), sets, genes)
    except InputError:  # no gene of the model is in a set
        return {}
    return dict(zip(named["cluster"], named["set"], strict=True))


def expected_markers(expected_tg: Floats, genes: pd.Index, labels: tuple[str, ...]) -> pd.DataFrame:
    """Return expected counts per 10,000 as a table of markers: each type against the mean of the others, as `pp.rank_markers`."""
    n_types = len(labels)
    rest_tg = (expected_tg.sum(axis=0) - expected_tg) / (n_types - 1)
    fold_tg = np.log2((expected_tg + PSEUDO_COUNT) / (rest_tg + PSEUDO_COUNT))
    lead_tg = fold_tg * (np.exp(-rest_tg) - np.exp(-expected_tg))
    return pd.DataFrame(
        {
            "group": np.repeat(list(labels), len(genes)),
            "gene": np.tile(genes, n_types),
            "lead": lead_tg.ravel(),
            "log2_fold_change": fold_tg.ravel(),
            "p_adjusted": 0.0,
        }
    )
