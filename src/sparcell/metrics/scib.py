"""scIB's measures through scib-metrics, which is optional: arrays in, named numbers out. Nothing of them is computed here.

Suffixes: n cells, k latents, d principal components.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

PACKAGE = "scib-metrics"
CODE, BEFORE, LABEL, BATCH = "code", "before", "label", "batch"


def scib(
    latent_nk: Floats, labels_n: NDArray[np.str_], batches_n: NDArray[np.str_] | None, before_nd: Floats
) -> dict[str, float]:
    """Score a latent representation as scib-metrics' Benchmarker does, by the library's own names of its metrics.

    Parameters
    ----------
    code_nk
        The codes of cells that have a label.
    labels_n, batches_n
        Their types and batches. Without batches only measures of biology that need none are made.
    before_nd
        Principal components of the normalised counts, with which the code is compared.

    Returns
    -------
    What scib-metrics tells, unscaled; NaN where it finds a measure undefined for these data.
    """
    import scib_metrics
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

    scib_metrics.settings.verbosity = logging.ERROR
    known = batches_n is not None
    obs = pd.DataFrame({LABEL: labels_n, BATCH: batches_n if known else "one"})
    cells = AnnData(np.zeros((len(labels_n), 1), dtype=np.float32), obs=obs.set_index(obs.index.astype(str)))
    cells.obsm[CODE], cells.obsm[BEFORE] = np.asarray(latent_nk, dtype=np.float32), before_nd
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jax, of pandas, and that a negative PCR comparison counts as 0
        bench = Benchmarker(
            cells,
            batch_key=BATCH,
            label_key=LABEL,
            embedding_obsm_keys=[CODE],
            bio_conservation_metrics=BioConservation() if known else BioConservation(isolated_labels=False),
            batch_correction_metrics=BatchCorrection() if known else None,
            pre_integrated_embedding_obsm_key=BEFORE,
            n_jobs=1,
            progress_bar=False,
        )
        bench.benchmark()
        table = bench.get_results(min_max_scale=False)
    return {str(name): float(table.at[CODE, name]) for name in table.columns}
