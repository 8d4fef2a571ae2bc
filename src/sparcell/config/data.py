"""What a model reads from an AnnData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a model reads from an AnnData."""

    layer: Annotated[str | None, "Layer of the AnnData to read; raw: adata.raw. Default: X."] = None
    genes_key: Annotated[
        str | None,
        "Boolean column of var that marks the genes to use, such as highly_variable. Default: all genes.",
    ] = None
    batch_key: Annotated[
        str | None,
        "Column of obs with the batch of each cell (donor, chemistry, run). The model removes batch effects from the latents.",
    ] = None
    covariates: Annotated[
        tuple[str, ...],
        "Further columns of obs whose effect the model removes. Numeric columns are continuous covariates, others categorical ones.",
    ] = ()
    log_normalize: Annotated[
        bool | None,
        "Gaussian likelihood only: divide each cell by its total, multiply by 10,000 and take log(1+x). Default: yes if the layer holds "
        "raw counts.",
    ] = None
    scale: Annotated[
        bool,
        "Gaussian likelihood only: scale each gene to mean 0 and variance 1 and clip values at ±10, as sc.pp.scale with max_value=10. "
        "The model applies the same mean and variance to new cells.",
    ] = False

    @property
    def obs_keys(self) -> tuple[str, ...]:
        """Columns of obs that the model reads."""
        return (*(() if self.batch_key is None else (self.batch_key,)), *self.covariates)


@dataclass(frozen=True, kw_only=True)
class LabelledDataConfig(DataConfig):
    """What `fit` reads from an AnnData: also labels."""

    labels_key: Annotated[
        str | None,
        "Column of obs with cell types that training reads, so that `predict` finds them in new cells. Default: training without labels.",
    ] = None

    @property
    def obs_keys(self) -> tuple[str, ...]:
        """Columns of obs that training reads."""
        return (*super().obs_keys, *(() if self.labels_key is None else (self.labels_key,)))
