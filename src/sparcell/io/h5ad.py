"""Writing .h5ad files: what cannot be written is named before any work, and a full disk leaves neither half a file nor a crash."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.errors import InputError
from sparcell.io.files import atomic_write

if TYPE_CHECKING:
    from anndata import AnnData

ENCODING = {"encoding-type": "anndata", "encoding-version": "0.1.0"}
"""Attributes of the root of an AnnData, by which anndata knows it."""
SLOTS = ("obsm", "varm", "obsp", "varp", "layers")
"""Slots whose arrays have one name each."""
_NOTHING = np.zeros(0)
"""Stands for a value that can be written."""
PAGE = 1 << 12
LARGEST_KEPT = 1 << 16
"""Bytes of the largest write that is kept in memory after the disk is full: HDF5's own tables are smaller, blocks of data may be larger."""


def write_h5ad(adata: AnnData, path: str | Path) -> None:
    """Write an .h5ad file atomically, compressed with gzip. The data is not changed.

    Columns of text are written as categories where values repeat, as anndata does.

    Parameters
    ----------
    adata
        The data to write.
    path
        Path of the file. An existing file is replaced once the new one is complete.

    Raises
    ------
    InputError
        If a part of the data cannot be written, named by its key, or if the path cannot be written: see `atomic_write`.
    OutputError
        If writing fails, for example because the disk is full.

    Examples
    --------
    >>> sp.io.write_h5ad(adata, "pbmc3k.h5ad")
    """
    from anndata.io import write_elem

    target = Path(path)
    with atomic_write(target) as temporary, quiet_settings():
        check_writable(adata, target.name)
        with open_for_writing(temporary) as file:
            file.attrs.update(ENCODING)
            for name, part in parts(adata):
                write_elem(file, name, part, dataset_kwargs={"compression": "gzip"})


def scratch() -> h5py.File:
    """Return a file in memory, to try what can be written."""
    return h5py.File("dry-run", "w", driver="core", backing_store=False)


def check_writable(
    adata: AnnData,
    name: str = "an .h5ad file",
    scratch: Callable[[], AbstractContextManager[Any]] = scratch,
) -> None:
    """Raise InputError for the first part of the data that an .h5ad file cannot hold; called before any training.

    All but plain numbers is written into a file in memory.

    Parameters
    ----------
    adata
        The data that is to be written later.
    name
        Name of the file, for the message.
    scratch
        Opens a file of the format in memory.

    Raises
    ------
    InputError
        If a part cannot be written. The message names its key and what to type.

    Examples
    --------
    >>> sp.io.check_writable(adata)
    """
    from anndata.io import write_elem

    with quiet_settings(), scratch() as file:
        for number, (where, key, value) in enumerate(_elements(adata)):
            reason = _fault_of_key(where, key) or _fault_of_slash(file, key)
            if not reason and not _is_plain(value):
                array = _array(value) if isinstance(value, pd.Series) else value
                try:
                    write_elem(file.create_group(str(number)), str(key), array)
                except Exception as error:  # anndata and h5py raise many types
                    reason = _reason(value, error)
            if reason:
                raise InputError(
                    f"{where}[{key!r}] cannot be written to {name}: {reason}. {_remedy(where, key, value)}"
                )


def _elements(adata: AnnData) -> Iterator[tuple[str, Any, Any]]:
    """Yield slot, key and value of all named parts, as they are written."""
    frames = [("obs", adata.obs), ("var", adata.var)]
    if adata.raw is not None:
        frames.append(("raw.var", adata.raw.var))
        yield from (("raw.varm", key, value) for key, value in adata.raw.varm.items())
    for where, frame in frames:
        _check_names(where, frame)
        written = writable_frame(adata, frame)
        yield from ((where, key, written[key]) for key in written.columns)
    for slot in SLOTS:
        yield from ((slot, key, value) for key, value in getattr(adata, slot).items())
    yield from _nested("uns", adata.uns)


def _nested(where: str, mapping: Mapping[Any, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the values of a dictionary and of those in it."""
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield where, key, _NOTHING
            yield from _nested(f"{where}[{key!r}]", value)
        else:
            yield where, key, value


def _check_names(where: str, frame: pd.DataFrame) -> None:
    """Raise InputError for names of columns that occur twice, or once as the name of an index with other values."""
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise InputError(
            f"{where} has {int((frame.columns == repeated[0]).sum())} columns called {repeated[0]!r}; expected names that occur "
            f"once: rename them in adata.{where}.columns."
        )
    name = frame.index.name
    if name is None or name not in frame.columns:
        return
    if not (frame[name].astype(str).to_numpy() == frame.index.astype(str).to_numpy()).all():
        raise InputError(
            f"the index of {where} is called {name!r}, as is a column with other values, and an .h5ad file holds only one of "
            f"them: type adata.{where}.index.name = None."
        )


def _fault_of_key(where: str, key: Any) -> str:
    if not isinstance(key, str):
        return f"its name is of the type {type(key).__name__}; expected text"
    if key in ("", ".") or (key == "_index" and where in ("obs", "var", "raw.var")):
        return "an .h5ad file cannot hold this name"
    if "/" in key and where in (*SLOTS, "raw.varm"):
        return "'/' in a name separates groups of the file, so the file could not be read again"
    return ""


def _fault_of_slash(file: Any, key: str) -> str:
    """Return why a format cannot hold a name with a slash, which .h5ad files can outside of slots of arrays."""
    from anndata.io import write_elem

    if "/" in key:
        try:
            write_elem(file.create_group(f"slash-{len(file)}"), key, np.zeros(1))
        except ValueError:
            return "'/' in a name separates folders"
    return ""


def _is_plain(value: Any) -> bool:
    """Return whether a value is of numbers alone, which can always be written."""
    return sparse.issparse(value) or (
        isinstance(value, np.ndarray | pd.Series) and value.dtype.kind in "biuf" and value.dtype.names is None
    )


def _array(column: pd.Series[Any]) -> Any:
    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array


def _reason(value: Any, error: Exception) -> str:
    held = (
        value.cat.categories.to_series() if isinstance(value, pd.Series) and hasattr(value, "cat") else value
    )
    if isinstance(held, np.ndarray | pd.Series) and held.dtype == object:
        kinds = sorted({type(one).__name__ for one in np.ravel(held)})
        return f"it holds values of the type{'s' * (len(kinds) > 1)} {', '.join(kinds[:4])}; expected numbers or text alone"
    if isinstance(value, pd.Series):
        return f"the format has no values of the type {value.dtype}"
    if "No method registered" in str(error):
        return f"the format has no values of the type {type(value).__name__}"
    if isinstance(value, pd.DataFrame):
        return "a column of the table holds values of several types; expected numbers or text alone in each"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _remedy(where: str, key: Any, value: Any) -> str:
    if isinstance(value, pd.Series) and isinstance(key, str) and key not in ("", ".", "_index"):
        frame = f"adata.{where}"
        return f"Type {frame}[{key!r}] = {frame}[{key!r}].astype(str), or del {frame}[{key!r}]."
    if where.startswith("raw"):
        return "Type adata.raw = None."
    if where in ("obs", "var"):
        return f"Type adata.{where} = adata.{where}.drop(columns={key!r})."
    if isinstance(key, str) and "/" in key and where in SLOTS:
        return f"Type adata.{where}[{key.replace('/', '_')!r}] = adata.{where}.pop({key!r})."
    return f"Type del adata.{where}[{key!r}]."


def parts(adata: AnnData) -> Iterator[tuple[str, Any]]:
    """Yield names and values of the parts of the file."""
    if adata.X is not None:
        yield "X", adata.X
    yield "obs", writable_frame(adata, adata.obs)
    yield "var", writable_frame(adata, adata.var)
    yield from ((slot, dict(getattr(adata, slot))) for slot in SLOTS)
    yield "uns", dict(adata.uns)
    if adata.raw is not None:
        yield "raw", adata.raw


def writable_frame(adata: AnnData, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose columns and index of text are of types that every version of anndata reads."""
    frame = frame.copy(deep=False)
    adata.strings_to_categoricals(frame)
    for name in frame.columns:
        if isinstance(frame[name].dtype, pd.StringDtype) and not frame[name].hasnans:
            frame[name] = frame[name].astype(object)
    if isinstance(frame.index.dtype, pd.StringDtype):
        frame.index = frame.index.astype(object)
    return frame


@contextmanager
def quiet_settings() -> Iterator[None]:
    """Hide anndata's warnings, let it write text with missing values (pandas' nullable strings), and choose no shards for zarr."""
    from anndata import settings

    options = {"allow_write_nullable_strings": True, "auto_shard_zarr_v3": False}
    known = {name: value for name, value in options.items() if hasattr(settings, name)}
    chosen: AbstractContextManager[Any] = settings.override(**known) if known else nullcontext()
    with warnings.catch_warnings(), chosen:
        warnings.simplefilter("ignore")
        yield


@contextmanager
def open_for_writing(path: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file; raise the first OSError of the disk after HDF5 has closed it.

    HDF5 keeps what it could not write, tries again when the process ends, and crashes. Therefore it never learns of a failure.
    """
    disk = _Disk(path)
    try:
        with h5py.File(disk, "w") as file:
            yield file
    finally:
        disk.close()
    if disk.error is not None:
        raise disk.error


class _Disk(RawIOBase):
    """A file that goes on in memory when the disk is full: small writes, which HDF5 may read again, are kept, others are dropped."""

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._file = path.open("xb+", buffering=0)
        self._at, self._end = 0, 0
        self._pages: dict[int, bytearray] = {}

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data: Any, /) -> int:
        content = memoryview(data).cast("B")
        if self.error is None:
            try:
                self._write(content)
            except OSError as error:
                self.error = error
        if self.error is not None and len(content) <= LARGEST_KEPT:
            for page, start, part in _pieces(self._at, content):
                if page not in self._pages:
                    self._pages[page] = bytearray(self._read(page * PAGE, PAGE).ljust(PAGE, b"\0"))
                self._pages[page][start : start + len(part)] = part
        self._at += len(content)
        self._end = max(self._end, self._at)
        return len(content)

    def _write(self, content: memoryview) -> None:
        self._file.seek(self._at)
        while len(content):
            content = content[self._file.write(content) :]

    def _read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(size) or b""

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        content = bytearray(self._read(self._at, len(view)).ljust(len(view), b"\0"))
        done = 0
        for page, start, part in _pieces(self._at, memoryview(content)):
            if page in self._pages:
                content[done : done + len(part)] = self._pages[page][start : start + len(part)]
            done += len(part)
        view[:] = content
        self._at += len(view)
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        self._end = self._at if size is None else size
        if self.error is None:
            try:
                self._file.truncate(self._end)
            except OSError as error:
                self.error = error
        return self._end

    def close(self) -> None:
        if not self.closed:
            try:
                self._file.close()
            except OSError as error:
                self.error = self.error or error
        super().close()


def _pieces(at: int, content: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield number of the page, place in the page and bytes of each part of a write that lies in one page."""
    while len(content):
        page, start = divmod(at, PAGE)
        part = content[: PAGE - start]
        yield page, start, part
        content, at = content[len(part) :], at + len(part)
