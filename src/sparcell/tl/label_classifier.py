"""Labels of cells from their latent representation: logistic regression with calibrated probabilities, and a distance that says "unknown".

The classifier is numbers only, so a model folder can hold it as JSON. Suffixes: n cells, k latents, t types (labels).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from sparcell.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HELD_OUT_FRACTION = 0.2
"""Fraction of the cells of each type that set the temperature and the distances of known cells."""
MAX_LOG_TEMPERATURE = 3.0
MAX_ITERATIONS = 1000
N_QUANTILES = 1000
"""Steps between 0 and 1 at which the distances of held-out cells are kept."""
MIN_SD = 1e-6
SHRINKAGE_CELLS = 20
"""Weight of the covariance within all types, in cells, against the covariance of one type."""


@dataclass(frozen=True)
class LabelClassifier:
    """Multinomial logistic regression over latents, with a temperature and the distances of the reference's cells.

    The probability of type t is softmax((z_k - mean_k) / sd_k · coef_tk + intercept_t, divided by the temperature) (temperature scaling:
    Guo et al. 2017). The distance is the smallest Mahalanobis distance to the center of a type, squared (Lee et al. 2018, section 2). The
    covariance of a type is shrunk towards the covariance within all types, as if SHRINKAGE_CELLS more cells had that one.
    """

    labels: tuple[str, ...]
    mean_k: Floats
    """Mean and standard deviation of each latent in the reference."""
    sd_k: Floats
    coef_tk: Floats
    intercept_t: Floats
    temperature: float
    center_tk: Floats
    """Mean standardized latents of each type."""
    precision_tkk: Floats
    """Inverse of the covariance of each type."""
    distance_quantiles: Floats
    """Distances of cells of the reference that were held out, at N_QUANTILES equal steps."""

    @classmethod
    def fit(
        cls,
        z_nk: NDArray[np.floating],
        labels_n: NDArray[np.str_] | pd.Categorical,
        seed: int = 0,
        *,
        held_out_n: NDArray[np.bool_] | None = None,
    ) -> LabelClassifier:
        """Learn from labelled cells.

        A fifth of each type is held out to set the temperature and the distances; the classifier is then fitted to all cells.

        Parameters
        ----------
        z_nk
            Latent representation, (n, k).
        labels_n
            Label of each cell, (n,); at least two different ones, none missing. The labels of a Categorical keep their order.
        seed
            Draws the cells that are held out.
        held_out_n
            Mask of the cells that are held out, (n,), in place of a fifth of each type. A type keeps at least one cell.

        Examples
        --------
        ::

            classifier = LabelClassifier.fit(model.transform(adata), adata.obs["cell_type"].to_numpy(str))
        """
        categories = pd.Categorical(labels_n).remove_unused_categories()
        labels, label_n = categories.categories, categories.codes.astype(np.int64)
        if len(labels) < 2:
            raise InputError(f"the reference has {len(labels)} label; expected at least two.")
        z_nk = np.asarray(z_nk, dtype=np.float64)
        mean_k, sd_k = z_nk.mean(axis=0), np.maximum(z_nk.std(axis=0), MIN_SD)
        scaled_nk = (z_nk - mean_k) / sd_k
        if held_out_n is None:
            held_out_n = _held_out(label_n, seed)
        held_out_n = held_out_n & np.isin(label_n, label_n[~held_out_n])
        coef_tk, intercept_t = _regression(scaled_nk[~held_out_n], label_n[~held_out_n])
        logits_nt = scaled_nk[held_out_n] @ coef_tk.T + intercept_t
        temperature = best_temperature(logits_nt, label_n[held_out_n])
        known = _distances_of(scaled_nk, label_n, held_out_n)
        center_tk, precision_tkk = _centers(scaled_nk, label_n)
        quantiles = np.quantile(known, np.linspace(0, 1, N_QUANTILES + 1))
        coef_tk, intercept_t = _regression(scaled_nk, label_n)
        return cls(
            labels=tuple(map(str, labels)),
            mean_k=mean_k,
            sd_k=sd_k,
            coef_tk=coef_tk,
            intercept_t=intercept_t,
            temperature=temperature,
            center_tk=center_tk,
            precision_tkk=precision_tkk,
            distance_quantiles=quantiles,
        )

    def probabilities(self, z_nk: NDArray[np.floating]) -> Floats:
        """Return the probability of each type, (n, t).

        Examples
        --------
        ::

            probability_nt = classifier.probabilities(model.transform(query))
        """
        logits_nt = self._scaled(z_nk) @ self.coef_tk.T + self.intercept_t
        return np.asarray(softmax(logits_nt / self.temperature, axis=1))

    def distances(self, z_nk: NDArray[np.floating]) -> Floats:
        """Return the squared distance of each cell to the nearest type, (n,), in standard deviations within types.

        Examples
        --------
        ::

            distance_n = classifier.distances(model.transform(query))
        """
        return _distances(self._scaled(z_nk), self.center_tk, self.precision_tkk)

    def max_distance(self, unknown_rate: float) -> float:
        """Return the distance that a fraction `unknown_rate` of the reference's held-out cells exceeds; infinity for 0.

        Examples
        --------
        ::

            is_unknown_n = classifier.distances(z_nk) > classifier.max_distance(0.01)
        """
        if unknown_rate == 0:
            return float("inf")
        return float(
            np.interp(
                1 - unknown_rate, np.linspace(0, 1, len(self.distance_quantiles)), self.distance_quantiles
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON can hold them, without loss.

        Examples
        --------
        ::

            text = json.dumps(classifier.to_json())
        """
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> LabelClassifier:
        """Rebuild from what `to_json` returned; raise ValueError for anything else.

        Examples
        --------
        ::

            classifier = LabelClassifier.from_json(json.loads(text))
        """
        arrays = {
            name: np.asarray(value, dtype=np.float64)
            for name, value in stored.items()
            if name not in ("labels", "temperature")
        }
        made = cls(labels=tuple(stored["labels"]), temperature=float(stored["temperature"]), **arrays)
        n_types, n_latent = len(made.labels), len(made.mean_k)
        expected = {
            "sd_k": (n_latent,),
            "coef_tk": (n_types, n_latent),
            "intercept_t": (n_types,),
            "center_tk": (n_types, n_latent),
            "precision_tkk": (n_types, n_latent, n_latent),
        }
        if any(arrays[name].shape != shape for name, shape in expected.items()):
            raise ValueError("the numbers of a label classifier do not fit together")
        if not all(np.isfinite(value).all() for value in [*arrays.values(), np.asarray(made.temperature)]):
            raise ValueError("a label classifier holds numbers that are not finite")
        return made

    def _scaled(self, z_nk: NDArray[np.floating]) -> Floats:
        return np.asarray((np.asarray(z_nk, dtype=np.float64) - self.mean_k) / self.sd_k)


def best_temperature(logits_nt: Floats, label_n: NDArray[np.integer]) -> float:
    """Return the temperature at which the logits have the highest likelihood of the labels; 1 without cells.

    Examples
    --------
    ::

        temperature = best_temperature(logits_nt, label_n)
    """
    if len(label_n) == 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        log_p_nt = log_softmax(logits_nt / np.exp(log_temperature), axis=1)
        return float(-log_p_nt[np.arange(len(label_n)), label_n].mean())

    bounds = (-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE)
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def _held_out(label_n: NDArray[np.integer], seed: int) -> NDArray[np.bool_]:
    """Return the mask of the cells that are held out: a fifth of each type, rounded down, so that each type stays."""
    rng = np.random.default_rng(seed)
    mask_n = np.zeros(len(label_n), dtype=bool)
    for label in range(label_n.max() + 1):
        rows = rng.permutation(np.flatnonzero(label_n == label))
        mask_n[rows[: int(HELD_OUT_FRACTION * len(rows))]] = True
    return mask_n


def _regression(scaled_nk: Floats, label_n: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return coefficients, (t, k), and intercepts, (t,), of a multinomial logistic regression with scikit-learn's L2 penalty."""
    from sklearn.linear_model import LogisticRegression

    method = LogisticRegression(max_iter=MAX_ITERATIONS).fit(scaled_nk, label_n)
    if len(method.classes_) == 2:  # scikit-learn keeps one row, the log odds of the second type
        return np.vstack([-method.coef_, method.coef_]) / 2, np.hstack(
            [-method.intercept_, method.intercept_]
        ) / 2
    return method.coef_, method.intercept_


def _centers(scaled_nk: Floats, label_n: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return the mean of each type, (t, k), and the inverse of its covariance, (t, k, k).

    The covariance within all types is itself shrunk as by Ledoit & Wolf (2004).
    """
    from sklearn.covariance import LedoitWolf

    labels = range(label_n.max() + 1)
    center_tk = np.stack([scaled_nk[label_n == label].mean(axis=0) for label in labels])
    within_nk = scaled_nk - center_tk[label_n]
    common_kk = LedoitWolf(assume_centered=True).fit(within_nk).covariance_
    covariances = []
    for label in labels:
        of_type_nk = within_nk[label_n == label]
        total_kk = of_type_nk.T @ of_type_nk + SHRINKAGE_CELLS * common_kk
        covariances.append(total_kk / (len(of_type_nk) + SHRINKAGE_CELLS))
    return center_tk, np.linalg.inv(np.stack(covariances))


def _distances(scaled_nk: Floats, center_tk: Floats, precision_tkk: Floats) -> Floats:
    nearest_n = np.full(len(scaled_nk), np.inf)
    for center_k, precision_kk in zip(center_tk, precision_tkk, strict=True):
        apart_nk = scaled_nk - center_k
        nearest_n = np.minimum(nearest_n, np.einsum("nk,nk->n", apart_nk @ precision_kk, apart_nk))
    return nearest_n


def _distances_of(scaled_nk: Floats, label_n: NDArray[np.integer], held_out_n: NDArray[np.bool_]) -> Floats:
    """Return the distances of held-out cells to centers that were learned without them; of all cells if none are held out."""
    center_tk, precision_tkk = _centers(scaled_nk[~held_out_n], label_n[~held_out_n])
    return _distances(scaled_nk[held_out_n] if held_out_n.any() else scaled_nk, center_tk, precision_tkk)
