"""What `sparcell fit` says about the data before training and about the model after it, and the genes that it chooses."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sparcell.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.config.experiments import FitConfig
    from sparcell.io import StoredCells
    from sparcell.models.estimator import Estimator
    from sparcell.models.fitted import Model
    from sparcell.results.latents import LatentRepresentation

log = logging.getLogger("sparcell")


def choose_genes(adata: AnnData | StoredCells, config: FitConfig, data_settings: dict[str, Any]) -> str:
    """Mark the highly variable genes of the raw counts in `adata.var`; return the name of that column.

    A column highly_variable of the data stays as it is; the new column is then sparcell_highly_variable.
    """
    from anndata import AnnData

    from sparcell import io, pp
    from sparcell.data.expression import counts_finder, model_cells, read_layer, write_gene_column
    from sparcell.data.validation import require_kind

    if "genes_key" in data_settings:
        raise InputError("--n-top-genes and --genes-key both choose genes; expected one of them.")
    layer = data_settings.get("layer")
    if isinstance(adata, io.StoredCells):
        cells = adata.sample()
        log.info("variable genes are chosen on %s of %s cells", f"{cells.n_obs:,}", f"{adata.n_obs:,}")
    else:
        cells = model_cells(adata, layer)
    counts, where = read_layer(cells, layer)
    require_kind(counts, "counts", where, find_counts=counts_finder(adata))
    work = AnnData(counts, obs=cells.obs.copy(), var=cells.var[[]].copy())
    pp.variable_genes(
        work,
        n_top_genes=int(config.n_top_genes or 0),
        flavor=config.flavor,
        batch_key=data_settings.get("batch_key"),
    )
    prefix = ""
    if "highly_variable" in adata.var:
        prefix = "sparcell_"
        log.info(
            "var['highly_variable'] of the data stays as it is: the genes chosen now are in var['sparcell_highly_variable']"
        )
    for column in work.var.columns.drop("highly_variable"):
        adata.var[f"{prefix}{column}"] = work.var[column].reindex(adata.var_names)
    write_gene_column(adata, layer, f"{prefix}highly_variable", work.var["highly_variable"])
    return f"{prefix}highly_variable"


def log_data(adata: AnnData | StoredCells, estimator: Estimator, data_settings: dict[str, Any]) -> None:
    """Log one line: cells, genes, layer, kind of values, what the model makes of them, genes chosen and batches."""
    from sparcell.data.expression import model_cells, read_layer
    from sparcell.data.schema import chosen_genes
    from sparcell.data.validation import infer_matrix_kind
    from sparcell.io.labels import usable_labels
    from sparcell.likelihoods import LIKELIHOODS

    cells = model_cells(adata, data_settings.get("layer"))
    matrix, where = read_layer(cells, data_settings.get("layer"))
    kind = infer_matrix_kind(matrix)
    is_expression = data_settings.get("log_normalize") is not None or data_settings.get("scale", False)
    likelihood = estimator.resolve_likelihood(counts=kind == "counts" and not is_expression).likelihood
    normalized = kind == "counts" and not LIKELIHOODS[likelihood].counts
    values = "raw counts" if kind == "counts" else f"{kind} values"
    n_genes = int(chosen_genes(cells, data_settings.get("genes_key")).sum())
    batch = data_settings.get("batch_key")
    parts = [
        f"{cells.n_obs:,} cells × {cells.n_vars:,} genes",
        f"{where} holds {values}" + (", which are log-normalized for the model" if normalized else ""),
        f"{n_genes:,} genes used" if n_genes < cells.n_vars else "all genes used",
        f"likelihood {likelihood}",
        f"batch: {batch} ({adata.obs[batch].nunique()} values)" if batch in adata.obs else "no batch",
    ]
    labels_key = data_settings.get("labels_key")
    if labels_key is not None:
        labels = usable_labels(adata, labels_key)
        parts.append(
            f"labels: {labels_key} ({len(labels.categories)} values, {labels.isna().mean():.0%} of cells without)"
        )
    log.info("%s", "; ".join(parts))


def log_result(fitted: Model, latents: LatentRepresentation, seconds: float) -> None:
    """Log one line: epochs, active latents, whether a model with spikes became sparse, and seconds."""
    n_latent = len(latents.active_k)
    parts = [
        f"{len(fitted.history)} epochs",
        f"{int(latents.active_k.sum())} of {n_latent} latents active",
        f"{seconds:.0f} s with reading",
    ]
    if latents.inclusion_nk is not None and latents.active_k.any():
        parts.insert(2, f"{latents.on_nk[:, latents.active_k].sum(axis=1).mean():.1f} on in the average cell")
    log.info("%s", "; ".join(parts))
    if latents.sparsity is not None and not latents.sparsity.is_sparse:
        log.warning(
            "The model did not become sparse: nearly all active latents are on in nearly all cells, so they are no gene programs. "
            "--preset programs gives sparse latents."
        )


def drop_older_results(adata: AnnData | StoredCells, key: str) -> None:
    """Remove an older model's results under the same keys from data in memory, and say so in one line."""
    older = [
        f"{field}[{name!r}]"
        for field, names in {
            "obsm": (f"X_{key}", f"{key}_inclusion"),
            "varm": (f"{key}_effects",),
            "uns": (key, f"{key}_programs"),
        }.items()
        for name in names
        if getattr(adata, field).pop(name, None) is not None
    ]
    if older:
        log.info("the input has an older %s; the output holds the new results only", ", ".join(older))
