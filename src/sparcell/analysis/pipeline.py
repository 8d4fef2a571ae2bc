"""The analysis: quality control, representation, clusters and their names, gene programs, conditions, report."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sparcell import io, pp
from sparcell.analysis import clusters, conditions, representation, samples, write
from sparcell.analysis.doubts import about_fit, find_doubts
from sparcell.analysis.predictions import about_predictions
from sparcell.analysis.prepare import AnalysisData, prepare
from sparcell.analysis.reference import Reference, add_predictions, predict_types
from sparcell.analysis.representation import run_maps, run_stage, stages
from sparcell.analysis.separation import about_many_clusters, about_splits, separate
from sparcell.config.analysis import AnalysisConfig
from sparcell.experiments import checks, runs
from sparcell.experiments.runs import Run
from sparcell.experiments.writing import print_table
from sparcell.models import load
from sparcell.pp.slots import free_column
from sparcell.results.analysis import AnalysisResults
from sparcell.tl.markers import MAX_GENES, gene_expression, marker_genes

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.results.analysis import ReferenceMapping
    from sparcell.results.expression import GeneExpression

log = logging.getLogger("sparcell")

N_MAP_GENES = 3
"""Marker genes of each cluster that the maps of the report can show."""


def run(
    data: str | Path | Sequence[str | Path] | AnnData,
    out: str | Path,
    config: AnalysisConfig | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    resume: bool = False,
    silent: bool = False,
    command: str = "",
) -> AnalysisResults:
    """Analyze one data set, from raw counts to named clusters, gene programs and a report.

    Parameters
    ----------
    data
        Raw counts: AnnData, or any format that `sparcell.io.read` reads. The data does not change.
        Several files, such as one per donor, are joined by gene name; obs["file"] names the file of each cell.
    out
        Folder for the results: new or empty, or with `resume` the folder of an earlier analysis.
    config
        What to do; default `AnalysisConfig()`.
    changes
        Settings of the models (`epochs`, `n_latent`, …) that differ from the presets counts and programs.
    resume
        Keep the trained models in `out` that have the same data and settings.
    silent, command
        Whether to hide progress; command line for the provenance.

    Returns
    -------
    The results that the report shows. Files in the folder: report.html, analysis.h5ad, clusters.csv, markers.csv, composition.csv (with
    batches or conditions), composition_test.csv and changes.csv (with conditions), fit.csv, ``figures/*.png``, model/, programs_model/,
    programs/ (the page of gene programs and its tables), provenance.json, ``runs/*.npz``.

    Raises
    ------
    InputError
        Before any training, and before anything is written, if data or settings do not fit.

    Examples
    --------
    >>> results = sp.analysis.run("counts.h5ad", "analysis", sp.AnalysisConfig(batch_key="donor"))  # doctest: +SKIP
    """
    started = time.perf_counter()
    config = config or AnalysisConfig()
    reference = Reference.of(config, Path(out))
    config = config if reference is None else reference.with_batches(config)
    chosen = stages(config, changes or {}, reference)
    with runs.open_folder(Path(out), resume, foreign="study.h5ad") as folder:
        prepared = prepare(data, config, reference)
        runs.check_same_data(folder, prepared.digest, experiment="analysis", parts="counts")
        sizes = [stage.entry.estimator.batch_size for stage in chosen if stage.entry is not None]
        checks.check_minibatch(prepared.adata.n_obs, sizes, cells="are left after quality control")
        io.check_writable(prepared.adata, "analysis.h5ad")
        finished: list[Run] = []
        try:
            for stage in chosen:
                finished.append(run_stage(stage, prepared, config, folder, silent=silent))
            maps = run_maps(chosen[0], finished[0], prepared, config, folder)
            both = Run({**finished[0].arrays, **maps.arrays})
            results = collect(prepared, both, config, folder, reference)
            results = replace(results, settings=chosen[0].settings)
            results = write.write(results, prepared, config, folder, command, started)
        except KeyboardInterrupt as stop:
            raise runs.interruption(stop, len(finished), len(chosen), folder) from None
        runs.remove_checkpoints(folder)
    return results


def collect(
    data: AnalysisData, run_: Run, config: AnalysisConfig, folder: Path, reference: Reference | None = None
) -> AnalysisResults:
    """Return all results but programs and provenance; writes clusters, cell types, latents and maps into the cells."""
    adata, arrays = data.adata, run_.arrays
    coarser, main, finer = (f"leiden_{r:g}" for r in representation.resolutions(config))
    partitions = {name: arrays[name] for name in (coarser, main, finer)}
    columns = {name: free_column(adata, name) for name in ("cluster", "cell_type")}
    clusters.add_clusters(adata, {columns["cluster"]: arrays[main], **partitions})
    cluster_n = adata.obs[columns["cluster"]]
    log.info("marker genes and names of %d clusters", len(cluster_n.cat.categories))
    markers = pp.rank_markers(adata, columns["cluster"])
    named, source = clusters.name_clusters(adata, cluster_n, markers, config)
    named, similar = separate(adata, arrays[main], named)
    type_n = cell_types(cluster_n, named)
    adata.obs[columns["cell_type"]] = type_n
    model, query = load(folder / "model"), data.for_model()
    mapping = None
    if reference is not None:
        mapping = predict_types(model, query, adata, config, reference.describe(query, config))
    adata.obsm[f"X_{model.settings.name}"] = arrays["latent_nk"]
    adata.obsm["X_umap"], adata.obsm["X_tsne"] = arrays["umap_n2"], arrays["tsne_n2"]
    table = clusters.cluster_table(adata, arrays[main], named, markers, arrays["other_clusters_sn"], config)
    table = add_predictions(table, arrays[main], mapping)
    shares = samples.composition(adata, type_n, config)
    log.info("does the model fit?")
    criticism = model.criticize(query, seed=config.seed)
    changes, reasons = conditions.gene_changes(query, type_n, config, model)
    return AnalysisResults(
        title=data.title,
        cell_types=type_n.array,
        type_column=columns["cell_type"],
        clusters=cluster_n.array,
        cluster_table=table,
        markers=markers,
        umap_n2=arrays["umap_n2"],
        tsne_n2=arrays["tsne_n2"],
        qc=data.qc,
        doubts=(
            *find_doubts(adata, cluster_n, table, data.qc, run_.history, config),
            *about_predictions(table, mapping, model, config),
            *about_many_clusters(arrays[main], arrays[coarser], table, config),
            *similar,
            *about_splits(adata, arrays[main], arrays[finer], table, config),
            *about_fit(criticism),
            *reasons,
        ),
        criticism=criticism,
        names_source=source,
        columns=map_columns(adata, config, mapping) | cluster_columns(cluster_n, type_n),
        reference=mapping,
        composition=shares,
        composition_test=samples.composition_test(shares),
        changes=changes,
        expression=map_genes(adata, type_n),
        history=run_.history,
    )


def cell_types(cluster_n: pd.Series, named: pd.DataFrame) -> pd.Series:
    """Return the name of each cell's cluster; clusters that share a name are one category, in the order of the clusters."""
    name_n = named["name"].to_numpy()[cluster_n.cat.codes.to_numpy()]
    return pd.Series(
        pd.Categorical(name_n, categories=list(dict.fromkeys(named["name"]))), index=cluster_n.index
    )


def map_columns(
    adata: AnnData, config: AnalysisConfig, mapping: ReferenceMapping | None = None
) -> dict[str, pd.Categorical]:
    """Return the columns of obs that color the maps, by their headings."""
    predicted = None if mapping is None else mapping.predicted
    further = {} if predicted is None else {"Predicted types": predicted}
    key_of = {"Known labels": config.labels_key, "Batch": config.batch_key, "Condition": config.condition_key}
    return further | {
        heading: pd.Categorical(adata.obs[key].astype(str).where(adata.obs[key].notna()))
        for heading, key in key_of.items()
        if key is not None
    }


def cluster_columns(cluster_n: pd.Series, type_n: pd.Series) -> dict[str, pd.Categorical]:
    """Return the clusters as a column that colors the maps, if several of them share a name."""
    if len(type_n.cat.categories) == len(cluster_n.cat.categories):
        return {}
    return {"Clusters": pd.Categorical(cluster_n)}


def map_genes(adata: AnnData, type_n: pd.Series) -> GeneExpression | None:
    """Return the expression of the genes that set each cluster apart from every other one."""
    x_ng, genes = adata.layers["lognorm"], adata.var_names.tolist()
    per_cluster = max(1, min(N_MAP_GENES, MAX_GENES // max(1, len(type_n.cat.categories))))
    pairs = marker_genes(x_ng, genes, pd.Categorical(type_n), per_cluster)
    return gene_expression(x_ng, genes, [gene for _, gene in pairs], pairs)


def show(results: AnalysisResults) -> None:
    """Print the clusters as a table, and what to trust less.

    Examples
    --------
    ::

        results = sp.analysis.run("counts.h5ad", "analysis")
        sp.analysis.show(results)
    """
    table = results.cluster_table
    lines = [
        [str(name), f"{n_cells:,}", f"{share:.1%}", ", ".join(genes[:4])]
        for name, n_cells, share, genes in zip(
            table["title"], table["n_cells"], table["share"], table["genes"], strict=True
        )
    ]
    print_table(f"{results.title}: clusters", ["cluster", "cells", "share", "first markers"], lines)
    for doubt in results.doubts:
        log.info("trust less: %s %s", doubt.what, doubt.why)
