"""A mark in results that sparcell wrote, which --overwrite may replace. Other programs do not keep the mark when they write.

The mark is an attribute of the root. That of a zarr folder also tells which files the folder held.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

ATTRIBUTE, WRITER = "written_by", "sparcell"
FILES = "sparcell_files"
"""Attribute with the checksum of names and sizes of a folder's files."""
ROOT_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zmetadata")
"""Files directly in a zarr folder that hold the attributes, so that the checksum leaves them out."""
IGNORED = (".DS_Store",)


def mark(root: Any, folder: Path | None = None) -> None:
    """Mark an open .h5ad file or zarr group as written by sparcell; `folder` is that of the group, with all its arrays."""
    root.attrs[ATTRIBUTE] = WRITER
    if folder is not None:
        root.attrs[FILES] = _checksum(folder)


def is_marked_file(path: Path) -> bool:
    """Return whether an .h5ad file is as sparcell wrote it: anndata drops the mark when it writes the file again."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get(ATTRIBUTE, "") == WRITER)
    except OSError:
        return False


def is_marked_folder(path: Path) -> bool:
    """Return whether a folder is a zarr store as sparcell wrote it: no file was added, removed or changed in size."""
    import zarr

    try:
        attributes = dict(zarr.open_group(path, mode="r").attrs)
    except Exception:  # zarr raises many types for what is no zarr store
        return False
    return attributes.get(ATTRIBUTE) == WRITER and attributes.get(FILES) == _checksum(path)


def _checksum(folder: Path) -> str:
    names = sorted(
        f"{path.relative_to(folder).as_posix()} {path.lstat().st_size}"
        for path in folder.rglob("*")
        if path.name not in IGNORED
        and (path.is_symlink() or not path.is_dir())
        and (path.parent != folder or path.name not in ROOT_FILES)
    )
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
