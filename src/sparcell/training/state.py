"""Where a training run stands: all it needs to go back to a good step, or to go on after the process was killed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sparcell import kernels

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.settings import TrainConfig
    from sparcell.nn.network import Network

SLOWER = 0.25
"""The step size is multiplied by this after a step that went wrong."""
QUICK = 5.0
"""How many times the step size those parameters get that have further to go than weights."""


@dataclass
class Course:
    """A network on its way: weights, Adam's memory, the noise still to come, the best weights so far."""

    network: Network
    adam: kernels.AdamW
    """Over `weights`, each as it lies in memory: `turned`."""
    generator: torch.Generator
    weights: list[Tensor]
    """All that trains, in the order of Adam's memory."""
    epoch: int = 0
    """Epochs behind."""
    rate: float = 0.0
    """Step size before the schedule."""
    moves: int = 0
    """Times Adam's memory came to lie elsewhere."""
    setbacks: int = 0
    """Times the run had to go back to a good step."""
    best_loss: float = math.inf
    """Lowest loss of the held-out cells so far."""
    best_epoch: int = 0
    """The latest epoch whose loss was within the tolerance of the lowest at that time."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights after that epoch; empty where no cells are held out."""
    good: dict[str, Tensor] = field(default_factory=dict)
    """Where the run stood when `note` was last called."""

    @classmethod
    def start(cls, network: Network, config: TrainConfig, generator: torch.Generator) -> Course:
        """Begin a run."""
        quick = network.likelihood.quick
        slow: list[Tensor] = []
        fast: list[Tensor] = []
        # the encoder last: its weights are read first in the next step, and then lie in the cache
        for name, weight in reversed(list(network.named_parameters())):
            (fast if name.split(".")[-1] in quick else slow).append(weight)
        groups = [{"params": _as_they_lie(slow), "pace": 1.0}, {"params": _as_they_lie(fast), "pace": QUICK}]
        adam = kernels.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        return cls(network, adam, generator, [*slow, *fast], rate=config.learning_rate)

    def learn(self, limit: float = 0.0) -> None:
        """Make a step along the gradients, shortened to `limit` if that is above 0, and forget them."""
        slopes = [None if weight.grad is None else turned(weight, weight.grad) for weight in self.weights]
        self.adam.along(slopes, limit)
        for weight in self.weights:
            weight.grad = None

    @property
    def _held(self) -> list[Tensor]:
        return [weight for group in self.adam.param_groups for weight in group["params"]]

    def _memory(self) -> dict[str, Tensor]:
        """What Adam remembers, by the weight's number and the part's name; each lies as the weight does."""
        return {
            f"{number}.{part}": turned(weight, value)
            for number, (weight, held) in enumerate(zip(self.weights, self._held, strict=True))
            for part, value in self.adam.state.get(held, {}).items()
        }

    def judge(self, loss: float, tolerance: float) -> None:
        """Take note of the loss of the held-out cells after an epoch; keep the weights if it is within the tolerance of the lowest."""
        if loss < self.best_loss:
            self.best_loss = loss
        if loss <= self.best_loss + tolerance * abs(self.best_loss):
            self.best_epoch = self.epoch
            self.best = {name: value.clone() for name, value in self.network.state_dict().items()}

    def finish(self) -> None:
        """Take the best weights, where there are such."""
        if self.best:
            self.network.load_state_dict(self.best)
        self.network.eval()

    def set_rate(self, share: float) -> None:
        """Set the size of the next step to a share of the rate."""
        for group in self.adam.param_groups:
            rate = self.rate * share * group["pace"]
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def hold_rates(self, *, on_device: bool) -> None:
        """Hold the step size on the device, where a recorded step can read it, or as a plain number."""
        for group in self.adam.param_groups:
            rate = float(group["lr"])
            group["lr"] = torch.tensor(rate, device=self.generator.device) if on_device else rate

    def tensors(self, into: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Copy everything that changes from step to step, into the memory of an earlier copy where one is given and fits."""
        found = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        found |= {f"adam.{name}": value for name, value in self._memory().items()}
        if into is None or into.keys() - {"generator"} != found.keys():
            into = {name: value.detach().clone() for name, value in found.items()}
        else:
            for name, value in found.items():
                into[name].copy_(value.detach())
        return into | {"generator": self.generator.get_state()}

    def note(self) -> None:
        """Take note of where the run stands, for `go_back`."""
        self.good = self.tensors(self.good)

    def go_back(self) -> None:
        """Go back to where the run stood at the last `note`, and make the steps smaller from here on."""
        self.restore(self.good)
        self.setbacks += 1
        self.rate *= SLOWER

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what `tensors` copied, in the same memory where there is any; the step size stays as it is now."""
        self.network.load_state_dict(_below(tensors, "network"))
        self.generator.set_state(tensors["generator"])
        present = self._memory()
        noted = _below(tensors, "adam")
        if present.keys() == noted.keys():
            for name, value in noted.items():
                present[name].copy_(value)
            return
        self.moves += 1
        self.adam.state.clear()
        held = self._held
        for name, value in noted.items():
            number, part = name.split(".")
            memory = turned(self.weights[int(number)], value).to(self.generator.device)
            own = self.adam.state.setdefault(held[int(number)], {})
            own[part] = memory.clone(memory_format=torch.contiguous_format)

    def to_disk(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain numbers from which `from_disk` goes on to the same bits."""
        best = {f"best.{name}": value for name, value in self.best.items()}
        numbers = {
            "epoch": self.epoch,
            "setbacks": self.setbacks,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "rate": self.rate,
        }
        return self.tensors() | best, numbers

    def from_disk(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go on from what `to_disk` gave."""
        self.restore(tensors)
        self.best = _below(tensors, "best")
        self.epoch, self.setbacks = int(numbers["epoch"]), int(numbers["setbacks"])
        self.best_loss, self.best_epoch = float(numbers["best_loss"]), int(numbers["best_epoch"])
        self.rate = float(numbers["rate"])


def _as_they_lie(weights: list[Tensor]) -> list[Tensor]:
    return [weight if weight.is_contiguous() else turned(weight, weight.detach()) for weight in weights]


def turned(weight: Tensor, values: Tensor) -> Tensor:
    """Values of a weight, transposed where it lies column by column in memory (`kernels.by_input`); and back again.

    Fused Adam on the CPU copies each gradient that does not lie row by row, and then does not use the copy.
    """
    return values if weight.is_contiguous() or values.dim() < 2 else values.t()


def _below(tensors: dict[str, Tensor], stem: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{stem}."): value for name, value in tensors.items() if name.startswith(f"{stem}.")
    }
