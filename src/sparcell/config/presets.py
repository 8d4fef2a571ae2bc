"""Named settings: what a study compares and what `sparcell fit --preset` starts from.

study-2019 is the method of the 2019 course study to the letter. hvg is a setting of the same loss in which each model scores at least
as well as that study printed (docs/guide/study.md has the evidence). counts, the recommended one, is the default of the models on raw
counts (docs/guide/counts.md). programs makes each latent a gene program to be read by itself (docs/guide/beta_vsc.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sparcell.errors import InputError, did_you_mean

TITLES = {"autoencoder": "Autoencoder", "beta-vae": "β-VAE", "beta-vsc": "β-VSC"}
"""Name of a model on the command line → its name for people."""

STUDY_2019: dict[str, Any] = {
    "likelihood": "gaussian",
    "gaussian_variance": 0.5,
    "n_latent": 6,
    "encoder_widths": (128, 32),
    "head_width": 16,
    "decoder_widths": (16, 32, 128),
    "normalization": "none",
    "dropout": 0.0,
    "batch_augmentation": False,
    "epochs": 200,
    "batch_size": 256,
    "learning_rate": 1e-3,
    "lr_schedule": "constant",
    "validation_fraction": 0.0,
    "early_stopping_tolerance": 0.0,
    "early_stopping_patience": 0,
    "kl_warmup_fraction": 0.0,
    "max_grad_norm": 0.0,
    "latent_activation": "relu",
    "beta": 2.0,
    "n_prior_components": 1,
    "gate": "straight-through",
    "temperature": 0.2,
}

PROGRAMS: dict[str, Any] = {
    "likelihood": "gaussian",
    "gaussian_variance": "analytic",
    "n_latent": 32,
    "encoder_widths": (128,),
    "head_width": 0,
    "normalization": "layer",
    "dropout": 0.1,
    "batch_augmentation": False,
    "decoder_type": "nonnegative-linear",
    "slab": "softplus-normal",
    "n_prior_components": 1,
    "alpha": 0.3,
    "beta": 1.0,
    "gate": "hard-concrete",
    "temperature": 2 / 3,
    "merge_duplicates": True,
    "epochs": "auto",
    "max_steps": 2300,
    "min_epochs": 20,
    "batch_size": 128,
    "learning_rate": 0.01,
    "lr_schedule": "cosine",
    "max_grad_norm": 5.0,
    "validation_fraction": 0.1,
    "early_stopping_tolerance": 0.0,
    "early_stopping_patience": 0,
    "kl_warmup_fraction": 0.5,
    "kl_warmup_start": 2.0,
}


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
    study_models: tuple[str, ...] = ()
    """Models that a study trains with the preset, if any of them is asked for. Empty: all models that are asked for."""

    def for_model(self, model: str) -> dict[str, Any]:
        """Return the settings for a model by its name on the command line; other models may lack some of them."""
        return {**self.settings, **self.by_model.get(model, {})}


PRESETS = {
    "study-2019": Preset("study-2019", "", "", settings=STUDY_2019),
    "hvg": Preset(
        "hvg",
        "-hvg",
        ", variable genes",
        settings={
            **STUDY_2019,
            "latent_activation": "linear",
            "encoder_widths": (800, 400),
            "head_width": 100,
            "decoder_widths": (100, 400, 800),
            "epochs": 50,
        },
        by_model={"autoencoder": {"epochs": 20}},
        data={"genes_key": "highly_variable"},
    ),
    "counts": Preset(
        "counts", "-counts", ", counts", settings={"likelihood": "nb"}, data={"genes_key": "highly_variable"}
    ),
    "programs": Preset(
        "programs",
        "-programs",
        ", programs",
        settings=PROGRAMS,
        data={"genes_key": "highly_variable"},
        study_models=("beta-vsc",),
    ),
}


def find_preset(name: str) -> Preset:
    """Return the preset of a name; raise InputError if there is none."""
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}; {did_you_mean(name, PRESETS)}")
    return PRESETS[name]
