"""Every setting: what is refused, and how its help and signature agree."""

from __future__ import annotations

import inspect
import json
import types
import typing
from dataclasses import MISSING, FrozenInstanceError, asdict, fields

import numpy as np
import pytest

from sparcell.config.analysis import AnalysisConfig
from sparcell.config.data import DataConfig
from sparcell.config.experiments import (
    BenchmarkConfig,
    EmbedConfig,
    FitConfig,
    ProgramsConfig,
    RunConfig,
    StudyConfig,
)
from sparcell.config.expression import CriticizeConfig, DenoiseConfig, DifferentialExpressionConfig
from sparcell.config.input import CountsConfig, MemoryConfig, ModelInputConfig
from sparcell.config.model import MODEL_SETTINGS, LikelihoodConfig, NetworkConfig
from sparcell.config.new_cells import MapConfig, PredictConfig
from sparcell.config.options import settings_of
from sparcell.config.presets import PRESETS, TITLES
from sparcell.config.training import TrainConfig
from sparcell.config.validation import require_size
from sparcell.errors import InputError
from sparcell.experiments.presets import preset_settings
from sparcell.models import MODELS

CONFIGS = [
    *(NetworkConfig, LikelihoodConfig, TrainConfig, DataConfig),
    *(RunConfig, FitConfig, EmbedConfig, MapConfig, PredictConfig, AnalysisConfig, StudyConfig),
    *(BenchmarkConfig, ProgramsConfig, DifferentialExpressionConfig, DenoiseConfig, CriticizeConfig),
    *MODEL_SETTINGS.values(),
    *MODELS.values(),
]
NAN, INF = float("nan"), float("inf")
OUT_OF_RANGE = {
    NetworkConfig: {
        "n_latent": [0, -1, 2.5, "6", None],
        "head_width": [-1, 1.5],
        "encoder_widths": [(), (0,), (128, -1), 128, "128", None],
        "decoder_widths": [(), (16, 0), 16],
        "decoder_type": ["nonnegative", None],
        "normalization": ["batch", None],
        "dropout": [-0.1, 1.0, NAN, "0.1"],
        "input_dropout": [-0.1, 1.0, NAN],
    },
    LikelihoodConfig: {
        "likelihood": ["cauchy", "NB", None],
        "gaussian_variance": [0.0, -1.0, NAN, INF, "analytical"],
        "dispersion": ["cell", None],
    },
    TrainConfig: {
        "epochs": [0, -5, 2.5, "many"],
        "max_steps": [0, -1, 2.5, "many"],
        "min_epochs": [0, 2.5],
        "batch_size": [0],
        "learning_rate": [0.0, -1e-3, 1.0, NAN, INF],
        "weight_decay": [-0.1, NAN, INF],
        "lr_schedule": ["linear", None],
        "precision": ["float64", None],
        "validation_fraction": [-0.1, 1.0, NAN],
        "early_stopping_tolerance": [-0.1, NAN, INF],
        "early_stopping_patience": [-1, 2.5],
        "kl_warmup_fraction": [-0.1, 1.0, NAN],
        "kl_warmup_start": [-0.1, NAN, INF],
        "max_grad_norm": [-1.0, NAN, INF],
        "label_weight": [-1.0, NAN, INF],
        "seed": [-1, 2**70],
    },
    StudyConfig: {
        "models": [()],
        "presets": [()],
        "seeds": [0],
        "perplexity": [0.0, NAN],
        "n_top_genes": [49, -1],
        "flavor": ["seurat", None],
        "min_genes": [-1, 2.5],
        "max_genes": [-1],
        "max_pct_mito": [0.0, 101.0, NAN],
    },
    FitConfig: {
        "n_top_genes": [49, -1, 2.5],
        "flavor": ["seurat", None],
        "checkpoint_seconds": [-1.0, NAN, INF, "30"],
    },
    BenchmarkConfig: {
        "seeds": [0],
        "n_top_genes": [49, -1],
        "flavor": ["seurat", None],
        "n_components": [1, 2.5],
        "external_epochs": [0],
        "n_samples": [0],
        "perplexity": [0.0, NAN],
    },
    ProgramsConfig: {
        "n_genes_listed": [0],
        "n_genes_enrichment": [1, 51],
        "seeds": [0],
        "seed": [-1],
    },
    DifferentialExpressionConfig: {"delta": [0.0, -1.0, NAN, INF]},
    DenoiseConfig: {
        "library_size": ["large", "0", "-5", "nan"],
        "memory": ["", "4 gigabytes", "0"],
    },
    CriticizeConfig: {
        "n_cells": [-1, 0.5],
        "n_samples": [0, 1.5],
        "seed": [-1],
        "memory": ["", "4 gigabytes", "0"],
    },
    ModelInputConfig: {"unseen": ["mean", None], "missing_genes": ["none", None]},
    MapConfig: {"unseen": ["error", None], "missing_genes": ["none", None], "seed": [-1, 0.5, None]},
    PredictConfig: {"unknown_rate": [-0.1, 1.0, NAN, "5 %"]},
    MemoryConfig: {"memory": ["", "4 gigabytes", "-1GB", "0", "GB", "1.2.3GB", None]},
    CountsConfig: {"memory": ["", "4 gigabytes", "0"], "n_cells": [0, 1.5]},
    AnalysisConfig: {
        "unseen": ["error", None],
        "n_top_genes": [49, -1],
        "flavor": ["seurat", None],
        "min_genes": [-1, 2.5],
        "max_genes": [-1],
        "max_pct_mito": [0.0, 101.0, NAN],
        "resolution": [0.0, -1.0, NAN],
        "seed": [-1, 0.5],
    },
    RunConfig: {"threads": [0, 1.5, "many"]},
    MODEL_SETTINGS["autoencoder"]: {"latent_activation": ["sigmoid", None]},
    MODEL_SETTINGS["beta-vae"]: {"beta": [-0.1, NAN, INF, "2"]},
    MODEL_SETTINGS["beta-vsc"]: {
        "beta": [-0.1, NAN, INF, "2"],
        "alpha": [0.0, 1.0, -0.5, NAN, "learnt"],
        "n_prior_components": [0, 1.5],
        "slab": ["gamma", None],
        "gate": ["concrete", None],
        "temperature": [0.0, -1.0, NAN],
    },
}
UNBOUNDED = {
    *("condition_key", "programs"),
    *("batch_augmentation", "encode_covariates", "standardize_input", "spike_warmup", "merge_duplicates"),
    *("layer", "genes_key", "batch_key", "covariates", "log_normalize", "scale", "device"),
    *("gene_symbols", "title", "overwrite", "quiet", "labels", "labels_key", "markers", "gmt"),
    *(
        "with_x",
        "dry_run",
        "out",
        "model_dir",
        "mapped_model_dir",
        "checkpoint_dir",
        "resume",
        "preset",
        "reference",
    ),
    *(
        "baselines",
        "external_models",
        "disentanglement",
        "group1",
        "group2",
        "within",
        "batch",
        "decoder_only",
    ),
}
"""Names, paths and switches: checked against the data or the machine, not by themselves."""
BAD = [
    (config, name, value) for config, cases in OUT_OF_RANGE.items() for name in cases for value in cases[name]
]


@pytest.mark.parametrize(("config", "name", "value"), BAD)
def test_a_setting_out_of_range_is_named_with_its_value_and_what_was_expected(config, name, value):
    with pytest.raises(InputError) as error:
        config(**{name: value})
    message = str(error.value)
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
    unbounded = UNBOUNDED | ({"models"} if config is BenchmarkConfig else set())
    assert {field.name for field in fields(config)} - ranged - unbounded == set()


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
    assert {setting.name for setting in settings_of(config)} == set(signature)
    for setting in settings_of(config):
        parameter = signature[setting.name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert setting.default == parameter.default
        assert setting.type == hints[setting.name]


@pytest.mark.parametrize(
    ("name", "word"), [("epochs", "auto"), ("gaussian_variance", "analytic"), ("alpha", "learned")]
)
def test_a_number_or_a_word_says_so(name, word):
    with pytest.raises(InputError, match=rf"^{name} is 'x'; expected a .*number .*, or '{word}'\.$"):
        MODELS["beta-vsc"](**{name: "x"})
    assert getattr(MODELS["beta-vsc"](**{name: word}), name) == word


def is_of(value, kind):
    """Whether a value is of a type as settings have them."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(is_of(value, one) for one in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(is_of(one, arguments[0]) for one in value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_default_is_accepted_and_of_its_own_type(config):
    defaults = config()
    for setting in settings_of(config):
        assert (
            getattr(defaults, setting.name) == setting.default
        )  # no setting is settled behind the user's back
        assert is_of(setting.default, setting.type), setting.name
        config(**{setting.name: setting.default})


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_exactly_the_settings_that_the_command_line_shows(name):
    assert list(MODELS) == list(MODEL_SETTINGS) == list(TITLES)
    kind, settings = MODELS[name], MODEL_SETTINGS[name]
    assert issubclass(kind, settings)
    assert settings_of(kind) == settings_of(settings)
    assert kind().name == settings.name


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_settings_that_every_model_accepts(preset, name):
    values = preset_settings(PRESETS[preset], name)
    model = MODELS[name](**values)
    assert {setting: getattr(model, setting) for setting in values} == values
    DataConfig(**PRESETS[preset].data)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_sets_nothing_that_no_model_has(preset):
    known = {setting.name for model in MODELS.values() for setting in settings_of(model)}
    assert set(preset.settings) <= known
    for name, values in preset.by_model.items():
        assert set(values) <= {setting.name for setting in settings_of(MODELS[name])}


def test_the_preset_study_2019_is_the_study_to_the_letter():
    """Nothing that came later is on."""
    for name, kind in MODELS.items():
        model = kind(**preset_settings(PRESETS["study-2019"], name))
        assert {setting: getattr(model, setting) for setting in SETTINGS_2019} == SETTINGS_2019
    model = MODELS["beta-vsc"](**preset_settings(PRESETS["study-2019"], "beta-vsc"))
    assert (model.gate, model.n_prior_components, model.slab) == ("straight-through", 1, "normal")
    assert (model.alpha, model.beta, model.temperature, model.spike_warmup) == (0.5, 2.0, 0.2, False)
    assert MODELS["beta-vae"](**preset_settings(PRESETS["study-2019"], "beta-vae")).beta == 2.0


SETTINGS_2019 = {
    "likelihood": "gaussian",
    "n_latent": 6,
    "encoder_widths": (128, 32),
    "head_width": 16,
    "decoder_widths": (16, 32, 128),
    "decoder_type": "mlp",
    "normalization": "none",
    "standardize_input": False,
    "input_dropout": 0.0,
    "dropout": 0.0,
    "epochs": 200,
    "batch_size": 256,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "lr_schedule": "constant",
    "validation_fraction": 0.0,
    "early_stopping_tolerance": 0.0,
    "early_stopping_patience": 0,
    "kl_warmup_fraction": 0.0,
    "kl_warmup_start": 0.0,
    "label_weight": 50.0,
    "max_grad_norm": 0.0,
    "gaussian_variance": 0.5,
}


def test_for_programs_is_the_preset_programs():
    values = preset_settings(PRESETS["programs"], "beta-vsc")
    assert MODELS["beta-vsc"].for_programs() == MODELS["beta-vsc"](**values)
    assert MODELS["beta-vsc"].for_programs(seed=3) == MODELS["beta-vsc"](**values, seed=3)


@pytest.mark.parametrize("config", CONFIGS)
def test_settings_are_frozen_and_compared_by_value(config):
    settings = config()
    assert settings == config()
    first = fields(config)[0]
    assert first.default is not MISSING
    with pytest.raises(FrozenInstanceError):
        setattr(settings, first.name, first.default)


def test_a_setting_that_does_not_exist_is_refused():
    for kind in MODELS.values():
        with pytest.raises(TypeError, match="n_latents"):
            kind(n_latents=3)


def test_widths_given_as_a_list_are_the_same_setting():
    for kind in MODELS.values():
        assert kind(encoder_widths=[64, 8], decoder_widths=[8]) == kind(
            encoder_widths=(64, 8), decoder_widths=(8,)
        )


@pytest.mark.parametrize(
    ("text", "expected"), [("4GB", 4e9), ("500 mb", 5e8), ("1.5G", 1.5e9), (1000, 1000), ("2e6", 2e6)]
)
def test_sizes_are_read(text, expected):
    assert require_size("memory", text) == expected


def test_numbers_of_numpy_are_held_as_numbers_that_json_knows():
    """As loops over numpy.arange and numpy.linspace give them."""
    for kind in MODELS.values():
        given = kind(
            n_latent=np.arange(5, 7)[0],
            seed=np.int64(3),
            learning_rate=np.float32(0.25),
            dropout=np.linspace(0, 0.5, 3)[1],
            batch_augmentation=np.bool_(False),
            encoder_widths=(np.int64(8),),
        )
        expected = kind(
            n_latent=5,
            seed=3,
            learning_rate=0.25,
            dropout=0.25,
            batch_augmentation=False,
            encoder_widths=(8,),
        )
        assert given == expected
        assert json.dumps(asdict(given)) == json.dumps(asdict(expected))
        assert repr(given) == repr(expected)


def test_numbers_of_numpy_in_the_settings_of_an_experiment_can_be_stored():
    for kind in (BenchmarkConfig, StudyConfig, AnalysisConfig):
        assert type(kind(n_cells=np.int64(50)).n_cells) is int
    config = BenchmarkConfig(external_epochs=np.int64(3), perplexity=np.float32(8))
    assert json.dumps([config.external_epochs, config.perplexity]) == "[3, 8.0]"
