"""Every setting, once: the type is its signature and its parser, the text beside it is its help.

All classes are frozen and check themselves; their fields become arguments in Python and options on the command line.
"""

from __future__ import annotations

import math
import typing
from dataclasses import MISSING, dataclass, fields
from numbers import Integral, Real
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, cast

from sparcell.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class ByKind:
    """A default that depends on what a model explains; settled by the likelihood, or by the data where none is chosen."""

    expression: Any
    """For log-normalised expression: the seed study's."""
    counts: Any
    """For raw counts: the recommended one (docs/counts.md has the evidence)."""

    def __repr__(self) -> str:
        return f"<{self.expression!r}; on counts {self.counts!r}>"


def by_kind(expression: T, counts: T) -> T:
    """Give a setting one default for expression and one for counts."""
    return cast("T", ByKind(expression, counts))


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the network."""

    n_latent: Annotated[int, "Number of latents."] = by_kind(6, 10)
    encoder: Annotated[
        tuple[int, ...],
        "Widths of the shared encoder layers: the first is linear where there is no norm, each further one ends in a ReLU.",
    ] = by_kind((128, 32), (128,))
    branch: Annotated[
        int,
        "Width of the ReLU layer between the shared encoder and each quantity of the code; 0 for none.",
    ] = by_kind(16, 0)
    decoder: Annotated[tuple[int, ...], "Widths of the decoder's layers, each with a ReLU."] = by_kind(
        (16, 32, 128), (128,)
    )
    effects: Annotated[
        Literal["free", "additive", "nonnegative"],
        "How latents reach the genes: free (the decoder's layers), additive (each latent has effects of its own on the genes, and they add "
        "up) or nonnegative (additive, and no effect is below 0). The last two have no decoder layers.",
    ] = "free"
    norm: Annotated[Literal["none", "layer"], "Normalisation of each hidden layer, before its ReLU."] = (
        by_kind("none", "layer")
    )
    standardise: Annotated[
        bool,
        "Give each gene of raw counts mean 0 and variance 1 before the encoder sees it, cut at ±10; the constants are kept.",
    ] = False
    input_dropout: Annotated[
        float, "Share of a cell's genes that the encoder does not see in a training step."
    ] = 0.0
    dropout: Annotated[float, "Share of the encoder's hidden units left out of a training step."] = by_kind(
        0.0, 0.1
    )
    translate: Annotated[
        bool,
        "In training, show the encoder each cell as if measured in a batch drawn at random, so that its code does not tell the batch.",
    ] = by_kind(False, True)
    encode_covariates: Annotated[
        bool, "Tell the encoder, not only the decoder, the batch and the covariates of a cell."
    ] = by_kind(False, False)

    def __post_init__(self) -> None:
        require_whole("n_latent", self.n_latent, 1)
        require_whole("branch", self.branch, 0)
        for name, widths in (("encoder", self.encoder), ("decoder", self.decoder)):
            if not isinstance(widths, ByKind):
                holds = isinstance(widths, list | tuple) and len(widths) > 0
                holds = holds and all(is_whole(width, 1) for width in widths)
                require(holds, name, widths, "one or more widths of at least 1")
                object.__setattr__(
                    self, name, tuple(widths)
                )  # a list, as a saved model has it, is the same setting
        require_choice(NetworkConfig, "effects", self.effects)
        require_choice(NetworkConfig, "norm", self.norm)
        require_number("input_dropout", self.input_dropout, above=0, below=1, or_equal=True)
        require_number("dropout", self.dropout, above=0, below=1, or_equal=True)


@dataclass(frozen=True, kw_only=True)
class LikelihoodConfig:
    """What the decoder claims about the data."""

    likelihood: Annotated[
        Literal["gaussian", "poisson", "nb", "zinb"],
        "Distribution of the data given the code: gaussian for log-normalised expression; poisson, nb (negative binomial) or zinb (with "
        "dropped counts) for raw counts.",
    ] = by_kind("gaussian", "nb")
    variance: Annotated[
        float | Literal["analytic"],
        "Variance of the gaussian likelihood, shared by all genes; .5 makes its negative logarithm the plain sum of squares, "
        "analytic is the mean squared error itself.",
    ] = 0.5
    dispersion: Annotated[
        Literal["gene", "gene-batch"],
        "Whether nb and zinb learn the dispersion of each gene once, or for every batch.",
    ] = "gene"

    def __post_init__(self) -> None:
        require_choice(LikelihoodConfig, "likelihood", self.likelihood)
        require_number("variance", self.variance, above=0, or_word="analytic")
        require_choice(LikelihoodConfig, "dispersion", self.dispersion)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the network is trained."""

    epochs: Annotated[
        int | Literal["auto"],
        "Passes over the cells, at most; auto: as many as `steps` says, but 20 to 400, fewer for more than 100,000 cells.",
    ] = by_kind(200, "auto")
    steps: Annotated[int, "Steps of a run whose epochs are auto, as near as whole passes come."] = 1200
    batch_size: Annotated[int, "Cells in a step."] = by_kind(256, 128)
    learning_rate: Annotated[float, "Step size of Adam."] = by_kind(1e-3, 2e-3)
    weight_decay: Annotated[float, "Share of each weight taken off in a step, times the step size."] = (
        by_kind(0.0, 0.0)
    )
    schedule: Annotated[
        Literal["constant", "cosine"],
        "How the step size goes over the run: constant, or up in the first twentieth and down along a cosine to a hundredth.",
    ] = by_kind("constant", "cosine")
    held_out: Annotated[float, "Share of the cells held out of training, to see when it should stop."] = (
        by_kind(0.0, 0.1)
    )
    tolerance: Annotated[
        float,
        "How far above the lowest the loss of the held-out cells may lie, as a share: the latest such weights are kept; 0 keeps the best.",
    ] = by_kind(0.0, 0.01)
    patience: Annotated[
        int,
        "Epochs with a loss above that on the held-out cells after which training stops, with the weights kept; 0 trains to the end.",
    ] = by_kind(0, 50)
    warmup: Annotated[
        float, "Share of the run during which the weight of the KL goes from its start to beta."
    ] = by_kind(0.0, 0.3)
    warmup_start: Annotated[
        float,
        "Weight of the KL when the warm-up begins, in units of beta: 0 lets it grow; above 1 it falls, so that latents which say the same "
        "as others do not last.",
    ] = 0.0
    clip: Annotated[float, "Longest gradient of a step; a longer one is shortened to it. 0 for no limit."] = (
        by_kind(0.0, 5.0)
    )
    seed: Annotated[
        int, "Seed of the initial weights, the cells held out, the order of the cells and the noise."
    ] = 0
    device: Annotated[str, "Where to compute: auto, cpu, cuda, cuda:1, mps."] = "auto"
    precision: Annotated[
        Literal["float32", "bfloat16"],
        "Of the matrix products of the head in training: bfloat16 is faster on many genes, and less exact. Where there are no instructions "
        "for it (x86 has them with AVX512-BF16, NVIDIA from Ampere on) training is in float32, and a warning says so.",
    ] = "float32"

    def __post_init__(self) -> None:
        require_whole("epochs", self.epochs, 1, or_word="auto")
        require_whole("steps", self.steps, 1)
        require_whole("batch_size", self.batch_size, 1)
        require_number("learning_rate", self.learning_rate, above=0, below=1)
        require_choice(TrainConfig, "schedule", self.schedule)
        require_choice(TrainConfig, "precision", self.precision)
        require_number("weight_decay", self.weight_decay, above=0, or_equal=True)
        require_number("held_out", self.held_out, above=0, below=1, or_equal=True)
        require_number("tolerance", self.tolerance, above=0, below=1, or_equal=True)
        require_whole("patience", self.patience, 0)
        require_number("warmup", self.warmup, above=0, below=1, or_equal=True)
        require_number("warmup_start", self.warmup_start, above=0, or_equal=True)
        require_number("clip", self.clip, above=0, or_equal=True)
        require_whole("seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What of the data a model sees."""

    layer: Annotated[str | None, "Layer to read; X when not given."] = None
    genes: Annotated[
        str | None, "Column of var that marks the genes to use (true/false); all genes when not given."
    ] = None
    batch_key: Annotated[
        str | None,
        "Column of obs with the batch of each cell (donor, chemistry, run), whose effect is left out of the code.",
    ] = None
    covariates: Annotated[
        tuple[str, ...],
        "Further columns of obs whose effects are left out of the code: numbers as they are, all else as categories.",
    ] = ()
    normalise: Annotated[
        bool | None,
        "Gaussian likelihood: divide each cell by its total, multiply by 10,000 and take log(1+x) first; when not given, done if the layer "
        "holds raw counts.",
    ] = None
    scale: Annotated[
        bool,
        "Gaussian likelihood: give each gene mean 0 and variance 1, and cut at ±10; the constants are kept with the model.",
    ] = False


def require(holds: bool, name: str, found: object, expected: str) -> None:
    """Raise the error of a setting that is out of range."""
    if not holds:
        raise InputError(f"{name} is {found!r}; expected {expected}.")


def require_choice(config: type, name: str, found: object) -> None:
    """Raise unless a setting is one of the words that its type lists."""
    if not isinstance(found, ByKind):
        choices = typing.get_args(typing.get_type_hints(config)[name])
        require(found in choices, name, found, f"one of {', '.join(map(str, choices))}")


def is_whole(found: object, least: int) -> bool:
    """Tell whether a value is a whole number of at least `least` that 63 bits can hold."""
    return isinstance(found, Integral) and least <= int(found) < 2**63


def require_whole(name: str, found: object, least: int, *, or_word: str | None = None) -> None:
    """Raise unless a setting is a whole number of at least `least`, or the word."""
    holds = isinstance(found, ByKind) or is_whole(found, least) or (or_word is not None and found == or_word)
    require(holds, name, found, f"a whole number of at least {least}" + _or(or_word))


def require_number(
    name: str,
    found: object,
    *,
    above: float,
    below: float = math.inf,
    or_equal: bool = False,
    or_word: str | None = None,
) -> None:
    """Raise unless a setting is a finite number above `above` (or equal to it) and below `below`, or the word."""
    if isinstance(found, ByKind) or (or_word is not None and found == or_word):
        return
    holds = isinstance(found, Real) and (above < float(found) < below or (or_equal and found == above))
    limit = f"of at least {above:g}" if or_equal else f"above {above:g}"
    limit += f" and below {below:g}" if below < math.inf else ""
    require(holds, name, found, f"a number {limit}" + _or(or_word))


def _or(word: str | None) -> str:
    return "" if word is None else f", or {word!r}"


class Setting(NamedTuple):
    """One setting as the command line needs it."""

    name: str
    type: Any
    help: str
    default: Any


def settings_of(config: type) -> list[Setting]:
    """List the settings of a config dataclass: what Python's signature says, with the help texts."""
    hints = typing.get_type_hints(config, include_extras=True)
    found = []
    for field in fields(config):
        kind, help_text = typing.get_args(hints[field.name])[:2]
        default = None if field.default is MISSING else field.default
        found.append(Setting(field.name, kind, help_text, default))
    return found
