"""Labels of new cells by a fitted model: learn them from a reference, predict them with probabilities, keep them with the model.

Suffixes: n cells, t types (labels).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from sparcell import io
from sparcell.config.validation import require_number
from sparcell.data import sampler
from sparcell.data.schema import LabelColumn
from sparcell.errors import InputError, did_you_mean
from sparcell.io.labels import usable_labels
from sparcell.models.encoding import FittedEncoder
from sparcell.protocols import NO_LABEL
from sparcell.results.analysis import UNKNOWN
from sparcell.tl.label_classifier import LabelClassifier

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.covariates import CovariateValues, Unseen
    from sparcell.data.schema import Schema
    from sparcell.io.stored import StoredCells

log = logging.getLogger("sparcell")

MIN_CALIBRATION_CELLS = 20
"""Validation cells with a label from which a temperature is learned."""
UNKNOWN_RATE = 0.05
"""Fraction of the reference's own cells that would be called unknown."""


def label_column(adata: AnnData | StoredCells, labels_key: str) -> LabelColumn:
    """Return the labels that training is to read.

    Examples
    --------
    ::

        column = label_column(adata, "cell_type")
    """
    return LabelColumn(labels_key, tuple(map(str, usable_labels(adata, labels_key).categories)))


def training_covariates(adata: AnnData | StoredCells, schema: Schema) -> CovariateValues:
    """Return batch and further covariates of the cells of a training, and their labels if training reads any.

    Examples
    --------
    ::

        values = training_covariates(adata, schema)
        values.batch_n, values.label_n
    """
    values = schema.covariates.read(adata.obs)
    if schema.labels is None:
        return values
    labels = usable_labels(adata, schema.labels.key).set_categories(schema.labels.names)
    return values._replace(label_n=np.where(labels.isna(), NO_LABEL, labels.codes).astype(np.int32))


OVERCONFIDENT = (
    "training read the labels of obs[{!r}]: {}, probabilities are too confident and too many new cells are called unknown. Training with "
    "labels calibrates on validation cells with labels (validation_fraction)."
)


class LabellingEncoder(FittedEncoder):
    """A fitted model that can learn and predict labels. See `Model`."""

    @property
    def label_classifiers(self) -> dict[str, LabelClassifier]:
        """What was learned by `fit` with labels_key, or by `fit_labels`: column of obs → classifier."""
        learned: dict[str, LabelClassifier] = self.__dict__.get("_label_classifiers", {})
        return learned

    def fit_labels(
        self,
        reference: AnnData | str | Path,
        labels_key: str,
        *,
        seed: int = 0,
        unseen: Unseen = "error",
    ) -> Self:
        """Learn cell types, or other labels, of a reference from its latent representation. The network is not changed.

        A logistic regression over the latents, whose probabilities are calibrated by temperature scaling on a fifth of the cells. The model
        keeps what it learned, also when it is saved. A second call with the same column replaces the first.

        Parameters
        ----------
        reference
            Cells with labels, usually those that the model was trained on. Cells whose label is missing, empty or "unknown" are left out.
        labels_key
            Column of obs with the labels.
        seed
            Draws the cells that are held out for the calibration.
        unseen
            As for `latent_representation`.

        Returns
        -------
        The model itself.

        Raises
        ------
        InputError
            If the column does not exist or holds fewer than two labels, and as for `latent_representation`.

        Examples
        --------
        ::

            model.fit_labels(adata, "cell_type").predict_labels(new_cells)
        """
        adata = io.read(reference) if isinstance(reference, str | Path) else reference
        column = self.schema.labels
        was_read = column is not None and column.key == labels_key
        if was_read:
            log.warning("%s", OVERCONFIDENT.format(labels_key, "if these cells were in training"))
        self._fit_classifier(adata, labels_key, seed=seed, unseen=unseen, was_read=was_read)
        return self

    def fit_training_labels(self, adata: AnnData | StoredCells, column: LabelColumn) -> None:
        """Fit the label classifier to the cells of the training, calibrated on the validation cells.

        Examples
        --------
        ::

            model = sp.BetaVSC().fit(adata, labels_key="cell_type")  # calls it at the end
        """
        settings: Any = self.settings
        rows = sampler.train_validation_split(adata.n_obs, settings.validation_fraction, settings.seed)[1]
        is_labelled_n = usable_labels(adata, column.key).notna()
        held_out_n = np.zeros(adata.n_obs, dtype=bool)
        held_out_n[rows] = True
        n_held_out = int((held_out_n & is_labelled_n).sum())
        was_read = n_held_out < MIN_CALIBRATION_CELLS
        if was_read:
            log.warning(
                "%s", OVERCONFIDENT.format(column.key, f"since {n_held_out} validation cells have labels")
            )
        self._fit_classifier(
            adata, column.key, held_out_n=None if was_read else held_out_n, was_read=was_read
        )

    def _fit_classifier(
        self,
        adata: AnnData | StoredCells,
        labels_key: str,
        *,
        seed: int = 0,
        unseen: Unseen = "error",
        held_out_n: NDArray[np.bool_] | None = None,
        was_read: bool = False,
    ) -> None:
        """Learn labels; `was_read`: training read the labels of all cells, so probabilities must not be made more confident."""
        labels = usable_labels(adata, labels_key)
        usable_n = labels.notna()
        z_nk = self.transform(adata, unseen=unseen)
        if held_out_n is not None:
            held_out_n = held_out_n[usable_n]
        labels = labels[usable_n].reorder_categories(sorted(labels.categories))
        classifier = LabelClassifier.fit(z_nk[usable_n], labels, seed, held_out_n=held_out_n)
        if was_read:
            classifier = replace(classifier, temperature=max(1.0, classifier.temperature))
        self._label_classifiers = {**self.label_classifiers, labels_key: classifier}
        log.info(
            "%d labels learned from %s of %s cells by obs[%r]",
            len(classifier.labels),
            f"{len(labels):,}",
            f"{adata.n_obs:,}",
            labels_key,
        )

    def predict_labels(
        self,
        adata: AnnData | StoredCells,
        labels_key: str | None = None,
        *,
        unknown_rate: float = UNKNOWN_RATE,
        key_added: str | None = None,
        unseen: Unseen = "error",
    ) -> str:
        """Predict the labels that `fit` with labels_key, or `fit_labels`, learned, with probabilities, and write them into `adata`.

        A cell is "unknown" if it lies further from every type of the reference than nearly all of the reference's own cells do. Its
        probabilities are given all the same: they hold for cells of a known type.

        Parameters
        ----------
        adata
            The cells, as for `latent_representation`, in memory or on disk.
        labels_key
            Column of the labels, as given to `fit` or `fit_labels`. Default: the only one that was learned.
        unknown_rate
            Fraction of the reference's own cells that would be called "unknown", from 0 (no cell is unknown) to below 1.
        key_added
            Stem of the keys. Default: `labels_key`.
        unseen
            As for `latent_representation`.

        Returns
        -------
        The stem of the keys.

        Writes
        ------
        ``obs["<key>_predicted"]``: label or "unknown", categorical. ``obs["<key>_probability"]``: probability of the likeliest label.
        ``obs["<key>_distance"]``: distance to the nearest type, relative to the distance at which cells are unknown: above 1 is unknown.
        With `unknown_rate` 0 it is relative to the distance of the default rate. ``obsm["<key>_probabilities"]``: table with the
        probability of each label, (n, t).

        Raises
        ------
        InputError
            If no labels were learned, and as for `latent_representation`.

        Examples
        --------
        ::

            model.predict_labels(query, unseen="average")
            query.obs[["cell_type_predicted", "cell_type_probability"]]
        """
        require_number("unknown_rate", unknown_rate, above=0, below=1, or_equal=True)
        name, classifier = self._classifier(labels_key)
        key = key_added or name
        z_nk = self.transform(adata, unseen=unseen)
        probability_nt = classifier.probabilities(z_nk)
        distance_n = classifier.distances(z_nk)
        labels_n = np.array(classifier.labels, dtype=object)[probability_nt.argmax(axis=1)]
        labels_n[distance_n > classifier.max_distance(unknown_rate)] = UNKNOWN
        categories = [*classifier.labels, UNKNOWN]
        scale = classifier.max_distance(unknown_rate or UNKNOWN_RATE)
        adata.obs[f"{key}_predicted"] = pd.Categorical(labels_n, categories).remove_unused_categories()
        adata.obs[f"{key}_probability"] = probability_nt.max(axis=1)
        adata.obs[f"{key}_distance"] = np.sqrt(distance_n / scale)
        adata.obsm[f"{key}_probabilities"] = pd.DataFrame(
            probability_nt, index=pd.Index(adata.obs_names[:]), columns=list(classifier.labels)
        )
        return key

    def _classifier(self, labels_key: str | None) -> tuple[str, LabelClassifier]:
        known = self.label_classifiers
        if not known:
            raise InputError(
                "the model has learned no labels; train it with fit(…, labels_key='cell_type'), or call "
                "model.fit_labels(reference, 'cell_type') first "
                "(in a shell: sparcell predict QUERY --reference REFERENCE --labels-key cell_type)."
            )
        if labels_key is None and len(known) > 1:
            raise InputError(
                f"the model has learned several labels; expected labels_key, one of {', '.join(known)}."
            )
        name = labels_key or next(iter(known))
        if name not in known:
            raise InputError(f"the model has learned no labels of {name!r}; {did_you_mean(name, known)}")
        return name, known[name]

    def labels_as_json(self) -> dict[str, Any]:
        """Return what is known of labels as JSON can hold it.

        Examples
        --------
        ::

            model.fit_labels(adata, "cell_type").labels_as_json()
        """
        return {name: classifier.to_json() for name, classifier in self.label_classifiers.items()}

    def load_labels(self, stored: dict[str, Any]) -> None:
        """Take up what `labels_as_json` returned; raise ValueError for anything else.

        Examples
        --------
        ::

            model.load_labels(other.labels_as_json())
        """
        self._label_classifiers = {
            name: LabelClassifier.from_json(classifier) for name, classifier in stored.items()
        }
