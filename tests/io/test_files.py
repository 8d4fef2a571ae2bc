"""Files are complete or not there, and output folders are checked before any work."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from sparcell import io
from sparcell.errors import InputError


def test_an_atomic_write_keeps_the_old_file_until_the_end(tmp_path):
    target = tmp_path / "scores.csv"
    io.write_text(target, "old")
    with io.atomic_write(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    target = tmp_path / "scores.csv"
    io.write_text(target, "old")

    def fail_half_way():
        with io.atomic_write(target) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        fail_half_way()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_paths_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "none" / "a.csv", tmp_path / "file" / "a.csv", tmp_path / ("n" * 300)):
        with pytest.raises(InputError):
            io.write_text(path, "text")
    assert (tmp_path / "file").read_text() == "x"


def test_write_h5ad_round_trip_and_failure(tmp_path):
    adata = ad.AnnData(np.eye(3, dtype=np.float32))
    io.write_h5ad(adata, tmp_path / "a.h5ad")
    np.testing.assert_array_equal(io.read(tmp_path / "a.h5ad").X.toarray(), np.eye(3))
    adata.uns["bad"] = object()
    with pytest.raises(Exception, match=r"(?i)object|write"):
        io.write_h5ad(adata, tmp_path / "a.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5ad"]
    np.testing.assert_array_equal(io.read(tmp_path / "a.h5ad").X.toarray(), np.eye(3))


def test_output_folder(tmp_path):
    assert io.check_output_folder(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    io.check_output_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "old.csv").write_text("x")
    with pytest.raises(InputError, match=r"not empty \(old.csv\)"):
        io.check_output_folder(tmp_path / "a" / "b")
    io.check_output_folder(tmp_path / "a" / "b", allow_existing=True)
    with pytest.raises(InputError, match="is a file"):
        io.check_output_folder(tmp_path / "a" / "b" / "old.csv")
    with pytest.raises(InputError, match="cannot be written"):
        io.check_output_folder(tmp_path / "a" / "b" / "old.csv" / "deeper")
