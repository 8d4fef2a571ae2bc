"""What a benchmark found, as plain arrays and tables: written by `benchmark`, drawn by `pl`, told by `report`.

Suffixes: n cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.results.study import MethodResult

MODEL, BASELINE, EXTERNAL = "model", "baseline", "peer"
"""Kinds of methods: sparcell's own, those that are not trained on counts, other packages'. `Row.preset` holds the kind."""


@dataclass(frozen=True)
class Metric:
    """One number that a method is given."""

    key: str
    """Column of the tables."""
    title: str
    says: str
    """What a reader learns from it."""
    higher: bool | None = True
    """Whether more is better; None where neither end is good in itself, so that nothing is ranked by it."""
    source: str = ""
    """What scib-metrics calls it; empty for measures of our own."""


@dataclass(frozen=True)
class MetricGroup:
    """Measures that are read together."""

    key: str
    title: str
    says: str
    measures: tuple[Metric, ...]
    range01: bool = True
    """Whether all of them lie between 0 and 1."""


BIO = MetricGroup(
    "bio",
    "Biology kept",
    "scIB's measures of whether cells of one type stay together and types stay apart: 0 to 1, higher is better. Their mean is scIB's bio "
    "conservation.",
    (
        Metric("isolated_labels", "isolated labels", "silhouette of the types found in the fewest batches: are they kept apart, "
                "or merged into others?", source="Isolated labels"),
        Metric("kmeans_nmi", "k-means NMI", "normalised mutual information of the types and k-means clusters of the code (one start)",
                source="KMeans NMI"),
        Metric("kmeans_ari", "k-means ARI", "agreement of the same two partitions over pairs of cells, 0 by chance", source="KMeans ARI"),
        Metric("silhouette_label", "silhouette, types", "are cells nearer to their own type than to the next one? .5 is neither",
                source="Silhouette label"),
        Metric("clisi", "cLISI", "how pure in type the 90 nearest neighbours are; close to 1 for nearly every code", source="cLISI"),
    ),
)  # fmt: skip

MIXING = MetricGroup(
    "mixing",
    "Batches mixed",
    "scIB's measures of whether the batches lie in one another, 0 to 1, higher is better. Their mean is scIB's batch correction. They "
    "praise mixing even where batches differ in truth (treated and untreated cells): read them beside the first group, never alone.",
    (
        Metric("bras", "BRAS", "within a type, are cells as near to other batches as to their own?", source="BRAS"),
        Metric("ilisi", "iLISI", "how many batches there are among the 90 nearest neighbours; low values are usual", source="iLISI"),
        Metric("kbet", "kBET", "share of cells whose neighbours, within a type, have the batches in the type's proportions; strict",
                source="KBET"),
        Metric("graph_connectivity", "graph connectivity", "does each type form one piece of the neighbour graph across batches?",
                source="Graph connectivity"),
        Metric("pcr_comparison", "PC regression", "how much less the batch explains of the code's variance than of that of principal "
                "components; 0 for PCA by definition", source="PCR comparison"),
    ),
)  # fmt: skip

OVERALL = MetricGroup(
    "overall",
    "scIB's sums",
    "Means of the two groups and 0.6 × biology + 0.4 × mixing, as scib-metrics computes them, without min-max scaling: totals of "
    "other data, of other genes, or scaled ones are not comparable with these.",
    (
        Metric("bio_conservation", "biology", "mean of the measures of biology kept", source="Bio conservation"),
        Metric("batch_correction", "mixing", "mean of the measures of batches mixed", source="Batch correction"),
        Metric("total", "total", "0.6 × biology + 0.4 × mixing", source="Total"),
    ),
)  # fmt: skip

CLUSTERS = MetricGroup(
    "clusters",
    "Clusters and types",
    "The seed study's scores: k-means with as many clusters as types, the best of many starts, against the types. On the 2-D t-SNE map "
    "(what one sees) and on the codes themselves. 0 to 1, higher is better.",
    tuple(
        Metric(f"{space}_{key}", f"{title}, {word}", f"{says}, on {where}")
        for space, word, where in (("map", "map", "the map"), ("code", "code", "the code"))
        for key, title, says in (
            ("nmi", "NMI", "normalised mutual information of types and clusters"),
            ("ari", "ARI", "agreement over pairs of cells, 0 by chance"),
            ("homogeneity", "homogeneity", "does each cluster hold one type only?"),
            ("completeness", "completeness", "does each type lie in one cluster?"),
        )
    ),
)

READABILITY = MetricGroup(
    "readability",
    "Types read off single latents",
    "Moinfar & Theis's measures (DRVI), 0 to 1, higher is better. SMI: how much of what there is to know of a type (is a cell of it?) one "
    "latent tells, cut into ten bins. SPN: do the cells of a type stand next to each other when all are sorted by one latent? Each for "
    "every type and live latent, then over types in three ways.",
    tuple(
        Metric(f"{key}_{score}", f"{title}-{score.upper()}{word}", says)
        for key, title, word, says in (
            ("lms", "LMS", "", "live latents and types matched one to one: a type without a latent of its own counts 0"),
            ("msas", "MSAS", "", "each type's best live latent, which may serve several types"),
            ("msgs", "MSGS", "", "by how much each type's best live latent is ahead of its second best: is it in one latent only?"),
            ("all_lms", "LMS", ", all", "LMS with all latents, as DRVI's authors take it: SMI and SPN see no scale, so latents that "
             "vanished, whose codes nobody would read, may score too"),
        )
        for score in ("smi", "spn")
    ),
)  # fmt: skip

SPARSITY = MetricGroup(
    "sparsity",
    "Short and stable codes",
    "How much of a code there is to look at, and whether another training gives the same latents. A code that says nothing is the "
    "shortest, and may be stable too: read these numbers beside how well types are read off it, never alone.",
    (
        Metric("live", "live latents", "latents that vary over cells: with a variance above .01 where a model has the prior N(0, 1) "
                "(with spikes also those that are on in 3 cells or more, by 1 or more), at all elsewhere", higher=None),
        Metric("on", "latents on in a cell", "live ones, mean over cells: on with a probability of at least ½ where a model tells one, "
                "elsewhere not exactly 0", higher=None),
        Metric("hoyer", "Hoyer sparsity", "0 where all live latents of a cell are equally large, 1 where all but one are 0, each divided "
                "by its standard deviation; mean over cells", higher=None),
        Metric("reproduced", "found again", "share of the live latents that have a partner (one to one, |r| of the codes over all cells "
                "≥ .8) in at least 80 % of the other seeds; 1 for methods that chance does not touch"),
    ),
    range01=False,
)  # fmt: skip

LIKELIHOOD = MetricGroup(
    "likelihood",
    "Counts explained",
    "How probable a model finds the counts of cells it has never seen, in nats per cell: higher (less negative) is better, and 10 nats "
    "more make a cell e¹⁰ times as probable. An importance-weighted bound, from below, with the library size given.",
    (
        Metric(
            "log_likelihood",
            "log-likelihood of held-out cells",
            "mean over the held-out cells, nats per cell",
        ),
    ),
    range01=False,
)

COST = MetricGroup(
    "cost",
    "Cost",
    "Training alone, in a process of its own: without loading libraries and data, encoding and scoring.",
    (
        Metric("train_seconds", "training time", "seconds by the clock: other work on the machine makes them more", higher=False),
        Metric("cpu_seconds", "processor time", "seconds of computing, over all threads", higher=False),
        Metric("peak_mib", "peak memory", "MiB that training held at its peak beyond what libraries and data held before; "
                "memory of a GPU is not in it", higher=False),
    ),
    range01=False,
)  # fmt: skip

GROUPS = (OVERALL, BIO, MIXING, CLUSTERS, READABILITY, SPARSITY, LIKELIHOOD, COST)
MEASURES: dict[str, Metric] = {measure.key: measure for group in GROUPS for measure in group.measures}
SCIB: dict[str, str] = {measure.source: measure.key for measure in MEASURES.values() if measure.source}
"""What scib-metrics calls a measure → our column."""


@dataclass(frozen=True)
class Skipped:
    """What could not be done, and why."""

    title: str
    reason: str


@dataclass(frozen=True)
class BenchmarkResults:
    """Everything the page of a benchmark needs."""

    title: str
    labels: pd.Categorical
    """Length n. Cells without a label hold a missing value and count in no score."""
    batches: pd.Categorical | None
    rows: tuple[MethodResult, ...]
    """Arrays are those of the first seed."""
    scores: pd.DataFrame
    """Columns method, seed, epochs and the keys of MEASURES: one line a run; NaN where a measure does not apply."""
    skipped: tuple[Skipped, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    """What a method decided on the way, by name."""
    provenance: dict[str, object] = field(default_factory=dict)
    """Keys as of a study, and n_cells, n_genes, n_test."""


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and sd over seeds, one line a method: columns `<measure>`, `<measure>_sd` (NaN with one seed) and n_seeds."""
    import pandas as pd

    grouped = scores.groupby("method", sort=False)
    columns: dict[str, pd.Series] = {"n_seeds": grouped["seed"].nunique()}
    for key in MEASURES:
        columns[key] = grouped[key].mean()
        columns[f"{key}_sd"] = grouped[key].std(ddof=1)
    return pd.DataFrame(columns)


def measured(scores: pd.DataFrame, group: MetricGroup) -> tuple[Metric, ...]:
    """Give those measures of a group that any run has."""
    return tuple(measure for measure in group.measures if scores[measure.key].notna().any())
