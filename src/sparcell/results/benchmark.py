"""The results of a benchmark as plain arrays and tables: written by `benchmark`, drawn by `pl`, described by `report`.

Suffixes: n cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from sparcell.results.study import MethodResult

MODEL, BASELINE, EXTERNAL = "model", "baseline", "external"
"""Kinds of methods: models of sparcell, baselines without training on counts, models of other packages. See `MethodResult.preset`."""


@dataclass(frozen=True)
class Metric:
    """One number by which methods are compared."""

    key: str
    """Column of the tables."""
    title: str
    description: str
    """What the metric tells a reader."""
    higher_is_better: bool | None = True
    """None where neither end is good in itself; such a metric ranks no methods."""
    scib_name: str = ""
    """Name in scib-metrics; empty for other metrics."""


@dataclass(frozen=True)
class MetricGroup:
    """Metrics that are shown side by side."""

    key: str
    title: str
    description: str
    metrics: tuple[Metric, ...]
    within_0_1: bool = True
    """Whether all of the metrics lie between 0 and 1."""


BIO = MetricGroup(
    "bio",
    "Bio conservation",
    "scIB's metrics of whether cells of one type stay together and types stay apart. They range from 0 to 1; higher is better. Their mean "
    "is scIB's bio conservation.",
    (
        Metric(
            "isolated_labels",
            "isolated labels",
            "Silhouette of the types found in the fewest batches: are they kept apart, or merged into others?",
            scib_name="Isolated labels",
        ),
        Metric(
            "kmeans_nmi",
            "k-means NMI",
            "Normalized mutual information of the types and k-means clusters of the latent representation (one start).",
            scib_name="KMeans NMI",
        ),
        Metric(
            "kmeans_ari",
            "k-means ARI",
            "Agreement of the same two partitions over pairs of cells; 0 by chance.",
            scib_name="KMeans ARI",
        ),
        Metric(
            "silhouette_label",
            "silhouette, types",
            "Are cells nearer to their own type than to the next one? 0.5 means neither.",
            scib_name="Silhouette label",
        ),
        Metric(
            "clisi",
            "cLISI",
            "Purity in type of the 90 nearest neighbors; close to 1 for nearly every method.",
            scib_name="cLISI",
        ),
    ),
)

ILISI = Metric(
    "ilisi",
    "iLISI",
    "Number of batches among the 90 nearest neighbors; low values are usual.",
    scib_name="iLISI",
)
KBET = Metric(
    "kbet",
    "kBET",
    "Fraction of cells whose neighbors, within a type, have the batches in the type's proportions; a strict test.",
    scib_name="KBET",
)

LOCAL_MIXING = (
    "The batch correction aggregate favors diffuse representations: noise raises its silhouette (BRAS) and PC regression. Local mixing of "
    "the batches is kBET and iLISI."
)
"""Said wherever the aggregate of batch correction is shown."""

MIXING = MetricGroup(
    "mixing",
    "Batch correction",
    "scIB's metrics of how well batches mix. They range from 0 to 1; higher is better. Their mean is scIB's batch correction. They reward "
    "mixing even where batches differ biologically (treated and untreated cells). Always read them beside bio conservation.",
    (
        Metric(
            "bras",
            "BRAS",
            "Within a type, are cells as near to other batches as to their own?",
            scib_name="BRAS",
        ),
        ILISI,
        KBET,
        Metric(
            "graph_connectivity",
            "graph connectivity",
            "Does each type form one piece of the neighbor graph across batches?",
            scib_name="Graph connectivity",
        ),
        Metric(
            "pcr_comparison",
            "PC regression",
            "How much less variance the batch explains in the latent representation than in the principal components; 0 for PCA by "
            "definition.",
            scib_name="PCR comparison",
        ),
    ),
)

OVERALL = MetricGroup(
    "overall",
    "Aggregate scores",
    "Means of bio conservation and batch correction, and 0.6 × bio conservation + 0.4 × batch correction. scib-metrics computes them here "
    "without min-max scaling. Totals of other data, of other genes, or with scaling are not comparable with these. "
    + LOCAL_MIXING,
    (
        Metric(
            "bio_conservation",
            "bio conservation",
            "Mean of the metrics of bio conservation.",
            scib_name="Bio conservation",
        ),
        Metric(
            "batch_correction",
            "batch correction",
            "Mean of the metrics of batch correction.",
            scib_name="Batch correction",
        ),
        Metric("total", "total", "0.6 × bio conservation + 0.4 × batch correction.", scib_name="Total"),
        KBET,
        ILISI,
    ),
)

CLUSTERS = MetricGroup(
    "clusters",
    "Clusters and types",
    "Scores of the 2019 study: k-means with as many clusters as types (best of many starts) against the types. Clusters are found on the "
    "2-D t-SNE map and in the latent representation itself. Scores range from 0 to 1; higher is better.",
    tuple(
        Metric(f"{space}_{key}", f"{title}, {word}", f"{description}, {where}.")
        for space, word, where in (
            ("map", "map", "on the 2-D map"),
            ("latent", "latents", "in the latent representation"),
        )
        for key, title, description in (
            ("nmi", "NMI", "Normalized mutual information of types and clusters"),
            ("ari", "ARI", "Agreement of types and clusters over pairs of cells (0 by chance)"),
            ("homogeneity", "homogeneity", "Degree to which each cluster holds one type only"),
            ("completeness", "completeness", "Degree to which each type lies in one cluster"),
        )
    ),
)

DISENTANGLEMENT = MetricGroup(
    "disentanglement",
    "Types in single latents",
    "Metrics of Moinfar & Theis (DRVI). They range from 0 to 1; higher is better. SMI is the mutual information between one latent, cut "
    "into ten bins, and membership in a type. SPN tells whether the cells of a type are neighbors when all cells are sorted by one "
    "latent. Each is computed for every type and active latent, then averaged over types in three ways.",
    tuple(
        Metric(f"{key}_{score}", f"{title}-{score.upper()}{suffix}", description)
        for key, title, suffix, description in (
            (
                "lms",
                "LMS",
                "",
                "Active latents and types matched one to one; a type without a latent of its own counts 0.",
            ),
            ("msas", "MSAS", "", "Each type's best active latent, which may serve several types."),
            (
                "msgs",
                "MSGS",
                "",
                "Lead of each type's best active latent over its second best: is the type in one latent only?",
            ),
            (
                "all_lms",
                "LMS",
                ", all",
                "LMS with all latents, as DRVI's authors compute it. SMI and SPN ignore scale, so inactive latents can score here too.",
            ),
        )
        for score in ("smi", "spn")
    ),
)

SPARSITY = MetricGroup(
    "sparsity",
    "Sparsity and stability",
    "How many latents a reader has to look at, and whether training with another seed gives the same latents. A representation without "
    "information is the sparsest, and can be stable too. Read these numbers beside the metrics of types in single latents.",
    (
        Metric(
            "n_active",
            "active latents",
            "Latents that vary over cells. With the prior N(0, 1) a latent needs a variance above 0.01; with spikes, being on in 3 or more "
            "cells with a value of 1 or more also counts. Without a prior any variation counts.",
            higher_is_better=None,
        ),
        Metric(
            "mean_included",
            "latents on in a cell",
            "Active latents that are on, mean over cells. On means an inclusion probability of at least 1/2 in models with spikes, and a "
            "value other than 0 in other methods.",
            higher_is_better=None,
        ),
        Metric(
            "hoyer",
            "Hoyer sparsity",
            "0 where all active latents of a cell are equally large, 1 where all but one are 0. Each latent is divided by its standard "
            "deviation; mean over cells.",
            higher_is_better=None,
        ),
        Metric(
            "reproduced",
            "reproduced",
            "Fraction of active latents with a partner in at least 80 % of the other seeds (one to one, |r| ≥ 0.8 over all cells); 1 for "
            "deterministic methods.",
        ),
    ),
    within_0_1=False,
)

LIKELIHOOD = MetricGroup(
    "likelihood",
    "Held-out likelihood",
    "Log-likelihood of the counts of held-out cells, in nats per cell; higher (less negative) is better. With 10 nats more a cell is "
    "e¹⁰ times as probable. The number is an importance-weighted lower bound, given the library size.",
    (
        Metric(
            "log_likelihood",
            "held-out log-likelihood",
            "Mean over the held-out cells, nats per cell.",
        ),
    ),
    within_0_1=False,
)

COST = MetricGroup(
    "cost",
    "Cost",
    "Cost of training in a separate process. Loading of libraries and data, encoding and scoring are not included.",
    (
        Metric(
            "train_seconds",
            "training time",
            "Wall-clock seconds; other work on the machine increases them.",
            higher_is_better=False,
        ),
        Metric(
            "cpu_seconds",
            "processor time",
            "Seconds of computing, summed over all threads.",
            higher_is_better=False,
        ),
        Metric(
            "peak_mib",
            "peak memory",
            "Peak memory of training in MiB, above what libraries and data held before; GPU memory is not included.",
            higher_is_better=False,
        ),
    ),
    within_0_1=False,
)

GROUPS = (OVERALL, BIO, MIXING, CLUSTERS, DISENTANGLEMENT, SPARSITY, LIKELIHOOD, COST)
METRICS: dict[str, Metric] = {metric.key: metric for group in GROUPS for metric in group.metrics}
SCIB_COLUMNS: dict[str, str] = {
    metric.scib_name: metric.key for metric in METRICS.values() if metric.scib_name
}
"""Name of a metric in scib-metrics → column of the tables."""


@dataclass(frozen=True)
class Skipped:
    """Something that was not run or not scored, and why."""

    title: str
    reason: str


@dataclass(frozen=True)
class BenchmarkResults:
    """All that the page of a benchmark shows."""

    title: str
    """Name of the data."""
    labels: pd.Categorical
    """Length n. Cells without a label hold a missing value and are not scored."""
    batches: pd.Categorical | None
    rows: tuple[MethodResult, ...]
    """Arrays are those of the first seed."""
    scores: pd.DataFrame
    """Columns method, seed, epochs, own_epochs and the keys of METRICS: one line per run; NaN where a metric does not apply. own_epochs
    is the number of epochs by the rule of an external model's package, and NaN for other methods."""
    skipped: tuple[Skipped, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    """Name of a method → what was decided during its run, for example a shortened training."""
    batch_warning: str = ""
    """Set if the batches look like treatments: what this means for batch correction and total."""
    provenance: dict[str, object] = field(default_factory=dict)
    """Keys as in a study, and n_cells, n_genes, n_genes_before, n_test, n_dropped."""


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Return mean and sd over seeds, one line a method: columns `<metric>`, `<metric>_sd` (NaN with one seed) and n_seeds."""
    import pandas as pd

    grouped = scores.groupby("method", sort=False)
    columns: dict[str, pd.Series] = {"n_seeds": grouped["seed"].nunique()}
    for key in METRICS:
        columns[key] = grouped[key].mean()
        columns[f"{key}_sd"] = grouped[key].std(ddof=1)
    return pd.DataFrame(columns)


def available_metrics(scores: pd.DataFrame, group: MetricGroup) -> tuple[Metric, ...]:
    """Return the metrics of a group that at least one run has."""
    return tuple(metric for metric in group.metrics if scores[metric.key].notna().any())


def other_epochs(scores: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Return the external models with other epochs than by their own rule: method → (epochs, own epochs)."""
    if "own_epochs" not in scores:
        return {}
    first = scores.dropna(subset=["own_epochs"]).drop_duplicates("method").set_index("method")
    pairs = {str(name): (int(line["epochs"]), int(line["own_epochs"])) for name, line in first.iterrows()}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def epochs_text(epochs: int, own: int) -> str:
    """Return how long an external model was trained: "100 of 400 epochs", or "800 epochs (own rule 400)"."""
    return f"{epochs} of {own} epochs" if epochs < own else f"{epochs} epochs (own rule {own})"
