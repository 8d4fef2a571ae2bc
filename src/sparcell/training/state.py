"""The state of a training run: network, optimizer, noise, progress. Can be copied, rolled back and written to disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sparcell.protocols import EpochRecord
from sparcell.training.distributed import ALONE, Ranks
from sparcell.training.early_stopping import EarlyStopping
from sparcell.training.optimizer import AdamW
from sparcell.training.snapshot import EpochSums, Snapshot

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.training import TrainConfig
    from sparcell.nn.network import Network

BACKOFF = 0.25
"""A rollback multiplies the learning rate by this factor."""
FAST_LR_FACTOR = 5.0
"""Factor of the learning rate for parameters that have further to go than weights (`Likelihood.fast_lr_params`)."""


@dataclass
class TrainState:
    """A network in training: weights, Adam's moments, the generator of the noise, what is done, best weights."""

    network: Network
    adam: AdamW
    """Over `weights`, each in its memory layout."""
    generator: torch.Generator
    weights: list[Tensor]
    """All trained parameters, in the order of Adam's state."""
    early_stopping: EarlyStopping
    ranks: Ranks = ALONE
    """The processes that train together."""
    n_lanes: int = 1
    """Lanes in which the cells are read (`data.sampler`)."""
    epoch: int = 0
    """Whole epochs done."""
    epoch_sums: EpochSums = field(default_factory=EpochSums)
    """Of the next epoch, what is done."""
    history: list[EpochRecord] = field(default_factory=list)
    """Of each whole epoch."""
    lr: float = 0.0
    """Learning rate before the schedule."""
    n_state_moves: int = 0
    """How often Adam's moments were put elsewhere in memory."""
    n_rollbacks: int = 0
    """How often the run went back to its last snapshot."""
    last_snapshot: Snapshot | None = None
    """The state at the last call of `snapshot`."""
    spare: dict[str, Tensor] | None = None
    """Memory of the snapshot before the last one, for the next one: an interruption amid the copy leaves the last one whole."""

    @classmethod
    def start(
        cls, network: Network, config: TrainConfig, generator: torch.Generator, ranks: Ranks = ALONE
    ) -> TrainState:
        """Return the state before the first step."""
        slow: list[Tensor] = []
        fast: list[Tensor] = []
        # The encoder comes last: the next step reads its weights first, and then they are in the cache.
        for name, weight in reversed(list(network.named_parameters())):
            is_fast = name.split(".")[-1] in network.likelihood.fast_lr_params
            (fast if is_fast else slow).append(weight)
        groups = [
            {"params": _in_memory_layout(slow), "lr_factor": 1.0},
            {"params": _in_memory_layout(fast), "lr_factor": FAST_LR_FACTOR},
        ]
        adam = AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        early_stopping = EarlyStopping(config.early_stopping_patience, config.early_stopping_tolerance)
        return cls(network, adam, generator, [*slow, *fast], early_stopping, ranks, lr=config.learning_rate)

    def optimizer_step(self, max_grad_norm: float = 0.0) -> None:
        """Update the weights along their gradients, clipped to `max_grad_norm` if that is above 0, and clear the gradients.

        The gradients are those of all processes, added up.
        """
        grads = [
            None if weight.grad is None else to_memory_layout(weight, weight.grad) for weight in self.weights
        ]
        self.adam.step(self.ranks.sum_gradients(grads), max_grad_norm)
        for weight in self.weights:
            weight.grad = None

    def set_lr(self, factor: float) -> None:
        """Set the learning rate of the next step to `factor` times `lr`."""
        for group in self.adam.param_groups:
            lr = self.lr * factor * group["lr_factor"]
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def hold_lr(self, *, on_device: bool) -> None:
        """Store the learning rate as a tensor on the device, which a CUDA graph can read, or as a plain number."""
        for group in self.adam.param_groups:
            if isinstance(group["lr"], torch.Tensor) == on_device:
                continue  # a tensor stays: an earlier recording reads it
            lr = float(group["lr"])
            group["lr"] = torch.tensor(lr, device=self.generator.device) if on_device else lr

    def snapshot(self) -> Snapshot:
        """Copy the state, for `rollback` and for a checkpoint; the copy holds until the second next call."""
        best, numbers = self.early_stopping.to_disk()
        numbers |= {
            "epoch": self.epoch,
            "epoch_sums": asdict(self.epoch_sums),
            "n_rollbacks": self.n_rollbacks,
        }
        numbers |= {"lr": self.lr, "n_lanes": self.n_lanes}
        taken = Snapshot(self.tensors(self.spare), best, numbers, tuple(self.history))
        self.spare = None if self.last_snapshot is None else self.last_snapshot.tensors
        self.last_snapshot = taken
        return taken

    def rollback(self) -> None:
        """Return to the last snapshot and reduce the learning rate."""
        assert self.last_snapshot is not None
        self.load_snapshot(self.last_snapshot.tensors)
        self.n_rollbacks += 1
        self.lr *= BACKOFF

    def tensors(self, into: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Copy everything that changes from step to step, into the memory of an earlier copy if it fits."""
        current = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        current |= {f"adam.{name}": value for name, value in self._moments().items()}
        if into is None or into.keys() - {"generator"} != current.keys():
            into = {name: value.detach().clone() for name, value in current.items()}
        else:
            for name, value in current.items():
                into[name].copy_(value.detach())
        return into | {"generator": self.generator.get_state()}

    def load_snapshot(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors` copied, into the same memory if possible. The learning rate stays as it is now."""
        self.network.load_state_dict(_below(tensors, "network"))
        self.generator.set_state(tensors["generator"])
        current, stored = self._moments(), _below(tensors, "adam")
        if current.keys() == stored.keys():
            for name, value in stored.items():
                current[name].copy_(value)
            return
        self.n_state_moves += 1
        self.adam.state.clear()
        params = self._params
        for name, value in stored.items():
            number, part = name.split(".")
            moment = to_memory_layout(self.weights[int(number)], value).to(self.generator.device)
            of_param = self.adam.state.setdefault(params[int(number)], {})
            of_param[part] = moment.clone(memory_format=torch.contiguous_format)

    def from_disk(self, tensors: dict[str, Tensor], described: dict[str, Any]) -> None:
        """Continue from what `Snapshot.to_disk` returned."""
        numbers = described["numbers"]
        self.load_snapshot(tensors)
        self.early_stopping.from_disk(_below(tensors, "best"), numbers)
        self.epoch, self.n_rollbacks = int(numbers["epoch"]), int(numbers["n_rollbacks"])
        self.epoch_sums = EpochSums(**numbers["epoch_sums"])
        self.lr, self.n_lanes = float(numbers["lr"]), int(numbers["n_lanes"])
        self.history = [EpochRecord(**record) for record in described["history"]]

    @property
    def _params(self) -> list[Tensor]:
        return [weight for group in self.adam.param_groups for weight in group["params"]]

    def _moments(self) -> dict[str, Tensor]:
        """Return Adam's state by the weight's number and the part's name, each in the weight's layout."""
        return {
            f"{number}.{part}": to_memory_layout(weight, value)
            for number, (weight, param) in enumerate(zip(self.weights, self._params, strict=True))
            for part, value in self.adam.state.get(param, {}).items()
        }


def _in_memory_layout(weights: list[Tensor]) -> list[Tensor]:
    return [
        weight if weight.is_contiguous() else to_memory_layout(weight, weight.detach()) for weight in weights
    ]


def to_memory_layout(weight: Tensor, values: Tensor) -> Tensor:
    """Transpose values of a weight that is stored column by column (`kernels.input_major`), and back again; others unchanged.

    Torch's fused Adam on the CPU copies each gradient that is not stored row by row, and then does not use the copy.
    """
    return values if weight.is_contiguous() or values.dim() < 2 else values.t()


def _below(tensors: dict[str, Tensor], stem: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{stem}."): value for name, value in tensors.items() if name.startswith(f"{stem}.")
    }
