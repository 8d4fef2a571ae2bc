"""What holds for data of any format once it is read: sound matrices, one name for each cell and gene, genes only, writable columns.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.data.blocks import BLOCK_VALUES
from sparcell.data.genes import describe_other_features, gene_mask, named_by
from sparcell.data.validation import check_matrix, check_structure, infer_matrix_kind
from sparcell.errors import InputError
from sparcell.io.tables import MAX_FLOAT32

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.data.blocks import Matrix

log = logging.getLogger("sparcell")

RESERVED = "_index"
"""Column that anndata cannot write, because the names are stored under it. Converters from Seurat leave such columns behind."""


def check_sound(adata: AnnData, path: Path) -> None:
    """Raise InputError for damaged index arrays in any matrix, and for repeated entries: called before a library slices a matrix."""
    for where, matrix in _sparse_matrices(adata):
        check_structure(matrix, f"{where} of {path}")
        if where == "X" or where == "raw" or where.startswith("layers"):
            _check_no_repeats(matrix, f"{where} of {path}")


def apply_rules(adata: AnnData, path: Path, gene_symbols: str | None = None) -> AnnData:
    """Return the data with X checked and in canonical form, genes only, and unique names.

    Parameters
    ----------
    adata
        What a reader returned. May be changed.
    path
        The file, for messages.
    gene_symbols
        Column of var with the names of genes; None for var_names.

    Raises
    ------
    InputError
        If there is no matrix, X holds text, NaN or infinite values, names are empty, or there is no such column.
    """
    if adata.X is not None:
        check_matrix(adata.X, f"X of {path}", gene_names=adata.var_names, cell_names=adata.obs_names)
    elif not len(adata.layers) and adata.raw is None:
        raise InputError(
            f"{path} has no matrix: X is empty, and there are no layers; expected counts in one of them."
        )
    _check_names(adata.obs_names, "cell", path)
    _check_names(adata.var_names, "gene", path)
    mask_g = gene_mask(adata.var)
    if not mask_g.all():
        log.info("%s: %s", path, describe_other_features(adata.var))
        adata = adata[:, mask_g].copy()
    if gene_symbols is not None:
        _use_symbols(adata, gene_symbols)
    if adata.X is not None:
        adata.X = _to_canonical(adata.X, path)
    _make_names_unique(adata, path)
    for frame in (adata.obs, adata.var, *([] if adata.raw is None else [adata.raw.var])):
        _make_writable(frame)
    return adata


def name_uniquely(adata: AnnData, where: str, gene_symbols: str | None = None) -> None:
    """Give data in memory one name for each cell and gene, in place, as data that are read have them; `where` is for the warning."""
    if gene_symbols is not None:
        _use_symbols(adata, gene_symbols)
    _make_names_unique(adata, where)


def _sparse_matrices(adata: AnnData) -> Iterator[tuple[str, Matrix]]:
    """Yield each sparse matrix of the data with its name."""
    if sparse.issparse(adata.X):
        yield "X", adata.X
    if adata.raw is not None and sparse.issparse(adata.raw.X):
        yield "raw", adata.raw.X
    for slot in ("layers", "obsm", "varm", "obsp", "varp"):
        for key, values in getattr(adata, slot).items():
            if sparse.issparse(values):
                yield f"{slot}[{key!r}]", values


def _check_no_repeats(matrix: Matrix, where: str) -> None:
    """Raise InputError if a cell holds two values of one gene, as in a file that lost a part of its indices."""
    if matrix.format not in ("csr", "csc") or matrix.has_canonical_format:
        return
    rows = matrix if matrix.format == "csr" else matrix.T
    step = max(1, int(BLOCK_VALUES * rows.shape[0] / max(1, rows.nnz)))
    for start in range(0, rows.shape[0], step):
        block = rows[start : start + step]
        n_values = block.nnz
        block.sum_duplicates()
        if block.nnz < n_values:
            raise InputError(
                f"{where} is damaged: it holds more than one value for the same cell and gene ({n_values - block.nnz} times within "
                f"{block.shape[0]} rows); expected one value each: copy or export the file again."
            )


def _check_names(names: pd.Index, kind: str, path: Path) -> None:
    """Raise InputError for empty names, as a file has them that lost a part of its names."""
    is_empty = names.isna() | (names.astype(str).str.strip() == "")
    if is_empty.any():
        raise InputError(
            f"{path}: {int(is_empty.sum())} of {len(names)} {kind}s have no name, the first is number {int(is_empty.argmax()) + 1}; "
            f"expected a name for each {kind}: name them, or copy or export the file again if it is damaged."
        )


def _use_symbols(adata: AnnData, column: str) -> None:
    """Rename the genes of var, and those of raw: by the same column, or else as the same genes of var."""
    former = adata.var_names.astype(str)
    adata.var = named_by(adata.var, column)
    if adata.raw is None:
        return
    if column in adata.raw.var:
        new = named_by(adata.raw.var, column).index
    else:
        names = dict(zip(former, adata.var_names, strict=True))
        new = pd.Index([names.get(name, name) for name in adata.raw.var_names.astype(str)], dtype=object)
    if "gene_ids" not in adata.raw.var:
        adata.raw.var["gene_ids"] = adata.raw.var_names.to_numpy()
    adata.raw.var.index = new


def _make_names_unique(adata: AnnData, path: Path | str) -> None:
    """Append numbers to repeated names of cells and genes, also to those of the genes of raw."""
    from anndata.utils import make_index_unique

    for kind, names in (("cell", adata.obs_names), ("gene", adata.var_names)):
        repeated = names[names.duplicated()]
        if len(repeated):
            message = f"{path}: {len(repeated)} repeated {kind} name(s) (first {str(repeated[0])!r}) get a number appended."
            warnings.warn(message, UserWarning, stacklevel=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.obs_names, adata.var_names = adata.obs_names.astype(str), adata.var_names.astype(str)
        adata.obs_names_make_unique()
        adata.var_names_make_unique()
        if adata.raw is not None:
            adata.raw.var.index = make_index_unique(adata.raw.var.index.astype(str))


def _make_writable(frame: pd.DataFrame) -> None:
    """Drop what anndata would refuse to write: a column `_index`, and a name of the index that is also the name of another column."""
    if RESERVED in frame:
        repeats_names = (frame[RESERVED].astype(str).to_numpy() == frame.index.astype(str).to_numpy()).all()
        if repeats_names:
            frame.drop(columns=RESERVED, inplace=True)
        else:
            frame.rename(columns={RESERVED: "former_index"}, inplace=True)
            log.info("the column %r, which cannot be written again, is called 'former_index'", RESERVED)
    if frame.index.name in frame:  # names made unique differ from such a column
        frame.index.name = None


def _to_canonical(x_ng: Matrix, path: Path) -> Matrix:
    """Return the matrix as CSR float32; dense float32 if most values are not 0 and the values are not counts."""
    is_wide = x_ng.dtype.kind == "f" and x_ng.dtype.itemsize > 4
    if is_wide and (largest := max(abs(float(x_ng.min())), abs(float(x_ng.max())))) > MAX_FLOAT32:
        raise InputError(
            f"X of {path} holds a value of {largest:g}; expected values that fit float32 (< 3e38)."
        )
    if sparse.issparse(x_ng):
        return sparse.csr_matrix(x_ng, dtype=np.float32)
    dense = np.asarray(x_ng)
    few_zeros = np.count_nonzero(dense) > dense.size / 2
    if few_zeros and infer_matrix_kind(dense) != "counts":
        return np.ascontiguousarray(dense, dtype=np.float32)
    return sparse.csr_matrix(dense, dtype=np.float32)
