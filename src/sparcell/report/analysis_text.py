"""Sentences of an analysis's report: summary and methods. Pure functions, no HTML."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from sparcell.report.text import Paragraph, capitalize, join_words, pluralize
from sparcell.results.analysis import UNKNOWN

if TYPE_CHECKING:
    from sparcell.results.analysis import AnalysisResults, ReferenceMapping

MAX_P = 0.05


def conclusions(results: AnalysisResults) -> list[Paragraph]:
    """Return the summary as paragraphs."""
    paragraphs = [Paragraph("Cells", cells(results)), Paragraph("Cell types", types(results))]
    if results.reference is not None:
        paragraphs.insert(1, Paragraph("Reference", reference(results.reference)))
    if results.composition_test is not None:
        paragraphs.append(Paragraph("Conditions", conditions(results)))
    if results.program_changes is not None:
        heading = "Programs and conditions"
        paragraphs.append(Paragraph(heading, program_conditions(results.program_changes)))
    if results.programs is not None:
        text = f"{results.programs[1]} The page is linked under Gene programs."
        paragraphs.append(Paragraph("Programs", (text,)))
    return [*paragraphs, Paragraph("Trust", (trust(results),))]


def trust(results: AnalysisResults) -> str:
    """Return how many reasons for doubt there are, and the first of them."""
    if not results.doubts:
        return "The rules of this page found nothing suspicious."
    number = capitalize(pluralize(len(results.doubts), "thing"))
    return f"{number} should be checked before these results are used. The first: {lower_first(results.doubts[0].what)}"


def lower_first(text: str) -> str:
    """Return a sentence that follows a colon."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def cells(results: AnalysisResults) -> tuple[str, ...]:
    """Return what quality control kept."""
    kept, n_cells = int(results.qc["kept"].sum()), len(results.qc)
    removed = f"; {n_cells - kept:,} were removed." if kept < n_cells else "."
    sampled = results.provenance.get("sampled")
    first = (f"The analysis used {sampled}.",) if sampled else ()
    return (*first, f"{kept:,} of {n_cells:,} cells passed quality control{removed}")


def types(results: AnalysisResults) -> tuple[str, ...]:
    """Return the clusters and their names."""
    table = results.cluster_table
    named = table[~table["name"].str.startswith(UNKNOWN)]
    sentences = [
        f"The cells form {pluralize(len(table), 'cluster')}; {pluralize(len(named), 'cluster')} got a name from {results.names_source}."
    ]
    share_of = table.groupby("name", sort=False)["share"].sum().sort_values(ascending=False, kind="stable")
    if len(share_of) < len(table):
        sentences.append(
            f"Clusters of one type that hardly any gene tells apart share a name, so there are {pluralize(len(share_of), 'cell type')}."
        )
    shares = [f"{name} ({share:.0%})" for name, share in share_of.head(4).items()]
    sentences.append(f"The largest are {join_words(shares)}.")
    if "label" in table:
        agree = float((table["label_share"] * table["n_cells"]).sum() / table["n_cells"].sum())
        sentences.append(
            f"{agree:.0%} of the cells have the most frequent known label of their cluster. The labels were not used in training."
        )
    return tuple(sentences)


def numbers(results: AnalysisResults) -> str:
    """Return what numbers in the names of clusters mean; "" if no name has one."""
    table = results.cluster_table
    counted = [
        str(name)
        for name, kind in zip(table["name"], table["set"], strict=True)
        if kind and re.match(rf"{re.escape(str(kind))} \d", str(name))
    ]
    sentences = []
    if counted:
        sentences.append(
            f"A number after the name of a type counts the cell types of this name, as in {counted[-1]}; genes in parentheses are those "
            "that a cell type has more of than the others of its name."
        )
    if counted or table["title"].str.contains("cluster ").any():
        sentences.append("The number of a cluster follows the word cluster.")
    return " ".join(sentences)


def reference(mapping: ReferenceMapping) -> tuple[str, ...]:
    """Return what was mapped onto what, and which types were predicted."""
    trained = "" if mapping.n_cells is None else f", which was trained on {mapping.n_cells:,} cells"
    sentences = [f"The cells were mapped onto the saved model {mapping.name} ({mapping.model}{trained})."]
    if mapping.batch_key is not None:
        sentences.append(_batches(mapping))
    n_missing = len(mapping.missing)
    genes = f"of the model's {mapping.n_genes:,} genes"
    sentences.append(
        f"{n_missing:,} {genes} {'is' if n_missing == 1 else 'are'} not in the data and count as 0, such as "
        f"{join_words(list(mapping.missing), 3)}."
        if n_missing
        else f"None {genes} is missing in the data."
    )
    if mapping.predicted is None:
        return (*sentences, "The model has learned no cell types, so none were predicted.")
    counts = mapping.predicted.astype(str)
    share = pd.Series(counts).value_counts(normalize=True)
    unknown = share.get(UNKNOWN, 0.0)
    largest = [
        f"{name} ({value:.0%})" for name, value in share.drop(UNKNOWN, errors="ignore").head(4).items()
    ]
    return (
        *sentences,
        f"The most frequent predicted types are {join_words(largest)}; {unknown:.1%} of the cells are unknown to the model.",
    )


def _batches(mapping: ReferenceMapping) -> str:
    """Return which batches were trained."""
    number = pluralize(len(mapping.batches), "batch", "batches")
    if not mapping.new:
        return f"The model knows {number} of the data, so nothing was trained."
    verb, n_known = "is" if len(mapping.new) == 1 else "are", len(mapping.batches) - len(mapping.new)
    known = f"; the model knows {pluralize(n_known, 'other batch', 'other batches')}" if n_known else ""
    text = f"{join_words(list(mapping.new))} ({mapping.batch_key}) {verb} new to the model{known}."
    if not mapping.trained:
        return f"{text} New batches were taken as an average batch, and nothing was trained."
    few = " Others were taken as an average batch." if len(mapping.trained) < len(mapping.new) else ""
    return f"{text} Only the parameters of {join_words(list(mapping.trained))} were trained.{few}"


def conditions(results: AnalysisResults) -> tuple[str, ...]:
    """Return which cell types differ in their share."""
    table: Any = results.composition_test
    first, second = table.attrs["conditions"]
    how = f"{table.attrs['test']} over samples, adjusted p at most {MAX_P}"
    found = table[table["p_adjusted"] <= MAX_P]
    if found.empty:
        return (f"No cell type differs in its share between {first} and {second} ({how}).",)
    words = [
        f"{row.cell_type} ({'more' if row.difference > 0 else 'fewer'} in {second})"
        for row in found[["cell_type", "difference"]].itertuples(index=False)
    ]
    return (f"The share differs between {first} and {second} for {join_words(words)} ({how}).",)


def program_conditions(table: pd.DataFrame) -> tuple[str, ...]:
    """Return which programs differ between conditions, in which types."""
    group, reference_name = table["group"].iloc[0], table["reference"].iloc[0]
    how = f"{table.attrs['test']} over samples, adjusted p below {MAX_P}"
    found = table[table["p_adjusted"] < MAX_P]
    if found.empty:
        return (f"No gene program differs between {reference_name} and {group} in any cell type ({how}).",)
    words = [
        f"{row['name']} in {row['cell_type']} ({'higher' if row['effect'] > 0 else 'lower'} in {group})"
        for _, row in found.head(4).iterrows()
    ]
    more = f", and {len(found) - 4} more" if len(found) > 4 else ""
    return (f"Gene programs that differ: {join_words(words)}{more} ({how}).",)


def methods(results: AnalysisResults) -> list[str]:
    """Return a methods paragraph that can be pasted into a paper."""
    config: Any = results.provenance.get("config", {})
    versions: Any = results.provenance.get("versions", {})
    parts = [_quality(results), _model(results, config, versions)]
    parts.append(
        f"Cells were clustered by the Leiden algorithm (Traag et al. 2019; resolution {config.get('resolution')}) on the graph of 15 "
        f"nearest neighbors in the latent representation (scanpy {versions.get('scanpy', '')}; Wolf et al. 2018), and shown by UMAP "
        f"(McInnes et al. 2018) and t-SNE (openTSNE {versions.get('openTSNE', '')}; Poličar et al. 2024)."
    )
    parts.append(
        "Marker genes were ranked by log2 fold change times difference in the share of expressing cells."
    )
    how = (
        "by the mean z-score of the genes"
        if config.get("markers")
        else "by a hypergeometric test of the 50 strongest markers (three or more shared genes, false discovery rate at most .01), first "
        "against all other cells and then, for subtypes, among the clusters of one wider type"
    )
    parts.append(
        f"Clusters were named by {results.names_source}, {how}. Clusters of one name were taken as one cell type unless five or more genes "
        "separated them (area under the ROC curve at least .75 and log2 fold change at least 1)."
    )
    if results.changes is not None:
        parts.append(
            "Genes were compared between conditions within each cell type by posterior log2 fold changes with a learned prior (Stephens "
            "2017); a gene was called if it differed by more than .25 at an expected false discovery rate of at most 5%."
        )
    if results.composition_test is not None:
        parts.append(
            f"Shares of cell types were compared between conditions by a {results.composition_test.attrs['test']} on centered log "
            "ratios over samples (Aitchison 1982), adjusted after Benjamini and Hochberg (1995)."
        )
    if results.program_changes is not None:
        parts.append(
            "The mean activity of each gene program in the cells of each sample and type was compared between conditions by a "
            f"{results.program_changes.attrs['test']} over samples, adjusted after Benjamini and Hochberg (1995)."
        )
    return [" ".join(parts)]


def _quality(results: AnalysisResults) -> str:
    limits = results.qc.attrs.get("limits", {})
    low, high = limits.get("min_genes", (0, 0))[0], limits.get("max_genes", (0, 0))[1]
    mito = limits.get("max_pct_mito", (0, 100))[1]
    genes = f"more than {low:.0f}" + (f" and fewer than {high:.0f}" if math.isfinite(high) else "")
    share = f" and less than {mito:.1f}% mitochondrial counts" if math.isfinite(mito) else ""
    return f"Cells with {genes} detected genes{share} were kept."


def _model(results: AnalysisResults, config: Any, versions: Any) -> str:
    batch = config.get("batch_key")
    if results.reference is not None:
        return _mapped(results.reference, versions)
    return (
        f"A variational sparse coder (Tonolini et al. 2019) with a negative-binomial likelihood and {results.settings.get('n_latent')} "
        f"latents (sparcell {versions.get('sparcell', '')}) was trained on the raw counts of {config.get('n_top_genes', 0):,} highly "
        f"variable genes{f', with {batch} as batch covariate' if batch else ''}."
    )


def _mapped(mapping: ReferenceMapping, versions: Any) -> str:
    """Return the mapping as a sentence of the methods."""
    trained = f" with parameters of {pluralize(len(mapping.trained), 'new batch', 'new batches')} trained on them and all others fixed"
    n_read = mapping.n_genes - len(mapping.missing)
    genes = (
        f"{n_read:,} of its {mapping.n_genes:,} genes"
        if mapping.missing
        else f"its {mapping.n_genes:,} genes"
    )
    zeros = "; missing genes counted as 0" if mapping.missing else ""
    text = (
        f"Raw counts of {genes} were encoded by a saved {mapping.model} (sparcell {versions.get('sparcell', '')}; {mapping.name})"
        f"{trained if mapping.trained else ''}{zeros}."
    )
    if mapping.predicted is None:
        return text
    return (
        f"{text} Cell types of the reference ({mapping.labels_key}) were predicted by a calibrated logistic regression on the latents; "
        "cells beyond the distances of 95% of the reference's calibration cells were called unknown."
    )


REFERENCES = (
    "Tonolini, Jensen, Murray-Smith. Variational sparse coding. UAI 2019.",
    "Wolf, Angerer, Theis. SCANPY. Genome Biology 19, 15 (2018).",
    "Traag, Waltman, van Eck. From Louvain to Leiden. Scientific Reports 9, 5233 (2019).",
    "McInnes, Healy, Melville. UMAP. arXiv 1802.03426 (2018).",
    "Poličar, Stražar, Zupan. openTSNE. Journal of Statistical Software 109 (2024).",
)
"""Works that the methods paragraph cites."""
