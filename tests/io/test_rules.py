"""The same rules hold for files of every format: genes only, sound matrices, names for all, and columns that can be written again."""

from __future__ import annotations

import logging
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import io as scipy_io
from scipy import sparse

from sparcell import io
from sparcell.errors import InputError

X_NG = np.array([[1, 0, 2, 9], [0, 3, 0, 9], [5, 0, 4, 9]], dtype=np.float32)
CELLS, GENES = ["a", "b", "c"], ["CD3E", "CD14", "MS4A1", "CD14_antibody"]
TYPES = ["Gene Expression"] * 3 + ["Antibody Capture"]


def counts(**var):
    return ad.AnnData(
        sparse.csr_matrix(X_NG), obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(var, index=GENES)
    )


def write_h5ad(folder):
    counts(feature_types=TYPES).write_h5ad(folder / "a.h5ad")
    return folder / "a.h5ad"


def write_zarr(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counts(feature_types=TYPES).write_zarr(folder / "a.zarr")
    return folder / "a.zarr"


def write_10x_h5(folder):
    stored = sparse.csr_matrix(X_NG)
    with h5py.File(folder / "a.h5", "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(stored, name).astype("i8")
        group["shape"], group["barcodes"] = np.array(X_NG.T.shape, dtype="i4"), np.array(CELLS, dtype="S")
        features = group.create_group("features")
        for name, values in {"id": GENES, "name": GENES, "feature_type": TYPES, "genome": ["x"] * 4}.items():
            features[name] = np.array(values, dtype="S")
    return folder / "a.h5"


def write_10x_folder(folder):
    scipy_io.mmwrite(folder / "matrix.mtx", sparse.coo_matrix(X_NG.T))
    (folder / "features.tsv").write_text(
        "".join(f"{g}\t{g}\t{t}\n" for g, t in zip(GENES, TYPES, strict=True))
    )
    (folder / "barcodes.tsv").write_text("\n".join(CELLS))
    return folder


@pytest.mark.parametrize("write", [write_h5ad, write_zarr, write_10x_h5, write_10x_folder])
def test_features_that_are_not_genes_are_left_out_of_every_format(write, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "sparcell"):
        adata = io.read(write(tmp_path))
    assert list(adata.var_names) == GENES[:3]
    np.testing.assert_array_equal(adata.X.toarray(), X_NG[:, :3])
    said = [line for line in caplog.messages if "not gene expression" in line]
    if write is not write_10x_h5:  # scanpy leaves them out itself
        assert len(said) == 1
        assert "1 features that are not gene expression are left out (1 Antibody Capture)" in said[0]


def test_all_features_stay_where_none_is_called_gene_expression(tmp_path):
    counts(feature_types=["protein_coding", "lncRNA", "TR gene", "x"]).write_h5ad(tmp_path / "a.h5ad")
    assert io.read(tmp_path / "a.h5ad").n_vars == 4


def with_reserved_column(path, names, group="raw/var"):
    """Write counts with raw, and a column called _index as converters from Seurat do."""
    adata = counts()
    adata.raw = adata.copy()
    adata.write_h5ad(path)
    with h5py.File(path, "a") as file:
        frame = file[group]
        frame.move(frame.attrs["_index"], "genes")
        frame.attrs["_index"] = "genes"
        frame["_index"] = np.array(names, dtype=h5py.string_dtype())
        frame["_index"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        frame.attrs["column-order"] = np.array(["_index"], dtype=h5py.string_dtype())
    return path


@pytest.mark.parametrize("group", ["raw/var", "var", "obs"])
@pytest.mark.parametrize("repeats", [True, False])
def test_a_column_of_names_that_anndata_cannot_write_is_dropped_or_renamed(group, repeats, tmp_path):
    names = CELLS if group == "obs" else GENES
    path = with_reserved_column(tmp_path / "a.h5ad", names if repeats else names[::-1], group)
    io.write_h5ad(io.read(path), tmp_path / "b.h5ad")
    again = io.read(tmp_path / "b.h5ad")
    frame = {"raw/var": again.raw.var, "var": again.var, "obs": again.obs}[group]
    assert list(frame.index) == names
    assert list(frame.columns) == ([] if repeats else ["former_index"])


def test_repeated_names_that_are_also_a_column_can_be_written_again(tmp_path):
    names = ["G", "G", "H", "I"]
    adata = counts(gene=names)
    adata.var_names = names
    adata.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        del file["var/_index"]
        file["var"].attrs["_index"] = "gene"
    with pytest.warns(UserWarning, match="repeated gene name"):
        adata = io.read(tmp_path / "a.h5ad")
    io.write_h5ad(adata, tmp_path / "b.h5ad")
    assert list(io.read(tmp_path / "b.h5ad").var["gene"]) == ["G", "G", "H", "I"]


@pytest.mark.parametrize("part", ["X", "layers", "raw"])
def test_two_values_of_one_gene_in_a_cell_are_refused(part, tmp_path):
    adata, damaged = counts(), sparse.csr_matrix(X_NG)
    damaged.indices = np.zeros_like(damaged.indices)
    if part == "X":
        adata.X = damaged
    elif part == "layers":
        adata.layers["counts"] = damaged
    else:
        adata.raw = ad.AnnData(damaged, var=adata.var)
    adata.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match="more than one value for the same cell and gene"):
        io.read(tmp_path / "a.h5ad")


@pytest.mark.parametrize("part", ["X/indices/c/0", "X/data/c/0", "var/_index/c/0"])
@pytest.mark.filterwarnings("ignore")
def test_a_zarr_that_lost_a_chunk_is_refused(part, tmp_path):
    path = write_zarr(tmp_path)
    chunk = path / part
    if not chunk.exists():  # the older layout
        chunk = path / part.replace("/c/0", "/0")
    chunk.unlink()
    with pytest.raises(InputError, match=r"damaged|no name"):
        io.read(path)


def test_an_empty_name_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("cell,G1,,G3\na,1,2,3\nb,4,5,6\n")
    with pytest.raises(InputError, match="1 of 3 genes have no name, the first is number 2"):
        io.read(tmp_path / "a.csv")


def test_gene_symbols_names_genes_by_a_column_of_var_and_of_raw(tmp_path):
    adata = counts(symbol=["CD3E", "MALAT1", None, "MALAT1"])
    adata.var_names = [f"ENSG{i}" for i in range(4)]
    adata.raw = adata.copy()
    adata.write_h5ad(tmp_path / "a.h5ad")
    with pytest.warns(UserWarning, match="repeated gene name"):
        read = io.read(tmp_path / "a.h5ad", gene_symbols="symbol")
    assert list(read.var_names) == ["CD3E", "MALAT1", "ENSG2", "MALAT1-1"]
    assert list(read.var["gene_ids"]) == [f"ENSG{i}" for i in range(4)]
    assert list(read.raw.var_names) == list(read.var_names)
    io.write_h5ad(read, tmp_path / "b.h5ad")
