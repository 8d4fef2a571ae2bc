"""AdamW by torch's fused function, with the gradients clipped on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import get_total_norm
from torch.optim.adamw import adamw

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor


class AdamW:
    """AdamW (Loshchilov & Hutter 2019) over groups of weights, with the state of `torch.optim.AdamW`.

    `torch.optim.Optimizer` is not a base class: creating one imports torch's compiler, which takes 2 s.
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
        """Of each weight that has moved: step (), exp_avg and exp_avg_sq."""

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor | None], max_grad_norm: float = 0.0) -> None:
        """Update the weights along `grads`, one per weight in the order of the groups; a weight whose gradient is None stays.

        If `max_grad_norm` is above 0, gradients whose common norm is larger are divided by a factor that makes the norm equal to it. The
        fused function divides them while it reads them; the tensors hold the divided gradients afterwards.
        """
        moving = [grad for grad in grads if grad is not None]
        if not moving:
            return
        divisor = None
        if max_grad_norm > 0:  # the factor of `torch.nn.utils.clip_grad_norm_`
            norm = get_total_norm(moving)
            divisor = ((norm + 1e-6) / max_grad_norm).clamp_min(1).float()
        remaining = iter(grads)
        for group in self.param_groups:
            pairs = [(weight, grad) for weight, grad in zip(group["params"], remaining, strict=False)]
            self._step_group(group, [(weight, grad) for weight, grad in pairs if grad is not None], divisor)

    def _step_group(
        self, group: dict[str, Any], pairs: Sequence[tuple[Tensor, Tensor]], divisor: Tensor | None
    ) -> None:
        states = [self._state(weight) for weight, _ in pairs]
        beta1, beta2 = group["betas"]
        adamw(
            [weight for weight, _ in pairs],
            [grad for _, grad in pairs],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            grad_scale=divisor,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _state(self, weight: Tensor) -> dict[str, Tensor]:
        if weight not in self.state:
            step = torch.zeros((), dtype=torch.float32, device=weight.device)
            moments = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
            self.state[weight] = {"step": step, **moments}
        return self.state[weight]
