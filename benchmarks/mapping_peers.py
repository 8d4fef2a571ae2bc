"""Peers of `map_query` and `predict_labels`: scArches and scANVI of scvi-tools, and nearest neighbors on principal components.

`benchmarks/mapping.py` calls them. Each function returns a `Mapped`. Suffixes: n cells, k latents, t types.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import NDArray

from sparcell.data.normalize import log_normalized

MAX_STEPS, MINIBATCH = 4000, 128
"""Most training steps of each stage of scvi-tools, and the cells of one step (its default). A model of sparcell has 1,200 steps."""
REFERENCE_EPOCHS = 400
"""Default of scVI for data of this size."""
QUERY_EPOCHS, SCANVI_EPOCHS, SCANVI_QUERY_EPOCHS = 200, 20, 100
"""Epochs in the scArches tutorial of scvi-tools."""
N_COMPONENTS, N_NEIGHBORS = 30, 15
UNKNOWN = "Unknown"
"""Label of the query's cells, for scANVI."""


@dataclass(frozen=True)
class Mapped:
    """What a method says about the cells of the query."""

    latent_nk: NDArray[np.floating] | None
    """Latent representation of the reference's cells, then the query's; None for a method that gives labels only."""
    probability_nt: NDArray[np.floating] | None
    """Probability of each type, types in alphabetical order; None for a method that gives no labels."""
    seconds: float
    """Processor seconds of mapping or predicting, without the training of the reference."""
    reference_seconds: float


def scvi_tools(
    reference: ad.AnnData, query: ad.AnnData, batch_key: str, labels_key: str, seed: int
) -> dict[str, Mapped]:
    """Train scVI on the reference, map the query with scArches (Lotfollahi et al. 2022), predict types with scANVI (Xu et al. 2021).

    Both start from one scVI model with the settings of the scArches tutorial.
    """
    import scvi

    started = time.process_time()
    model = _reference_model(reference, batch_key, labels_key, seed)
    trained = time.process_time()
    scvi.settings.seed = seed
    mapped = scvi.model.SCVI.load_query_data(query.copy(), model)
    mapped.train(max_epochs=_epochs(query, QUERY_EPOCHS), plan_kwargs={"weight_decay": 0.0}, **_QUIET)
    latent_nk = np.concatenate([model.get_latent_representation(), mapped.get_latent_representation()])
    done = time.process_time()
    results = {"scArches": Mapped(latent_nk, None, done - trained, trained - started)}
    labelled = scvi.model.SCANVI.from_scvi_model(model, unlabeled_category=UNKNOWN)
    labelled.train(max_epochs=_epochs(reference, SCANVI_EPOCHS), n_samples_per_label=100, **_QUIET)
    reference_seconds = trained - started + time.process_time() - done
    started = time.process_time()
    query = query.copy()
    query.obs[labels_key] = UNKNOWN
    scvi.settings.seed = seed
    mapped = scvi.model.SCANVI.load_query_data(query, labelled)
    mapped.train(max_epochs=_epochs(query, SCANVI_QUERY_EPOCHS), plan_kwargs={"weight_decay": 0.0}, **_QUIET)
    probability = mapped.predict(soft=True)
    latent_nk = np.concatenate([labelled.get_latent_representation(), mapped.get_latent_representation()])
    seconds = time.process_time() - started
    probability_nt = probability[sorted(probability.columns)].to_numpy()
    return results | {"scANVI": Mapped(latent_nk, probability_nt, seconds, reference_seconds)}


def _epochs(cells: ad.AnnData, most: int) -> int:
    """Return a number of epochs of at most MAX_STEPS steps."""
    return int(max(1, min(most, MAX_STEPS // -(-cells.n_obs // MINIBATCH))))


_QUIET: dict[str, Any] = {"enable_progress_bar": False, "accelerator": "cpu"}


def _reference_model(reference: ad.AnnData, batch_key: str, labels_key: str | None, seed: int) -> Any:
    import scvi

    scvi.settings.seed = seed
    reference = reference.copy()
    scvi.model.SCVI.setup_anndata(reference, batch_key=batch_key, labels_key=labels_key)
    model = scvi.model.SCVI(
        reference,
        n_layers=2,
        dropout_rate=0.2,
        use_layer_norm="both",
        use_batch_norm="none",
        encode_covariates=True,
        gene_likelihood="nb",
    )
    model.train(max_epochs=_epochs(reference, REFERENCE_EPOCHS), **_QUIET)
    return model


def pca_neighbors(reference: ad.AnnData, query: ad.AnnData, labels_key: str, seed: int) -> Mapped:
    """Vote of the nearest reference cells on principal components of the reference, onto which the query is projected."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    started = time.process_time()
    method = PCA(N_COMPONENTS, svd_solver="arpack", random_state=seed)
    reference_nk = method.fit_transform(log_normalized(reference.X).toarray())
    voter = KNeighborsClassifier(N_NEIGHBORS).fit(reference_nk, reference.obs[labels_key].astype(str))
    trained = time.process_time()
    query_nk = method.transform(log_normalized(query.X).toarray())
    probability_nt = voter.predict_proba(query_nk)
    latent_nk = np.concatenate([reference_nk, query_nk])
    return Mapped(latent_nk, probability_nt, time.process_time() - trained, trained - started)
