"""Every setting: what is refused, and how its help and signature agree."""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import MISSING, FrozenInstanceError, fields

import pytest

from sparcell.config.data import DataConfig
from sparcell.config.experiments import StudyConfig
from sparcell.config.model import LikelihoodConfig, NetworkConfig
from sparcell.config.options import settings_of
from sparcell.config.training import TrainConfig
from sparcell.config.validation import ByKind, by_kind
from sparcell.errors import InputError
from sparcell.models import MODELS

CONFIGS = [NetworkConfig, LikelihoodConfig, TrainConfig, DataConfig, StudyConfig, *MODELS.values()]
NAN, INF = float("nan"), float("inf")
OUT_OF_RANGE = {
    NetworkConfig: {
        "n_latent": [0, -1, 2.5, "6", None],
        "head_width": [-1, 1.5],
        "encoder_widths": [(), (0,), (128, -1), 128, "128", None],
        "decoder_widths": [(), (16, 0), 16],
        "decoder_type": ["linear", None],
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
        "steps": [0, -1, 2.5, "many"],
        "batch_size": [0],
        "learning_rate": [0.0, -1e-3, 1.0, NAN, INF],
        "weight_decay": [-0.1, NAN, INF],
        "lr_schedule": ["linear", None],
        "precision": ["float64", None],
        "validation_fraction": [-0.1, 1.0, NAN],
        "early_stopping_tolerance": [-0.1, 1.0, NAN],
        "early_stopping_patience": [-1, 2.5],
        "kl_warmup_fraction": [-0.1, 1.0, NAN],
        "kl_warmup_start": [-0.1, NAN, INF],
        "max_grad_norm": [-1.0, NAN, INF],
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
    MODELS["autoencoder"]: {"code": ["sigmoid", None]},
    MODELS["beta-vae"]: {"beta": [-0.1, NAN, INF, "2"]},
    MODELS["beta-vsc"]: {
        "beta": [-0.1, NAN, INF, "2"],
        "alpha": [0.0, 1.0, -0.5, NAN, "learnt"],
        "n_prior_components": [0, 1.5],
        "slab": ["gamma", None],
        "gate": ["concrete", None],
        "temperature": [0.0, -1.0, NAN],
    },
}
UNBOUNDED = {
    "translate",
    "device",
    "layer",
    "genes",
    "batch_key",
    "covariates",
    "standardise",
    "encode_covariates",
    "spike_warmup",
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


@pytest.mark.parametrize(
    ("name", "word"), [("epochs", "auto"), ("variance", "analytic"), ("alpha", "learned")]
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
    """Both of them where it depends on what a model explains."""
    made = config()
    for setting in settings_of(config):
        value = getattr(made, setting.name)
        for one in (value.expression, value.counts) if isinstance(value, ByKind) else (value,):
            assert is_of(one, setting.type), setting.name
            config(**{setting.name: one})


def test_a_default_for_each_kind_is_told_as_such():
    assert repr(by_kind(6, 10)) == "<6; on counts 10>"
    defaults = {setting.name: setting.default for setting in settings_of(TrainConfig)}
    assert isinstance(defaults["epochs"], ByKind)
    assert (defaults["epochs"].expression, defaults["epochs"].counts) == (200, "auto")


DEPENDENT = {
    kind: [field.name for field in fields(kind) if isinstance(field.default, ByKind)]
    for kind in MODELS.values()
}


@pytest.mark.parametrize("kind", MODELS.values())
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "nb", "zinb"])
def test_a_likelihood_settles_every_default_at_construction(kind, likelihood):
    settled, counts = kind(likelihood=likelihood), likelihood != "gaussian"
    assert {"n_latent", "epochs", "held_out", "encoder"} <= set(DEPENDENT[kind])
    for field in fields(kind):
        value = getattr(settled, field.name)
        assert not isinstance(value, ByKind)
        if field.name != "likelihood" and isinstance(field.default, ByKind):
            assert value == (field.default.counts if counts else field.default.expression)
    assert settled == kind(likelihood=likelihood).settled(counts=not counts)  # the data have no say any more


@pytest.mark.parametrize("kind", MODELS.values())
def test_without_a_likelihood_the_data_settle_the_defaults_and_nothing_that_was_given(kind):
    open_ = kind(n_latent=3, kl_warmup_fraction=0.5)
    assert isinstance(open_.likelihood, ByKind)
    assert isinstance(open_.epochs, ByKind)
    for counts, likelihood in ((True, "nb"), (False, "gaussian")):
        settled = open_.settled(counts=counts)
        assert settled == kind(likelihood=likelihood, n_latent=3, kl_warmup_fraction=0.5)
        assert (settled.n_latent, settled.warmup) == (3, 0.5)
    assert isinstance(open_.epochs, ByKind)


def test_the_defaults_for_expression_are_the_seed_s():
    """To the letter: nothing that came later is on."""
    for kind in MODELS.values():
        settled = kind(likelihood="gaussian")
        found = {name: getattr(settled, name) for name in SEED}
        assert found == SEED
    assert MODELS["beta-vsc"](likelihood="gaussian").gate == "straight-through"
    assert MODELS["beta-vsc"](likelihood="gaussian").components == 1
    assert MODELS["beta-vsc"](likelihood="gaussian").slab == "normal"


SEED = {
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
    "max_grad_norm": 0.0,
    "gaussian_variance": 0.5,
}


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


def test_widths_given_as_a_list_are_the_same_setting():
    for kind in MODELS.values():
        assert kind(encoder_widths=[64, 8], decoder_widths=[8]) == kind(
            encoder_widths=(64, 8), decoder_widths=(8,)
        )
