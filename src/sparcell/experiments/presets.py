"""One trained row of a study or benchmark: a model with the settings of a preset, on the genes of the preset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sparcell.config.data import DataConfig
from sparcell.config.presets import TITLES, Preset
from sparcell.errors import InputError, did_you_mean
from sparcell.likelihoods import LIKELIHOODS
from sparcell.models import MODELS

if TYPE_CHECKING:
    from sparcell.models.estimator import Estimator


def preset_settings(preset: Preset, model: str) -> dict[str, Any]:
    """Return the settings of a preset that a model has."""
    accepted = {setting.name for setting in fields(MODELS[model])}
    return {name: value for name, value in preset.for_model(model).items() if name in accepted}


@dataclass(frozen=True)
class StudyEntry:
    """A row of a study that is trained: an estimator, and the genes and layer that it reads."""

    name: str
    title: str
    model: str
    preset: str
    estimator: Estimator
    data: DataConfig


def study_entry(model: str, preset: Preset, seed: int, changes: Mapping[str, Any]) -> StudyEntry:
    """Build one row: the model's defaults, then the preset, then the user's changes (of settings and of data)."""
    accepted = {setting.name for setting in fields(MODELS[model])}
    values = {**preset_settings(preset, model), **changes, "seed": seed}
    estimator = MODELS[model](**{name: value for name, value in values.items() if name in accepted})
    data_names = {setting.name for setting in fields(DataConfig)}
    layer = (
        "counts"
        if estimator.likelihood not in LIKELIHOODS or LIKELIHOODS[estimator.likelihood].counts
        else "lognorm"
    )
    data_changes = {name: value for name, value in changes.items() if name in data_names}
    data = DataConfig(**{"layer": layer, **preset.data, **data_changes})
    return StudyEntry(
        model + preset.suffix, TITLES[model] + preset.title, model, preset.name, estimator, data
    )


def require_names(names: Iterable[str], choices: Iterable[str], what: str) -> None:
    """Raise InputError for a name that is not among the choices; `what` names their kind: "model", "preset"."""
    choices = list(choices)
    for name in names:
        if name not in choices:
            raise InputError(f"no {what} {name!r}; {did_you_mean(name, choices)}")


def require_settings(changes: Iterable[str], kinds: Iterable[type], models: Sequence[str]) -> None:
    """Raise InputError for a changed setting that none of the models (or other kinds of settings) has."""
    accepted = {setting.name for kind in kinds for setting in fields(kind)}
    for name in sorted(set(changes) - accepted):
        raise InputError(
            f"{' and '.join(models) or 'no model'}: no setting {name!r}, so it would have no effect; "
            f"{did_you_mean(name, sorted(accepted))}"
        )
