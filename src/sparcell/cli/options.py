"""Command-line options made from the settings' own types and help texts; nothing is described a second time."""

from __future__ import annotations

import typing
from dataclasses import fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from sparcell.config.data import DataConfig
from sparcell.config.experiments import BenchmarkConfig, FitConfig, ProgramsConfig, StudyConfig
from sparcell.config.model import MODEL_SETTINGS
from sparcell.config.options import settings_of


def options(name: str, configs: dict[str, type], *, without: tuple[str, ...] = ()) -> Any:
    """Make a dataclass of options: the union of the settings of several configs, with None where the user sets nothing."""
    found: dict[str, tuple[str, Any, Any]] = {}
    owners: dict[str, list[str]] = {}
    for owner, config in configs.items():
        for setting in settings_of(config):
            if setting.name in without:
                continue
            owners.setdefault(setting.name, []).append(owner)
            kinds = (setting.type, *typing.get_args(setting.type))  # also for "tuple or None"
            many = any(typing.get_origin(kind) is tuple for kind in kinds)
            default = default_text(setting.default)
            text = f"{setting.help} [default: {default}]" if default else setting.help
            if len(owners[setting.name]) < len(configs):
                text = f"{text} Only: {', '.join(owners[setting.name])}."
            parameter = Parameter(
                help=text, consume_multiple=many, negative="" if many else None, show_default=False
            )
            found[setting.name] = (setting.name, Annotated[setting.type | None, parameter], None)
    made = make_dataclass(name, found.values(), frozen=True, kw_only=True)
    made.__module__ = __name__  # where cyclopts looks up the types of its fields
    return made


def default_text(default: Any) -> str:
    """Write a default as one would type it; an empty text for None."""
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
    ModelOptions = Any
    FitOptions = Any
    DataOptions = Any
    StudyOptions = Any
    StudyModelOptions = Any
    BenchmarkOptions = Any
    StudyDataOptions = Any
    ProgramsOptions = Any
else:
    ModelName = Literal[tuple(MODEL_SETTINGS)]
    ModelOptions = options("ModelOptions", MODEL_SETTINGS)
    FitOptions = options("FitOptions", {"fit": FitConfig})
    DataOptions = options("DataOptions", {"data": DataConfig})
    StudyOptions = options("StudyOptions", {"study": StudyConfig})
    StudyModelOptions = options("StudyModelOptions", MODEL_SETTINGS, without=("seed",))
    BenchmarkOptions = options("BenchmarkOptions", {"benchmark": BenchmarkConfig})
    ProgramsOptions = options("ProgramsOptions", {"programs": ProgramsConfig})
    StudyDataOptions = options("StudyDataOptions", {"data": DataConfig}, without=("layer", "log_normalize"))
