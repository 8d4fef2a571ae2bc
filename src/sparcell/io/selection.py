"""Rows from all over one or more files as one set of sparse rows: threads read and decompress blocks at the same time.

Suffixes: n all rows that are asked for, m those of one block.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from sparcell.kernels.row_loops import OUTSIDE, map_rows
from sparcell.protocols import SparseRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.data.blocks import RowUnits
    from sparcell.io.matrix_files import MatrixFile

Item = TypeVar("Item")
Result = TypeVar("Result")
MAX_THREADS = 8
"""Most threads that read blocks. There are as many as torch uses, up to this number."""

Part = tuple["MatrixFile", "NDArray[np.integer]", "RowUnits"]
"""A file, some of its rows in ascending order, and how they become those of a model."""

BlockRead = tuple["MatrixFile", "NDArray[np.integer]", "NDArray[np.int64]", "RowUnits", "NDArray[np.int64]"]
"""What a thread does at a time: the arguments of `_read_block`."""


class Arena:
    """Arrays that the values of all blocks are put into, in the order in which they are read."""

    def __init__(self, max_values: int) -> None:
        self.column = array_from_system(max_values, np.int32)
        self.value = array_from_system(max_values, np.float32)
        self.n_values = 0
        self._lock = Lock()

    def put(self, column: NDArray[np.int32], value: NDArray[np.float32]) -> int:
        """Copy the values of a block; return where they begin."""
        with self._lock:
            at = self.n_values
            self.n_values += len(column)
        self.column[at : at + len(column)], self.value[at : at + len(column)] = column, value
        return at


def array_from_system(n_values: int, dtype: Any) -> NDArray[Any]:
    """Return an array, (n_values,), whose memory goes back to the system once it is not used.

    malloc keeps what was freed of such arrays, and the next ones do not fit there: encoding took 110 MB more for 750,000 more cells.
    """
    if not (n_values and hasattr(mmap, "MAP_ANONYMOUS")):
        return np.empty(n_values, dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, n_values * np.dtype(dtype).itemsize, flags=flags)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # kernels without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype)


def select_rows(parts: Sequence[Part]) -> SparseRows:
    """Return the rows of all parts, one part after the other; columns sorted within a row, each once, no zeros.

    Raises
    ------
    InputError
        See `MatrixFile.stored_values`. The first error of a thread ends the others.
    """
    n_rows = np.cumsum([0, *(len(row_n) for _, row_n, _ in parts)])
    bound_n = np.empty((n_rows[-1], 2), np.int64)
    arena = Arena(sum(file.n_values_of(row_n) for file, row_n, _ in parts))
    blocks: list[BlockRead] = []
    for (file, row_n, units), begin in zip(parts, n_rows[:-1], strict=True):
        position_g = file.position(units)
        block_n = np.searchsorted(file.edges, row_n, side="right")
        changes = np.flatnonzero(np.diff(block_n, prepend=-1, append=-1))
        blocks += [
            (file, row_n[first:last], bound_n[begin + first : begin + last], units, position_g)
            for first, last in pairwise(changes.tolist())
        ]
    for _ in in_threads(lambda block: _read_block(arena, *block), blocks):
        pass
    n_genes = parts[0][2].n_genes
    column, value = arena.column[: arena.n_values], arena.value[: arena.n_values]
    return SparseRows(bound_n[:, 0], bound_n[:, 1], column, value, n_genes)


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield what `function` returns for each item, in order. Several threads work ahead, by two items each.

    The threads end with the iteration: a process that forks later has none that are missing in the child.
    """
    n_threads = min(torch.get_num_threads(), MAX_THREADS)
    if n_threads < 2 or len(items) < 2:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="sparcell-blocks") as threads:
        try:
            for item in items:
                pending.append(threads.submit(function, item))
                if len(pending) > 2 * n_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)


def _read_block(
    arena: Arena,
    file: MatrixFile,
    row_m: NDArray[np.integer],
    bound_out_m: NDArray[np.int64],
    units: RowUnits,
    position_g: NDArray[np.int64],
) -> None:
    """Read rows of one block, and put them into the arena and their bounds into `bound_out_m`, (m, 2)."""
    start, stop = int(row_m[0]), int(row_m[-1]) + 1
    column, value, indptr = file.stored_values(start, stop)
    bound_m = np.stack([indptr[row_m - start], indptr[row_m - start + 1]], axis=1)
    kept_column, kept_value = np.empty(len(column), np.int32), np.empty(len(column), np.float32)
    if column.dtype not in (np.int32, np.int64):
        column = column.astype(np.int64)
    if value.dtype != np.float32:
        value = value.astype(np.float32)
    change = (units.rounded, units.target_sum, units.n_genes)
    n_kept = map_rows(column, value, bound_m, position_g, change, kept_column, kept_value, bound_out_m)
    if n_kept == OUTSIDE:
        raise file.outside(start, stop)
    kept_column, kept_value = kept_column[:n_kept], kept_value[:n_kept]
    if units.target_sum:
        np.log1p(kept_value, out=kept_value)
    bound_out_m += arena.put(kept_column, kept_value)
