"""Files of results: .h5ad files and zarr folders. The suffix of the name decides, here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from scipy import sparse

from sparcell.errors import InputError
from sparcell.io import files, h5ad, marks, places, zarr_folders

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.io.stored import StoredCells

CHUNK_VALUES = 1 << 16
"""Number of values in a chunk: one block that training reads (`matrix_files.BLOCK_VALUES`)."""


@dataclass(frozen=True)
class ResultWriter:
    """An open file of results; parts are written as anndata writes them."""

    root: Any
    """The file of h5py, or the group of zarr."""
    options: Mapping[str, Any]
    """What anndata passes on for each array, such as the compression."""
    needs_largest_shape: bool
    """Whether an array can grow only if its largest shape is given when it is made."""

    def put(self, group: Any, key: str, value: Any, **options: Any) -> None:
        """Write a value, or a dict of values, under a key of a group."""
        from anndata.io import write_elem

        if isinstance(value, Mapping):
            write_elem(group, key, {})
            for name, part in value.items():
                self.put(group[key], name, part)
        else:
            write_elem(
                group, key, value, dataset_kwargs={**self.options, **_chunks_of_many(value), **options}
            )

    def put_rows(self, group: Any, key: str, first: Any, n_rows: int) -> Any:
        """Make an array of `n_rows` rows, whose first rows are `first`, and return it to be filled by slices."""
        shape = (n_rows, *first.shape[1:])
        options: dict[str, Any] = {"chunks": _chunk_shape(first)}
        if self.needs_largest_shape:
            options["maxshape"] = (None, *shape[1:])
        self.put(group, key, first, **options)
        array = group[key]
        array.resize(shape)
        return array

    def append_rows(self, key: str, block: sparse.csr_matrix) -> None:
        """Write rows of a sparse matrix below those that are there."""
        from anndata.io import sparse_dataset

        if key in self.root:
            sparse_dataset(self.root[key]).append(block)
            return
        block.indptr = block.indptr.astype(np.int64)  # 32 bits end at 2 billion values
        self.put(self.root, key, block, chunks=(CHUNK_VALUES,))


@dataclass(frozen=True)
class ResultFormat:
    """How files with one suffix are checked, opened and replaced."""

    check: Callable[[Path], None]
    """Raises InputError, before any work, if nothing can be written at a path."""
    replaced: Callable[[Path], AbstractContextManager[Path]]
    """Yields a temporary path, which replaces the path at the end."""
    opened: Callable[[Path], AbstractContextManager[Any]]
    """Opens the temporary path, and marks the result at the end."""
    scratch: Callable[[], AbstractContextManager[Any]]
    """Opens a file in memory, to try what can be written."""
    is_marked: Callable[[Path], bool]
    """Returns whether sparcell wrote what is at a path."""
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_largest_shape: bool = False


@contextmanager
def _marked_file(path: Path) -> Iterator[h5py.File]:
    with h5ad.open_for_writing(path) as file:
        yield file
        marks.mark(file)


FORMATS = {
    ".h5ad": ResultFormat(
        *(places.check_file, files.atomic_write, _marked_file, h5ad.scratch, marks.is_marked_file),
        options={"compression": "gzip"},
        needs_largest_shape=True,
    ),
    ".zarr": ResultFormat(
        zarr_folders.check_target,
        zarr_folders.replaced,
        zarr_folders.open_for_writing,
        zarr_folders.scratch,
        marks.is_marked_folder,
    ),
}
"""Suffix → format. A new format is one line."""


def format_of(path: Path, what: str = "the result") -> ResultFormat:
    """Return the format that the suffix of a path names; `what` the path is called in the message for other suffixes."""
    found = FORMATS.get(path.suffix)
    if found is None:
        raise InputError(f"{what} is {path}; expected a name that ends in {' or '.join(FORMATS)}.")
    return found


@contextmanager
def write_result(path: str | Path) -> Iterator[ResultWriter]:
    """Yield a writer of an AnnData, which replaces `path` if the block succeeds. `path` is marked as a result of sparcell.

    Raises
    ------
    InputError
        For another suffix than .h5ad and .zarr, for a folder that sparcell did not write, and as `atomic_write`.
    OutputError
        If writing fails, for example because the disk is full; an earlier result then stays.

    Examples
    --------
    >>> from sparcell.io.result_files import write_result
    >>> with write_result("result.zarr") as writer:
    ...     writer.put(writer.root, "obs", adata.obs)
    """
    target = Path(path)
    kind = format_of(target)
    with kind.replaced(target) as temporary, h5ad.quiet_settings(), kind.opened(temporary) as root:
        root.attrs.update(h5ad.ENCODING)
        yield ResultWriter(root, kind.options, kind.needs_largest_shape)


def write_anndata(adata: AnnData, path: str | Path) -> None:
    """Write an AnnData that is in memory as a result; see `write_result`. The data is not changed."""
    with write_result(path) as writer:
        for name, part in h5ad.parts(adata):
            writer.put(writer.root, name, part)


def write_cells(cells: AnnData | StoredCells, path: str | Path, *, with_x: bool = False) -> None:
    """Write cells with all that was added to them as a result; `with_x` copies the matrix of cells that stay on disk too."""
    from anndata import AnnData

    if isinstance(cells, AnnData):
        write_anndata(cells, path)
    else:
        cells.write(path, with_x=with_x)


def check_result(adata: AnnData | StoredCells, path: Path) -> None:
    """Raise InputError for the first part of the data that a result called `path` cannot hold; called before any training.

    Of cells that stay on disk, obs is copied as it is stored, so var alone is checked.
    """
    from anndata import AnnData

    tables = adata if isinstance(adata, AnnData) else AnnData(var=adata.var)
    h5ad.check_writable(tables, path.name, format_of(path).scratch)


def check_columns(names: Iterable[str], path: Path) -> None:
    """Raise InputError for the first name that a column of a table cannot have in a result called `path`; called before any work."""
    import pandas as pd
    from anndata.io import write_elem

    with h5ad.quiet_settings(), format_of(path).scratch() as root:
        for number, name in enumerate(names):
            try:
                write_elem(root, str(number), pd.DataFrame({name: [0.0]}, index=["cell"]))
            except ValueError as error:
                raise InputError(
                    f"{name!r} cannot be the name of a column in {path.name} ({error}); expected names without '/' there, or a result that "
                    "ends in .h5ad."
                ) from error


def _chunks_of_many(value: Any) -> dict[str, Any]:
    """Return chunks for large arrays, so that cells are read again by blocks; others as the library chooses."""
    if sparse.issparse(value) and value.format in ("csr", "csc") and value.nnz > CHUNK_VALUES:
        return {"chunks": (CHUNK_VALUES,)}
    if isinstance(value, np.ndarray) and value.ndim and value.size > CHUNK_VALUES:
        return {"chunks": _chunk_shape(value)}
    return {}


def _chunk_shape(values: Any) -> tuple[int, ...]:
    """Return a chunk of whole rows."""
    columns = values.shape[1:]
    return max(1, CHUNK_VALUES // max(1, int(np.prod(columns)))), *(max(1, size) for size in columns)
