"""Folders with a matrix in MatrixMarket format beside files of gene and cell names: 10x Genomics, GEO, STARsolo, kb."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

MATRIX = re.compile(r"\.mtx(\.gz)?$", re.IGNORECASE)
TABLE_ENDINGS = (".tsv", ".tsv.gz", ".txt", ".txt.gz")
GENE_STEMS, CELL_STEMS = ("features", "genes"), ("barcodes", "cells")


def read_folder(path: Path) -> AnnData:
    """Return matrix, features and barcodes of a folder, or of the folder around a matrix file. Each file may be .gz.

    The name files are those with the prefix of the matrix file (GEO, kb), else those without prefix (STARsolo), else the only such
    files in the folder. Raises InputError if files are missing, do not fit together, or are those of several samples.
    """
    from anndata import AnnData
    from scipy.io import mmread

    matrix_file = path if path.is_file() else _only_matrix(path)
    feature_file = _names_beside(matrix_file, GENE_STEMS)
    barcode_file = _names_beside(matrix_file, CELL_STEMS)
    entries = mmread(matrix_file)
    matrix = sparse.csr_matrix(entries)
    if sparse.issparse(entries) and entries.nnz != matrix.nnz:
        raise InputError(
            f"{matrix_file} is damaged: {entries.nnz - matrix.nnz} values are given for a cell and gene that have one already; expected "
            "one value each: copy or export the file again."
        )
    features, barcodes = _read_names(feature_file), _read_names(barcode_file)
    if matrix.shape == (len(features), len(barcodes)):
        matrix = sparse.csr_matrix(matrix.T)
    elif matrix.shape != (len(barcodes), len(features)):
        raise InputError(
            f"{matrix_file} is {matrix.shape[0]} × {matrix.shape[1]}, but {feature_file.name} names "
            f"{len(features)} genes and {barcode_file.name} {len(barcodes)} cells; expected the same numbers."
        )
    adata = AnnData(sparse.csr_matrix(matrix, dtype=np.float64))
    adata.obs_names = barcodes[0].to_numpy()
    adata.var_names = features[1 if features.shape[1] > 1 else 0].to_numpy()
    if features.shape[1] > 1:
        adata.var["gene_ids"] = features[0].to_numpy()
    if features.shape[1] > 2:
        adata.var["feature_types"] = features[2].to_numpy()
    return adata


def _read_names(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)


def _only_matrix(folder: Path) -> Path:
    """Return the matrix file of a folder: matrix.mtx, else the only …matrix.mtx, else the only .mtx file."""
    names = sorted(entry.name for entry in folder.iterdir())
    matrices = [name for name in names if MATRIX.search(name)]
    exact = [name for name in matrices if re.fullmatch(r"matrix\.mtx(\.gz)?", name)]
    usual = [name for name in matrices if re.search(r"matrix\.mtx(\.gz)?$", name)]
    chosen = exact or usual or matrices
    if len(chosen) == 1:
        return folder / chosen[0]
    if len(chosen) > 1:
        raise InputError(
            f"{folder} holds {len(chosen)} matrices, {', '.join(chosen[:4])}{', …' * (len(chosen) > 4)}; expected one sample at a time. "
            f"Give one: {str(folder / chosen[0])!r} (in a shell: sparcell fit {folder / chosen[0]}). To join samples, read each in Python "
            "and call anndata.concat."
        )
    inner = [name for name in names if (folder / name).is_dir() and any((folder / name).glob("*.mtx*"))]
    hint = f" Did you mean {str(folder / inner[0])!r}?" if inner else ""
    raise InputError(
        f"{folder} holds no file called matrix.mtx or matrix.mtx.gz (the folder holds {', '.join(names[:5]) or 'nothing'}); "
        f"expected one, as in a 10x folder, or a zarr folder.{hint}"
    )


def _names_beside(matrix_file: Path, stems: tuple[str, ...]) -> Path:
    """Return the file of gene names or of cell names that belongs to a matrix file."""
    folder = matrix_file.parent
    prefix = re.sub(r"(matrix)?\.mtx(\.gz)?$", "", matrix_file.name, flags=re.IGNORECASE)
    for start in (prefix, f"{prefix}.", f"{prefix}_", f"{prefix}-", ""):
        for stem in stems:
            for ending in TABLE_ENDINGS:
                if (folder / f"{start}{stem}{ending}").is_file():
                    return folder / f"{start}{stem}{ending}"
    names = sorted(entry.name for entry in folder.iterdir())
    others = [re.sub(r"(matrix)?\.mtx(\.gz)?$", "", name) for name in names if MATRIX.search(name)]
    others = [other for other in others if other and not matrix_file.name.startswith(other)]
    pattern = re.compile(rf"({'|'.join(stems)})(\.tsv|\.txt)(\.gz)?$")
    found = [
        name for name in names if pattern.search(name) and not any(name.startswith(other) for other in others)
    ]
    if len(found) == 1:
        return folder / found[0]
    shown = prefix if prefix + "matrix" in matrix_file.name else ""
    missing = " or ".join(f"{shown}{stem}.tsv" for stem in stems[: 2 if stems is GENE_STEMS else 1])
    what = "genes" if stems is GENE_STEMS else "cells"
    several = f" but {len(found)} files that could be it ({', '.join(found[:3])})" if found else ""
    raise InputError(
        f"{folder} has {matrix_file.name} and no {missing} (or .gz){several}; expected the names of the {what} in the same folder."
    )
