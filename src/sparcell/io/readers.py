"""Reading a matrix of any usual format into an AnnData."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from scipy import sparse

from sparcell.errors import InputError
from sparcell.io import matrix_market
from sparcell.io.files import existing_path
from sparcell.io.hdf5_filters import load_filters, require_filters
from sparcell.io.places import ZARR_FILES
from sparcell.io.rules import apply_rules, check_sound
from sparcell.io.tables import Orientation, genes_in_rows, read_numbers

if TYPE_CHECKING:
    import h5py
    from anndata import AnnData


log = logging.getLogger("sparcell")

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".tab")
FORMATS = ".h5ad, a .zarr folder, 10x .h5, a 10x folder with matrix.mtx, or a table: .csv, .tsv, .txt, each also .gz"
H5_BLOCK = 1 << 24
"""Indices of a 10x file that are checked at a time."""


def read(path: str | Path, orientation: Orientation = "auto", *, gene_symbols: str | None = None) -> AnnData:
    """Return a matrix of cells × genes read from a file or folder.

    Parameters
    ----------
    path
        An .h5ad file, a zarr folder, a 10x .h5 file, a folder with matrix.mtx, genes.tsv or features.tsv, and barcodes.tsv (each also
        .gz; names of GEO, STARsolo and kb are known) or its .mtx file, or a table (.csv, .tsv, .txt, each also .gz) with a header and a
        first column of names. Features that are not gene expression (var["feature_types"], as of antibodies) are left out.
    orientation
        "cells-by-genes", "genes-by-cells" (as Seurat exports tables), or "auto". With "auto", barcodes and gene names
        decide for a table, and the decision is logged; other files are read as they are. "genes-by-cells" transposes
        .h5ad and zarr. 10x files state which side is genes, so the setting does not matter.
    gene_symbols
        Column of var that holds the gene names to use, for files whose var_names are identifiers such as Ensembl IDs. The former
        names are then in var["gene_ids"], unless the file has such a column. A gene without a symbol keeps its name. Default: var_names.

    Returns
    -------
    AnnData with X as CSR float32 (dense float32 for values that are mostly not 0 and not counts, such as scaled
    data). X is None if the file has only layers or raw. obs, var and all else are as in the file. Cell and gene names
    are unique strings: repeated names get "-1", "-2", … with a `UserWarning`. Negative values are read; each step
    checks the values that it needs.

    Raises
    ------
    InputError
        If the path does not exist, has an unknown format, is damaged or holds no matrix, or if X holds text, NaN or
        infinite values.

    Examples
    --------
    >>> adata = sp.io.read("filtered_feature_bc_matrix.h5")
    >>> adata = sp.io.read("counts.csv.gz", orientation="genes-by-cells")
    >>> adata = sp.io.read("cellxgene.h5ad", gene_symbols="feature_name")
    """
    if orientation not in get_args(Orientation):
        raise InputError(
            f"orientation is {orientation!r}; expected one of {', '.join(get_args(Orientation))}."
        )
    where = existing_path(path, "a matrix of counts")
    reader, may_be_transposed = _reader(where)
    if reader is None:
        adata = _read_text(where, orientation)
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # old formats and repeated names; apply_rules warns of the latter
                adata = reader(where)
                check_sound(adata, where)
        except InputError:
            raise
        except Exception as error:  # anndata, zarr, h5py and scipy raise many types for damaged files
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{where} cannot be read: the content is damaged or does not fit the name "
                f"({type(error).__name__}: {reason[:200]}). Expected {FORMATS}."
            ) from error
        if may_be_transposed and orientation == "genes-by-cells":
            adata = adata.T.copy()
    return apply_rules(adata, where, gene_symbols)


def _reader(path: Path) -> tuple[Callable[[Path], AnnData] | None, bool]:
    """Return the function that reads the format (None for a text table), and whether genes may be in rows."""
    name = path.name.lower().removesuffix(".gz")
    if path.is_dir():
        if any((path / file).exists() for file in ZARR_FILES):
            return _read_zarr, True
        if name.endswith(".zarr"):
            raise InputError(
                f"{path} is a folder without zarr's files ({', '.join(ZARR_FILES[:2])}); expected {FORMATS}."
            )
        return matrix_market.read_folder, False
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder; expected {FORMATS}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file; expected {FORMATS}.")
    if name.endswith(TEXT_SUFFIXES):
        return None, True
    if name.endswith(".mtx"):
        return matrix_market.read_folder, False
    if path.name.lower().endswith(".h5ad"):
        return _read_h5ad, True
    if path.name.lower().endswith((".h5", ".hdf5")):
        return _read_h5, False
    remedy = f"expected {FORMATS}."
    if name.endswith((".h5ad", ".h5", ".zarr")):
        remedy = f"expected an unpacked file: gunzip {path.name}."
    if name.endswith((".rds", ".rda", ".rdata")):
        remedy = "expected a matrix; in R type: write.csv(as.matrix(counts), 'counts.csv'), then read that."
    raise InputError(f"The format of {path.name} is unknown; {remedy}")


def _read_h5ad(path: Path) -> AnnData:
    import h5py
    from anndata import read_h5ad

    load_filters()
    with h5py.File(path, "r") as file:
        require_filters(file, path.name)
    return read_h5ad(path)


def _read_zarr(path: Path) -> AnnData:
    from anndata import read_zarr

    _check_zarr_chunks(path)
    return read_zarr(path)


def _check_zarr_chunks(path: Path) -> None:
    """Raise InputError if a sparse matrix lost a chunk: zarr reads zeros in its place, so that values would go to the first gene."""
    import zarr

    store = zarr.open_group(path, mode="r")
    layers = [f"layers/{name}" for name in store["layers"]] if "layers" in store else []
    for where in ("X", "raw/X", *layers):
        parts = [store[f"{where}/{part}"] for part in ("data", "indices") if f"{where}/{part}" in store]
        lost = sum(part.nchunks - part.nchunks_initialized for part in parts if part.size)
        if lost > 0:
            raise InputError(
                f"{path} is damaged: {lost} chunk(s) of {where} are missing; copy or export the folder again."
            )


def _read_h5(path: Path) -> AnnData:
    """Return the content of a 10x file of either layout, or of an AnnData file that is called .h5."""
    import h5py

    with h5py.File(path, "r") as file:
        groups = {
            str(name): set(file[name]) if isinstance(file[name], h5py.Group) else set() for name in file
        }
        for name, members in groups.items():
            if {"barcodes", "indptr", "indices", "data", "shape"} <= members:
                _check_10x_matrix(file[name], path)
    if "X" in groups and "obs" in groups:
        return _read_h5ad(path)
    legacy = [name for name, members in groups.items() if {"barcodes", "indptr", "data"} <= members]
    if "matrix" not in groups and not legacy:
        raise InputError(
            f"{path} holds {', '.join(groups) or 'nothing'}; expected a 10x file with the group matrix: give "
            "filtered_feature_bc_matrix.h5."
        )
    if "matrix" not in groups and len(legacy) > 1:
        raise InputError(
            f"{path} holds {len(legacy)} genomes ({', '.join(legacy)}); expected one: save one of them as .h5ad with "
            f"scanpy.read_10x_h5(path, genome={legacy[0]!r})."
        )
    import scanpy as sc

    return sc.read_10x_h5(path)


def _check_10x_matrix(group: h5py.Group, path: Path) -> None:
    """Raise InputError if indices point outside of the matrix: scanpy passes them to compiled code, which would crash the process."""
    n_genes, n_cells = (int(size) for size in group["shape"])
    indptr, indices, n_values = np.asarray(group["indptr"]), group["indices"], len(group["data"])
    is_sound = len(indptr) == n_cells + 1 and indptr[0] == 0 and int(indptr[-1]) == n_values == len(indices)
    is_sound = is_sound and bool((np.diff(indptr.astype(np.int64)) >= 0).all())
    for start in range(0, len(indices) if is_sound else 0, H5_BLOCK):
        gene = np.asarray(indices[start : start + H5_BLOCK])
        is_sound = is_sound and int(gene.min()) >= 0 and int(gene.max()) < n_genes
    if not is_sound:
        raise InputError(
            f"{path} is damaged: indices of its matrix point outside of {n_genes} genes × {n_cells} cells. Copy or export the file again."
        )


def _read_text(path: Path, orientation: Orientation) -> AnnData:
    from anndata import AnnData

    table = read_numbers(path)
    genes_first, reason = genes_in_rows(table, orientation)
    log.info("%s: read as %s (%s)", path, "genes × cells" if genes_first else "cells × genes", reason)
    cells, genes = (table.columns, table.rows) if genes_first else (table.rows, table.columns)
    adata = AnnData(sparse.csr_matrix(table.values_rc.T) if genes_first else table.values_rc)
    adata.obs_names, adata.var_names = np.array(cells, dtype=object), np.array(genes, dtype=object)
    return adata
