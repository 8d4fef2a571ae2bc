"""Which cells are compared with which: groups of cells, matched by batch, with permuted labels for the null.

Suffixes: n cells, m cells of one comparison, p permutations, s sets of cells (one group in one batch).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.errors import InputError, did_you_mean, format_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger("sparcell")

REST = "rest"
"""Name of the reference that is all other cells."""
MIN_CELLS = 3
"""A group with fewer cells in batches that also hold the other group is not compared."""


@dataclass(frozen=True)
class Comparison:
    """Two groups of cells, compared within batches. Cells of a batch that holds one group only are left out."""

    group: str
    reference: str
    within: str | None
    row_m: NDArray[np.int64]
    """Row numbers of the cells of both groups."""
    in_group_m: NDArray[np.bool_]
    batch_m: NDArray[np.int64]

    def weights(
        self, value_m: NDArray[np.float64], in_group_m: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Return the weight of each cell in the mean of the group and in that of the reference, (2, m).

        A batch has the same weight in both means, in proportion to n1 n2 / (n1 + n2) of its cells (Mantel & Haenszel 1959). Within a set
        of cells (one group in one batch) weights are in proportion to `value_m`. `in_group_m` replaces the labels.
        """
        in_group_m = self.in_group_m if in_group_m is None else in_group_m
        batch_m = np.unique(self.batch_m, return_inverse=True)[1]
        n_group, n_reference = np.bincount(batch_m, in_group_m), np.bincount(batch_m, ~in_group_m)
        batch_weight = n_group * n_reference / (n_group + n_reference)
        set_m = 2 * batch_m + in_group_m
        share_m = value_m / np.bincount(set_m, value_m)[set_m]
        weight_m = share_m * (batch_weight / batch_weight.sum())[batch_m]
        return np.stack([np.where(in_group_m, weight_m, 0), np.where(in_group_m, 0, weight_m)])

    @property
    def set_m(self) -> NDArray[np.int64]:
        """Number of each cell's set of cells: one group in one batch."""
        return np.asarray(np.unique(2 * self.batch_m + self.in_group_m, return_inverse=True)[1])

    def permuted_weights(
        self, value_m: NDArray[np.float64], n_permutations: int, seed: int
    ) -> NDArray[np.float32]:
        """Return the weights with the labels of each batch's cells permuted, (p, 2, m)."""
        generator = np.random.default_rng(seed)
        permuted = np.empty((n_permutations, 2, len(self.row_m)), dtype=np.float32)
        cells_of_batches = [np.flatnonzero(self.batch_m == batch) for batch in np.unique(self.batch_m)]
        for weights in permuted:
            label_m = self.in_group_m.copy()
            for cells in cells_of_batches:
                label_m[cells] = generator.permutation(label_m[cells])
            weights[:] = self.weights(value_m, label_m)
        return permuted


@dataclass(frozen=True)
class Groups:
    """Labels of the cells: what is compared, within what."""

    key: str
    labels: pd.Categorical
    within_key: str | None
    within: pd.Categorical | None
    batch_key: str | None
    batch_n: NDArray[np.int64]
    """Batch number of each cell, all 0 without batches."""

    def comparisons(self, group1: str | None, group2: str | None) -> list[Comparison]:
        """Return the comparisons that are asked for and possible; log those that are not.

        Raises
        ------
        InputError
            If a group does not exist, or no comparison is possible.
        """
        names = [str(name) for name in self.labels.categories]
        for group in (group1, group2):
            if group is not None and group not in names:
                raise InputError(f"obs[{self.key!r}] has no group {group!r}; {did_you_mean(group, names)}")
        if group1 is not None and group1 == group2:
            raise InputError(f"group1 and group2 are both {group1!r}; expected two different groups.")
        found, reasons = [], []
        for pair in self._pairs(names, group1, group2):
            comparison, reason = self._compared(*pair)
            if comparison is None:
                reasons.append(reason)
            else:
                found.append(comparison)
        if not found:
            raise InputError(reasons[0])
        for reason in reasons:
            log.warning("left out: %s", reason)
        return found

    def _pairs(
        self, names: list[str], group1: str | None, group2: str | None
    ) -> Iterator[tuple[str, str | None, str | None]]:
        """Yield group, reference (None: all other cells) and level of `within` of each comparison."""
        levels = [None] if self.within is None else [str(level) for level in self.within.categories]
        groups = [name for name in names if name != group2] if group1 is None else [group1]
        for level in levels:
            for group in groups:
                yield group, group2, level

    def _compared(
        self, group: str, reference: str | None, level: str | None
    ) -> tuple[Comparison | None, str]:
        """Return a comparison, or None and the reason why it is impossible."""
        labels = np.asarray(self.labels.astype(object))
        there_n = ~pd.isna(labels)
        if self.within is not None:
            there_n &= np.asarray(self.within.astype(object)) == level
        group_n = there_n & (labels == group)
        reference_n = there_n & (labels != group if reference is None else labels == reference)
        title = f"{group!r} against {REST if reference is None else repr(reference)}"
        title += "" if level is None else f" within {level!r}"
        if min(group_n.sum(), reference_n.sum()) < MIN_CELLS:
            counts = f"{int(group_n.sum())} and {int(reference_n.sum())} cells"
            return None, f"{title} has {counts}; expected at least {MIN_CELLS} in each group."
        shared = np.intersect1d(self.batch_n[group_n], self.batch_n[reference_n])
        shared_n = np.isin(self.batch_n, shared)
        if min((group_n & shared_n).sum(), (reference_n & shared_n).sum()) < MIN_CELLS:
            return None, (
                f"{title}: no batch of obs[{self.batch_key!r}] holds at least {MIN_CELLS} cells of both groups, so their difference cannot "
                "be told from a difference between batches; expected batches with both. Where each batch is one donor of one group, sum "
                "the counts of each donor and compare donors (pseudobulk). "
                f"{format_settings(batch_key='COLUMN')} names another column."
            )
        row_m = np.flatnonzero((group_n | reference_n) & shared_n)
        left_out = int((group_n | reference_n).sum()) - len(row_m)
        if left_out:
            log.info(
                "%s: %d cells are left out, since their batch holds one of the groups only", title, left_out
            )
        comparison = Comparison(
            group, REST if reference is None else reference, level, row_m, group_n[row_m], self.batch_n[row_m]
        )
        return comparison, ""
