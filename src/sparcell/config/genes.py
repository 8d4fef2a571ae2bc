"""How highly variable genes are chosen."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Annotated, Literal

from sparcell.config.validation import require_choice

Flavor = Literal["protected", "seurat_v3", "seurat_v3_paper", "pearson_residuals"]
"""The rules for choosing highly variable genes; `sp.pp.variable_genes` describes each."""

DEFAULT_FLAVOR: Flavor = "protected"

FLAVORS: tuple[Flavor, ...] = typing.get_args(Flavor)


@dataclass(frozen=True, kw_only=True)
class GenesConfig:
    """How a command chooses highly variable genes."""

    flavor: Annotated[
        Flavor,
        "Rule for highly variable genes. protected: as seurat_v3_paper, and genes that vary very much in any one batch are kept. "
        "seurat_v3, seurat_v3_paper, pearson_residuals: the rules that scanpy calls so.",
    ] = DEFAULT_FLAVOR

    def __post_init__(self) -> None:
        require_choice(GenesConfig, "flavor", self.flavor)
