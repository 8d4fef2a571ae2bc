"""Compression filters of HDF5 that h5py has not itself, such as Zstandard and Blosc: the package hdf5plugin brings them."""

from __future__ import annotations

import importlib.util
from typing import Any

from sparcell.errors import InputError

PARTS = ("X", "layers", "raw", "obs", "var")
"""Groups of an .h5ad file that are read."""


def load_filters() -> None:
    """Make the filters of hdf5plugin known to h5py, if it is installed."""
    if importlib.util.find_spec("hdf5plugin") is not None:
        importlib.import_module("hdf5plugin")


def require_filters(root: Any, name: str) -> None:
    """Raise InputError if a part of an open .h5ad file is compressed with a filter that is not there.

    Parameters
    ----------
    root
        The open file.
    name
        Name of the file for the message.
    """
    import h5py

    def check(path: str, stored: Any) -> None:
        if not isinstance(stored, h5py.Dataset):
            return
        settings = stored.id.get_create_plist()
        for number in range(settings.get_nfilters()):
            code, _, _, label = settings.get_filter(number)
            if not h5py.h5z.filter_avail(code):
                raise InputError(
                    f"{path} in {name} is compressed with HDF5 filter {code} ({label.decode() or 'no name'}), which is not installed; "
                    "type: pip install hdf5plugin. Or write the file again with compression='gzip'."
                )

    for part in PARTS:
        if part in root:
            if isinstance(root[part], h5py.Dataset):
                check(part, root[part])
            else:
                root[part].visititems(lambda path, stored, part=part: check(f"{part}/{path}", stored))
