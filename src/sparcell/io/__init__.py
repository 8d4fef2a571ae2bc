"""Reading count matrices and cell labels from the usual formats, and writing files atomically."""

from __future__ import annotations

from sparcell.io.files import atomic_write, check_output_folder, write_text
from sparcell.io.h5ad import check_writable, write_h5ad
from sparcell.io.labels import align_labels, labels_from_obs, read_labels
from sparcell.io.readers import read
from sparcell.io.stored import StoredCells, open_cells
from sparcell.io.tables import Orientation

__all__ = [
    "Orientation",
    "StoredCells",
    "align_labels",
    "atomic_write",
    "check_output_folder",
    "check_writable",
    "labels_from_obs",
    "open_cells",
    "read",
    "read_labels",
    "write_h5ad",
    "write_text",
]


def __dir__() -> list[str]:
    return list(__all__)
