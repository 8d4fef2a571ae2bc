"""Every setting: what is refused, and how its help and signature agree."""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import MISSING, FrozenInstanceError, fields

import pytest

from sparcell.config import (
    DataConfig,
    LikelihoodConfig,
    NetworkConfig,
    StudyConfig,
    TrainConfig,
    settings_of,
)
from sparcell.errors import InputError
from sparcell.models import MODELS

CONFIGS = [NetworkConfig, LikelihoodConfig, TrainConfig, DataConfig, StudyConfig, *MODELS.values()]
NAN, INF = float("nan"), float("inf")
OUT_OF_RANGE = {
    NetworkConfig: {
        "n_latent": [0, -1, 2.5, "6", None],
        "branch": [0],
        "encoder": [(), (0,), (128, -1)],
        "decoder": [(), (16, 0)],
    },
    LikelihoodConfig: {"variance": [0.0, -1.0, NAN, INF]},
    TrainConfig: {
        "epochs": [0, -5, 2.5],
        "batch_size": [0],
        "learning_rate": [0.0, -1e-3, 1.0, NAN, INF],
        "seed": [-1, 2**70],
    },
    StudyConfig: {
        "models": [()],
        "presets": [()],
        "seeds": [0],
        "perplexity": [0.0, NAN],
        "n_top_genes": [49, -1],
        "min_genes": [-1, 2499],
        "max_genes": [-1],
        "max_pct_mito": [0.0, 101.0, NAN],
    },
    MODELS["autoencoder"]: {"code": ["sigmoid"], "likelihood": ["cauchy"]},
    MODELS["beta-vae"]: {"beta": [-0.1, NAN, INF, "2"], "likelihood": ["cauchy"]},
    MODELS["beta-vsc"]: {
        "beta": [-0.1, NAN, INF, "2"],
        "alpha": [0.0, 1.0, -0.5, NAN],
        "temperature": [0.0, -1.0, NAN],
        "likelihood": ["cauchy"],
    },
}
UNBOUNDED = {
    "device",
    "layer",
    "genes",
    "normalise",
    "scale",
    "counts_layer",
    "labels",
    "labels_key",
    "markers",
}
"""Names, paths and switches: checked against the data or the machine, not by themselves."""
BAD = [
    (config, name, value) for config, cases in OUT_OF_RANGE.items() for name in cases for value in cases[name]
]


@pytest.mark.parametrize(("config", "name", "value"), BAD)
def test_a_setting_out_of_range_is_named_with_its_value_and_what_was_expected(config, name, value):
    with pytest.raises(InputError) as told:
        config(**{name: value})
    message = str(told.value)
    assert message.startswith(f"{name} is {value!r}; expected ")
    assert message.endswith(".")


@pytest.mark.parametrize("kind", MODELS.values())
@pytest.mark.parametrize("config", [NetworkConfig, LikelihoodConfig, TrainConfig])
def test_every_model_checks_the_settings_it_shares(kind, config):
    for name, values in OUT_OF_RANGE[config].items():
        with pytest.raises(InputError, match=f"^{name} is "):
            kind(**{name: values[0]})


@pytest.mark.parametrize("config", CONFIGS)
def test_every_setting_has_a_range_here_or_is_known_to_have_none(config):
    ranged = {name for kind, cases in OUT_OF_RANGE.items() if issubclass(config, kind) for name in cases}
    ranged |= {"likelihood"} if config is LikelihoodConfig else set()
    assert {field.name for field in fields(config)} - ranged - UNBOUNDED == set()


@pytest.mark.parametrize("config", CONFIGS)
def test_every_setting_has_a_help_text_of_a_sentence(config):
    for setting in settings_of(config):
        assert setting.help.endswith("."), setting.name
        assert len(setting.help) > 10, setting.name
        assert setting.help[0].isupper(), setting.name


@pytest.mark.parametrize("config", CONFIGS)
def test_settings_agree_with_the_signature(config):
    signature = inspect.signature(config).parameters
    hints = typing.get_type_hints(config)
    assert [setting.name for setting in settings_of(config)] == list(signature)
    for setting in settings_of(config):
        parameter = signature[setting.name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert setting.default == parameter.default
        assert setting.type == hints[setting.name]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_default_is_accepted_and_of_its_own_type(config):
    made = config()
    for setting in settings_of(config):
        value = getattr(made, setting.name)
        kind = typing.get_origin(setting.type) or setting.type
        if kind is typing.Literal:
            assert value in typing.get_args(setting.type), setting.name
        else:
            assert isinstance(value, setting.type if kind is types.UnionType else kind), setting.name


@pytest.mark.parametrize("config", CONFIGS)
def test_settings_are_frozen_and_compared_by_value(config):
    made = config()
    assert made == config()
    first = fields(config)[0]
    assert first.default is not MISSING
    with pytest.raises(FrozenInstanceError):
        setattr(made, first.name, first.default)


def test_a_setting_that_does_not_exist_is_refused():
    for kind in MODELS.values():
        with pytest.raises(TypeError, match="n_latents"):
            kind(n_latents=3)
