"""The command line as a user meets it: in a process of its own where it matters, else called directly."""

from __future__ import annotations

import re
import subprocess
import sys

import anndata
import numpy as np
import pytest

from helpers import small
from helpers.shell import sparcell
from sparcell.cli import commands, main
from sparcell.cli.options import (
    BenchmarkOptions,
    FitOptions,
    ModelOptions,
    PresetModelOptions,
    ProgramsOptions,
    StudyOptions,
    as_options,
)
from sparcell.config.experiments import BenchmarkConfig, FitConfig, ProgramsConfig, StudyConfig
from sparcell.config.options import settings_of
from sparcell.models import MODELS

COMMANDS = (
    "analyze",
    "study",
    "benchmark",
    "fit",
    "embed",
    "map",
    "predict",
    "programs",
    "differential-expression",
    "denoise",
    "criticize",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    small.counts(200).write_h5ad(path)
    return path


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "sparcell", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def shown_help(monkeypatch, capsys, *words, flag="--help-all"):
    monkeypatch.setenv("COLUMNS", "500")  # one line an option
    assert sparcell(*words, flag, monkeypatch=monkeypatch) == 0
    return capsys.readouterr().out


def option_line(shown, option):
    (line,) = [line for line in shown.splitlines() if re.match(rf"│ \*? *{option}\b(?!-)", line)]
    return line


def test_help_names_every_command():
    shown = run("--help")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in COMMANDS)
    assert shown.stderr == ""


@pytest.mark.parametrize("command", ["study", "benchmark", "fit"])
def test_help_of_a_command_names_every_setting_of_every_model(command, monkeypatch, capsys):
    shown = shown_help(monkeypatch, capsys, command)
    for model in MODELS.values():
        for setting in settings_of(model):
            if command == "fit" or setting.name not in ("seed", "label_weight"):
                assert f"--{setting.name.replace('_', '-')}" in shown


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("fit", ("--model", "--out", "--model-dir", "--checkpoint-dir", "--resume", "--preset")),
        ("embed", ("--model-dir", "--out", "--unseen")),
        ("map", ("--model-dir", "--out", "--batch-key", "--unseen", "--mapped-model-dir")),
        ("predict", ("--model-dir", "--out", "--reference", "--labels-key", "--unknown-rate")),
        ("programs", ("--model-dir", "--out", "--n-genes-listed", "--n-genes-enrichment", "--seeds")),
        ("study", ("--out", "--resume", "--presets", "--models", "--labels-key")),
        ("benchmark", ("--external-models", "--external-epochs", "--disentanglement", "--baselines")),
    ],
)
def test_each_command_has_its_options_and_each_has_a_help_text(command, options, monkeypatch, capsys):
    shown = shown_help(monkeypatch, capsys, command)
    for option in (*options, "--quiet"):
        assert re.search(r"  [A-Z].*[a-z]{3}", option_line(shown, option)), option


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_short_and_help_all_adds_groups_to_it(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    basic = run(command, "--help").stdout
    assert "Usage: sparcell" in basic
    assert len(basic.splitlines()) <= 50
    assert max(map(len, basic.splitlines())) <= 80
    assert "─ Training ─" not in basic
    assert sparcell(command, "--help-all", monkeypatch=monkeypatch) == 0
    options = [set(re.findall(r"--[a-z-]+", shown)) for shown in (basic, capsys.readouterr().out)]
    assert options[0] - {"--help-all"} <= options[1]
    trained = command in ("analyze", "fit", "study", "benchmark")
    assert trained == ({"--learning-rate", "--encoder-widths", "--alpha", "--likelihood"} <= options[1])
    assert f"sparcell {command} --help-all lists all options" in basic
    assert trained == ("also those of models" in basic)
    assert "--learning-rate" not in options[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_the_options_of_all_commands(command, monkeypatch, capsys):
    shown = shown_help(monkeypatch, capsys, command, flag="--help")
    for option in ("--layer", "--gene-symbols", "--overwrite", "--threads", "--quiet"):
        assert option_line(shown, option)
    assert ("--title" in shown) == (command in ("analyze", "study", "benchmark", "programs"))


def test_a_switch_that_nothing_else_sets_has_no_negative(monkeypatch, capsys):
    assert "--no-resume" not in shown_help(monkeypatch, capsys, "fit")
    assert "--no-disentanglement" not in shown_help(monkeypatch, capsys, "benchmark")


def test_a_default_that_differs_between_models_is_shown_for_each(monkeypatch, capsys):
    beta = option_line(shown_help(monkeypatch, capsys, "fit"), "--beta")
    assert "[default: 1 (beta-vae), 2 (beta-vsc)] Only: beta-vae, beta-vsc." in beta


def test_where_a_preset_gives_the_value_no_default_of_the_model_is_shown(monkeypatch, capsys):
    shown = shown_help(monkeypatch, capsys, "study")
    assert "[default" not in option_line(shown, "--n-latent")
    assert "[default: 40]" in option_line(shown, "--perplexity")
    assert "[default: 10]" in option_line(shown_help(monkeypatch, capsys, "fit"), "--n-latent")


def test_help_names_other_settings_as_they_are_typed():
    assert as_options("from kl_warmup_start to beta") == "from --kl-warmup-start to beta"
    assert as_options("obsm holds X_model, log_expression") == "obsm holds X_model, log_expression"


def test_what_was_typed_is_recorded_so_that_it_can_be_typed_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sparcell", "study", "my counts.h5ad", "--seeds", "2"])
    assert commands.command_line() == "sparcell study 'my counts.h5ad' --seeds 2"


@pytest.mark.parametrize(
    ("options", "config"),
    [
        (StudyOptions, StudyConfig),
        (FitOptions, FitConfig),
        (BenchmarkOptions, BenchmarkConfig),
        (ProgramsOptions, ProgramsConfig),
    ],
)
def test_options_are_the_settings_themselves(options, config):
    assert set(options.__dataclass_fields__) == {setting.name for setting in settings_of(config)}


def test_options_of_models_are_the_settings_of_all_models():
    union = {setting.name for model in MODELS.values() for setting in settings_of(model)}
    assert set(ModelOptions.__dataclass_fields__) == union
    assert set(PresetModelOptions.__dataclass_fields__) == union - {"seed", "label_weight"}


def test_fit_and_embed_give_the_same_latents(data, tmp_path, monkeypatch, capfd):
    before = data.read_bytes()
    status = sparcell(
        *("fit", data, "--model", "beta-vsc", "--out", tmp_path / "a.h5ad", "--model-dir", tmp_path / "m"),
        *("--epochs", "2", "--batch-size", "64", "--encoder-widths", "32", "16", "--n-latent", "4"),
        monkeypatch=monkeypatch,
    )
    assert status == 0
    assert "2/2" in capfd.readouterr().err
    words = ("embed", data, "--model-dir", tmp_path / "m", "--out", tmp_path / "b.h5ad")
    assert sparcell(*words, monkeypatch=monkeypatch) == 0
    fitted, embedded = anndata.read_h5ad(tmp_path / "a.h5ad"), anndata.read_h5ad(tmp_path / "b.h5ad")
    assert fitted.obsm["X_beta_vsc"].shape == (200, 4)
    assert np.array_equal(fitted.obsm["X_beta_vsc"], embedded.obsm["X_beta_vsc"])
    assert np.array_equal(fitted.obsm["beta_vsc_inclusion"], embedded.obsm["beta_vsc_inclusion"])
    assert data.read_bytes() == before


def test_quiet_says_nothing(data, tmp_path, monkeypatch, capfd):
    words = ("fit", data, "--model", "autoencoder", "--model-dir", tmp_path / "m", "--quiet")
    assert sparcell(*words, "--epochs", "1", "--batch-size", "64", monkeypatch=monkeypatch) == 0
    assert capfd.readouterr() == ("", "")


FIT = ["fit", "DATA", "--model", "beta-vae"]
PRESETS_SHOWN = "there are: study-2019, hvg, counts, programs."


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*FIT, "--alpha", ".2", "--out", "x.h5ad"], "beta-vae has no setting --alpha"),
        (FIT, "--out FILE.h5ad or FOLDER.zarr, --model-dir FOLDER"),
        ([*FIT, "--preset", "seed", "--model-dir", "m"], f"no preset 'seed'; {PRESETS_SHOWN}"),
        (
            [*FIT, "--preset", "study2019", "--model-dir", "m"],
            "no preset 'study2019'; did you mean 'study-2019'?",
        ),
        ([*FIT, "--out", "DATA"], "--out is the input"),
        ([*FIT, "--out", "x.csv"], ".h5ad"),
        ([*FIT, "--out", "x.h5ad", "--layer", "X2"], "no layer 'X2'"),
        ([*FIT, "--out", "x.h5ad", "--no-log-normalize"], "X holds counts"),
        ([*FIT, "--out", "x.h5ad", "--batch-size", "500"], "fewer than batch_size"),
        ([*FIT, "--out", "x.h5ad", "--epochs", "0"], "epochs is 0"),
        ([*FIT, "--out", "x.h5ad", "--device", "abacus", "--batch-size", "64"], "device"),
        (
            [*FIT, "--out", "x.h5ad", "--n-top-genes", "300", "--genes-key", "g"],
            "--n-top-genes and --genes-key",
        ),
        ([*FIT, "--out", "x.h5ad", "--n-top-genes", "3"], "n_top_genes is 3"),
        ([*FIT, "--out", "x.h5ad", "--model-dir", "x.h5ad"], "expected two different names"),
        (["fit", "counts.h5", "--model", "beta-vae", "--out", "x.h5ad"], "counts.h5"),
        (["embed", "DATA", "--model-dir", "nowhere", "--out", "x.h5ad"], "not a sparcell model"),
        (["study", "DATA", "--out", "x", "--models", "beta-vea"], "did you mean 'beta-vae'"),
        (["study", "DATA", "--out", "x", "--presets", "seed"], f"no preset 'seed'; {PRESETS_SHOWN}"),
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
