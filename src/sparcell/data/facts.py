"""One pass over a matrix: what its values are, and what is wrong with it. In memory or on disk, the pass is the same.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sparcell.data.blocks import StoredRows, row_slices

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    from sparcell.data.blocks import Matrix

MatrixKind = Literal["counts", "log-normalized", "scaled", "other"]

MAX_LOGGED = 20.0
"""Largest value of log-normalized expression: log2(1 + 1e6), from log2 counts per million, is 19.9."""
SUM_TOLERANCE = 1e-3
"""Cells whose totals differ by a smaller fraction were scaled to one total."""
ROUNDING, MAX_ROUNDING = 1e-4, 0.1
"""Largest distance of a count from a whole number: relative, and absolute. Float32 counts are off after a logarithm and back."""
MAX_WHOLE_FRACTION = 0.25
"""Logged values are rarely whole. With a larger fraction of whole values above 0, the matrix holds counts, some with decimals."""
MIN_VALUES = 1000
"""Number of values above 0 from which on the most frequent value is not a matter of chance."""


class GrowingArray:
    """Numbers that are added at the end. One array: many small ones between the blocks that are read would keep freed memory in pieces."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._space, self._n = np.empty(1024, dtype), 0

    @property
    def values(self) -> NDArray[Any]:
        """The numbers so far, not to be changed."""
        return self._space[: self._n]

    def extend(self, piece: NDArray[Any]) -> None:
        """Add numbers; those of a wider type make all of them wider."""
        stop = self._n + len(piece)
        dtype = np.promote_types(self._space.dtype, piece.dtype)
        if stop > len(self._space) or dtype != self._space.dtype:
            space = np.empty(max(stop, 2 * len(self._space)), dtype)
            space[: self._n] = self.values
            self._space = space
        self._space[self._n : stop] = piece
        self._n = stop


@dataclass
class MatrixFacts:
    """What one pass over a matrix finds. Positions that are stored twice are added up first."""

    n_genes: int = 0
    n_values: int = 0
    """Values that are not 0."""
    n_whole: int = 0
    """Values that are not 0 and whole numbers, up to rounding."""
    low: float = 0.0
    high: float = 0.0
    """Lowest and highest value; 0 counts unless every position is stored."""
    n_bad: int = 0
    """Values that are NaN or infinite."""
    first_bad: tuple[int, int, float] | None = None
    """Cell, gene and value of the first of them."""
    n_negative: int = 0
    log2_of_counts: bool = True
    """Whether all values are log2(1 + count)."""
    frequency: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(int(MAX_LOGGED) + 1, dtype=np.int64)
    )
    """Number of values that round to 0, 1, … 20; those above 20 are not counted."""
    totals: GrowingArray = field(default_factory=lambda: GrowingArray(np.dtype(np.float32)))
    non_zeros: GrowingArray = field(default_factory=lambda: GrowingArray(np.dtype(np.uint16)))
    """Total and number of values of each cell; 6 bytes a cell."""

    @property
    def total_n(self) -> NDArray[np.float32]:
        """Total of each cell, (n,)."""
        return self.totals.values

    @property
    def non_zero_n(self) -> NDArray[np.unsignedinteger]:
        """Number of values of each cell that are not 0, (n,)."""
        return self.non_zeros.values

    @property
    def one_total(self) -> float | None:
        """The total that all cells with any value have, as after normalization without logarithm; None if totals differ."""
        totals_n = self.total_n[self.total_n > 0]
        # Totals of two cells may agree by chance, those of three do not.
        equal = len(totals_n) >= 3 and float(np.ptp(totals_n)) <= SUM_TOLERANCE * float(totals_n.max())
        return float(np.median(totals_n)) if equal else None

    @property
    def most_frequent_count(self) -> int:
        """The most frequent count above 0; 1 if values are few, above 20 or mostly not 0.

        Among counts that are mostly 0, 1 is the most frequent. Rounded logged values have another.
        """
        n_values = int(self.frequency[1:].sum())
        if self.high > MAX_LOGGED or n_values < MIN_VALUES or 2 * n_values > len(self.total_n) * self.n_genes:
            return 1
        return int(self.frequency[1:].argmax()) + 1

    @property
    def kind(self) -> MatrixKind:
        """The kind of expression values: see `validation.infer_matrix_kind`."""
        if self.n_bad:
            return "other"
        if self.low < 0:
            return "scaled"
        if self.n_whole == self.n_values:
            return "counts"
        if self.high > MAX_LOGGED or self.one_total is not None:
            return "other"
        few_whole = self.n_whole <= MAX_WHOLE_FRACTION * self.n_values
        return "log-normalized" if few_whole or self.log2_of_counts else "other"

    def add(self, x_ng: sparse.csr_matrix, n_cells_before: int) -> None:
        """Add the rows of a block. Repeated positions in `x_ng` must have been added up."""
        value, self.n_genes = x_ng.data, x_ng.shape[1]
        bad = ~np.isfinite(value) if value.dtype.kind == "f" else np.zeros(0, dtype=bool)
        if bad.any():
            at = int(bad.argmax())
            if self.first_bad is None:
                row = int(np.searchsorted(x_ng.indptr, at, side="right")) - 1
                self.first_bad = (n_cells_before + row, int(x_ng.indices[at]), float(value[at]))
            self.n_bad += int(bad.sum())
            value = value[~bad]
        with np.errstate(over="ignore", invalid="ignore"):  # a total may be infinite, as the values are
            self.totals.extend((x_ng @ np.ones(self.n_genes)).astype(np.float32))
        self.non_zeros.extend(_non_zeros(x_ng))
        if not len(value):
            return
        whole = is_whole(value)
        self.n_values += int(np.count_nonzero(value))
        self.n_whole += int(np.count_nonzero(value[whole]))
        self.n_negative += int((value < 0).sum())
        self.low, self.high = min(self.low, float(value.min())), max(self.high, float(value.max()))
        if self.high > MAX_LOGGED:
            self.log2_of_counts = False
        elif not whole.all() and self.log2_of_counts:
            self.log2_of_counts = bool(is_whole(np.exp2(value.astype(np.float64)) - 1).all())
        small = value[(value >= 0) & (value <= MAX_LOGGED)]
        self.frequency += np.bincount(np.rint(small).astype(np.int64), minlength=len(self.frequency))


def facts_of(matrix: Matrix) -> MatrixFacts:
    """Return the facts of a matrix of cells × genes: an array, any scipy sparse format, or a matrix on disk."""
    if isinstance(matrix, StoredRows):
        return matrix.facts
    return scan(row_slices(matrix))


def first_rows(matrix: Matrix) -> sparse.csr_matrix:
    """Return the cells of the first block of a matrix, (at least 1, g)."""
    if isinstance(matrix, StoredRows):
        return matrix.read(0, int(matrix.edges[1]))
    return next(row_slices(matrix))


def scan(blocks: Iterable[sparse.csr_matrix]) -> MatrixFacts:
    """Return the facts of the rows that `blocks` yields in order."""
    facts, n_cells = MatrixFacts(), 0
    for block in blocks:
        facts.add(block, n_cells)
        n_cells += block.shape[0]
    return facts


def noted_blocks(rows: StoredRows) -> Iterator[sparse.csr_matrix]:
    """Yield all blocks of a matrix, which may be changed. Its facts are known at the end, so that they need no pass of their own."""
    facts, n_cells = MatrixFacts(), 0
    for block in rows.checked_blocks():
        facts.add(block, n_cells)
        n_cells += block.shape[0]
        yield block
    rows.__dict__["facts"] = facts  # a cached property


def is_whole(value: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which values are whole numbers, up to rounding. Only 0 itself rounds to 0."""
    if value.dtype.kind in "biu":
        return np.ones(value.shape, dtype=bool)
    rounded = np.rint(value)
    whole: NDArray[np.bool_] = value == rounded
    if not whole.all():
        whole = np.abs(value - rounded) <= np.minimum(ROUNDING * np.abs(rounded), MAX_ROUNDING)
    return whole


def _non_zeros(x_ng: sparse.csr_matrix) -> NDArray[np.unsignedinteger]:
    before = np.concatenate([[0], np.cumsum(x_ng.data != 0)])
    number_n = before[x_ng.indptr[1:]] - before[x_ng.indptr[:-1]]
    return np.asarray(number_n, dtype=np.min_scalar_type(max(1 << 15, x_ng.shape[1])))
