"""The scIB metrics, computed by the optional package scib-metrics: arrays in, named numbers out.

Suffixes: n cells, k latents, d principal components.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

PACKAGE = "scib-metrics"
LATENT, UNINTEGRATED, LABEL, BATCH = "latent", "unintegrated", "label", "batch"


def scib_scores(
    latent_nk: Floats, labels_n: NDArray[np.str_], batches_n: NDArray[np.str_] | None, pca_nd: Floats
) -> dict[str, float]:
    """Return the scores of scib-metrics' Benchmarker for a latent representation, by the package's own names.

    Parameters
    ----------
    latent_nk
        Latent representation of cells that have a label, (n, k).
    labels_n, batches_n
        Cell type and batch of each cell, (n,). Without batches only the bio-conservation metrics that need none are computed.
    pca_nd
        Principal components of the normalized counts, (n, d): the unintegrated data that the PCR comparison uses.

    Returns
    -------
    Score by name, unscaled; NaN where a metric is undefined for the data.

    Examples
    --------
    ::

        sp.metrics.scib_scores(model.transform(adata), adata.obs["cell_type"], adata.obs["donor"], adata.obsm["X_pca"])
    """
    import pandas as pd
    import scib_metrics
    from anndata import AnnData
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

    scib_metrics.settings.verbosity = logging.ERROR
    has_batches = batches_n is not None
    obs = pd.DataFrame({LABEL: labels_n, BATCH: batches_n if has_batches else "one"})
    cells = AnnData(np.zeros((len(labels_n), 1), dtype=np.float32), obs=obs.set_index(obs.index.astype(str)))
    cells.obsm[LATENT], cells.obsm[UNINTEGRATED] = np.asarray(latent_nk, dtype=np.float32), pca_nd
    bio_conservation = BioConservation() if has_batches else BioConservation(isolated_labels=False)
    with warnings.catch_warnings():
        # jax and pandas warn, and scib-metrics warns that a negative PCR comparison counts as 0
        warnings.simplefilter("ignore")
        benchmarker = Benchmarker(
            cells,
            batch_key=BATCH,
            label_key=LABEL,
            embedding_obsm_keys=[LATENT],
            bio_conservation_metrics=bio_conservation,
            batch_correction_metrics=BatchCorrection() if has_batches else None,
            pre_integrated_embedding_obsm_key=UNINTEGRATED,
            n_jobs=1,
            progress_bar=False,
        )
        benchmarker.benchmark()
        table = benchmarker.get_results(min_max_scale=False)
    return {str(name): float(table.at[LATENT, name]) for name in table.columns}
