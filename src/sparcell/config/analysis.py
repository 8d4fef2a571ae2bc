"""Settings of `sparcell analyze`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from sparcell.config.experiments import QualityConfig
from sparcell.config.genes import GenesConfig
from sparcell.config.input import CountsConfig
from sparcell.config.validation import convert_paths, require_choice, require_number, require_whole


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig(CountsConfig, GenesConfig, QualityConfig):
    """What an analysis does with the cells.

    Examples
    --------
    ::

        config = sp.AnalysisConfig(batch_key="donor", condition_key="treatment")
        results = sp.analysis.run("counts.h5ad", "analysis", config)
    """

    batch_key: Annotated[
        str | None,
        "Column of obs with the batch of each cell (donor, chemistry, run); the model removes differences between them.",
    ] = None
    labels_key: Annotated[
        str | None,
        "Column of obs with known cell types, shown beside the clusters.",
    ] = None
    condition_key: Annotated[
        str | None,
        "Column of obs with the condition of each cell (treatment, disease); conditions are compared within each cell type.",
    ] = None
    reference: Annotated[
        Path | None,
        "Folder of a saved model. Cells are mapped onto it and get its cell types.",
    ] = None
    unseen: Annotated[
        Literal["train", "average"],
        "With a reference: parameters of batches that its training lacked. train: learned from the cells. average: those of an average "
        "batch, without training.",
    ] = "train"
    n_top_genes: Annotated[int, "Number of highly variable genes that the models read."] = 2000
    resolution: Annotated[
        float,
        "Resolution of the Leiden clusters; a higher value gives more. Half and twice as much are stored too.",
    ] = 1.0
    markers: Annotated[
        Path | None,
        "CSV of marker genes (cell_type, gene) that name clusters. Default: built-in gene sets.",
    ] = None
    gmt: Annotated[
        tuple[Path, ...],
        "GMT files of gene sets, which name clusters and programs in place of the built-in ones.",
    ] = ()
    programs: Annotated[
        bool, "Train a second model, whose latents are gene programs, and write their page."
    ] = True
    seed: Annotated[int, "Random seed of models, clusters and maps."] = 0

    def __post_init__(self) -> None:
        CountsConfig.__post_init__(self)
        GenesConfig.__post_init__(self)
        QualityConfig.__post_init__(self)
        convert_paths(self, "markers", "gmt", "reference")
        require_choice(AnalysisConfig, "unseen", self.unseen)
        require_whole("n_top_genes", self.n_top_genes, 50)
        require_number("resolution", self.resolution, above=0)
        require_whole("seed", self.seed, 0)
