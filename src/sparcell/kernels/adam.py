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
class _Tasks:
    """How the work on some weights is shared out. Suffixes: t tasks, p parts of weights."""

    addresses: list[tuple[int, ...]]
    """Where each weight and what Adam remembers of it lie: weight, mean, spread, number of steps."""
    steps: list[NDArray[np.float32]]
    """How many steps each has made, ()."""
    start_t: NDArray[np.int64]
    """The first part of each task, and one more: how many parts there are."""
    weight_p: NDArray[np.int64]
    """Of which weight each is."""
    offset_p: NDArray[np.int64]
    """Bytes from its beginning."""
    place_p5: NDArray[np.int64]
    """Addresses of weight, slope, mean and spread, and the size."""

    @classmethod
    def of(cls, memories: Sequence[tuple[Tensor, ...]], addresses: list[tuple[int, ...]]) -> _Tasks:
        """Share out weights, given with what Adam remembers of each, apart from where their slopes lie."""
        tasks = shared_out([memory[0].numel() for memory in memories])
        weight_p, first_p, stop_p = np.array([part for task in tasks for part in task], np.int64).T.copy()
        place_p5 = np.array([(w, 0, m, v, 0) for w, m, v, _ in addresses], np.int64)[weight_p]
        place_p5[:, :SIZE] += 4 * first_p[:, None]
        place_p5[:, SIZE] = stop_p - first_p
        start_t = np.cumsum([0, *map(len, tasks)], dtype=np.int64)
        steps = [memory[-1].numpy() for memory in memories]
        return cls(addresses, steps, start_t, weight_p, 4 * first_p, place_p5)


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
        self._weights = [(weight, group) for group in self.param_groups for weight in group["params"]]
        self._tasks: _Tasks | None = None

    def along(self, slopes: Sequence[Tensor | None], limit: float) -> None:
        """Make a step along the slopes, one of each weight in the order of the groups, or None where it is to stay.

        If `limit` is above 0 and all of them together are longer, they are shortened to it.
        """
        given = list(zip(self._weights, slopes, strict=True))
        moving = [(weight, slope, group) for (weight, group), slope in given if slope is not None]
        if not moving:
            return
        tasks = self._shared_out(moving)
        if tasks is None:
            self._by_torch(moving, limit)
            return
        address_w = np.array([slope.data_ptr() for _, slope, _ in moving], np.int64)
        tasks.place_p5[:, SLOPE] = address_w[tasks.weight_p] + tasks.offset_p
        n_tasks = len(tasks.start_t) - 1
        share = 1.0
        if limit > 0:  # as `torch.nn.utils.clip_grad_norm_` has it
            square_t = np.empty(n_tasks)
            team.share(share_square, n_tasks, tasks.start_t, tasks.place_p5, square_t)
            share = min(1.0, limit / (math.sqrt(square_t.sum()) + 1e-6))
        found: dict[tuple[int, float], tuple[float, ...]] = {}
        settings = []
        for (_, _, group), step in zip(moving, tasks.steps, strict=True):
            step += 1
            key = id(group), step.item()
            if key not in found:
                found[key] = of_step(group, key[1], share)
            settings.append(found[key])
        setting_w7 = np.array(settings, np.float32)
        team.share(share_move, n_tasks, tasks.start_t, tasks.place_p5, tasks.weight_p, setting_w7)

    def _shared_out(self, moving: Sequence[tuple[Tensor, Tensor, dict[str, Any]]]) -> _Tasks | None:
        """How the loops share the work out; None where they will not do."""
        memories = []
        for weight, slope, _ in moving:
            state = self.state.get(weight)
            if not state or slope.dtype != torch.float32 or not slope.is_contiguous():
                return None
            memories.append((weight, state["exp_avg"], state["exp_avg_sq"], state["step"]))
        addresses = [tuple(tensor.data_ptr() for tensor in memory) for memory in memories]
        if self._tasks is None or addresses != self._tasks.addresses:
            tensors = [tensor for memory in memories for tensor in memory]
            if not all(
                x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous() for x in tensors
            ):
                return None
            self._tasks = _Tasks.of(memories, addresses)
        return self._tasks

    @together
    @torch.no_grad()
    def _by_torch(self, moving: Sequence[tuple[Tensor, Tensor, dict[str, Any]]], limit: float) -> None:
        if limit > 0:
            for weight, slope, _ in moving:
                weight.grad = slope
            torch.nn.utils.clip_grad_norm_([weight for weight, _, _ in moving], limit)
            for weight, _, _ in moving:
                weight.grad = None
        for group in self.param_groups:
            own = [(weight, slope) for weight, slope, of_group in moving if of_group is group]
            for weight, _ in own:
                if weight not in self.state:
                    step = torch.zeros((), dtype=torch.float32, device=weight.device)
                    means = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
                    self.state[weight] = {"step": step, **means}
            states = [self.state[weight] for weight, _ in own]
            beta1, beta2 = group["betas"]
            adamw(
                [weight for weight, _ in own],
                [slope for _, slope in own],
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
