"""--overwrite replaces what sparcell wrote, at the end, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import pytest

from helpers import small
from helpers.shell import sparcell
from sparcell.cli import targets
from sparcell.errors import InputError
from sparcell.io import marks

SHORT = ("--epochs", "1", "--batch-size", "64", "--encoder-widths", "8", "--n-latent", "2")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    small.counts(200).write_h5ad(path)
    return path


def write(folder, names=("scores.csv", "figures/map.png"), text="earlier"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def earlier(tmp_path):
    with targets.output_folder(tmp_path / "out", overwrite=False) as folder:
        write(folder)
    return tmp_path / "out"


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != targets.FILES
    }


def test_a_folder_of_sparcell_is_replaced_when_the_new_one_is_complete(earlier):
    with targets.output_folder(earlier, overwrite=True) as folder:
        assert folder != earlier
        write(folder, ("report.html",), "new")
        assert contents(earlier)["scores.csv"] == "earlier"
    assert contents(earlier) == {"report.html": "new"}
    assert [path.name for path in earlier.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, InputError("no")])
def test_an_earlier_result_stays_if_the_new_one_fails(earlier, stop):
    before = contents(earlier)
    replaced = targets.output_folder(earlier, overwrite=True)
    with pytest.raises((KeyboardInterrupt, InputError)):  # noqa: PT012, SIM117
        with replaced as folder:
            write(folder, ("runs/one.npz",))
            raise stop
    assert contents(earlier) == before
    with targets.output_folder(
        earlier, overwrite=True
    ) as folder:  # finished runs are there for the same command
        assert list(contents(folder)) == ["runs/one.npz"]


@pytest.mark.parametrize("n_renamed", [1, 2])
def test_a_result_that_a_killed_process_had_put_aside_is_put_back(earlier, monkeypatch, n_renamed):
    """The process ends after the first or the second of the two renames: no clean-up runs."""
    before, rename, names = contents(earlier), Path.rename, []

    def killed(path, target):
        rename(path, target)
        names.append(target.name)
        if len(names) == n_renamed:
            raise SystemExit

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(SystemExit), targets.output_folder(earlier, overwrite=True) as folder:
        write(folder, ("report.html",), "new")
    monkeypatch.undo()
    assert names == [".out.earlier", "out"][:n_renamed]
    assert earlier.exists() == (n_renamed == 2)
    with targets.output_folder(earlier, overwrite=True) as folder:
        assert contents(earlier) == (before if n_renamed == 1 else {"report.html": "new"})
        write(folder, ("report.html",), "newer")
    assert ".out.earlier" not in [path.name for path in earlier.parent.iterdir()]


def test_a_copy_that_the_user_made_of_a_result_stays(earlier):
    copy = Path(shutil.copytree(earlier, earlier.with_name("out.earlier")))
    with targets.output_folder(earlier, overwrite=True) as folder:
        write(folder, ("report.html",), "new")
    assert contents(copy)["scores.csv"] == "earlier"


@pytest.mark.parametrize("change", ["added", "changed", "linked"])
def test_a_file_that_sparcell_did_not_write_is_never_removed(earlier, change):
    if change == "linked":
        (earlier / "mine").symlink_to(earlier / "scores.csv")
    else:
        name = "scores.csv" if change == "changed" else "figures/thesis.png"
        (earlier / name).write_text("work of weeks")
    before = contents(earlier)
    with (
        pytest.raises(
            InputError, match=r"holds (scores.csv|figures/thesis.png|mine), which sparcell did not write"
        ),
        targets.output_folder(earlier, overwrite=True),
    ):
        pytest.fail("worked")
    assert contents(earlier) == before


def test_a_file_that_is_added_meanwhile_is_not_removed(earlier):
    replaced = targets.output_folder(earlier, overwrite=True)
    with pytest.raises(InputError, match=r"holds thesis.txt, which"):  # noqa: PT012, SIM117
        with replaced as folder:
            write(folder, ("report.html",), "new")
            (earlier / "thesis.txt").write_text("work of weeks")
    assert (earlier / "thesis.txt").read_text() == "work of weeks"
    assert contents(folder) == {"report.html": "new"}


def test_files_that_were_there_before_do_not_become_files_of_sparcell(tmp_path):
    write(tmp_path / "out", ("notes.txt",))
    with targets.output_folder(tmp_path / "out", overwrite=False) as folder:
        write(folder)
    with pytest.raises(InputError, match=r"holds notes.txt, which sparcell did not write"):
        targets.check_written_by_sparcell(tmp_path / "out")


def test_a_folder_without_a_list_is_not_replaced(tmp_path):
    write(tmp_path / "out")
    with pytest.raises(InputError, match=r"holds figures/map\.png and 1 more"):
        targets.check_written_by_sparcell(tmp_path / "out")


def test_fit_replaces_its_own_files_and_refuses_those_of_others(data, tmp_path, monkeypatch, capfd):
    saved = ("--out", tmp_path / "o.h5ad", "--model-dir", tmp_path / "m")
    words = ("fit", data, "--model", "autoencoder", *saved, *SHORT)
    assert sparcell(*words, monkeypatch=monkeypatch) == 0
    assert marks.is_marked_file(tmp_path / "o.h5ad")
    assert sparcell(*words, monkeypatch=monkeypatch) == 1
    assert "Add --overwrite" in capfd.readouterr().err
    assert sparcell(*words, "--overwrite", "--seed", "1", monkeypatch=monkeypatch) == 0
    adata = anndata.read_h5ad(tmp_path / "o.h5ad")
    assert '"seed": 1' in (tmp_path / "m" / "model.json").read_text()
    adata.obs["mine"] = 1
    adata.write_h5ad(tmp_path / "o.h5ad")
    assert sparcell(*words, "--overwrite", monkeypatch=monkeypatch) == 1
    assert "o.h5ad was not written by sparcell" in capfd.readouterr().err
    assert "mine" in anndata.read_h5ad(tmp_path / "o.h5ad").obs


def test_a_model_is_not_replaced_unless_asked(data, tmp_path, monkeypatch, capfd):
    words = ("fit", data, "--model", "autoencoder", "--model-dir", tmp_path / "m", *SHORT)
    assert sparcell(*words, monkeypatch=monkeypatch) == 0
    assert sparcell(*words, monkeypatch=monkeypatch) == 1
    assert "holds a model; expected a new folder. Add --overwrite" in capfd.readouterr().err


def test_the_current_folder_is_not_replaced(earlier, monkeypatch):
    monkeypatch.chdir(earlier)
    before = contents(earlier)
    with pytest.raises(InputError, match="current folder"), targets.output_folder(Path(), overwrite=True):
        pass
    assert contents(earlier) == before
