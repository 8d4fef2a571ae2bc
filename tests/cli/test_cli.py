"""The command line as a user meets it: in a process of its own where it matters, else called directly."""

from __future__ import annotations

import subprocess
import sys

import anndata
import numpy as np
import pytest

from helpers import small
from helpers.shell import sparcell
from sparcell.cli import commands, main
from sparcell.cli.commands import StudyModelOptions, StudyOptions
from sparcell.config.experiments import StudyConfig
from sparcell.config.options import settings_of
from sparcell.models import MODELS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    small.counts(200).write_h5ad(path)
    return path


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "sparcell.cli.main", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_command():
    shown = run("--help")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("study", "fit", "embed"))


@pytest.mark.parametrize("command", ["study", "fit"])
def test_help_of_a_command_names_every_setting_of_every_model(command):
    shown = run(command, "--help").stdout
    for model in MODELS.values():
        for setting in settings_of(model):
            if command == "fit" or setting.name != "seed":
                assert f"--{setting.name.replace('_', '-')}" in shown


def test_what_was_typed_is_recorded_so_that_it_can_be_typed_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sparcell", "study", "my counts.h5ad", "--seeds", "2"])
    assert commands.as_typed() == "sparcell study 'my counts.h5ad' --seeds 2"


def test_options_are_the_settings_themselves():
    assert set(StudyOptions.__dataclass_fields__) == {s.name for s in settings_of(StudyConfig)}
    union = {setting.name for model in MODELS.values() for setting in settings_of(model)}
    assert set(StudyModelOptions.__dataclass_fields__) == union - {"seed"}


def test_fit_and_embed_give_the_same_codes(data, tmp_path, monkeypatch, capfd):
    before = data.read_bytes()
    status = sparcell(
        *("fit", data, "--model", "beta-vsc", "--out", tmp_path / "a.h5ad", "--save", tmp_path / "m"),
        *("--epochs", "2", "--batch-size", "64", "--encoder-widths", "32", "16", "--n-latent", "4"),
        monkeypatch=monkeypatch,
    )
    assert status == 0
    assert "2/2" in capfd.readouterr().err
    assert (
        sparcell(
            "embed", data, "--load", tmp_path / "m", "--out", tmp_path / "b.h5ad", monkeypatch=monkeypatch
        )
        == 0
    )
    fitted, embedded = anndata.read_h5ad(tmp_path / "a.h5ad"), anndata.read_h5ad(tmp_path / "b.h5ad")
    assert fitted.obsm["X_beta_vsc"].shape == (200, 4)
    assert np.array_equal(fitted.obsm["X_beta_vsc"], embedded.obsm["X_beta_vsc"])
    assert np.array_equal(fitted.obsm["beta_vsc_gamma"], embedded.obsm["beta_vsc_gamma"])
    assert data.read_bytes() == before


def test_quiet_says_nothing(data, tmp_path, monkeypatch, capfd):
    words = (
        "fit",
        data,
        "--model",
        "autoencoder",
        "--save",
        tmp_path / "m",
        "--epochs",
        "1",
        "--batch-size",
        "64",
        "--quiet",
    )
    assert sparcell(*words, monkeypatch=monkeypatch) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["fit", "DATA", "--model", "beta-vae", "--alpha", ".2", "--out", "x.h5ad"],
            "beta-vae has no setting --alpha",
        ),
        (["fit", "DATA", "--model", "beta-vae"], "--out FILE.h5ad, --save FOLDER"),
        (["fit", "DATA", "--model", "beta-vae", "--preset", "sead", "--save", "m"], "no preset 'sead'"),
        (["fit", "DATA", "--model", "beta-vae", "--out", "DATA"], "--out is the input"),
        (["fit", "DATA", "--model", "beta-vae", "--out", "x.csv"], ".h5ad"),
        (["fit", "DATA", "--model", "beta-vae", "--out", "x.h5ad", "--layer", "X2"], "no layer 'X2'"),
        (["fit", "DATA", "--model", "beta-vae", "--out", "x.h5ad", "--no-normalise"], "X holds counts"),
        (
            ["fit", "DATA", "--model", "beta-vae", "--out", "x.h5ad", "--batch-size", "500"],
            "fewer than batch_size",
        ),
        (["fit", "DATA", "--model", "beta-vae", "--out", "x.h5ad", "--epochs", "0"], "epochs is 0"),
        (
            [
                "fit",
                "DATA",
                "--model",
                "beta-vae",
                "--out",
                "x.h5ad",
                "--device",
                "abacus",
                "--batch-size",
                "64",
            ],
            "device",
        ),
        (["fit", "counts.h5", "--model", "beta-vae", "--out", "x.h5ad"], "counts.h5"),
        (["embed", "DATA", "--load", "nowhere", "--out", "x.h5ad"], "not a sparcell model"),
        (["study", "DATA", "--out", "x", "--models", "beta-vea"], "did you mean 'beta-vae'"),
    ],
)
def test_a_mistake_gets_one_clear_message_and_writes_nothing(data, tmp_path, monkeypatch, capfd, words, said):
    monkeypatch.chdir(tmp_path)
    status = sparcell(*[str(data) if word == "DATA" else word for word in words], monkeypatch=monkeypatch)
    shown = capfd.readouterr()
    assert status == 1
    assert shown.err.startswith("Error: ")
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert not [entry for entry in tmp_path.iterdir() if entry.name != "x"]


def test_an_unknown_option_names_the_nearest(data, monkeypatch, capfd):
    assert sparcell("fit", data, "--model", "beta-vae", "--epoch", "2", monkeypatch=monkeypatch) != 0
    assert "--epochs" in "".join(capfd.readouterr())


def test_ctrl_c_stops_with_what_was_saved(monkeypatch, capfd):
    def interrupted(tokens):
        raise KeyboardInterrupt("2 of 8 runs are saved in here.")

    monkeypatch.setattr(main, "app", interrupted)
    assert sparcell("study", monkeypatch=monkeypatch) == 130
    assert "Stopped. 2 of 8 runs are saved in here." in capfd.readouterr().err
