"""Settings of the commands `differential-expression`, `denoise` and `criticize`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sparcell.config.input import MemoryConfig, ModelInputConfig
from sparcell.config.validation import require, require_number, require_whole


@dataclass(frozen=True, kw_only=True)
class DifferentialExpressionConfig(ModelInputConfig):
    """What `sparcell differential-expression` compares."""

    group1: Annotated[str | None, "Group that is compared with --group2. Default: every group in turn."] = (
        None
    )
    group2: Annotated[str | None, "Group that --group1 is compared with. Default: all other cells."] = None
    within: Annotated[
        str | None, "Column of obs, such as the cell type: groups are compared within each of its values."
    ] = None
    batch_key: Annotated[
        str | None,
        "Column of obs with batches (donors, chemistries): groups are compared within batches that hold both. Default: that of the model.",
    ] = None
    delta: Annotated[float, "Smallest log2 fold change that matters."] = 0.25

    def __post_init__(self) -> None:
        ModelInputConfig.__post_init__(self)
        require_number("delta", self.delta, above=0)


@dataclass(frozen=True, kw_only=True)
class DenoiseConfig(ModelInputConfig, MemoryConfig):
    """What `sparcell denoise` computes."""

    library_size: Annotated[
        str,
        "Library size of the expected counts. own: that of each cell. median: that of the training, for all cells. Or a number of counts.",
    ] = "own"
    batch: Annotated[
        str | None,
        "Expected expression as if all cells were of this batch, a name or average. Default: the batch of each cell.",
    ] = None
    decoder_only: Annotated[
        bool, "The decoder's mean alone, which is smoother. Default: combined with the cell's own counts."
    ] = False

    def __post_init__(self) -> None:
        ModelInputConfig.__post_init__(self)
        MemoryConfig.__post_init__(self)
        self.size  # noqa: B018 - raises for a library size that is no number

    @property
    def size(self) -> float | str:
        """The library size as `Model.denoise` takes it."""
        if self.library_size in ("own", "median"):
            return self.library_size
        try:
            size = float(self.library_size)
        except ValueError:
            size = float("nan")
        expected = "own, median or a number above 0"
        require(0 < size < float("inf"), "library_size", self.library_size, expected)
        return size


@dataclass(frozen=True, kw_only=True)
class CriticizeConfig(ModelInputConfig, MemoryConfig):
    """How `sparcell criticize` checks a model."""

    n_cells: Annotated[int, "Number of cells to check, drawn at random. 0: all cells."] = 2000
    n_samples: Annotated[int, "Replicates of each cell."] = 3
    seed: Annotated[int, "Random seed of cells and replicates."] = 0

    def __post_init__(self) -> None:
        ModelInputConfig.__post_init__(self)
        MemoryConfig.__post_init__(self)
        require_whole("n_cells", self.n_cells, 0)
        require_whole("n_samples", self.n_samples, 1)
        require_whole("seed", self.seed, 0)
