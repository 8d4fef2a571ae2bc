"""Command-line options made from the settings' own types and help texts; nothing is described a second time."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from dataclasses import fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from sparcell.cli.groups import BASIC, GROUPS
from sparcell.config.analysis import AnalysisConfig
from sparcell.config.data import DataConfig, LabelledDataConfig
from sparcell.config.experiments import (
    BenchmarkConfig,
    EmbedConfig,
    FitConfig,
    ProgramsConfig,
    RunConfig,
    StudyConfig,
)
from sparcell.config.expression import CriticizeConfig, DenoiseConfig, DifferentialExpressionConfig
from sparcell.config.model import MODEL_SETTINGS
from sparcell.config.new_cells import MapConfig, PredictConfig
from sparcell.config.options import Setting, settings_of

SETTING_NAMES = {
    setting.name
    for config in (
        RunConfig,
        LabelledDataConfig,
        FitConfig,
        EmbedConfig,
        AnalysisConfig,
        MapConfig,
        PredictConfig,
        StudyConfig,
        BenchmarkConfig,
        ProgramsConfig,
        DifferentialExpressionConfig,
        DenoiseConfig,
        CriticizeConfig,
        *MODEL_SETTINGS.values(),
    )
    for setting in settings_of(config)
}


def options(
    name: str,
    configs: dict[str, type],
    *,
    basic: Sequence[str] = (),
    without: tuple[str, ...] = (),
    show_default: bool = True,
    negatives: bool = False,
) -> Any:
    """Make a dataclass of options: the union of the settings of several configs, with None where the user sets nothing.

    Parameters
    ----------
    name
        Name of the dataclass.
    configs
        Name of the owner, as the help calls it → config class. A setting that some owners lack is marked with those that have it.
    basic
        Settings that --help lists, in this order; --help-all lists the others too.
    without
        Settings that are left out.
    show_default
        Add the defaults to the help.
    negatives
        Add ``--no-NAME`` to each switch. Without it, a switch is off until it is given.
    """
    owners: dict[str, dict[str, Setting]] = {}
    for owner, config in configs.items():
        for setting in settings_of(config):
            if setting.name not in without:
                owners.setdefault(setting.name, {})[owner] = setting
    options_of = []
    for setting_name in (*basic, *(name for name in owners if name not in basic)):
        settings = owners[setting_name]
        first = next(iter(settings.values()))
        kind = first.type
        members = (kind, *typing.get_args(kind))  # also for "tuple or None"
        is_list = any(typing.get_origin(member) is tuple for member in members)
        parameter = Parameter(
            help=help_text(settings, len(configs), show_default and (negatives or kind is not bool)),
            group=BASIC if setting_name in basic else GROUPS[first.owner],
            consume_multiple=is_list,
            negative=None if negatives and not is_list else "",
            show_default=False,
            show_choices=not any(member in (int, float) for member in members),  # a number or a word
        )
        options_of.append((setting_name, Annotated[kind | None, parameter], None))
    made = make_dataclass(name, options_of, frozen=True, kw_only=True)
    made.__module__ = __name__  # where cyclopts looks up the types of its fields
    return made


def help_text(settings: dict[str, Setting], n_configs: int, show_default: bool) -> str:
    """Return the help of an option: the setting's help, its default and, unless all configs have it, those that do."""
    text = as_options(next(iter(settings.values())).help)
    defaults = {owner: default_text(setting.default) for owner, setting in settings.items()}
    if show_default and len(set(defaults.values())) > 1:
        text += f" [default: {', '.join(f'{default} ({owner})' for owner, default in defaults.items())}]"
    elif show_default and any(defaults.values()):
        text += f" [default: {next(iter(defaults.values()))}]"
    if len(settings) < n_configs:
        text += f" Only: {', '.join(settings)}."
    return text


def as_options(text: str) -> str:
    """Write settings that a help text names as they are typed in a shell: max_steps becomes --max-steps."""
    return re.sub(
        r"\b[a-z]+(?:_[a-z]+)+\b",
        lambda word: f"--{word[0].replace('_', '-')}" if word[0] in SETTING_NAMES else word[0],
        text,
    )


def default_text(default: Any) -> str:
    """Write a default as one would type it: yes or no for a switch, an empty text for None or an empty list."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    return "" if default is None else f"{default:.3g}" if isinstance(default, float) else str(default)


def given(chosen: Any) -> dict[str, Any]:
    """Return the options that the user set; no option at all comes as None."""
    if chosen is None:
        return {}
    return {
        field.name: value for field in fields(chosen) if (value := getattr(chosen, field.name)) is not None
    }


if TYPE_CHECKING:  # the types of these options are made below, from the settings
    ModelName = str
    RunOptions = Any
    ModelOptions = Any
    FitOptions = Any
    EmbedOptions = Any
    MapOptions = Any
    PredictOptions = Any
    DataOptions = Any
    AnalysisOptions = Any
    StudyOptions = Any
    PresetModelOptions = Any
    BenchmarkOptions = Any
    PresetDataOptions = Any
    ProgramsOptions = Any
    DifferentialExpressionOptions = Any
    DenoiseOptions = Any
    CriticizeOptions = Any
else:
    ModelName = Literal[tuple(MODEL_SETTINGS)]
    INPUT = ("layer", "gene_symbols")
    RunOptions = options("RunOptions", {"run": RunConfig}, basic=("overwrite", "threads", "quiet"))
    ModelOptions = options(
        "ModelOptions", MODEL_SETTINGS, basic=("n_latent", "beta", "epochs", "seed"), negatives=True
    )
    FitOptions = options(
        "FitOptions",
        {"fit": FitConfig},
        basic=("out", "model_dir", "preset", "n_top_genes", "gene_symbols"),
    )
    DataOptions = options(
        "DataOptions",
        {"data": LabelledDataConfig},
        basic=("layer", "batch_key", "labels_key"),
        negatives=True,
    )
    EmbedOptions = options("EmbedOptions", {"embed": EmbedConfig}, basic=("unseen", "missing_genes", *INPUT))
    AnalysisOptions = options(
        "AnalysisOptions",
        {"analysis": AnalysisConfig},
        basic=(
            *("batch_key", "labels_key", "condition_key", "reference", "resolution", "markers", "gmt"),
            *("programs", *INPUT, "title"),
        ),
        negatives=True,
    )
    MapOptions = options(
        "MapOptions",
        {"map": MapConfig},
        basic=("batch_key", "unseen", "missing_genes", "mapped_model_dir", *INPUT),
    )
    PredictOptions = options(
        "PredictOptions",
        {"predict": PredictConfig},
        basic=("reference", "labels_key", "unknown_rate", "unseen", "missing_genes", *INPUT),
    )
    StudyOptions = options(
        "StudyOptions",
        {"study": StudyConfig},
        basic=("models", "presets", "seeds", "labels_key", "labels", "n_top_genes", *INPUT, "title"),
    )
    BenchmarkOptions = options(
        "BenchmarkOptions",
        {"benchmark": BenchmarkConfig},
        basic=(
            *("labels_key", "batch_key", "models", "baselines", "external_models", "disentanglement"),
            *("seeds", "n_top_genes", *INPUT, "title"),
        ),
    )
    ProgramsOptions = options(
        "ProgramsOptions",
        {"programs": ProgramsConfig},
        basic=("labels_key", "seeds", "gmt", *INPUT, "unseen", "missing_genes", "title"),
    )
    DifferentialExpressionOptions = options(
        "DifferentialExpressionOptions",
        {"differential-expression": DifferentialExpressionConfig},
        basic=("group1", "group2", "within", "batch_key", "delta", *INPUT, "unseen", "missing_genes"),
    )
    DenoiseOptions = options(
        "DenoiseOptions",
        {"denoise": DenoiseConfig},
        basic=("library_size", "batch", "decoder_only", *INPUT, "unseen", "missing_genes", "memory"),
    )
    CriticizeOptions = options(
        "CriticizeOptions",
        {"criticize": CriticizeConfig},
        basic=("n_cells", "n_samples", "seed", *INPUT, "unseen", "missing_genes", "memory"),
    )
    PresetModelOptions = options(
        "PresetModelOptions",
        MODEL_SETTINGS,
        without=("seed", "label_weight"),
        show_default=False,
        negatives=True,
    )
    PresetDataOptions = options(
        "PresetDataOptions",
        {"data": DataConfig},
        basic=("batch_key",),
        without=("layer", "log_normalize"),
        show_default=False,
        negatives=True,
    )
