"""Writing .h5ad files: what the format holds is read back, the rest is named before any work, and a full disk is one message."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sparcell import io
from sparcell.errors import InputError, OutputError
from sparcell.io import h5ad

N = 6


def cells():
    obs = pd.DataFrame({"donor": ["b", "a", "c10", "c2", "a", "a"]}, index=list("uvwxyz"))
    adata = ad.AnnData(sparse.csr_matrix(np.eye(N, dtype=np.float32)), obs=obs)
    adata.raw = adata.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.obsm["X_map"] = np.ones((N, 2))
    adata.uns["colors"] = {"a": "red", "n": np.arange(3)}
    return adata


def nullable(*values):
    return pd.Series(pd.array(values, dtype="string"), index=list("uvwxyz"))


def test_a_file_is_what_anndata_writes_and_the_data_stays_as_it_is(tmp_path):
    adata = cells()
    before = adata.copy()
    io.write_h5ad(adata, tmp_path / "ours.h5ad")
    pd.testing.assert_frame_equal(adata.obs, before.obs)  # anndata's own writer makes categories of text
    before.write_h5ad(tmp_path / "theirs.h5ad")
    ours, theirs = ad.read_h5ad(tmp_path / "ours.h5ad"), ad.read_h5ad(tmp_path / "theirs.h5ad")
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    assert list(ours.obs["donor"].cat.categories) == ["a", "b", "c2", "c10"]
    for matrix in ("X", "raw.X"):
        values = [(one.raw if "raw" in matrix else one).X.toarray() for one in (ours, theirs)]
        np.testing.assert_array_equal(*values)
    assert list(ours.layers) == ["counts"]
    assert ours.uns["colors"]["a"] == "red"


@pytest.mark.parametrize("values", ["abcdef", "aabbcc", ("a", None, "c", "d", "e", "f")], ids=str)
def test_text_of_pandas_own_type_is_written(tmp_path, values):
    adata = cells()
    adata.obs["barcode"] = nullable(*values)
    adata.uns["table"] = pd.DataFrame({"gene": nullable(*values)})
    io.check_writable(adata)
    io.write_h5ad(adata, tmp_path / "a.h5ad")
    read = io.read(tmp_path / "a.h5ad")
    assert read.obs["barcode"].astype(object).where(read.obs["barcode"].notna(), None).tolist() == list(
        values
    )


UNWRITABLE = {
    "obsm['a/b']": lambda a: a.obsm.update({"a/b": np.ones((N, 2))}),
    "layers['a/b']": lambda a: a.layers.update({"a/b": a.X}),
    "obs['mixed']": lambda a: a.obs.insert(0, "mixed", [1, "a", 2, "b", 3, None]),
    "obs['flag']": lambda a: a.obs.insert(0, "flag", [True, None, False, True, True, True]),
    "obs['labels']": lambda a: a.obs.insert(0, "labels", pd.Categorical([1, "a", 2, "b", 3, "c"])),
    "obs['date']": lambda a: a.obs.insert(0, "date", pd.date_range("2020", periods=N)),
    "var['_index']": lambda a: a.var.insert(0, "_index", list("abcdef")),
    "obs[3]": lambda a: a.obs.insert(0, 3, 1),
    "uns['settings']": lambda a: a.uns.update(settings={1, 2}),
    "uns['settings']['deep'][1]": lambda a: a.uns.update(settings={"deep": {1: "x"}}),
    "obsm['table']": lambda a: a.obsm.update(
        table=pd.DataFrame({"q": [1, "a", 2, "b", 3, "c"]}, index=a.obs_names)
    ),
    "index of obs": lambda a: (
        a.obs.insert(0, "cell", range(N)),
        setattr(a.obs, "index", a.obs.index.rename("cell")),
    ),
    "2 columns called 'u'": lambda a: setattr(
        a, "obs", pd.DataFrame(np.ones((N, 2)), columns=["u", "u"], index=a.obs_names)
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("key", UNWRITABLE)
def test_what_cannot_be_written_is_named_before_any_work(tmp_path, key):
    adata = cells()
    UNWRITABLE[key](adata)
    with pytest.raises(InputError) as error:
        io.check_writable(adata)
    assert key in str(error.value)
    assert "adata." in str(error.value)  # what to type
    with pytest.raises(InputError):
        io.write_h5ad(adata, tmp_path / "a.h5ad")
    assert list(tmp_path.iterdir()) == []


def fill_after(monkeypatch, n_bytes):
    """Let the disk be full after some bytes of a file."""
    write = h5ad._Disk._write

    def limited(self, content):
        if self._at + len(content) > n_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, content)

    monkeypatch.setattr(h5ad._Disk, "_write", limited)


@pytest.mark.parametrize("n_bytes", [0, 3000, 20_000, 40_000])
def test_a_full_disk_is_one_error_and_leaves_the_earlier_file(tmp_path, monkeypatch, n_bytes):
    path = tmp_path / "a.h5ad"
    io.write_h5ad(cells(), path)
    before = path.read_bytes()
    big = ad.AnnData(sparse.random(400, 200, density=0.3, format="csr", random_state=0, dtype=np.float32))
    fill_after(monkeypatch, n_bytes)
    with pytest.raises(
        OutputError, match=r"a\.h5ad could not be written \(No space left.* free in .*Make room"
    ):
        io.write_h5ad(big, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5ad"]


def test_hdf5_reads_back_its_tables_after_the_disk_is_full(tmp_path):
    """Small writes are kept in memory, over what is on disk."""
    disk = h5ad._Disk(tmp_path / "file")
    disk.write(bytes(range(256)) * 40)
    disk.error = OSError(errno.ENOSPC, "full")
    disk.seek(5000)
    assert disk.write(b"\xff" * 100) == 100
    disk.seek(4990)
    buffer = bytearray(120)
    assert disk.readinto(buffer) == 120
    whole = bytes(range(256)) * 40
    assert bytes(buffer) == whole[4990:5000] + b"\xff" * 100 + whole[5100:5110]
    assert disk.seek(0, os.SEEK_END) == len(whole)
    disk.close()


FULL_DISK = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, anndata as ad
from scipy import sparse
from sparcell import io
from sparcell.errors import OutputError
x_ng = sparse.csr_matrix(np.random.default_rng(0).poisson(.3, (3000, 400)).astype("f4"))
try:
    io.write_h5ad(ad.AnnData(x_ng), sys.argv[1])
except OutputError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_process_with_a_really_full_disk_ends_without_a_crash(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no file system may be mounted here")
    try:
        command = [sys.executable, "-c", FULL_DISK, str(disk / "a.h5ad")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr  # HDF5 used to end it with a segmentation fault
        assert "No space left on device; 307.2 kB free" in done.stdout
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
