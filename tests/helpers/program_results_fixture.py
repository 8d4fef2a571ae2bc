"""Program results with chosen numbers: one with everything, one with as little as possible, one without programs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.results_fixture import NASTY
from sparcell.results.programs import Embedding2D, ProgramResults, Traversal

GENES = [f"GENE{number}" for number in range(40)]
TYPES = ("B", "CD8 T", "NK")


def tables(keys, rng, *, counts=True, names=()):
    """Return summary, genes and effects of some programs."""
    programs = [key[:-1] for key in keys]
    effects = pd.DataFrame(rng.gamma(1.0, 1.0, (len(GENES), len(keys))), index=GENES, columns=keys)
    listed = []
    for key in keys:
        top = effects[key].nlargest(25)
        listed.append(
            pd.DataFrame({
                "program": key[:-1], "direction": key[-1], "rank": np.arange(25) + 1, "gene": top.index, "effect": top.to_numpy(),
                "log2_fold": top.to_numpy() * 2 if counts else np.nan, "mean_on": top.to_numpy() + 1, "mean_off": 1.0,
            })
        )  # fmt: skip
    summary = pd.DataFrame({
        "program": programs, "latent": [int(name.split("_")[-1]) for name in programs], "direction": [key[-1] for key in keys],
        "fraction_cells_on": np.linspace(0.6, 0.05, len(keys)), "activity": 1.0, "delta_nll": np.linspace(9, 1, len(keys)),
        "fraction_explained": np.linspace(0.4, 0.004, len(keys)),
        "cumulative_explained": np.linspace(0.4, 0.9, len(keys)), "genes": "GENE1, GENE2", "key": keys,
        "name": [*names, *["unnamed (GENE1)"] * (len(keys) - len(names))],
        "source": [*["gene set"] * len(names), *[""] * (len(keys) - len(names))],
        "set": [*names, *[""] * (len(keys) - len(names))], "p_adjusted": [1e-12, 0.002, *[np.nan] * (len(keys) - 2)], "overlap": 5,
        "set_size": 8, "second_name": ["MHC class II", *[""] * (len(keys) - 1)], "second_p": [3e-4, *[np.nan] * (len(keys) - 1)],
    })  # fmt: skip
    summary["set_genes"] = [
        tuple(effects[key].nlargest(5).index) if name else ()
        for key, name in zip(keys, summary["set"], strict=True)
    ]
    return summary, pd.concat(listed, ignore_index=True), effects


def traversals(keys, genes):
    """Return a traversal of each program."""
    distance_s = np.linspace(0, 2, 5)
    return {
        key: Traversal(
            distance_s,
            tuple(genes[genes["program"] + genes["direction"] == key]["gene"].head(3)),
            distance_s[:, None] * [1.0, 2.0, 0.5] + 1,
        )
        for key in keys
    }


def full_results(n=300):
    """Return five programs of a model with spikes on counts: two with names, with labels, with three seeds."""
    rng = np.random.default_rng(1)
    keys = [f"beta_vsc_{number}+" for number in (4, 1, 7, 2, 3)]
    summary, genes, effects = tables(keys, rng, names=("B cell", "NK"))
    matches = pd.DataFrame(
        [[0.95, 0.9], [0.8, 0.85], [0.9, 0.3], [0.2, 0.1], [0.0, 0.0]],
        index=keys,
        columns=["seed 1", "seed 2"],
    )
    summary = summary.assign(
        label=["B", "NK", "CD8 T", "B", "B"],
        label_fraction_on=[1.0, 0.9, 0.8, 0.4, 0.1],
        label_auc=[1.0, 0.97, 0.7, 0.6, 0.5],
        label_share=[0.9, 0.8, 0.6, 0.5, 0.4],
        n_reproduced=[2, 2, 1, 0, 0],
        n_others=2,
        median_match=matches.median(axis=1).to_numpy(),
        stable=[True, True, False, False, False],
    )
    labels = pd.Categorical(rng.choice(TYPES, n), categories=list(TYPES))
    activity_mp = rng.gamma(1, 1, (n, 5)) * (rng.random((n, 5)) < 0.4)
    enriched = pd.DataFrame({
        "key": [keys[0], keys[0], keys[1]], "set": ["B cell", "MHC class II", "NK"], "overlap": [5, 3, 4], "set_size": [8, 9, 7],
        "expected": [0.5, 0.4, 0.6], "fold": [10.0, 7.5, 6.7], "effect_share": 0.5,
        "p": [1e-13, 1e-4, 1e-3], "p_adjusted": [1e-12, 3e-4, 0.02],
        "genes": [tuple(genes["gene"][:5]), ("GENE1", "GENE2", "GENE3"), tuple(genes["gene"][25:29])],
    })  # fmt: skip
    return ProgramResults(
        title="counts.h5ad",
        model="BetaVSC",
        programs=summary,
        genes=genes,
        effects=effects,
        enrichment=enriched,
        label_fractions=pd.DataFrame(rng.random((5, 3)), index=keys, columns=list(TYPES)),
        embedding=Embedding2D(rng.normal(size=(n, 2)), "a t-SNE of the latents", activity_mp, labels, 2 * n),
        traversals=traversals(keys, genes),
        n_cells=2 * n,
        n_genes=40,
        n_latent=8,
        n_active=5,
        n_active_predicted=None,
        prediction_exact=False,
        counts=True,
        spikes=True,
        sets_source="the 96 built-in gene sets for human and mouse",
        n_genes_enrichment=20,
        matches=matches,
        min_match=0.7,
        settings={"n_latent": 8, "alpha": 0.3, "kl_warmup_fraction": None},
        provenance={"input": "counts.h5ad", "seconds": 12.5, "command": ""},
    )


def bare_results(n=50):
    """Return two directions of one latent of an autoencoder: no spikes, labels, sets or seeds, and hostile names."""
    rng = np.random.default_rng(2)
    keys = ["autoencoder_1+", "autoencoder_1-"]
    summary, genes, effects = tables(keys, rng, counts=False)
    summary = summary.assign(
        source="",
        set="",
        p_adjusted=np.nan,
        second_name="",
        second_p=np.nan,
        fraction_explained=np.nan,
        set_genes=[()] * len(summary),
        cumulative_explained=np.nan,
    )
    genes.loc[0, "gene"] = NASTY[1]
    return ProgramResults(
        title=NASTY[0],
        model="Autoencoder",
        programs=summary,
        genes=genes,
        effects=effects,
        enrichment=pd.DataFrame({"key": [], "set": [], "genes": []}),
        label_fractions=None,
        embedding=Embedding2D(
            rng.normal(size=(n, 2)), "obsm['X_umap'] of the data", np.abs(rng.normal(size=(n, 2))), None, n
        ),
        traversals=traversals(keys, genes),
        n_cells=n,
        n_genes=40,
        n_latent=3,
        n_active=1,
        n_active_predicted=2,
        prediction_exact=False,
        counts=False,
        spikes=False,
        sets_source="",
        n_genes_enrichment=20,
    )


def empty_results():
    """Return the results of a model without active latents."""
    full = full_results(30)
    nothing = full.programs.iloc[:0]
    empty = Embedding2D(
        full.embedding.xy_m2, full.embedding.source, np.zeros((30, 0)), full.embedding.labels, 60
    )
    return ProgramResults(
        title="counts.h5ad",
        model="BetaVSC",
        programs=nothing,
        genes=full.genes.iloc[:0],
        effects=full.effects.iloc[:, :0],
        enrichment=full.enrichment.iloc[:0],
        label_fractions=full.label_fractions.iloc[:0],
        embedding=empty,
        traversals={},
        n_cells=60,
        n_genes=40,
        n_latent=8,
        n_active=0,
        n_active_predicted=None,
        prediction_exact=False,
        counts=True,
        spikes=True,
        sets_source="the sets",
        n_genes_enrichment=20,
        matches=full.matches.iloc[:0],
        min_match=0.7,
    )
