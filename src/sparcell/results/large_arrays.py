"""Results of many cells that lie in a temporary file, so that they take no memory while they are not read.

Suffixes: n cells, k latents.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_BYTES = 1 << 25
"""Smaller arrays are in memory."""
ROWS_AT_ONCE = 1 << 16
"""Rows that are read at a time."""


class MappedFile(mmap.mmap):
    """A temporary file without a name, which arrays show as if it were memory."""


class RowsOfPieces:
    """An array that is filled with the results of minibatches, one after the other.

    Parameters
    ----------
    n_rows
        Number of rows.
    on_disk
        Whether an array of 32 MiB or more lies in a temporary file, where the system puts such files (TMPDIR).
    """

    def __init__(self, n_rows: int, *, on_disk: bool = False) -> None:
        self.n_rows, self.on_disk, self.n_filled = n_rows, on_disk, 0
        self._memory: NDArray[np.float32] | None = None
        self._file: Any = None

    def add(self, piece_mk: NDArray[np.float32]) -> None:
        """Append the rows of a minibatch, (m, k); raise OSError if the disk is full."""
        if self._memory is None and self._file is None:
            self.n_columns = piece_mk.shape[1]
            if self.on_disk and 4 * self.n_rows * self.n_columns >= MIN_BYTES:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - the mapping keeps the file
            else:
                self._memory = np.empty((self.n_rows, self.n_columns), dtype=np.float32)
        if self._memory is None:
            self._file.write(np.ascontiguousarray(piece_mk, dtype=np.float32).tobytes())
        else:
            self._memory[self.n_filled : self.n_filled + len(piece_mk)] = piece_mk
        self.n_filled += len(piece_mk)

    def finish(self) -> NDArray[np.float32] | None:
        """Return the array once all rows are there, (n, k); None if there was no minibatch."""
        if self._file is None:
            return self._memory
        self._file.flush()
        mapped = MappedFile(self._file.fileno(), 0)
        self._file.close()
        return np.frombuffer(mapped, np.float32).reshape(self.n_rows, self.n_columns)


def row_blocks(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield blocks of rows of arrays of the same length. What was read of a temporary file is then no longer in memory."""
    for start in range(0, len(arrays[0]), ROWS_AT_ONCE):
        yield tuple(array[start : start + ROWS_AT_ONCE] for array in arrays)
        for array in arrays:
            _forget_pages(array)


def _forget_pages(array: NDArray[Any]) -> None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    if isinstance(base, MappedFile) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)  # the mapping is shared, so what was changed is in the file
