"""Settings of what the commands read: layers, genes, memory, and what a saved model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sparcell.config.validation import convert_numbers, require_choice, require_size, require_whole

MAX_MEMORY = "4GB"
"""A file whose matrix would take more memory stays on disk, unless the user sets another limit."""


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """How a command reads its input."""

    gene_symbols: Annotated[
        str | None,
        "Column of var with gene symbols, if var_names holds other identifiers, such as Ensembl IDs.",
    ] = None


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What happens with a file that is too large for the memory."""

    memory: Annotated[
        str,
        "An .h5ad file or zarr folder whose matrix would take more memory than this stays on disk, and is read in blocks. Training then "
        "takes at most this much memory beside the libraries and the model.",
    ] = MAX_MEMORY

    def __post_init__(self) -> None:
        require_size("memory", self.memory)


@dataclass(frozen=True, kw_only=True)
class CopyConfig(MemoryConfig):
    """What is written of a file that is too large for the memory."""

    with_x: Annotated[
        bool,
        "Copy the matrix of a file that stays on disk into --out. Default: --out holds all but the matrix.",
    ] = False


@dataclass(frozen=True, kw_only=True)
class DiskConfig(CopyConfig):
    """The same, and what the work would take."""

    dry_run: Annotated[
        bool,
        "Print shapes, genes, memory and time, measured on a few blocks and steps, and write nothing.",
    ] = False


@dataclass(frozen=True, kw_only=True)
class CountsConfig(InputConfig):
    """How a command reads its input, if the command needs raw counts."""

    layer: Annotated[str | None, "Layer with the raw counts; raw: adata.raw. Default: X."] = None
    title: Annotated[str | None, "Title of the page. Default: the name of the input."] = None
    n_cells: Annotated[
        int | None, "Read only this many cells, drawn at random from all over the input. Default: all cells."
    ] = None
    memory: Annotated[
        str,
        "Largest matrix that is read into memory. A larger .h5ad file or zarr folder is an error, unless n_cells is set.",
    ] = MAX_MEMORY

    def __post_init__(self) -> None:
        convert_numbers(self)
        if self.n_cells is not None:
            require_whole("n_cells", self.n_cells, 1)
        require_size("memory", self.memory)


@dataclass(frozen=True, kw_only=True)
class ModelReadingConfig(InputConfig):
    """Which values and genes a saved model reads."""

    layer: Annotated[
        str | None,
        "Layer with the values that the model reads. raw: adata.raw. Default: the layer of the training, or X.",
    ] = None
    missing_genes: Annotated[
        Literal["error", "zero"],
        "Genes of the model that the input lacks. error: stop. zero: they count as not expressed, if at most 20 % are missing.",
    ] = "error"

    def __post_init__(self) -> None:
        require_choice(ModelReadingConfig, "missing_genes", self.missing_genes)


@dataclass(frozen=True, kw_only=True)
class ModelInputConfig(ModelReadingConfig):
    """What a saved model reads, and how it treats batches that were not in training."""

    unseen: Annotated[
        Literal["error", "average"],
        "Cells of a batch that was not in training. error: stop. average: use the batch proportions of the training data.",
    ] = "error"

    def __post_init__(self) -> None:
        ModelReadingConfig.__post_init__(self)
        require_choice(ModelInputConfig, "unseen", self.unseen)
