"""Folders with a MatrixMarket file, as 10x, GEO, STARsolo and kb write them; several samples and damaged files are refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import io as scipy_io
from scipy import sparse

from sparcell import io
from sparcell.errors import InputError

X_NG = np.array([[1, 0, 2], [0, 3, 4]])
CELLS, GENES = ["a", "b"], ["CD3E", "CD14", "MS4A1"]


def write(folder, matrix="matrix.mtx", genes="features.tsv", cells="barcodes.tsv", x_ng=X_NG.T):
    folder.mkdir(exist_ok=True)
    scipy_io.mmwrite(folder / matrix, sparse.coo_matrix(x_ng))
    (folder / genes).write_text("\n".join(GENES))
    (folder / cells).write_text("\n".join(CELLS))
    return folder


def assert_read(path):
    adata = io.read(path)
    assert list(adata.obs_names) == CELLS
    assert list(adata.var_names) == GENES
    np.testing.assert_array_equal(adata.X.toarray(), X_NG)


def test_a_matrix_of_starsolo_uses_the_names_without_prefix(tmp_path):
    folder = write(tmp_path / "s", "UniqueAndMult-EM.mtx")
    assert_read(folder / "UniqueAndMult-EM.mtx")
    write(folder)
    assert_read(folder)  # matrix.mtx, beside the other one


def test_a_folder_of_kb(tmp_path):
    names = ("cells_x_genes.mtx", "cells_x_genes.genes.txt", "cells_x_genes.barcodes.txt")
    assert_read(write(tmp_path / "k", *names, x_ng=X_NG))
    scipy_io.mmwrite(tmp_path / "k" / "cells_x_genes.nascent.mtx", sparse.coo_matrix(X_NG))
    assert_read(tmp_path / "k" / "cells_x_genes.nascent.mtx")


def test_a_folder_of_two_samples_names_the_call_that_works(tmp_path):
    folder = tmp_path / "g"
    for sample in ("GSM1_A_", "GSM2_B_"):
        write(folder, *(sample + name for name in ("matrix.mtx", "features.tsv", "barcodes.tsv")))
    with pytest.raises(InputError, match=f"2 matrices.*sparcell fit {folder}/GSM1_A_matrix.mtx"):
        io.read(folder)
    assert_read(folder / "GSM2_B_matrix.mtx")
    (folder / "GSM2_B_features.tsv").unlink()  # those of the other sample are not taken
    with pytest.raises(InputError, match=r"no GSM2_B_features.tsv or GSM2_B_genes.tsv"):
        io.read(folder / "GSM2_B_matrix.mtx")


def test_a_second_value_for_the_same_cell_and_gene_is_refused(tmp_path):
    folder = write(tmp_path / "d")
    (folder / "matrix.mtx").write_text(
        "%%MatrixMarket matrix coordinate integer general\n3 2 2\n1 1 5\n1 1 6\n"
    )
    with pytest.raises(InputError, match="1 values are given for a cell and gene that have one already"):
        io.read(folder)


def test_a_packed_h5ad_is_not_promised(tmp_path):
    (tmp_path / "a.h5ad.gz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"unpacked file: gunzip a.h5ad.gz"):
        io.read(tmp_path / "a.h5ad.gz")
