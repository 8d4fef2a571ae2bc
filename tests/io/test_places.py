"""Every place that is written is tried before any work, and what a killed process left is swept."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from sparcell import io
from sparcell.errors import InputError
from sparcell.io import locks, model_folder, places

CHECKS = {
    "file": places.check_file,
    "folder": io.check_output_folder,
    "model": model_folder.check_target,
}
each_check = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)


@each_check
@pytest.mark.parametrize("length", [256, 300])
def test_a_name_that_is_too_long(tmp_path, check, length):
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\); give another path"):
        check(tmp_path / ("n" * length))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@each_check
@pytest.mark.parametrize("inside", ["o", "X/o"])
def test_nothing_is_written_into_a_zarr_store(tmp_path, check, inside):
    store = tmp_path / "in.zarr"
    ad.AnnData(np.eye(3, dtype=np.float32)).write_zarr(store)
    before = sorted(store.rglob("*"))
    with pytest.raises(InputError, match=r"o is inside of the zarr store .*in\.zarr, which holds data"):
        check(store / inside)
    assert sorted(store.rglob("*")) == before


@each_check
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_place_that_refuses_a_file(tmp_path, check, number, monkeypatch):
    """As a read-only file system, a folder of another user and a full disk do."""
    (tmp_path / "there").mkdir()

    def refuse(folder):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(places, "probe", refuse)
    with pytest.raises(InputError, match=r"new cannot be written \(.*\); give another path"):
        check(tmp_path / "there" / "new")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not stop this user")
@each_check
def test_a_folder_of_mode_000(tmp_path, check):
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        check(tmp_path / "closed" / "new")
    with pytest.raises(InputError, match="Permission denied"):
        model_folder.load(tmp_path / "closed")


def test_trying_a_folder_leaves_nothing(tmp_path):
    places.check_folder(tmp_path / "a" / "b")
    model_folder.check_target(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_of_a_killed_process_are_swept_and_others_stay(tmp_path):
    mine = tmp_path / places.temporary_name(Path("a.csv"))
    assert mine.suffix == ".csv"
    left = tmp_path / mine.name.replace(f"-{os.getpid()}-", f"-{dead_process()}-")
    folder = tmp_path / f"{left.name}-folder"
    folder.mkdir()
    elsewhere = tmp_path / f".sparcell-{'0' * 8}-1-{'0' * 8}"  # of another machine
    for path in (mine, left, folder / "model.json", elsewhere, tmp_path / "thesis.txt"):
        path.write_text("x")
    io.check_output_folder(tmp_path, allow_existing=True)
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, elsewhere.name, "thesis.txt"}
    for path in (mine, elsewhere):  # a run of this machine may last for days
        os.utime(path, (0, 0))
    io.write_text(tmp_path / "new.txt", "x")
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, "thesis.txt", "new.txt"}


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    path = tmp_path / "lock"
    with locks.lock(path, tmp_path):
        with (
            pytest.raises(InputError, match=rf"in use by another run \(process {os.getpid()} on .*, since 2"),
            locks.lock(path, tmp_path),
        ):
            pass
        assert path.exists()
    assert not path.exists()
    path.write_text('{"process": 1}')  # as a killed process leaves it: the system has released the lock
    with locks.lock(path, tmp_path):
        pass
    assert not path.exists()
