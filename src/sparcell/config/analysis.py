"""Settings of `sparcell analyze`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sparcell.config.experiments import QualityConfig
from sparcell.config.genes import GenesConfig
from sparcell.config.input import CountsConfig
from sparcell.config.validation import convert_paths, require_number, require_whole


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
        "Column of obs with the batch of each cell (donor, chemistry, run). The model removes differences between batches.",
    ] = None
    labels_key: Annotated[
        str | None,
        "Column of obs with cell types that are known already. They are shown beside the clusters; they do not change the model.",
    ] = None
    condition_key: Annotated[
        str | None,
        "Column of obs with the condition of each cell (treatment, disease). Conditions are compared within each cell type.",
    ] = None
    n_top_genes: Annotated[int, "Number of highly variable genes that the models read."] = 2000
    resolution: Annotated[
        float,
        "Resolution of the Leiden clusters. A higher value gives more clusters. Half and twice as much are stored too.",
    ] = 1.0
    markers: Annotated[
        Path | None,
        "CSV file of marker genes with columns cell_type and gene, which name clusters. Default: built-in gene sets of cell types.",
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
        convert_paths(self, "markers", "gmt")
        require_whole("n_top_genes", self.n_top_genes, 50)
        require_number("resolution", self.resolution, above=0)
        require_whole("seed", self.seed, 0)
