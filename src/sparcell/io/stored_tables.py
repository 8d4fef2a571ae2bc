"""Tables of an open .h5ad file or zarr folder: all of their columns, or some."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparcell.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

BY_COLUMNS = "0.2.0"
"""Version of the layout in which each column, with its categories, is an element of its own: that of anndata since 0.8."""
LEGACY_CATEGORIES = "__categories"
"""Group beside the columns, in the layout before that one."""


def is_by_columns(group: Any) -> bool:
    """Return whether each column of a table can be read and copied by itself."""
    return bool(group.attrs.get("encoding-version") == BY_COLUMNS)


def column_names(group: Any) -> list[str]:
    """Return the names of the columns of a table, without that of its index."""
    others = (str(group.attrs.get("_index")), LEGACY_CATEGORIES)
    return [str(key) for key in group if key not in others]


def read_columns(group: Any, keys: Sequence[str]) -> dict[str, Any]:
    """Return some columns of a table by name; a table in an older layout is read as a whole, since its categories lie elsewhere."""
    from anndata.io import read_elem

    if not is_by_columns(group):
        table: Any = read_table(group) if keys else {}
        return {key: table[key].array for key in keys}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {key: read_elem(group[key]) for key in keys}


def read_table(group: Any) -> pd.DataFrame:
    """Return all columns and the index of a table."""
    from anndata.io import read_elem

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table: pd.DataFrame = read_elem(group)
    return table


def require_layout(root: Any, matrix: Any, name: str) -> None:
    """Raise InputError if a file has the layout of anndata before 0.7, whose tables and matrices cannot be read by parts."""
    obs = root.get("obs", None)
    has_old_matrix = hasattr(matrix, "keys") and "encoding-type" not in matrix.attrs
    if has_old_matrix or (obs is not None and not hasattr(obs, "keys")):
        raise InputError(
            f"{name} was written by anndata before 0.7, and cells of such a file cannot be read by blocks; expected a newer layout. Write "
            f"it again, in Python: anndata.read_h5ad({name!r}).write_h5ad('new.h5ad')."
        )
