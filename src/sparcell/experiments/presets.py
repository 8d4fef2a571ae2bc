"""The settings a study compares, by name: what each row trains, on which genes, and what it is called.

"seed" is the method of the 2019 course study to the letter, and so the defaults of the models. "hvg" is a setting in which each of
the three models does at least as well as the study printed: variable genes, a linear code, the wider layers of the study's public
code, fewer epochs (docs/study.md has the evidence). "counts" models the raw counts of the variable genes by a negative binomial,
and cells held out tell when to stop: the recommended setting (docs/counts.md). "programs" is for latents that are read one by one, as
gene programs: variable genes, a floor and effects that only add (docs/beta_vsc.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from sparcell.config.settings import DataConfig
from sparcell.likelihoods import LIKELIHOODS
from sparcell.models import MODELS
from sparcell.models.beta_vsc import READABLE

if TYPE_CHECKING:
    from sparcell.models.estimator import Estimator

TITLES = {"autoencoder": "Autoencoder", "beta-vae": "β-VAE", "beta-vsc": "β-VSC"}


@dataclass(frozen=True)
class Preset:
    """Settings that differ from the models' defaults; each model takes those it has."""

    name: str
    suffix: str
    """Appended to the model's name in tables and folders."""
    title: str
    """Appended to the model's title, for people."""
    settings: dict[str, Any] = field(default_factory=dict)
    by_model: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Settings of single models, over `settings`."""
    data: dict[str, Any] = field(default_factory=dict)

    def settings_of(self, model: str) -> dict[str, Any]:
        """Return what it sets of a model, of those settings that the model has."""
        accepted = {setting.name for setting in fields(MODELS[model])}
        wanted = {**self.settings, **self.by_model.get(model, {})}
        return {name: value for name, value in wanted.items() if name in accepted}


PRESETS = {
    "seed": Preset("seed", "", "", settings={"likelihood": "gaussian"}),
    "hvg": Preset(
        "hvg",
        "-hvg",
        ", variable genes",
        settings={
            "likelihood": "gaussian",
            "code": "linear",
            "encoder": (800, 400),
            "branch": 100,
            "decoder": (100, 400, 800),
            "epochs": 50,
        },
        by_model={"autoencoder": {"epochs": 20}},
        data={"genes": "highly_variable"},
    ),
    "counts": Preset(
        "counts",
        "-counts",
        ", counts",
        settings={"likelihood": "nb"},
        data={"genes": "highly_variable"},
    ),
    "programs": Preset(
        "programs",
        "-programs",
        ", programs",
        settings=READABLE,
        data={"genes": "highly_variable"},
    ),
}


@dataclass(frozen=True)
class Trained:
    """A row of the study that is trained: an estimator and what it sees of the data."""

    name: str
    title: str
    model: str
    preset: str
    estimator: Estimator
    data: DataConfig


def trained_row(model: str, preset: Preset, seed: int, changes: dict[str, Any]) -> Trained:
    """Build one row: the model's defaults, then the preset, then the user's changes (of settings and of data)."""
    accepted = {setting.name for setting in fields(MODELS[model])}
    wanted = {**preset.settings_of(model), **changes, "seed": seed}
    estimator = MODELS[model](**{name: value for name, value in wanted.items() if name in accepted})
    data_names = {setting.name for setting in fields(DataConfig)}
    layer = "counts" if LIKELIHOODS[estimator.likelihood].counts else "lognorm"
    data = DataConfig(
        **{"layer": layer, **preset.data, **{k: v for k, v in changes.items() if k in data_names}}
    )
    return Trained(model + preset.suffix, TITLES[model] + preset.title, model, preset.name, estimator, data)
