"""A step of AdamW on the CPU: the gradient's length, then its shortening together with the step, each one pass over the weights.

The state has the names of torch's optimiser, whose fused kernel makes the step everywhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from torch.optim.adamw import adamw

from sparcell.kernels import team
from sparcell.kernels.awake import together
from sparcell.kernels.jit import FAST, compiled, inlined
from sparcell.kernels.tasks import each

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

BLOCK = 2**17
"""Weights of a task; tensors smaller than a block are all of one."""
WEIGHT, SLOPE, MEAN, SPREAD, SIZE = range(5)
"""Of a part: where its numbers lie, and how many."""
ONE = np.float32(1)
CHUNK = 2048
"""Weights whose memory is renewed before they move: all of it in one loop is more than the compiler checks for overlap."""


def _floats_at(context: Any, address: Any) -> Any:
    """Take a number for where float32s lie in memory."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.inttoptr(given[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), generate


floats_at: Any = intrinsic(_floats_at)


@inlined(fastmath=FAST)
def square(number: Any, given: Any) -> None:
    """Sum of squares of the slopes of a task."""
    start_t, place_p5, square_t = given
    total = 0.0
    for p in range(start_t[number], start_t[number + 1]):
        slope = carray(floats_at(place_p5[p, SLOPE]), (place_p5[p, SIZE],))
        for start in range(0, slope.shape[0], CHUNK):
            g, chunk = slope[start : start + CHUNK], slope.dtype.type(0)
            for i in range(g.shape[0]):
                chunk += g[i] * g[i]
            total += chunk
    square_t[number] = total


@compiled()
def share_square(team: Any, span: Any, given: Any) -> Any:
    """Share the tasks out."""
    return each(team, span, square, given)


@inlined(fastmath=FAST)
def move(number: Any, given: Any) -> None:
    """Move weights along their slopes times c: w (1 - decay) - s m / (u √v + eps), with m and v the means of slopes and of squares."""
    start_t, place_p5, weight_p, setting_w7 = given
    for p in range(start_t[number], start_t[number + 1]):
        place, c = place_p5[p], setting_w7[weight_p[p], 0]
        kept, of_m, of_v = setting_w7[weight_p[p], 1], setting_w7[weight_p[p], 2], setting_w7[weight_p[p], 3]
        s, u, eps = setting_w7[weight_p[p], 4], setting_w7[weight_p[p], 5], setting_w7[weight_p[p], 6]
        new_m, new_v = ONE - of_m, ONE - of_v
        size = (place[SIZE],)
        weight, slope = carray(floats_at(place[WEIGHT]), size), carray(floats_at(place[SLOPE]), size)
        mean, spread = carray(floats_at(place[MEAN]), size), carray(floats_at(place[SPREAD]), size)
        for start in range(0, weight.shape[0], CHUNK):
            stop = start + CHUNK
            w, g, m, v = weight[start:stop], slope[start:stop], mean[start:stop], spread[start:stop]
            for i in range(g.shape[0]):
                shortened = c * g[i]
                m[i] = of_m * m[i] + new_m * shortened
                v[i] = of_v * v[i] + new_v * shortened * shortened
            for i in range(w.shape[0]):
                w[i] = kept * w[i] - s * m[i] / (u * np.sqrt(v[i]) + eps)


@compiled()
def share_move(team: Any, span: Any, given: Any) -> Any:
    """Share the tasks out."""
    return each(team, span, move, given)


@dataclass(frozen=True, eq=False)
class _Memory:
    """Where a weight lies, and what Adam remembers of it."""

    size: int
    weight: int
    """Address."""
    mean: Tensor
    """Of its slopes."""
    spread: Tensor
    """Mean of their squares."""
    step: NDArray[np.float32]
    """How many steps it has made, ()."""


@dataclass(frozen=True, eq=False)
class _Tasks:
    """How the work on some weights is shared out. Suffixes: t tasks, p parts of weights."""

    memories: tuple[_Memory, ...]
    start_t: NDArray[np.int64]
    """The first part of each task, and one more: how many parts there are."""
    weight_p: NDArray[np.int64]
    """Of which weight each is."""
    offset_p: NDArray[np.int64]
    """Bytes from its beginning."""
    place_p5: NDArray[np.int64]
    """Addresses of weight, slope, mean and spread, and the size."""

    @classmethod
    def of(cls, memories: tuple[_Memory, ...]) -> _Tasks:
        """Share out weights, apart from where their slopes lie."""
        tasks = shared_out([memory.size for memory in memories])
        weight_p, first_p, stop_p = np.array([part for task in tasks for part in task], np.int64).T.copy()
        addresses = [(m.weight, 0, m.mean.data_ptr(), m.spread.data_ptr(), 0) for m in memories]
        place_p5 = np.array(addresses, np.int64)[weight_p]
        place_p5[:, :SIZE] += 4 * first_p[:, None]
        place_p5[:, SIZE] = stop_p - first_p
        start_t = np.cumsum([0, *map(len, tasks)], dtype=np.int64)
        return cls(memories, start_t, weight_p, 4 * first_p, place_p5)


class AdamW:
    """AdamW (Loshchilov & Hutter 2019), which can shorten the gradient on the way.

    On the CPU the loops of this file make every step but the first; that one, and every step elsewhere, is torch's fused one. It is no
    `torch.optim.Optimizer`: to make one imports torch's compiler, 2 s for which the first training of a process would wait.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        self.param_groups: list[dict[str, Any]] = [settings | group for group in groups]
        """Each with its weights, "params", and its own settings; lr may be a tensor on the device."""
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        """Of each weight that has moved: step (), and exp_avg and exp_avg_sq, which lie as it does."""
        self._memories: dict[Tensor, _Memory] = {}
        self._tasks = _Tasks((), *np.empty((4, 0), np.int64))

    def along(self, limit: float) -> None:
        """Make a step along the gradients; if `limit` is above 0 and all of them together are longer, they are shortened to it."""
        moving = [(w, group) for group in self.param_groups for w in group["params"] if w.grad is not None]
        memories = tuple(memory for weight, _ in moving if (memory := self._memory(weight)) is not None)
        if len(memories) < len(moving):
            if limit > 0:
                torch.nn.utils.clip_grad_norm_([weight for weight, _ in moving], limit)
            self._by_torch()
            return
        if not moving:
            return
        if memories != self._tasks.memories:
            self._tasks = _Tasks.of(memories)
        tasks = self._tasks
        slopes = np.array([weight.grad.data_ptr() for weight, _ in moving], np.int64)
        tasks.place_p5[:, SLOPE] = slopes[tasks.weight_p] + tasks.offset_p
        n_tasks = len(tasks.start_t) - 1
        share = 1.0
        if limit > 0:  # as `torch.nn.utils.clip_grad_norm_` has it
            square_t = np.empty(n_tasks)
            team.share(share_square, n_tasks, tasks.start_t, tasks.place_p5, square_t)
            share = min(1.0, limit / (math.sqrt(square_t.sum()) + 1e-6))
        found: dict[tuple[int, float], tuple[float, ...]] = {}
        settings = []
        for (_, group), memory in zip(moving, memories, strict=True):
            memory.step[...] += 1
            key = id(group), float(memory.step)
            if key not in found:
                found[key] = of_step(group, key[1], share)
            settings.append(found[key])
        setting_w7 = np.array(settings, np.float32)
        team.share(share_move, n_tasks, tasks.start_t, tasks.place_p5, tasks.weight_p, setting_w7)

    @together
    @torch.no_grad()
    def _by_torch(self) -> None:
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            for weight in weights:
                if weight not in self.state:
                    step = torch.zeros((), dtype=torch.float32, device=weight.device)
                    means = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
                    self.state[weight] = {"step": step, **means}
            states = [self.state[weight] for weight in weights]
            beta1, beta2 = group["betas"]
            adamw(
                weights,
                [weight.grad for weight in weights],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def _memory(self, weight: Tensor) -> _Memory | None:
        """Where a weight's memory lies; None where the loops will not do."""
        state, slope, known = self.state.get(weight), weight.grad, self._memories.get(weight)
        if not state or slope is None or slope.dtype != torch.float32 or not slope.is_contiguous():
            return None
        if known and known.weight == weight.data_ptr() and known.mean is state["exp_avg"]:
            return known
        tensors = weight.detach(), state["exp_avg"], state["exp_avg_sq"]
        if not all(
            x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous() for x in tensors
        ):
            return None
        self._memories[weight] = _Memory(
            weight.numel(), weight.data_ptr(), *tensors[1:], state["step"].numpy()
        )
        return self._memories[weight]


def of_step(group: dict[str, Any], step: float, share: float) -> tuple[float, ...]:
    """What `move` needs to know at a step, counted from 1, along a share of the gradient."""
    (of_m, of_v), rate = group["betas"], float(group["lr"])
    kept, s, u = 1 - rate * group["weight_decay"], rate / (1 - of_m**step), (1 - of_v**step) ** -0.5
    return share, kept, of_m, of_v, s, u, group["eps"]


def shared_out(sizes: Sequence[int]) -> list[list[tuple[int, int, int]]]:
    """Tasks of about as much work each: of which tensors, from where to where."""
    blocks = [
        [(number, first, min(first + BLOCK, size))]
        for number, size in enumerate(sizes)
        if size >= BLOCK
        for first in range(0, size, BLOCK)
    ]
    return [*blocks, [(number, 0, size) for number, size in enumerate(sizes) if size < BLOCK]]
