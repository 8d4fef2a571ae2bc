"""Expression of some genes in all cells: read by the maps and the marker plots of the pages.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class GeneExpression:
    """Expression of a few genes that a page can show."""

    genes: tuple[str, ...]
    values_ng: NDArray[np.floating]
    """Expression, in the order of the cells and of `genes`."""
    unit: str = "log(1 + counts per 10,000)"
    markers: tuple[tuple[str, str], ...] = ()
    """Pairs (label, gene): the genes that set the cells of a label apart, or (program, gene): top genes of a program."""
