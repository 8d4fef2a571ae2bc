"""A mark in .h5ad files that the command line wrote. It is an attribute of HDF5, which other programs do not keep when they write."""

from __future__ import annotations

from pathlib import Path

ATTRIBUTE, WRITER = "written_by", "sparcell"


def mark(path: Path) -> None:
    """Mark an .h5ad file as written by sparcell; the data do not change."""
    import h5py

    with h5py.File(path, "a") as file:
        file.attrs[ATTRIBUTE] = WRITER


def is_marked(path: Path) -> bool:
    """Return whether an .h5ad file is as sparcell's command line wrote it: anndata drops the mark when it writes the file again."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get(ATTRIBUTE, "") == WRITER)
    except OSError:
        return False
