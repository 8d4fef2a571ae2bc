"""Every format and orientation gives the same AnnData; every malformed file gives one InputError."""

from __future__ import annotations

import gzip
import logging
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import io as scipy_io
from scipy import sparse

from sparcell import io, pp
from sparcell.errors import InputError

CELLS = ["AAACATACAACCAC-1", "AAACATTGAGCTAC-1", "AAACATTGATCAGC-1"]
GENES = ["MT-ND1", "CD3E", "MS4A1", "NA"]
X_NG = np.array([[1, 0, 2, 0], [0, 3, 0, 0], [5, 0, 0, 7]], dtype=np.float32)


@pytest.fixture
def counts():
    adata = ad.AnnData(sparse.csr_matrix(X_NG))
    adata.obs_names, adata.var_names = CELLS, GENES
    return adata


def frame(genes_first=False):
    table = pd.DataFrame(X_NG.astype(int), index=CELLS, columns=GENES)
    return table.T if genes_first else table


def assert_same(adata, genes=GENES):
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert list(adata.obs_names) == CELLS
    assert list(adata.var_names) == genes
    np.testing.assert_array_equal(adata.X.toarray(), X_NG)


def write_zarr(adata, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata announces its next default format
        adata.write_zarr(path)


def write_10x_h5(path, legacy=False, names=GENES):
    stored = sparse.csr_matrix(X_NG)  # 10x stores genes × cells as CSC: the same three arrays
    with h5py.File(path, "w") as file:
        group = file.create_group("hg19" if legacy else "matrix")
        group["data"], group["indices"], group["indptr"] = (
            stored.data.astype("i4"),
            stored.indices.astype("i8"),
            stored.indptr.astype("i8"),
        )
        group["shape"] = np.array(X_NG.T.shape, dtype="i4")
        group["barcodes"] = np.array(CELLS, dtype="S")
        ids = np.array([f"ENSG{i:011d}" for i in range(len(names))], dtype="S")
        if legacy:
            group["genes"], group["gene_names"] = ids, np.array(names, dtype="S")
            return
        features = group.create_group("features")
        features["id"], features["name"] = ids, np.array(names, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * len(names), dtype="S")
        features["genome"] = np.array(["GRCh38"] * len(names), dtype="S")


def write_10x_folder(folder, zipped=False, features="features", prefix="", transposed=False):
    folder.mkdir()
    matrix = sparse.coo_matrix(X_NG if transposed else X_NG.T).astype(int)
    scipy_io.mmwrite(folder / "plain.mtx", matrix)
    text = (folder / "plain.mtx").read_bytes()
    (folder / "plain.mtx").unlink()
    kinds = "" if features == "genes" else "\tGene Expression"
    rows = "".join(f"ENSG{i:011d}\t{name}{kinds}\n" for i, name in enumerate(GENES))
    files = {"matrix.mtx": text, f"{features}.tsv": rows.encode(), "barcodes.tsv": "\n".join(CELLS).encode()}
    for name, content in files.items():
        if zipped:
            (folder / f"{prefix}{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / f"{prefix}{name}").write_bytes(content)


# ---------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".txt", ".tsv.gz"])
@pytest.mark.parametrize("genes_first", [False, True])
def test_text_tables_read_the_same_in_either_orientation(tmp_path, suffix, genes_first, caplog):
    path = tmp_path / f"counts{suffix}"
    frame(genes_first).to_csv(path, sep="," if "csv" in suffix else "\t")
    with caplog.at_level(logging.INFO, "sparcell"):
        assert_same(io.read(path))
    assert ("genes × cells" if genes_first else "cells × genes") in caplog.text
    assert "barcodes" in caplog.text


def test_r_exports_lack_the_first_header_or_quote_it(tmp_path):
    lines = frame(genes_first=True).to_csv(header=False).splitlines()
    header = ",".join(f'"{cell}"' for cell in CELLS)
    (tmp_path / "table.csv").write_text("\n".join([header, *lines]))
    (tmp_path / "quoted.csv").write_text("\r\n".join(['"",' + header, *lines]) + "\r\n")
    (tmp_path / "spaces.txt").write_text("\n".join([header, *lines]).replace(",", " "))
    (tmp_path / "excel.csv").write_text("\ufeff" + "\n".join(["x," + header, *lines]).replace(",", ";"))
    for name in ("table.csv", "quoted.csv", "spaces.txt", "excel.csv"):
        assert_same(io.read(tmp_path / name))


def test_the_orientation_setting_overrides_what_the_names_say(tmp_path):
    frame().to_csv(tmp_path / "counts.csv")
    assert list(io.read(tmp_path / "counts.csv", "genes-by-cells").obs_names) == GENES
    with pytest.raises(InputError, match="cells-by-genes"):
        io.read(tmp_path / "counts.csv", "sideways")


@pytest.mark.parametrize(
    ("rows", "columns", "header", "genes_first"),
    [
        (["a", "b"], ["MT-CO1", "x", "y"], "", False),
        (["Rpl3", "b", "c"], ["s1", "s2", "s3", "s4"], "", True),
        (["a", "b"], ["x", "y", "z"], "gene", True),
        (["a", "b", "c"], ["x", "y"], "Barcode", False),
        (["a", "b", "c"], ["x", "y"], "", True),
        (["a", "b"], ["x", "y"], "", False),
    ],
)
def test_orientation_by_genes_then_header_then_length(tmp_path, rows, columns, header, genes_first):
    table = pd.DataFrame(1, index=pd.Index(rows, name=header), columns=columns)
    table.to_csv(tmp_path / "t.csv")
    assert list(io.read(tmp_path / "t.csv").var_names) == (rows if genes_first else columns)


def test_h5ad_and_zarr_keep_obs_and_var(tmp_path, counts):
    counts.obs["donor"] = pd.Categorical(["a", "b", "a"])
    counts.var["gene_ids"] = ["1", "2", "3", "4"]
    counts.X = counts.X.toarray().astype(np.float64)
    counts.write_h5ad(tmp_path / "a.h5ad")
    write_zarr(counts, tmp_path / "a.zarr")
    (tmp_path / "a.zarr").rename(tmp_path / "renamed")
    counts.T.copy().write_h5ad(tmp_path / "transposed.h5ad")
    (tmp_path / "as_h5.h5").write_bytes((tmp_path / "a.h5ad").read_bytes())
    for path, way in (
        ("a.h5ad", "auto"),
        ("renamed", "auto"),
        ("transposed.h5ad", "genes-by-cells"),
        ("as_h5.h5", "auto"),
    ):
        adata = io.read(tmp_path / path, way)
        assert_same(adata)
        assert list(adata.obs["donor"]) == ["a", "b", "a"]
        assert list(adata.var["gene_ids"]) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("legacy", [False, True])
def test_10x_h5(tmp_path, legacy):
    write_10x_h5(tmp_path / "matrix.h5", legacy)
    assert_same(io.read(tmp_path / "matrix.h5"))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("array", "place", "value"),
    [
        ("indices", 1, 10**6),
        ("indices", 1, 2**40),
        ("indices", 0, -1),
        ("indptr", 2, 10**9),
        ("indptr", 2, -7),
    ],
)
def test_10x_h5_with_indices_outside_of_its_matrix(tmp_path, legacy, array, place, value):
    write_10x_h5(tmp_path / "matrix.h5", legacy)
    with h5py.File(tmp_path / "matrix.h5", "r+") as file:
        file["hg19" if legacy else "matrix"][array][place] = value
    with pytest.raises(
        InputError, match=r"matrix\.h5 is damaged: indices of its matrix point outside of 4 genes"
    ):
        io.read(tmp_path / "matrix.h5")


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"zipped": True},
        {"features": "genes"},
        {"features": "genes", "zipped": True},
        {"zipped": True, "prefix": "GSM1_"},
        {"transposed": True},
    ],
    ids=str,
)
def test_10x_folder(tmp_path, layout):
    write_10x_folder(tmp_path / "tenx", **layout)
    adata = io.read(tmp_path / "tenx")
    assert_same(adata)
    assert adata.var["gene_ids"].iloc[1] == "ENSG00000000001"
    assert_same(io.read(next((tmp_path / "tenx").glob("*.mtx*"))))


def test_10x_folder_leaves_antibodies_out(tmp_path):
    write_10x_folder(tmp_path / "tenx")
    features = tmp_path / "tenx" / "features.tsv"
    features.write_text(features.read_text().replace("NA\tGene Expression", "NA\tAntibody Capture"))
    assert list(io.read(tmp_path / "tenx").var_names) == GENES[:3]


def test_repeated_names_are_numbered_with_a_warning(tmp_path):
    table = frame()
    table.columns = ["CD3E", "CD3E", "MS4A1", "CD3E"]
    table.to_csv(tmp_path / "t.csv")
    with pytest.warns(UserWarning, match=r"2 repeated gene name\(s\) \(first 'CD3E'\)"):
        adata = io.read(tmp_path / "t.csv")
    assert_same(adata, ["CD3E", "CD3E-1", "MS4A1", "CD3E-2"])
    cells = frame()
    cells.index = [CELLS[0], CELLS[0], CELLS[2]]
    cells.to_csv(tmp_path / "c.csv")
    with pytest.warns(UserWarning, match=r"1 repeated cell name"):
        assert io.read(tmp_path / "c.csv").obs_names.tolist() == [CELLS[0], CELLS[0] + "-1", CELLS[2]]


def test_scaled_values_are_read_dense_and_counts_sparse(tmp_path, counts):
    counts.X = np.random.default_rng(0).normal(size=(3, 4))
    counts.write_h5ad(tmp_path / "scaled.h5ad")
    assert isinstance(io.read(tmp_path / "scaled.h5ad").X, np.ndarray)
    counts.X = np.ones((3, 4))
    counts.write_h5ad(tmp_path / "ones.h5ad")
    assert isinstance(io.read(tmp_path / "ones.h5ad").X, sparse.csr_matrix)


def test_long_tables_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("sparcell.io.tables.CHUNK_VALUES", 5)  # one row a piece
    frame(genes_first=True).to_csv(tmp_path / "t.csv")
    assert_same(io.read(tmp_path / "t.csv"))


# ---------------------------------------------------------------------------------------------- errors


TEXTS = {
    "empty": ("", "empty"),
    "blank": ("\n \n\n", "is empty"),
    "header only": ("cell,g1,g2\n", "no rows"),
    "one column": ("cell\na\nb\n", "only one column"),
    "text": ("cell,g1,g2\na,1,2\nb,3,oops\n", "'oops' in row 'b', column 'g2'"),
    "truth": ("cell,g1,g2\na,1,True\nb,3,False\n", "'True' in row 'a', column 'g2'"),
    "gap": ("cell,g1,g2\na,1,2\nb,,4\n", "no value in row 'b', column 'g1'"),
    "short row": ("cell,g1,g2\na,1,2\nb,3\n", "no value in row 'b', column 'g2'"),
    "long row": ("cell,g1,g2\na,1,2\nb,3,4,5\n", "4 fields in row 2"),
    "long header": ("cell,g1,g2,g3\na,1,2\n", "4 names in its header"),
    "inf": ("cell,g1,g2\na,1,inf\n", "value inf in row 'a', column 'g2'"),
    "huge": ("cell,g1\na,1e300\n", "value 1e\\+300 in row 'a'"),
    "no header": ("1,0,0,3\n4,5,6,0\n", "row of numbers"),
    "open quote": ('cell,g1\n"a,1\nb,2\n', "cannot be read as a table"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_malformed_text_names_the_place(tmp_path, name):
    text, message = TEXTS[name]
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        io.read(path)
    assert "expected" in str(caught.value)
    assert path.read_text() == text


def test_damaged_binaries_are_named(tmp_path, counts):
    counts.write_h5ad(tmp_path / "whole.h5ad")
    whole = (tmp_path / "whole.h5ad").read_bytes()
    bad = {
        "cut.h5ad": whole[: len(whole) // 2],
        "text.h5ad": b"not an h5 file",
        "text.h5": b"not an h5 file",
        "cut.csv.gz": gzip.compress(frame().to_csv().encode() * 50)[:-20],
        "latin.csv": "cell,g\nMüller,1\n".encode("latin-1"),
        "matrix.mtx": b"%%MatrixMarket matrix coordinate integer general\n3 3 9\n1 1",
        "void.h5ad": b"",
    }
    for name in ("features.tsv", "barcodes.tsv"):
        (tmp_path / name).write_text("a\nb\nc\n")
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"(?i)expected"):
            io.read(tmp_path / name)
        assert (tmp_path / name).read_bytes() == content


def test_h5ad_whose_indices_point_nowhere(tmp_path, counts):
    counts.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        file["X/indices"][1] = 4_000_000
    with pytest.raises(InputError, match="damaged sparse matrix"):
        io.read(tmp_path / "a.h5ad")


def test_damaged_zarr(tmp_path, counts):
    write_zarr(counts, tmp_path / "a.zarr")
    for chunk in (tmp_path / "a.zarr" / "X").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"\x00garbage")
    with pytest.raises(InputError, match="damaged"):
        io.read(tmp_path / "a.zarr")
    (tmp_path / "hollow.zarr").mkdir()
    with pytest.raises(InputError, match="without zarr's files"):
        io.read(tmp_path / "hollow.zarr")


def test_missing_files_and_unknown_formats(tmp_path, counts):
    counts.write_h5ad(tmp_path / "pbmc.h5ad")
    with pytest.raises(InputError, match=r"did you mean .*pbmc.h5ad"):
        io.read(tmp_path / "pbcm.h5ad")
    with pytest.raises(InputError, match="There is no folder"):
        io.read(tmp_path / "nowhere" / "pbmc.h5ad")
    (tmp_path / "counts.rds").write_text("x")
    with pytest.raises(InputError, match=r"write\.csv"):
        io.read(tmp_path / "counts.rds")
    (tmp_path / "counts.loom").write_text("x")
    with pytest.raises(InputError, match=r"format of counts\.loom"):
        io.read(tmp_path / "counts.loom")
    with pytest.raises(InputError, match="expected a matrix of counts"):
        io.read("a\0b.csv")


def test_folders_that_are_no_10x_folder(tmp_path, counts):
    (tmp_path / "outs").mkdir()
    (tmp_path / "outs" / "notes.md").write_text("x")
    with pytest.raises(InputError, match=r"no file called matrix.mtx.*notes.md"):
        io.read(tmp_path / "outs")
    write_10x_folder(tmp_path / "outs" / "filtered")
    with pytest.raises(InputError, match=r"Did you mean '.*filtered'"):
        io.read(tmp_path / "outs")
    (tmp_path / "outs" / "filtered" / "barcodes.tsv").write_text("a\nb\n")
    with pytest.raises(InputError, match=r"names 4 genes and barcodes\.tsv 2 cells"):
        io.read(tmp_path / "outs" / "filtered")
    (tmp_path / "outs" / "filtered" / "barcodes.tsv").unlink()
    with pytest.raises(InputError, match=r"no barcodes\.tsv"):
        io.read(tmp_path / "outs" / "filtered")


def test_h5_that_is_no_10x_file(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = [1.0]
    with pytest.raises(InputError, match=r"holds weights; expected a 10x file"):
        io.read(tmp_path / "other.h5")


def test_nan_and_missing_x_in_h5ad(tmp_path, counts):
    counts.X.data[0] = np.nan
    counts.write_h5ad(tmp_path / "nan.h5ad")
    with pytest.raises(InputError, match="cell 'AAACATACAACCAC-1', gene 'MT-ND1'"):
        io.read(tmp_path / "nan.h5ad")
    counts.X = None
    counts.write_h5ad(tmp_path / "none.h5ad")
    with pytest.raises(InputError, match=r"no matrix: X is empty, and there are no layers"):
        io.read(tmp_path / "none.h5ad")


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_counts_in_a_layer_alone_are_read_and_written(tmp_path, counts, form):
    counts.layers["umis"] = counts.X.copy()
    counts.X = None
    counts.write_h5ad(tmp_path / "a.h5ad") if form == "h5ad" else write_zarr(counts, tmp_path / "a.zarr")
    adata = io.read(tmp_path / f"a.{form}")
    assert adata.X is None
    np.testing.assert_array_equal(adata.layers["umis"].toarray(), X_NG)
    assert adata.obs_names.tolist() == CELLS
    io.write_h5ad(adata, tmp_path / "again.h5ad")
    assert io.read(tmp_path / "again.h5ad").X is None
    transposed = io.read(tmp_path / f"a.{form}", "genes-by-cells")
    assert transposed.X is None
    np.testing.assert_array_equal(transposed.layers["umis"].toarray(), X_NG.T)
    with pytest.raises(InputError, match=r"X is empty.*adata.X = adata.layers\['umis'\].copy"):
        pp.quality_control(adata)
