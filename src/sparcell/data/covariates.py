"""What is known of a cell besides its expression: its batch and further covariates, as a network is told them.

Learned from obs at fit and saved with the model. Suffixes: n cells, b batches, c columns of further covariates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from sparcell.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Unseen = Literal["error", "average"]
"""What to do with a category that was not there at fit: refuse it, or take the average cell of the fit in its place."""

MOST_CATEGORIES = 0.5
"""A column with more categories than this share of the cells names cells, not groups of them."""

LEAST_SPREAD = 1e-12
"""Numbers whose standard deviation is a smaller share of their mean differ by rounding only."""


class Known(NamedTuple):
    """Covariates of some cells, as numbers."""

    batch_nb: Floats
    covariates_nc: Floats


@dataclass(frozen=True)
class Category:
    """A column of categories: one-hot, in the order of `names`."""

    key: str
    names: tuple[str, ...]
    shares: tuple[float, ...]
    """Of the cells at fit."""

    @classmethod
    def learn(cls, obs: pd.DataFrame, key: str) -> Category:
        """Read the categories that occur."""
        values = _column(obs, key).astype(str)
        shares = values.value_counts(normalize=True).sort_index()
        if len(shares) > max(2, MOST_CATEGORIES * len(obs)):
            raise InputError(
                f"obs[{key!r}] has {len(shares)} different values in {len(obs)} cells; expected groups of cells, such as donors."
            )
        return cls(key, tuple(map(str, shares.index)), tuple(map(float, shares)))

    def read(self, obs: pd.DataFrame, unseen: Unseen) -> Floats:
        """One-hot rows, (n, number of names)."""
        average = np.asarray(self.shares, dtype=np.float32)
        if self.key not in obs and unseen == "average":
            return np.tile(average, (len(obs), 1))
        codes = pd.Index(self.names).get_indexer(pd.Index(_column(obs, self.key).astype(str)))
        strange = codes < 0
        if strange.any() and unseen == "error":
            found = str(obs[self.key].iloc[int(strange.argmax())])
            raise InputError(
                f"obs[{self.key!r}] holds {found!r} in {int(strange.sum())} cell(s), which the model has not seen; expected one of "
                f"{', '.join(self.names[:8])}{' …' if len(self.names) > 8 else ''}, or unseen='average' to encode such cells as of an "
                "average batch."
            )
        rows = np.eye(len(self.names), dtype=np.float32)[codes]
        rows[strange] = average
        return rows


@dataclass(frozen=True)
class Number:
    """A column of numbers: standardised as at fit."""

    key: str
    mean: float
    sd: float

    @classmethod
    def learn(cls, obs: pd.DataFrame, key: str) -> Number:
        """Read mean and standard deviation."""
        values = _numbers(obs, key)
        mean, sd = float(values.mean()), float(values.std())
        varies = sd > LEAST_SPREAD * abs(mean)
        return cls(key, mean, sd if varies else 1.0)

    def read(self, obs: pd.DataFrame, unseen: Unseen) -> Floats:
        """Standardised values, (n, 1)."""
        if self.key not in obs and unseen == "average":
            return np.zeros((len(obs), 1), dtype=np.float32)
        return np.asarray((_numbers(obs, self.key)[:, None] - self.mean) / self.sd, dtype=np.float32)


@dataclass(frozen=True)
class Covariates:
    """All that a model is told of a cell besides its expression."""

    batch: Category | None = None
    categories: tuple[Category, ...] = ()
    numbers: tuple[Number, ...] = ()

    @classmethod
    def learn(cls, obs: pd.DataFrame, batch_key: str | None, keys: Sequence[str]) -> Covariates:
        """Read the columns: numbers (not true/false) are continuous, all else are categories."""
        numeric = [key for key in keys if _is_number(_column(obs, key))]
        return cls(
            None if batch_key is None else Category.learn(obs, batch_key),
            tuple(Category.learn(obs, key) for key in keys if key not in numeric),
            tuple(Number.learn(obs, key) for key in numeric),
        )

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Covariates:
        """Read back what `dataclasses.asdict` made of it."""

        def category(value: dict[str, Any]) -> Category:
            return Category(str(value["key"]), tuple(value["names"]), tuple(value["shares"]))

        return cls(
            None if told["batch"] is None else category(told["batch"]),
            tuple(category(value) for value in told["categories"]),
            tuple(Number(**value) for value in told["numbers"]),
        )

    @property
    def n_batches(self) -> int:
        """Number of batches; 0 where the model knows none."""
        return 0 if self.batch is None else len(self.batch.names)

    @property
    def n_others(self) -> int:
        """Columns of the further covariates."""
        return sum(len(category.names) for category in self.categories) + len(self.numbers)

    def read(self, obs: pd.DataFrame, unseen: Unseen = "error") -> Known:
        """Read the covariates of cells; raises InputError for missing columns or values and, unless told otherwise, unseen categories."""
        if unseen not in get_args(Unseen):
            raise InputError(f"unseen is {unseen!r}; expected one of {', '.join(get_args(Unseen))}.")
        none = np.zeros((len(obs), 0), dtype=np.float32)
        others = [category.read(obs, unseen) for category in self.categories]
        others += [number.read(obs, unseen) for number in self.numbers]
        batch_nb = none if self.batch is None else self.batch.read(obs, unseen)
        return Known(batch_nb, np.concatenate([none, *others], axis=1))

    def average(self, n_cells: int) -> Known:
        """Covariates of an average cell of the fit, `n_cells` times."""
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
