"""Training by several processes at once, which `torchrun` starts: the only file that knows torch.distributed.

Each process (rank) computes its cells of every minibatch, and the gradients are added up before they are clipped. The loss of a process is
weighted by its fraction of the cells, so the sum is the gradient of the whole minibatch. All processes hold the same weights and the same
generator, and take every decision from the same sums. The first one alone writes files and messages.

The gradients travel in one flat tensor. DistributedDataParallel wants network and loss in one module, gave the same losses, and took 1 to
2 ms more processor time than the 11 to 16 ms of a step (2 processes, gloo, one thread each, 2,000 genes, AMD EPYC, 2026-11-28).
"""

from __future__ import annotations

import atexit
import json
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from sparcell._utils import launched
from sparcell._utils.signals import Terminated
from sparcell.errors import InputError, TrainingError
from sparcell.protocols import OwnNoise

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store  # type: ignore[attr-defined]

    from sparcell.config.training import TrainConfig
    from sparcell.data.schema import Schema
    from sparcell.protocols import Minibatch, Noise
    from sparcell.training.state import TrainState

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others. One that ends is noticed at once; this is for one that hangs."""
SECONDS_TO_REPORT = 5.0
"""How long the processes that are left have to say so, after one has ended."""


@dataclass(eq=False)
class Ranks:
    """The processes that train together, as one of them sees them; a process that trains alone if `world` is 1."""

    rank: int = 0
    """Number of this process, from 0."""
    world: int = 1
    """Number of processes."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Of this process."""
    store: Store | None = None
    """Where the processes leave notes for each other; None if the user's program started torch.distributed."""
    stop: type[KeyboardInterrupt] | None = None
    """Set once this process was asked to end; the processes end together after the current step or chunk."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and messages."""
        return self.rank == 0

    def noise(self, batch: Minibatch, generator: torch.Generator) -> Noise:
        """Return what gives these cells the noise that they have if one process has the whole minibatch."""
        return generator if batch.share is None else OwnNoise(generator, batch.share)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of the values over all processes, (n,). If one was asked to end, all raise KeyboardInterrupt here."""
        return values if self.world == 1 else self._sum([values.to(self.device)], watch=True)[0]

    def sum_gradients(self, grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return the gradients of the whole minibatch; each process has the same ones or None at the same places."""
        if self.world == 1:
            return list(grads)
        # On a GPU, reading the note that one process was asked to end would wait for the device.
        sums = iter(self._sum([grad for grad in grads if grad is not None], watch=self.device.type == "cpu"))
        return [None if grad is None else next(sums) for grad in grads]

    def _sum(self, values: Sequence[Tensor], *, watch: bool) -> list[Tensor]:
        asked_to_end = values[0].new_full((1,), float(self.stop is not None))
        flat = torch.cat([*(value.reshape(-1) for value in values), asked_to_end])
        with self._naming_the_lost():
            torch.distributed.all_reduce(flat)
            if watch and float(flat[-1]) > 0:
                raise self.stop or KeyboardInterrupt
        parts = torch.split(flat[:-1], [value.numel() for value in values])
        return [part.view_as(value) for part, value in zip(parts, values, strict=True)]

    def start_together(self, state: TrainState) -> None:
        """Give all processes the state of the first one."""
        if self.world == 1:
            return
        tensors, described = state.snapshot().to_disk()
        kinds = {name: (list(value.shape), str(value.dtype)) for name, value in tensors.items()}
        described = self._broadcast_json(described | {"tensors": kinds})
        received = {}
        for name, (shape, dtype) in described["tensors"].items():
            value = torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
            sent = (tensors[name] if self.is_first else value).to(self.device).contiguous()
            with self._naming_the_lost():
                torch.distributed.broadcast(sent, 0)
            received[name] = sent
        if not self.is_first:
            received["generator"] = received["generator"].cpu()
            state.from_disk(received, described)

    def check(self, settings: TrainConfig, schema: Schema, n_cells: int) -> None:
        """Raise InputError in all processes unless they train the same model on the same data, in minibatches with a cell for each."""
        if self.world == 1:
            return
        if settings.batch_size < self.world:
            raise InputError(
                f"batch_size is {settings.batch_size}, fewer than the {self.world} processes; expected at least a cell for each process, "
                "since a minibatch is shared out among them."
            )
        described = {"settings": asdict(settings), "schema": asdict(schema), "n_cells": n_cells}
        own = json.loads(json.dumps(described))
        first = self._broadcast_json(own)
        differs = torch.zeros(self.world, device=self.device)
        differs[self.rank] = float(own != first)
        other = self.sum(differs).nonzero().squeeze(1).tolist()
        if other:
            raise InputError(
                f"rank {', '.join(map(str, other))} has other settings or data than rank 0; expected the same call of fit with the same "
                "data in each process that torchrun started. To train several models at once, start them without torchrun."
            )

    def _broadcast_json(self, described: dict[str, Any]) -> dict[str, Any]:
        """Return what the first process described."""
        content = torch.frombuffer(bytearray(json.dumps(described).encode()), dtype=torch.uint8)
        size = torch.tensor([len(content)], device=self.device)
        with self._naming_the_lost():
            torch.distributed.broadcast(size, 0)
            if not self.is_first:
                content = torch.empty(int(size), dtype=torch.uint8)
            content = content.to(self.device)
            torch.distributed.broadcast(content, 0)
        return dict(json.loads(content.cpu().numpy().tobytes()))

    @contextmanager
    def signals_noted(self) -> Iterator[None]:
        """Note Ctrl-C and SIGTERM instead of raising at once, so that the processes end together and what they save is saved whole."""
        if self.world == 1 or threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _: Any) -> None:
            self.stop = self.stop or (Terminated if number == signal.SIGTERM else KeyboardInterrupt)

        before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
        before = {one: handler for one, handler in before.items() if handler != signal.SIG_IGN}
        for one in before:
            signal.signal(one, note)
        try:
            yield
            if self.stop is not None:  # asked after the last step
                raise self.stop
        finally:
            self.stop = None
            for one, handler in before.items():
                signal.signal(one, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def _naming_the_lost(self) -> Iterator[None]:
        """Turn an error of the connection into one that names the processes that ended or hang."""
        try:
            yield
        except RuntimeError as error:
            lost, reason = self._lost(), str(error).splitlines()[0].rpartition("] ")[2][:120]
            which = f"rank {', '.join(map(str, lost))}" if lost else "another process"
            raise TrainingError(
                f"{which} ended or does not answer, so rank {self.rank} ends too; expected {self.world} processes to the end. Look for an "
                "earlier message of that process. Training can continue from the last checkpoint, if there is a folder for them. "
                f"({reason})"
            ) from error

    def _lost(self) -> list[int]:
        """Return the processes that do not say within some seconds that they wait too."""
        if self.store is None:
            return []
        others = set(range(self.world)) - {self.rank}
        try:
            self.store.set(f"waits/{self.rank}", "")
            until = time.monotonic() + SECONDS_TO_REPORT
            while others and time.monotonic() < until:
                others = {other for other in others if not self.store.check([f"waits/{other}"])}
                time.sleep(0.1)
        except RuntimeError:
            return [0]  # without torchrun the store is there
        return sorted(others)


ALONE = Ranks()
_STORES: dict[str, Store] = {}
"""The store of this process, once `join` has started torch.distributed; it stays until the process ends."""


def join(device: torch.device) -> Ranks:
    """Return the processes that train together: those that torchrun started, or those of the program's own process group."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        world = distributed.get_world_size()
        return ALONE if world == 1 else Ranks(distributed.get_rank(), world, device, _STORES.get("own"))
    if launched.world_size() == 1:
        return ALONE
    if not distributed.is_available() or device.type not in ("cpu", "cuda"):
        raise InputError(
            f"torchrun started {launched.world_size()} processes, which cannot train together on {device.type}; expected device cpu or "
            "cuda: start sparcell without torchrun."
        )
    store, rank, world = next(distributed.rendezvous("env://", timeout=TIMEOUT))  # type: ignore[attr-defined]
    _STORES["own"] = distributed.PrefixStore("sparcell", store)  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(
        backend, store=_STORES["own"], rank=rank, world_size=world, timeout=TIMEOUT
    )
    atexit.register(distributed.destroy_process_group)
    return Ranks(rank, world, device, _STORES["own"])
