"""Noise of training: one draw for each cell, the same numbers whether one process or several have the cells of a step.

A model draws with these functions in training, not with torch's: a process that has some of the cells of a step then draws for all of them
and takes its own. So the generators of all processes stay in one state, which is that of a single process. Suffixes: n cells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import Noise


def normal(like: Tensor, noise: Noise) -> Tensor:
    """Draw from N(0, 1), in the shape of `like`, (n, …)."""
    return _own(torch.randn, like.shape, noise, device=like.device)


def uniform(like: Tensor, noise: Noise, dtype: torch.dtype | None = None) -> Tensor:
    """Draw from 0 … 1 without 1, in the shape of `like`, (n, …)."""
    return _own(torch.rand, like.shape, noise, device=like.device, dtype=dtype)


def integers(high: int, like_n: Tensor, noise: Noise) -> Tensor:
    """Draw whole numbers below `high`, (n,)."""
    return _own(partial(torch.randint, high), (len(like_n),), noise, device=like_n.device)


def _own(draw: Callable[..., Tensor], shape: tuple[int, ...], noise: Noise, **where: Any) -> Tensor:
    if isinstance(noise, torch.Generator):
        return draw(shape, generator=noise, **where)
    share = noise.share
    start = min(share.start, share.n_cells - 1)  # of a cell that does not count
    return draw((share.n_cells, *shape[1:]), generator=noise.generator, **where)[start : start + shape[0]]
