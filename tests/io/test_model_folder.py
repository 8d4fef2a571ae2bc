"""Model folders are read back as they were, or refused with one message; saving never destroys other files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import sparcell as sp
from helpers.simulated import COUNTS, QUICK, simulated_cells, two_batches
from sparcell.errors import InputError
from sparcell.io import model_folder, places
from sparcell.models import MODELS


@pytest.fixture(scope="module")
def model():
    return MODELS["beta-vsc"](**{**QUICK, "epochs": 1}).fit(simulated_cells(), layer="lognorm", silent=True)


@pytest.fixture
def saved(model, tmp_path):
    model.save(tmp_path / "model")
    return tmp_path / "model"


def content(folder):
    """Every file under a folder with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def edit(folder, change):
    """Change the description, leaving the tensors."""
    path = folder / "model.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def refused(folder, message):
    with pytest.raises(InputError, match=message) as error:
        sp.load(folder)
    assert folder.name in str(error.value)


def test_a_model_is_three_files_that_say_what_they_are(saved, model):
    assert set(content(saved)) == {"model.safetensors", "model.json", "README.md"}
    description = json.loads((saved / "model.json").read_text())
    assert description["format"] == model_folder.FORMAT
    assert description["model"] == "beta_vsc"
    assert description["settings"]["n_latent"] == model.settings.n_latent
    assert description["schema"]["genes"] == list(model.schema.genes)
    assert set(description["versions"]) == {"sparcell", "torch", "python"}
    assert description["versions"]["sparcell"] == sp.__version__


def test_no_file_holds_a_pickle(saved, monkeypatch):
    for name, data in content(saved).items():
        assert not zipfile.is_zipfile(io.BytesIO(data)), name  # what torch.save writes
        assert not data.startswith(b"\x80"), name

    def forbidden(*_, **__):
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(pickle, "load", forbidden)
    monkeypatch.setattr(pickle, "loads", forbidden)
    monkeypatch.setattr(pickle, "Unpickler", forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    assert sp.load(saved).settings.name == "beta_vsc"


def test_a_flipped_bit_anywhere_in_the_weights_is_noticed(saved):
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    for position in np.linspace(0, len(whole) - 1, 40).astype(int):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        refused(saved, "model.safetensors is damaged: its checksum")


@pytest.mark.parametrize("fraction", [0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_noticed(saved, fraction):
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    refused(saved, "model.safetensors is damaged")


@pytest.mark.parametrize("tensors", [b"", b"\xff" * 100, b"\x08" + b"\x00" * 7 + b"{]}     "])
def test_weights_that_are_no_safetensors_are_refused_even_with_the_right_checksum(saved, tensors):
    (saved / "model.safetensors").write_bytes(tensors)
    edit(saved, lambda description: description.update(sha256=hashlib.sha256(tensors).hexdigest()))
    refused(saved, "model.safetensors is damaged")


@pytest.mark.parametrize(
    "text", ["", "{", '{"format": 1', "[]", "null", "3", '{"model": "beta_vsc"}', "\x00"]
)
def test_a_broken_description_is_refused(saved, text):
    (saved / "model.json").write_text(text)
    refused(saved, "model.json is damaged")


def test_a_description_that_is_not_text_is_refused(saved):
    (saved / "model.json").write_bytes(b"\xff\xfe\x00\x80")
    refused(saved, "model.json is damaged")


@pytest.mark.parametrize("number", [0, 1, 99, "2.0", None])
def test_another_format_is_refused_with_what_to_do(saved, number):
    edit(saved, lambda description: description.update(format=number))
    formats = rf"format {number} of sparcell {sp.__version__}, this version reads {model_folder.FORMAT}"
    remedy = r"Train the model again with this version, or install the version that wrote it\."
    refused(saved, rf"model was written by a different version of sparcell \({formats}\)\. {remedy}$")


def test_another_format_names_the_version_that_wrote_it(saved):
    edit(saved, lambda description: description.update(format=1, versions={"sparcell": "0.0.7"}))
    refused(
        saved,
        r"\(format 1 of sparcell 0\.0\.7, this version reads 2\)\. Train the model again with this version",
    )


@pytest.mark.parametrize("versions", [None, {}, [], "0.0.7", {"torch": "2.0"}])
def test_another_format_is_refused_whatever_the_versions_are(saved, versions):
    edit(saved, lambda description: description.update(format=1, versions=versions))
    refused(saved, r"\(format 1, this version reads 2\)\. .*or install the version that wrote it\.$")


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    refused(saved, "model.json or model.safetensors is missing")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "no such folder")


def test_a_model_of_unknown_kind_is_refused(saved):
    edit(saved, lambda description: description.update(model="gamma_vae"))
    refused(saved, "does not describe a whole model.*gamma_vae")


CHANGES = {
    "no settings": lambda description: description.pop("settings"),
    "settings are a list": lambda description: description.update(settings=[1]),
    "settings are null": lambda description: description.update(settings=None),
    "an unknown setting": lambda description: description["settings"].update(depth=3),
    "a setting out of range": lambda description: description["settings"].update(n_latent=0),
    "an unknown likelihood": lambda description: description["settings"].update(likelihood="cauchy"),
    "other sizes than the weights": lambda description: description["settings"].update(n_latent=5),
    "no schema": lambda description: description.pop("schema"),
    "schema is null": lambda description: description.update(schema=None),
    "one gene less": lambda description: description["schema"]["genes"].pop(),
    "no history": lambda description: description.pop("history"),
    "history is ragged": lambda description: description["history"]["loss"].append(1.0),
    "history is text": lambda description: description.update(history="lost"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_description_that_does_not_fit_is_refused(saved, name):
    edit(saved, CHANGES[name])
    refused(saved, "does not describe a whole model")


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.txt": "years"},
        {"model.json": "{}", "thesis.txt": "years"},
        {"model.safetensors": "of another program"},
        {"model.json": "{}", "model.safetensors": "", "deeper/thesis.txt": "years"},
        {"model.json": '{"format": 3}', "model.safetensors": "of another program"},
        {"model.json": "[1, 2]"},
        {"model.json": "no JSON at all", "model.safetensors": "of another program"},
    ],
    ids=lambda files: "+".join(files),
)
def test_a_folder_with_anything_else_in_it_is_not_overwritten(model, tmp_path, files):
    folder = tmp_path / "user"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = content(folder)
    with pytest.raises(
        InputError, match=r"holds other files than those of a sparcell model.*expected a new or empty folder"
    ):
        model.save(folder)
    assert content(folder) == before


@pytest.mark.parametrize("name", ["notes.txt", "model.json"])
def test_a_file_is_not_overwritten(model, tmp_path, name):
    (tmp_path / name).write_text("years")
    with pytest.raises(InputError, match="is a file; expected a new or empty folder"):
        model.save(tmp_path / name)
    assert content(tmp_path) == {name: b"years"}


@pytest.mark.parametrize("folder", ["new", "deep/er/new"])
def test_a_new_folder_is_created_and_nothing_else_is_left(model, tmp_path, folder):
    model.save(tmp_path / folder)
    assert [path.name for path in (tmp_path / folder).parent.iterdir()] == ["new"]
    assert sp.load(tmp_path / folder).settings == model.settings


def test_an_empty_folder_is_used(model, tmp_path):
    (tmp_path / "empty").mkdir()
    model.save(tmp_path / "empty")
    assert sp.load(tmp_path / "empty").settings == model.settings


def test_an_earlier_model_is_replaced_as_a_whole_and_the_log_says_so(model, saved, caplog):
    caplog.set_level("INFO", logger="sparcell")
    other = MODELS["autoencoder"](**{**QUICK, "epochs": 1}).fit(
        simulated_cells(), layer="lognorm", silent=True
    )
    other.save(saved)
    assert sp.load(saved).settings == other.settings
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
    assert [line for line in caplog.messages if "takes the place" in line] == [
        f"the model takes the place of an earlier one in {saved}"
    ]


def test_a_new_folder_replaces_nothing(model, tmp_path, caplog):
    caplog.set_level("INFO", logger="sparcell")
    model.save(tmp_path / "model")
    assert not [line for line in caplog.messages if "takes the place" in line]


@pytest.mark.parametrize("text", ["", "{", '{\n "format": 2,\n "sha'])
def test_a_cut_description_without_a_card_may_be_replaced(model, saved, text):
    (saved / "README.md").unlink()
    (saved / "model.json").write_text(text)
    model.save(saved)
    assert sp.load(saved).settings == model.settings


def test_a_damaged_model_may_be_replaced(model, saved):
    (saved / "model.json").write_text("{")
    model.save(saved)
    assert sp.load(saved).settings == model.settings


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("disk full")])
@pytest.mark.parametrize("step", ["model.safetensors", "README.md", "model.json", "replace"])
def test_an_interrupted_save_leaves_the_old_model_and_nothing_else(model, saved, monkeypatch, step, stop):
    """At every step: while writing any file, and when the new folder replaces the old one."""
    before = content(saved)
    method = "replace" if step == "replace" else "write_bytes"
    real = getattr(Path, method)

    def interrupted(self, *arguments, **keywords):
        if step == "replace":
            is_step = self != saved and Path(arguments[0]) == saved and not self.name.endswith(".earlier")
        else:
            is_step = self.name == step
        if is_step:
            raise stop
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(Path, method, interrupted)
    with pytest.raises((KeyboardInterrupt, OSError)):
        model.save(saved)
    monkeypatch.undo()
    assert content(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
    assert sp.load(saved).settings == model.settings


def test_a_model_that_a_killed_process_had_put_aside_is_found_again(model, saved, monkeypatch):
    """The process ends between the two renames: no clean-up runs."""
    before, replace = content(saved), Path.replace

    class KilledError(BaseException):
        pass

    def killed(self, target):
        if target == saved:
            monkeypatch.setattr(Path, "replace", killed)
            raise KilledError
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr(places, "remove", lambda _: None)
    with pytest.raises(KilledError):
        model.save(saved)
    monkeypatch.undo()
    assert not saved.exists()
    (left,) = (path for path in saved.parent.iterdir() if path.name.startswith(".sparcell-"))
    left.rename(
        left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))
    )  # of a process that has ended
    assert model_folder.is_whole(saved)
    assert sp.load(saved).settings == model.settings
    model.save(saved)
    assert content(saved).keys() == before.keys()
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_an_interrupted_first_save_leaves_nothing(model, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.save(tmp_path / "model")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_model_may_be_moved(model, saved, tmp_path):
    shutil.move(saved, tmp_path / "moved")
    assert sp.load(tmp_path / "moved").settings == model.settings


@pytest.fixture(scope="module")
def counts_model():
    """Return a model of counts with everything that a description can hold."""
    settings = {
        **COUNTS,
        "epochs": 1,
        "likelihood": "nb",
        "dispersion": "gene-batch",
        "validation_fraction": 0.2,
    }
    return MODELS["beta-vsc"](**settings).fit(
        two_batches(), batch_key="batch", covariates=("depth", "type"), silent=True
    )


COVARIATES = {
    "no covariates": lambda schema: schema.pop("covariates"),
    "covariates are null": lambda schema: schema.update(covariates=None),
    "covariates are a list": lambda schema: schema.update(covariates=[]),
    "no batch": lambda schema: schema["covariates"].update(batch=None),
    "a batch more": lambda schema: schema["covariates"]["batch"]["names"].append("c"),
    "a batch without a name": lambda schema: schema["covariates"]["batch"].pop("key"),
    "a number less": lambda schema: schema["covariates"]["continuous"].pop(),
    "an unknown part of a number": lambda schema: schema["covariates"]["continuous"][0].update(median=3),
    "no word on counts": lambda schema: schema.pop("counts"),
}


@pytest.mark.parametrize("name", COVARIATES)
def test_a_description_whose_covariates_do_not_fit_is_refused(counts_model, tmp_path, name):
    counts_model.save(tmp_path / "model")
    edit(tmp_path / "model", lambda description: COVARIATES[name](description["schema"]))
    refused(tmp_path / "model", "does not describe a whole model")


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings.pop("likelihood"),
        lambda settings: settings.update(likelihood="poisson"),
        lambda settings: settings.update(dispersion="gene"),
        lambda settings: settings.update(n_prior_components=5),
        lambda settings: settings.update(standardize_input=False),
        lambda settings: settings.update(encode_covariates=True),
        lambda settings: settings.update(head_width=3),
    ],
    ids=["likelihood gone", "likelihood", "dispersion", "components", "standardize", "encoder", "head"],
)
def test_settings_that_do_not_fit_the_weights_are_refused(counts_model, tmp_path, change):
    counts_model.save(tmp_path / "model")
    edit(tmp_path / "model", lambda description: change(description["settings"]))
    refused(tmp_path / "model", "does not describe a whole model")


def test_a_model_of_counts_is_read_back_as_it_was(counts_model, tmp_path):
    counts_model.save(tmp_path / "model")
    loaded, adata = sp.load(tmp_path / "model"), two_batches(60, seed=4)
    assert loaded.schema == counts_model.schema
    assert loaded.schema.median_library_size == np.median(two_batches().X.toarray().sum(axis=1))
    np.testing.assert_array_equal(
        loaded.reconstruct(adata, batch="a"), counts_model.reconstruct(adata, batch="a")
    )
    np.testing.assert_array_equal(loaded.sample(9, noise=True).X, counts_model.sample(9, noise=True).X)
    assert loaded.history["validation_loss"].dtype == float
    assert loaded.history.equals(counts_model.history)
