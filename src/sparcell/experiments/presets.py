"""One row of a study or benchmark: a model with a preset's settings, on the preset's genes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sparcell.config.data import DataConfig
from sparcell.config.presets import TITLES, Preset
from sparcell.likelihoods import LIKELIHOODS
from sparcell.models import MODELS

if TYPE_CHECKING:
    from sparcell.models.estimator import Estimator


def preset_settings(preset: Preset, model: str) -> dict[str, Any]:
    """Return what a preset sets of a model, without the settings that the model does not have."""
    accepted = {setting.name for setting in fields(MODELS[model])}
    values = {**preset.settings, **preset.by_model.get(model, {})}
    return {name: value for name, value in values.items() if name in accepted}


@dataclass(frozen=True)
class StudyEntry:
    """A row of the study that is trained: an estimator and what it reads of the data."""

    name: str
    title: str
    model: str
    preset: str
    estimator: Estimator
    data: DataConfig


def study_entry(model: str, preset: Preset, seed: int, changes: dict[str, Any]) -> StudyEntry:
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
