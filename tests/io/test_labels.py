"""Labels are matched to cells by name, or an error says why not."""

from __future__ import annotations

import gzip
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcell import io
from sparcell.errors import InputError

CELLS = ["AAAC-1", "AAAG-1", "AAAT-1", "AACA-1"]


def labels_file(folder, text="barcode,seurat,scanpy\nAAAC-1,B,b\nAAAG-1,T,t\nAAAT-1,B,b\nAACA-1,T,\n"):
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def test_default_is_the_first_column_that_names_no_cells(tmp_path):
    labels = io.read_labels(labels_file(tmp_path))
    assert labels.name == "seurat"
    assert labels.to_dict() == {"AAAC-1": "B", "AAAG-1": "T", "AAAT-1": "B", "AACA-1": "T"}
    second = io.read_labels(labels_file(tmp_path, "type,cell,x\nB,AAAC-1,1\nT,AAAG-1,2\n"))
    assert second.to_dict() == {"AAAC-1": "B", "AAAG-1": "T"}
    assert second.name == "type"


def test_a_named_column_with_gaps_from_gzip_and_tsv(tmp_path):
    text = labels_file(tmp_path).read_text()
    (tmp_path / "l.tsv.gz").write_bytes(gzip.compress(text.replace(",", "\t").encode()))
    labels = io.read_labels(tmp_path / "l.tsv.gz", "scanpy")
    assert labels.dropna().tolist() == ["b", "t", "b"]
    with pytest.warns(UserWarning, match="1 of 4 cells have no label"):
        aligned = io.align_labels(labels, CELLS, "l.tsv.gz")
    assert list(aligned.codes) == [0, 1, 0, -1]


def test_unknown_column_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match="did you mean 'seurat'"):
        io.read_labels(labels_file(tmp_path), "suerat")
    with pytest.raises(InputError, match="no label column 'barcode'"):
        io.read_labels(labels_file(tmp_path), "barcode")
    with pytest.raises(InputError, match=r"did you mean .*labels\.csv"):
        io.read_labels(tmp_path / "lables.csv")


def test_repeated_cells_are_fine_if_they_agree(tmp_path):
    same = "cell,type\na,B\nb,T\na,B\n"
    assert io.read_labels(labels_file(tmp_path, same)).to_dict() == {"a": "B", "b": "T"}
    with pytest.raises(InputError, match="the first 'a' with 'B' and 'T'"):
        io.read_labels(labels_file(tmp_path, "cell,type\na,B\nb,T\na,T\n"))


def test_labels_come_in_the_order_of_the_cells():
    labels = pd.Series(["T", "B", "T", "B", "X"], index=["AACA-1", "AAAT-1", "AAAG-1", "AAAC-1", "other"])
    aligned = io.align_labels(labels, CELLS, "labels.csv")
    assert aligned.tolist() == ["B", "T", "B", "T"]
    assert list(aligned.categories) == ["B", "T"]


def test_numbers_become_strings_in_numeric_order():
    aligned = io.align_labels(pd.Series([10, 9, 10, 2], index=CELLS), CELLS, "labels.csv")
    assert aligned.tolist() == ["10", "9", "10", "2"]
    assert list(aligned.categories) == ["2", "9", "10"]
    with pytest.warns(UserWarning, match="no label"):
        gappy = io.align_labels(pd.Series([1, np.nan, 2, 1], index=CELLS), CELLS, "labels.csv")
    assert gappy.tolist()[2] == "2"


def test_no_common_name_shows_both_sides_and_the_ending():
    bare = pd.Series(["B", "T"], index=["AAAC", "AAAG"])
    with pytest.raises(InputError, match=r"'AAAC'.*'AAAC-1'.*without the suffixes"):
        io.align_labels(bare, CELLS, "labels.csv")
    strange = pd.Series(["B", "T"], index=["x", "y"])
    with pytest.raises(
        InputError, match=r"none of the 4 cells: cells in the labels are called 'x', 'y'"
    ) as caught:
        io.align_labels(strange, CELLS, "labels.csv")
    assert "suffixes" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["B"] * 20, r"only one label \('B'\)"),
        ([None] * 20, "no label"),
        ([f"c{i}" for i in range(20)], "different label for each of 20 cells"),
    ],
)
def test_labels_that_cannot_be_compared(values, message):
    adata = ad.AnnData(np.ones((20, 1), dtype=np.float32))
    adata.obs["type"] = pd.Series(values, index=adata.obs_names, dtype=object)
    with pytest.raises(InputError, match=message):
        io.labels_from_obs(adata, "type")
    with pytest.raises(InputError, match=message):
        io.align_labels(adata.obs["type"], adata.obs_names, "file")


def test_labels_from_obs_keep_the_order_of_categories():
    adata = ad.AnnData(np.ones((4, 1), dtype=np.float32))
    adata.obs["type"] = pd.Categorical(["T", "B", "T", "B"], categories=["T", "gone", "B"])
    labels = io.labels_from_obs(adata, "type")
    assert list(labels.categories) == ["T", "B"]
    assert labels.tolist() == ["T", "B", "T", "B"]
    with pytest.raises(InputError, match="did you mean 'type'"):
        io.labels_from_obs(adata, "typ")


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.sampled_from('ab1,\t;"\n\r -NA.é\0'), max_size=40))
def test_any_text_is_labels_or_one_input_error(text):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "labels.csv"
        path.write_text(text, newline="")
        labels = None
        with suppress(InputError):
            labels = io.read_labels(path)
        if labels is not None:
            assert labels.index.is_unique
            assert len(labels) <= text.count("\n") + text.count("\r")
            warnings.filterwarnings("ignore", message=".*have no label")
            with suppress(InputError):
                assert len(io.align_labels(labels, ["a", "b", "1"], "it")) == 3
        assert path.read_bytes() == text.encode()
