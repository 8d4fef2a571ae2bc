"""The settings of the models. The models themselves (`sparcell.models`) add how they are fitted.

These classes import no torch, so that the command line can print its help without loading it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from sparcell.config.presets import PROGRAMS
from sparcell.config.training import TrainConfig
from sparcell.config.validation import require_choice, require_number, require_whole, require_widths


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes and layers of the network."""

    n_latent: Annotated[int, "Number of latents."] = 10
    encoder_widths: Annotated[
        tuple[int, ...],
        "Widths of the encoder's hidden layers, each followed by a ReLU. Without normalization the first layer is linear.",
    ] = (128,)
    head_width: Annotated[
        int,
        "Width of a hidden ReLU layer between the encoder and each parameter of the posterior (mean, variance, inclusion). 0: none.",
    ] = 0
    decoder_widths: Annotated[
        tuple[int, ...],
        "Widths of the decoder's hidden layers, each followed by a ReLU. Only for decoder_type mlp.",
    ] = (128,)
    decoder_type: Annotated[
        Literal["mlp", "linear", "nonnegative-linear"],
        "Decoder from latents to genes. mlp: hidden layers. linear: each latent adds its own effect on each gene. nonnegative-linear: "
        "the same, with no effect below 0.",
    ] = "mlp"
    normalization: Annotated[
        Literal["none", "layer"],
        "Normalization of each hidden layer before its ReLU. layer: layer normalization.",
    ] = "layer"
    standardize_input: Annotated[
        bool,
        "Raw counts only: give each gene mean 0 and variance 1 before the encoder, and cut values at ±10. The model stores the mean and "
        "variance.",
    ] = False
    input_dropout: Annotated[
        float, "Fraction of a cell's genes hidden from the encoder in each training step."
    ] = 0.0
    dropout: Annotated[float, "Fraction of the encoder's hidden units dropped in each training step."] = 0.1
    batch_augmentation: Annotated[
        bool,
        "In training, show the encoder each cell as the decoder would expect it in a random batch (counterfactual batch), so that the "
        "latent representation does not depend on the batch. Needs batch_key.",
    ] = True
    encode_covariates: Annotated[
        bool, "Give batch and covariates to the encoder too, not only to the decoder."
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
        "Distribution of the data given the latents. gaussian: log-normalized values. poisson, nb (negative binomial), zinb (zero-inflated "
        "nb): raw counts. auto: nb for raw counts, gaussian for log-normalized values.",
    ] = "auto"
    gaussian_variance: Annotated[
        float | Literal["analytic"],
        "Variance of the gaussian likelihood, shared by all genes. analytic: the mean squared error, which puts beta on the scale of count "
        "likelihoods. 0.5: the loss is the plain sum of squared errors.",
    ] = "analytic"
    dispersion: Annotated[
        Literal["gene", "gene-batch"],
        "Dispersion of nb and zinb: one for each gene, or one for each gene and batch.",
    ] = "gene"

    def __post_init__(self) -> None:
        require_choice(LikelihoodConfig, "likelihood", self.likelihood)
        require_number("gaussian_variance", self.gaussian_variance, above=0, or_word="analytic")
        require_choice(LikelihoodConfig, "dispersion", self.dispersion)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(NetworkConfig, LikelihoodConfig, TrainConfig):
    """The settings that all models have."""

    name: ClassVar[str]
    """Stem of the keys written into AnnData."""
    generative: ClassVar[bool] = True
    """Whether there is a prior to sample new cells from."""
    gaussian_posterior: ClassVar[bool] = False
    """Whether q(z|x) is a Gaussian with an N(0, 1) prior, which the theory of linear VAEs covers."""

    def __post_init__(self) -> None:
        for config in (NetworkConfig, LikelihoodConfig, TrainConfig):
            config.__post_init__(self)

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(ModelConfig):
    """Settings of the autoencoder."""

    latent_activation: Annotated[
        Literal["relu", "linear"],
        "Activation of the latents. relu is the 2019 study's; it can leave latents inactive.",
    ] = "linear"

    name = "autoencoder"
    generative = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(AutoencoderConfig, "latent_activation", self.latent_activation)


@dataclass(frozen=True, kw_only=True)
class BetaVAEConfig(ModelConfig):
    """Settings of the beta-VAE."""

    beta: Annotated[float, "Weight of the KL."] = 1.0

    name = "beta_vae"
    gaussian_posterior = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("beta", self.beta, above=0, or_equal=True)

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return self.beta


@dataclass(frozen=True, kw_only=True)
class BetaVSCConfig(ModelConfig):
    """Settings of the beta-VSC."""

    beta: Annotated[float, "Weight of the KL."] = 2.0
    alpha: Annotated[
        float | Literal["learned"],
        "Prior probability that a latent is included in a cell. learned: one for each latent, estimated from the data.",
    ] = 0.5
    n_prior_components: Annotated[
        int,
        "Components of the mixture prior. 1: one spike and one N(0, 1) slab for each latent. More than 1: the components are learned.",
    ] = 50
    slab: Annotated[
        Literal["normal", "softplus-normal"],
        "Distribution of an included latent. normal: either sign. softplus-normal: softplus of a normal, so above 0.",
    ] = "normal"
    gate: Annotated[
        Literal["straight-through", "hard-concrete", "steep-sigmoid"],
        "Relaxation of the on/off gate in training. straight-through: exactly 0 or 1. hard-concrete: 0 to 1 with exact zeros. "
        "steep-sigmoid: as in the VSC paper.",
    ] = "hard-concrete"
    temperature: Annotated[
        float, "Temperature of the gate's relaxation. Lower: closer to 0 or 1, with noisier gradients."
    ] = 2 / 3
    spike_warmup: Annotated[
        bool, "Let only the gates carry information at the start of the warm-up, and add the slabs gradually."
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
        `n_latent`, 32, is an upper bound, since latents that do not pay for their KL become inactive.

        Parameters
        ----------
        changes
            Settings that differ from the preset, such as ``seed=1``.
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
