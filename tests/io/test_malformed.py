"""Reading any file gives a valid AnnData or one InputError, and leaves the file as it was."""

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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from sparcell import io
from sparcell.errors import InputError

X_NG = np.array([[1, 0, 2, 0], [0, 3, 0, 0], [5, 0, 0, 7]], dtype=np.float32)
TABLE = pd.DataFrame(X_NG.astype(int), index=["a", "b", "c"], columns=["g1", "g2", "g3", "g4"])


@settings(max_examples=40, deadline=None)
@given(fraction=st.floats(0, 1))
def test_a_cut_h5ad_is_an_input_error(fraction):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5ad"
        ad.AnnData(sparse.csr_matrix(X_NG)).write_h5ad(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(fraction * (len(whole) - 1))])
        with pytest.raises(InputError):
            io.read(path)


FIELD = st.one_of(
    st.integers(-9, 10**25).map(str),
    st.floats(width=32).map(str),
    st.sampled_from(
        ["", "NA", "oops", '"', '""', "1,2", "a\tb", "\0", "1e999", "True", " 3 ", "'", "#", "\r", "٣"]
    ),
    st.text(max_size=4),
)
ROW = st.lists(FIELD, min_size=0, max_size=5)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(ROW, max_size=6),
    separator=st.sampled_from([",", "\t", ";", " "]),
    suffix=st.sampled_from([".csv", ".tsv", ".txt"]),
)
def test_any_text_is_a_matrix_or_one_input_error(rows, separator, suffix):
    content = "\n".join(separator.join(row) for row in rows).encode("utf-8", "surrogatepass")
    check_read_or_input_error(content, suffix)


@settings(max_examples=120, deadline=None)
@given(content=st.binary(max_size=60), suffix=st.sampled_from([".csv", ".txt.gz", ".h5ad", ".h5", ".mtx"]))
def test_any_bytes_are_a_matrix_or_one_input_error(content, suffix):
    check_read_or_input_error(content, suffix)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 10**9), at=st.integers(0, 10**9), byte=st.integers(0, 255))
@pytest.mark.filterwarnings("ignore")
def test_a_flipped_or_cut_gzip_table_is_a_matrix_or_one_input_error(cut, at, byte):
    content = bytearray(gzip.compress(TABLE.to_csv().encode(), mtime=0))
    content[at % len(content)] = byte
    check_read_or_input_error(bytes(content[: 1 + cut % (2 * len(content))]), ".csv.gz")


def check_read_or_input_error(content, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(content)
        for name in ("filefeatures.tsv", "filebarcodes.tsv"):
            (Path(folder) / name).write_text("a\nb\n")
        adata = None
        with warnings.catch_warnings(), suppress(InputError):
            warnings.filterwarnings("ignore", message=".*repeated (cell|gene) name")
            warnings.filterwarnings("ignore", message=".*looks like data")
            adata = io.read(path)
        if adata is not None:
            assert adata.shape == adata.X.shape
            assert min(adata.shape) > 0
            values = adata.X.data if sparse.issparse(adata.X) else adata.X
            assert np.isfinite(values).all()
            assert adata.obs_names.is_unique
            assert adata.var_names.is_unique
        assert path.read_bytes() == content


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.lists(st.integers(0, 2**24), min_size=3, max_size=3), min_size=1, max_size=6),
    separator=st.sampled_from([",", "\t", ";"]),
    genes_first=st.booleans(),
)
def test_round_trip_of_any_counts(values, separator, genes_first):
    cells = [f"ACGTACGTACG{'ACGT'[i % 4]}{'ACGT'[i // 4]}-1" for i in range(len(values))]
    table = pd.DataFrame(values, index=cells, columns=["CD3E", "g b", "MT-X"])
    with tempfile.TemporaryDirectory() as folder:
        (table.T if genes_first else table).to_csv(Path(folder) / "t.csv", sep=separator)
        adata = io.read(Path(folder) / "t.csv")
    assert list(adata.obs_names) == cells
    np.testing.assert_array_equal(adata.X.toarray(), np.array(values))
