"""The settings of the models. The models themselves (`sparcell.models`) add how they are fitted.

These classes import no torch, so that the command line can print its help without loading it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, Self

from sparcell.config.presets import PROGRAMS
from sparcell.config.training import TrainConfig
from sparcell.config.validation import (
    convert_numbers,
    require_choice,
    require_number,
    require_whole,
    require_widths,
)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes and layers of the network."""

    n_latent: Annotated[int, "Number of latents: dimensions of the representation."] = 10
    encoder_widths: Annotated[
        tuple[int, ...],
        "Numbers of hidden units in the encoder's layers. Each layer ends in a ReLU, except the first layer with normalization none.",
    ] = (128,)
    head_width: Annotated[
        int,
        "Hidden units of one more layer before each output of the encoder (mean, variance, inclusion probability). 0: no such layer.",
    ] = 0
    decoder_widths: Annotated[
        tuple[int, ...],
        "Numbers of hidden units in the decoder's layers, each with a ReLU. Only for decoder_type mlp.",
    ] = (128,)
    decoder_type: Annotated[
        Literal["mlp", "linear", "nonnegative-linear"],
        "Decoder from latents to genes. mlp: hidden layers. linear: one effect of each latent on each gene, like loadings of PCA. "
        "nonnegative-linear: effects of 0 or above, like NMF.",
    ] = "mlp"
    normalization: Annotated[
        Literal["none", "layer"],
        "Normalization of hidden layers, not of counts. layer: layer normalization before each ReLU.",
    ] = "layer"
    standardize_input: Annotated[
        bool,
        "Raw counts only: scale each gene of the encoder's input to mean 0 and variance 1 and clip values at ±10. The likelihood still "
        "reads the counts.",
    ] = False
    input_dropout: Annotated[
        float, "Fraction of a cell's genes that are dropped from the encoder's input in each training step."
    ] = 0.0
    dropout: Annotated[float, "Fraction of the encoder's hidden units dropped in each training step."] = 0.1
    batch_augmentation: Annotated[
        bool,
        "Training shows the encoder each cell as the decoder predicts the cell in a random batch (counterfactual batch). The latent "
        "representation then depends less on the batch. Needs batch_key.",
    ] = True
    encode_covariates: Annotated[
        bool, "Give batch and covariates to the encoder too. The decoder always reads both."
    ] = False

    def __post_init__(self) -> None:
        require_whole("n_latent", self.n_latent, 1)
        require_whole("head_width", self.head_width, 0)
        for name in ("encoder_widths", "decoder_widths"):  # a saved model holds lists
            object.__setattr__(self, name, require_widths(name, getattr(self, name)))
        require_choice(NetworkConfig, "decoder_type", self.decoder_type)
        require_choice(NetworkConfig, "normalization", self.normalization)
        require_number("input_dropout", self.input_dropout, above=0, below=1, or_equal=True)
        require_number("dropout", self.dropout, above=0, below=1, or_equal=True)


@dataclass(frozen=True, kw_only=True)
class LikelihoodConfig:
    """Distribution of the data given the latent representation."""

    likelihood: Annotated[
        Literal["auto", "gaussian", "poisson", "nb", "zinb"],
        "Distribution of expression given the latents. gaussian: for log-normalized values. poisson, nb (negative binomial), zinb "
        "(zero-inflated nb): for raw counts. auto: nb for raw counts, gaussian for log-normalized values.",
    ] = "auto"
    gaussian_variance: Annotated[
        float | Literal["analytic"],
        "Variance of the gaussian likelihood, shared by all genes. analytic: the mean squared error, so that beta means the same as with "
        "raw counts. 0.5: the loss is the plain sum of squared errors.",
    ] = "analytic"
    dispersion: Annotated[
        Literal["gene", "gene-batch"],
        "Dispersion of nb and zinb. gene: one value for each gene. gene-batch: one value for each gene and batch.",
    ] = "gene"

    def __post_init__(self) -> None:
        require_choice(LikelihoodConfig, "likelihood", self.likelihood)
        require_number("gaussian_variance", self.gaussian_variance, above=0, or_word="analytic")
        require_choice(LikelihoodConfig, "dispersion", self.dispersion)


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelConfig(NetworkConfig, LikelihoodConfig, TrainConfig):
    """The settings that all models have."""

    name: ClassVar[str]
    """Stem of the keys written into AnnData."""
    generative: ClassVar[bool] = True
    """Whether there is a prior to sample new cells from."""
    gaussian_posterior: ClassVar[bool] = False
    """Whether q(z|x) is a Gaussian with an N(0, 1) prior, which the theory of linear VAEs covers."""

    def __post_init__(self) -> None:
        convert_numbers(self)
        for config in (NetworkConfig, LikelihoodConfig, TrainConfig):
            config.__post_init__(self)

    def __repr__(self) -> str:
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        changed = [f"{name}={value!r}" for name, (value, default) in values.items() if value != default]
        return f"{type(self).__name__}({', '.join(changed)})"

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return 1.0


@dataclass(frozen=True, kw_only=True, repr=False)
class AutoencoderConfig(ModelConfig):
    """Settings of the autoencoder."""

    latent_activation: Annotated[
        Literal["relu", "linear"],
        "Activation function of the latents. relu (as in study-2019) can leave a latent at 0 in every cell.",
    ] = "linear"

    name = "autoencoder"
    generative = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(AutoencoderConfig, "latent_activation", self.latent_activation)


@dataclass(frozen=True, kw_only=True, repr=False)
class BetaVAEConfig(ModelConfig):
    """Settings of the beta-VAE."""

    beta: Annotated[float, "Weight of the KL divergence in the loss. Higher: fewer active latents."] = 1.0

    name = "beta_vae"
    gaussian_posterior = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("beta", self.beta, above=0, or_equal=True)

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return self.beta


@dataclass(frozen=True, kw_only=True, repr=False)
class BetaVSCConfig(ModelConfig):
    """Settings of the beta-VSC."""

    beta: Annotated[float, "Weight of the KL divergence in the loss. Higher: fewer active latents."] = 2.0
    alpha: Annotated[
        float | Literal["learned"],
        "Prior probability that a latent is on (not 0) in a cell. learned: one value for each latent, estimated from the data.",
    ] = 0.5
    n_prior_components: Annotated[
        int,
        "Components of the prior. 1: each latent is 0 (spike) or from N(0, 1) (slab). Above 1: a learned mixture of spikes and slabs.",
    ] = 50
    slab: Annotated[
        Literal["normal", "softplus-normal"],
        "Distribution of a latent that is on. normal: values of either sign. softplus-normal: values above 0, as for gene programs.",
    ] = "normal"
    gate: Annotated[
        Literal["straight-through", "hard-concrete", "steep-sigmoid"],
        "How training draws the gate that turns a latent on or off. straight-through: exactly 0 or 1. hard-concrete: 0 to 1, with exact "
        "zeros. steep-sigmoid: 0 to 1 without exact zeros, as in the paper on variational sparse coding.",
    ] = "hard-concrete"
    temperature: Annotated[
        float,
        "Temperature of the gate, not used by steep-sigmoid. Lower: gates closer to 0 or 1, with noisier gradients.",
    ] = 2 / 3
    spike_warmup: Annotated[
        bool,
        "At the start of the KL warm-up a latent that is on has a random value; its learned value comes in gradually.",
    ] = False

    merge_duplicates: Annotated[
        bool,
        "After training, merge latents that are copies of another latent: correlated by 0.9 or more over cells, with gene effects whose "
        "cosine is 0.7 or more. Only for the decoder types linear and nonnegative-linear.",
    ] = False

    name = "beta_vsc"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("beta", self.beta, above=0, or_equal=True)
        require_number("alpha", self.alpha, above=0, below=1, or_word="learned")
        require_whole("n_prior_components", self.n_prior_components, 1)
        require_number("temperature", self.temperature, above=0)
        require_choice(BetaVSCConfig, "slab", self.slab)
        require_choice(BetaVSCConfig, "gate", self.gate)

    @classmethod
    def for_programs(cls, **changes: Any) -> Self:
        """Return the preset `programs`, settings for latents that are gene programs, with `changes` applied.

        The decoder is nonnegative-linear: log-normalized expression is a floor plus programs that only add. A latent is 0 or above 0.
        `n_latent`, 32, is an upper bound, since latents that do not pay for their KL become inactive,
        and copies of a latent are merged.

        Parameters
        ----------
        changes
            Settings that differ from the preset, such as ``seed=1``.

        Examples
        --------
        ::

            model = sp.BetaVSC.for_programs(seed=1).fit(adata, genes_key="highly_variable")
        """
        return cls(**{**PROGRAMS, **changes})

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return self.beta


MODEL_SETTINGS: dict[str, type[ModelConfig]] = {
    "autoencoder": AutoencoderConfig,
    "beta-vae": BetaVAEConfig,
    "beta-vsc": BetaVSCConfig,
}
"""Name on the command line → settings."""
