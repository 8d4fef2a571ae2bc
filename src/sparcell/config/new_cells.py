"""Settings of the commands that bring new cells to a saved model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from sparcell.config.input import CopyConfig, ModelInputConfig, ModelReadingConfig
from sparcell.config.validation import require, require_choice, require_number, require_whole


@dataclass(frozen=True, kw_only=True)
class MapConfig(ModelReadingConfig, CopyConfig):
    """What `sparcell map` reads, trains and writes."""

    batch_key: Annotated[
        str | None,
        "Column of obs with the batch of each cell (donor, chemistry, run). Default: that of the training.",
    ] = None
    unseen: Annotated[
        Literal["train", "average"],
        "Parameters of batches that were not in training. train: learned from the new cells. average: those of an average batch, without "
        "training.",
    ] = "train"
    mapped_model_dir: Annotated[
        Path | None,
        "New folder for the model that knows the old and the new batches. Default: the model is not saved.",
    ] = None
    seed: Annotated[int, "Random seed of the training of the new batches."] = 0

    def __post_init__(self) -> None:
        ModelReadingConfig.__post_init__(self)
        require_choice(MapConfig, "unseen", self.unseen)
        require_whole("seed", self.seed, 0)
        CopyConfig.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class PredictConfig(ModelInputConfig, CopyConfig):
    """What `sparcell predict` learns, reads and writes."""

    reference: Annotated[
        Path | None,
        "Labelled cells, usually those of the training, for a model that was trained without labels. The model learns the labels in "
        "--labels-key and keeps them in --model-dir.",
    ] = None
    labels_key: Annotated[
        str | None,
        "Column of obs of the reference that holds the labels. Default: the labels that the model has learned.",
    ] = None
    unknown_rate: Annotated[
        float, "Fraction of the reference's own cells that would be called unknown. 0: no cell is unknown."
    ] = 0.05

    def __post_init__(self) -> None:
        ModelInputConfig.__post_init__(self)
        CopyConfig.__post_init__(self)
        require_number("unknown_rate", self.unknown_rate, above=0, below=1, or_equal=True)
        if self.reference is not None:
            expected = "the column of the reference that holds the labels"
            require(self.labels_key is not None, "labels_key", self.labels_key, expected)
