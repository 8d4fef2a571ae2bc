"""Batch and further covariates of cells: read from obs as the numbers that a network is given.

The columns are learned at fit and saved with the model. Suffixes: n cells, b batches, c columns of further covariates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from sparcell.errors import InputError, did_you_mean, format_settings
from sparcell.protocols import AVERAGE_BATCH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Unseen = Literal["error", "average"]
"""What to do with a category that was not there at fit: raise an error, or use the average cell of the fit."""

MAX_CATEGORY_FRACTION = 0.5
"""A column with more categories than this fraction of the cells identifies cells, not groups of cells."""

MIN_RELATIVE_SD = 1e-12
"""Numbers whose standard deviation is a smaller fraction of their mean differ by rounding only."""


class CovariateValues(NamedTuple):
    """Covariates of some cells, as numbers."""

    batch_n: NDArray[np.int32]
    """Batch number; AVERAGE_BATCH for an average cell. All 0 if the model has no batches."""
    covariates_nc: Floats
    batch_proportions_b: Floats
    """Fraction of the cells of the fit in each batch; b = 0 if the model has no batches."""
    label_n: NDArray[np.int32] | None = None
    """Label number of each cell, NO_LABEL for a cell without a label; None unless training reads labels."""


@dataclass(frozen=True)
class CategoricalCovariate:
    """A column of categories, numbered in the order of `names`."""

    key: str
    names: tuple[str, ...]
    proportions: tuple[float, ...]
    """Fraction of the cells of the fit in each category."""

    @classmethod
    def fit(cls, obs: pd.DataFrame, key: str) -> CategoricalCovariate:
        """Learn the categories of a column; raise InputError if it has nearly one for each cell."""
        number_n, names = _numbered_names(_column(obs, key))
        sizes = pd.Series(np.bincount(number_n, minlength=len(names)), names).groupby(level=0).sum()
        proportions = (sizes[sizes > 0] / len(obs)).sort_index()
        if len(proportions) > max(2, MAX_CATEGORY_FRACTION * len(obs)):
            raise InputError(
                f"obs[{key!r}] has {len(proportions)} different values in {len(obs)} cells; expected groups of cells, such as donors."
            )
        return cls(key, tuple(map(str, proportions.index)), tuple(map(float, proportions)))

    def numbers(self, obs: pd.DataFrame, unseen: Unseen) -> NDArray[np.int32]:
        """Return the category number of each cell, (n,); AVERAGE_BATCH for unseen categories if `unseen` allows them."""
        if self.key not in obs and unseen == "average":
            return np.full(len(obs), AVERAGE_BATCH, dtype=np.int32)
        value_n, values = _numbered_names(_column(obs, self.key))
        number_n: NDArray[np.int32] = pd.Index(self.names).get_indexer(values).astype(np.int32)[value_n]
        if (number_n < 0).any():  # text, or a model that was fitted to text: 1.0 is still 1
            names = pd.Index([_without_zero_decimals(name) for name in self.names])
            if names.is_unique:
                number_n = names.get_indexer(values.map(_without_zero_decimals)).astype(np.int32)[value_n]
        unknown_n = number_n < 0
        if unknown_n.any() and unseen == "error":
            first = str(values[value_n[int(unknown_n.argmax())]])
            raise InputError(
                f"obs[{self.key!r}] holds {first!r} in {int(unknown_n.sum())} cell(s), which the model has not seen; expected one of "
                f"{', '.join(self.names[:8])}{' …' if len(self.names) > 8 else ''}, or {format_settings(unseen='average')} to encode such "
                "cells as an average batch."
            )
        number_n[unknown_n] = AVERAGE_BATCH
        return number_n

    def one_hot(self, obs: pd.DataFrame, unseen: Unseen) -> Floats:
        """Return one-hot rows, (n, number of names); the proportions of the fit for unseen categories."""
        rows = np.vstack([np.eye(len(self.names)), self.proportions]).astype(np.float32)
        return np.asarray(rows[self.numbers(obs, unseen)])


@dataclass(frozen=True)
class ContinuousCovariate:
    """A column of numbers, standardized with the mean and sd of the fit."""

    key: str
    mean: float
    sd: float

    @classmethod
    def fit(cls, obs: pd.DataFrame, key: str) -> ContinuousCovariate:
        """Learn mean and standard deviation of a column."""
        values = _numbers(obs, key)
        mean, sd = float(values.mean()), float(values.std())
        varies = sd > MIN_RELATIVE_SD * abs(mean)
        return cls(key, mean, sd if varies else 1.0)

    def standardized(self, obs: pd.DataFrame, unseen: Unseen) -> Floats:
        """Return standardized values, (n, 1)."""
        if self.key not in obs and unseen == "average":
            return np.zeros((len(obs), 1), dtype=np.float32)
        return np.asarray((_numbers(obs, self.key)[:, None] - self.mean) / self.sd, dtype=np.float32)


@dataclass(frozen=True)
class Covariates:
    """The columns of obs that a model uses."""

    batch: CategoricalCovariate | None = None
    categorical: tuple[CategoricalCovariate, ...] = ()
    continuous: tuple[ContinuousCovariate, ...] = ()

    @classmethod
    def fit(cls, obs: pd.DataFrame, batch_key: str | None, keys: Sequence[str]) -> Covariates:
        """Learn the columns: numbers (not true/false) are continuous, all other columns are categorical."""
        numeric = [key for key in keys if _is_number(_column(obs, key))]
        return cls(
            None if batch_key is None else CategoricalCovariate.fit(obs, batch_key),
            tuple(CategoricalCovariate.fit(obs, key) for key in keys if key not in numeric),
            tuple(ContinuousCovariate.fit(obs, key) for key in numeric),
        )

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Covariates:
        """Rebuild from what `dataclasses.asdict` returned."""

        def category(value: dict[str, Any]) -> CategoricalCovariate:
            names, proportions = tuple(value["names"]), tuple(map(float, value["proportions"]))
            if len(names) != len(proportions) or not all(isinstance(name, str) for name in names):
                raise ValueError(
                    f"names and proportions of the covariate {value['key']!r} do not fit together"
                )
            return CategoricalCovariate(str(value["key"]), names, proportions)

        def number(value: dict[str, Any]) -> ContinuousCovariate:
            return ContinuousCovariate(**{**value, "mean": float(value["mean"]), "sd": float(value["sd"])})

        return cls(
            None if stored["batch"] is None else category(stored["batch"]),
            tuple(category(value) for value in stored["categorical"]),
            tuple(number(value) for value in stored["continuous"]),
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns of obs, the batch first."""
        columns = (*(() if self.batch is None else (self.batch,)), *self.categorical, *self.continuous)
        return tuple(column.key for column in columns)

    @property
    def n_batches(self) -> int:
        """Number of batches; 0 if the model has none."""
        return 0 if self.batch is None else len(self.batch.names)

    @property
    def n_columns(self) -> int:
        """Number of columns of the further covariates."""
        return sum(len(column.names) for column in self.categorical) + len(self.continuous)

    def read(self, obs: pd.DataFrame, unseen: Unseen = "error") -> CovariateValues:
        """Read the covariates of cells.

        Raises InputError for missing columns or values and, unless `unseen` is average, for unseen categories.
        """
        if unseen not in get_args(Unseen):
            raise InputError(f"unseen is {unseen!r}; expected one of {', '.join(get_args(Unseen))}.")
        columns = [np.zeros((len(obs), 0), dtype=np.float32)]
        columns += [column.one_hot(obs, unseen) for column in self.categorical]
        columns += [column.standardized(obs, unseen) for column in self.continuous]
        if self.batch is None:
            batch_n: NDArray[np.int32] = np.zeros(len(obs), dtype=np.int32)
            proportions: tuple[float, ...] = ()
        else:
            batch_n, proportions = self.batch.numbers(obs, unseen), self.batch.proportions
        return CovariateValues(
            batch_n, np.concatenate(columns, axis=1), np.asarray(proportions, dtype=np.float32)
        )

    def average(self, n_cells: int) -> CovariateValues:
        """Return the covariates of an average cell of the fit, `n_cells` times."""
        return self.read(pd.DataFrame(index=range(n_cells)), "average")


def _column(obs: pd.DataFrame, key: str) -> pd.Series:
    if key not in obs:
        raise InputError(f"obs has no column {key!r}; {did_you_mean(key, list(obs.columns))}")
    missing = obs[key].isna()
    if missing.any():
        raise InputError(
            f"obs[{key!r}] is empty for {int(missing.sum())} cell(s), the first {obs.index[int(missing.argmax())]!r}; expected a value for "
            "each: fill them in, or leave those cells out."
        )
    return obs[key]


def category_names(column: pd.Series) -> pd.Series:
    """Return values as names of categories; 1.0 is "1", since pandas makes floats of whole numbers at the first missing value."""
    return column.astype(str).map(_without_zero_decimals) if _holds_floats(column) else column.astype(str)


def _numbered_names(column: pd.Series) -> tuple[NDArray[np.integer], pd.Index]:
    """Return the number of each cell's value, (n,), and the names of the values: the names of many cells take much memory."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), pd.Index(category_names(pd.Series(column.dtype.categories)))
    number_n, names = pd.factorize(category_names(column))
    return number_n, pd.Index(names)


def _holds_floats(column: pd.Series) -> bool:
    values = column.dtype.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    return bool(pd.api.types.is_float_dtype(values) or any(isinstance(value, float) for value in values))


def _without_zero_decimals(text: str) -> str:
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _numbers(obs: pd.DataFrame, key: str) -> NDArray[np.float64]:
    column = _column(obs, key)
    try:
        values = pd.to_numeric(column).to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"obs[{key!r}] holds what is no number ({error}); expected numbers, as the model was trained with."
        ) from error
    infinite = ~np.isfinite(values)
    if infinite.any():
        raise InputError(
            f"obs[{key!r}] is infinite for {int(infinite.sum())} cell(s), the first {obs.index[int(infinite.argmax())]!r}; expected finite "
            "numbers."
        )
    return values


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
