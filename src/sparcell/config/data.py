"""What a model reads from an AnnData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a model reads from an AnnData."""

    layer: Annotated[str | None, "Layer to read. Default: X."] = None
    genes_key: Annotated[str | None, "Column of var with true for each gene to use. Default: all genes."] = (
        None
    )
    batch_key: Annotated[
        str | None,
        "Column of obs with the batch of each cell (donor, chemistry, run). The model removes the batch effect from the latent "
        "representation.",
    ] = None
    covariates: Annotated[
        tuple[str, ...],
        "Further columns of obs whose effect is removed from the latent representation. Numbers are used as numbers, all other columns "
        "as categories.",
    ] = ()
    log_normalize: Annotated[
        bool | None,
        "Gaussian likelihood only: divide each cell by its total, multiply by 10,000 and take log(1+x). Default: yes if the layer holds "
        "raw counts.",
    ] = None
    scale: Annotated[
        bool,
        "Gaussian likelihood only: give each gene mean 0 and variance 1, and cut values at ±10. The model stores the mean and variance.",
    ] = False
