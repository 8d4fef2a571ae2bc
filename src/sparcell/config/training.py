"""How a network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sparcell.config.validation import require_choice, require_number, require_whole


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained."""

    epochs: Annotated[
        int | Literal["auto"],
        "Maximum number of epochs (passes over the cells). auto: max_steps steps or, if these are more, min_epochs epochs; at most 400.",
    ] = "auto"
    max_steps: Annotated[
        int,
        "Number of training steps (one minibatch each) of small data if epochs is auto, rounded to whole epochs. min_epochs gives large "
        "data more steps.",
    ] = 1200
    min_epochs: Annotated[
        int, "Least number of epochs if epochs is auto. Above 45,000 cells, 20,000 steps can be fewer epochs."
    ] = 60
    batch_size: Annotated[int, "Cells per minibatch. Several processes (torchrun) share them out."] = 128
    learning_rate: Annotated[float, "Learning rate of Adam."] = 2e-3
    weight_decay: Annotated[float, "Weight decay of AdamW. 0: plain Adam."] = 0.0
    lr_schedule: Annotated[
        Literal["constant", "cosine"],
        "Learning rate during training. cosine: linear rise over the first 5 % of the steps, then cosine decay to 1 % of learning_rate.",
    ] = "cosine"
    validation_fraction: Annotated[
        float,
        "Fraction of the cells that are validation cells: not trained on, used for the validation loss.",
    ] = 0.1
    early_stopping_tolerance: Annotated[
        float,
        "Keep the weights of the latest epoch whose validation loss is at most this much above the lowest, in nats per cell. 0 keeps the "
        "best epoch.",
    ] = 1.0
    early_stopping_patience: Annotated[
        int,
        "Stop after this many epochs in which the validation loss was not within early_stopping_tolerance of the lowest, counted from the "
        "end of the KL warm-up. 0 disables early stopping.",
    ] = 25
    kl_warmup_fraction: Annotated[
        float,
        "KL warm-up: fraction of training in which the weight of the KL goes from kl_warmup_start × beta to beta.",
    ] = 0.3
    kl_warmup_start: Annotated[
        float,
        "Weight of the KL at the start of the KL warm-up, as a multiple of beta. 0: the weight rises. Above 1: the weight falls, which "
        "removes redundant latents.",
    ] = 0.0
    label_weight: Annotated[
        float,
        "Weight of the labels in the loss, with labels_key: each labelled cell adds this many times the cross-entropy of its label. "
        "0: the labels do not change the training.",
    ] = 50.0
    max_grad_norm: Annotated[float, "Clip the norm of the gradient to this value. 0 disables clipping."] = 5.0
    seed: Annotated[int, "Random seed of initial weights, validation cells, cell order and noise."] = 0
    device: Annotated[
        str,
        "Where to compute: auto, cpu, cuda, cuda:1 or mps. auto: a CUDA GPU if there is one, else the CPU.",
    ] = "auto"
    precision: Annotated[
        Literal["float32", "bfloat16"],
        "Precision of matrix products in the decoder's last layer in training. bfloat16 is faster with many genes and less exact. bfloat16 "
        "needs a processor with such instructions (x86 AVX512-BF16, NVIDIA Ampere or later); elsewhere sparcell warns and uses float32.",
    ] = "float32"

    def __post_init__(self) -> None:
        require_whole("epochs", self.epochs, 1, or_word="auto")
        require_whole("max_steps", self.max_steps, 1)
        require_whole("min_epochs", self.min_epochs, 1)
        require_whole("batch_size", self.batch_size, 1)
        require_number("learning_rate", self.learning_rate, above=0, below=1)
        require_choice(TrainConfig, "lr_schedule", self.lr_schedule)
        require_choice(TrainConfig, "precision", self.precision)
        require_number("weight_decay", self.weight_decay, above=0, or_equal=True)
        require_number("validation_fraction", self.validation_fraction, above=0, below=1, or_equal=True)
        require_number("early_stopping_tolerance", self.early_stopping_tolerance, above=0, or_equal=True)
        require_whole("early_stopping_patience", self.early_stopping_patience, 0)
        require_number("kl_warmup_fraction", self.kl_warmup_fraction, above=0, below=1, or_equal=True)
        require_number("kl_warmup_start", self.kl_warmup_start, above=0, or_equal=True)
        require_number("label_weight", self.label_weight, above=0, or_equal=True)
        require_number("max_grad_norm", self.max_grad_norm, above=0, or_equal=True)
        require_whole("seed", self.seed, 0)
