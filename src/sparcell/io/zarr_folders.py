"""Zarr folders that hold results: checked before any work, written aside, and replaced as a whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sparcell.errors import InputError
from sparcell.io import files, marks, places


def check_target(path: Path) -> None:
    """Raise InputError unless a zarr folder can be written at `path`; put back a result that a killed process had put aside.

    A folder that is there must be a result of sparcell, since it would be replaced.
    """
    earlier = places.earlier_place(path)
    with places.before_work(path):
        if places.is_there(path) and not path.is_dir():
            raise InputError(f"{path} is a file; expected the name of a zarr folder to write.")
        places.is_there(earlier)  # the longest name that is used
    places.check_parent(path)
    if path.is_dir() and not marks.is_marked_folder(path):
        raise InputError(
            f"{path} is a folder that sparcell did not write as a result, or that changed since; expected a new name, so that nothing "
            "of it is lost: give another name, or move the folder."
        )
    if not earlier.is_dir():
        return
    if path.is_dir():
        places.discard(earlier)
    elif marks.is_marked_folder(earlier):
        with places.before_work(path):
            earlier.replace(path)
    else:
        raise InputError(
            f"{earlier} is not a result of sparcell, and its name is needed while {path} is replaced; move this folder, or give another "
            "name."
        )


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path`; see `check_target` and `files.atomic_folder` for what is raised."""
    check_target(path)
    with files.atomic_folder(path) as temporary:
        yield temporary


@contextmanager
def open_for_writing(folder: Path) -> Iterator[Any]:
    """Yield a group in an empty folder: zarr format 3, or 2 with zarr 2. Chunks of zeros are written, since a lost chunk is damage."""
    import zarr

    is_format_3 = hasattr(zarr, "config")
    with _options(zarr) if is_format_3 else nullcontext(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = zarr.open_group(folder, mode="w", **({"zarr_format": 3} if is_format_3 else {}))
        yield root
        marks.mark(root, folder)
        zarr.consolidate_metadata(root.store)


@contextmanager
def scratch() -> Iterator[Any]:
    """Yield a group in memory, to try what can be written."""
    import zarr

    is_format_3 = hasattr(zarr, "config")
    store: Any = zarr.storage.MemoryStore()
    yield zarr.open_group(store, mode="w", **({"zarr_format": 3} if is_format_3 else {}))


def _options(zarr: Any) -> AbstractContextManager[Any]:
    options: AbstractContextManager[Any] = zarr.config.set({"array.write_empty_chunks": True})
    return options
