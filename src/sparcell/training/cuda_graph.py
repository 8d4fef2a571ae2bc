"""A training step recorded as a CUDA graph and replayed: the GPU then gets the hundreds of small operations of a step as one.

`wrap_step` wraps the step from outside; on other devices it returns the step as it is. A step is recorded once for each size of minibatch.
Nothing but the cells, the learning rate, the weight of the KL, the progress of the warm-up and the noise differs between two steps, and a
recording reads these from fixed places in memory. Before a recording is used, three steps are made both ways from the same state. If their
losses differ, or anything fails, training continues from that state without recordings.

It makes training on 2,000 genes 7.3 times faster with minibatches of 256 cells, and 2.9 times with 4,096 (nb, NVIDIA H200, 2026-11-28).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import Minibatch
    from sparcell.training.plan import TrainPlan
    from sparcell.training.state import TrainState

log = logging.getLogger("sparcell")

TOLERANCE = 1e-4
"""Largest difference of the losses of recorded steps from those of plain steps, relative to the largest."""
TRIAL_LR_FACTORS = (1.0, 0.5, 1.0)
"""Factors of the learning rate in the three trial steps."""

MAX_RECORDINGS = 2
"""The full minibatch and the last one of an epoch."""

Step = Callable[["Minibatch", float, float], "Tensor"]
"""(minibatch, weight of the KL, progress of the warm-up) → loss, reconstruction, KL and that weight, (4,)."""
PlainStep = Callable[["Minibatch", "float | Tensor", "float | Tensor"], "Tensor"]
"""The same, made one operation at a time; the two numbers may lie on the device."""
Recorder = Callable[[Callable[[], None], torch.Generator], Callable[[], None]]
"""Records work that draws from a generator, without doing it, and returns what replays it."""


def wrap_step(train_step: Callable[..., Tensor], state: TrainState, plan: TrainPlan) -> Step:
    """Return the step of a run: recorded on a GPU if asked for, else one operation at a time.

    The steps of several processes are not recorded: they wait for each other, and a recording holds the weight of one share of a minibatch.
    """
    step: PlainStep = partial(train_step, state, plan)
    recorder = recorder_for(state.generator.device) if state.ranks.world == 1 else None
    return step if recorder is None else CudaGraphStep(state, step, recorder)


def recorder_for(device: torch.device) -> Recorder | None:
    """Return what records steps on this device; None if steps are made one operation at a time."""
    return cuda_graph if device.type == "cuda" else None


def cuda_graph(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
    """Record work on the GPU."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    # Other threads may use the GPU meanwhile: the one that reads the next cells pins memory.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


@dataclass
class RecordedStep:
    """A recorded step: it reads its cells and two numbers from one place in memory and writes its losses to another."""

    batch: Minibatch
    kl_weight: Tensor
    progress: Tensor
    losses: Tensor
    replay: Callable[[], None]
    n_state_moves: int
    """Of the state when it was recorded: after Adam's moments moved, the recording would write to their old place."""

    def step(self, batch: Minibatch, kl_weight: float, progress: float) -> Tensor:
        """Make the step with other cells."""
        for place, values in zip(_tensors(self.batch), _tensors(batch), strict=True):
            place.copy_(values)
        self.kl_weight.fill_(kl_weight)
        self.progress.fill_(progress)
        self.replay()
        return self.losses.clone()


@dataclass
class CudaGraphStep:
    """The step of a run, recorded once for each size of minibatch and replayed whenever the recording fits."""

    state: TrainState
    plain_step: PlainStep
    recorder: Recorder | None = None
    recorded: dict[int, RecordedStep] = field(default_factory=dict, init=False)
    """By the number of cells."""

    def __call__(self, batch: Minibatch, kl_weight: float, progress: float) -> Tensor:
        """Make a step; return its loss, reconstruction, KL and weight of the KL, (4,)."""
        if self.recorder is None or not self.state.adam.state:  # the first step makes Adam's moments
            return self.plain_step(batch, kl_weight, progress)
        if any(recorded.n_state_moves != self.state.n_state_moves for recorded in self.recorded.values()):
            self.recorded.clear()
        if len(batch) not in self.recorded and len(self.recorded) < MAX_RECORDINGS:
            self._record(self.recorder, batch, kl_weight, progress)
        recorded = self.recorded.get(len(batch))
        if recorded is None:
            return self.plain_step(batch, kl_weight, progress)
        return recorded.step(batch, kl_weight, progress)

    def _record(self, recorder: Recorder, batch: Minibatch, kl_weight: float, progress: float) -> None:
        """Record the step, and keep the recording if it does what the plain step does."""
        state, now = self.state, (kl_weight, progress)
        lr_factor = float(state.adam.param_groups[0]["lr"]) / state.lr
        state.hold_lr(on_device=True)
        before = state.tensors()
        try:
            expected = self._trial(batch, lambda cells: self.plain_step(cells, *now))
            state.load_snapshot(before)
            if not bool(expected.isfinite().all()):  # the loop is about to go back: record afterwards
                state.set_lr(lr_factor)
                return
            cells = _with_tensors(batch, [values.clone() for values in _tensors(batch)])
            losses = torch.zeros_like(expected[0])
            weight, done = (torch.full_like(losses[0], number) for number in now)
            replay = recorder(
                lambda: _copy_into(losses, self.plain_step(cells, weight, done)), state.generator
            )
            recorded = RecordedStep(cells, weight, done, losses, replay, state.n_state_moves)
            found = self._trial(batch, lambda cells: recorded.step(cells, *now))
            state.load_snapshot(before)
            state.set_lr(lr_factor)
            difference = float((found - expected).abs().max() / expected.abs().max())
            if difference <= TOLERANCE:
                self.recorded[len(batch)] = recorded
                return
            reason = f"a recorded step differs by {difference:.1e} of the loss"
        except Exception as error:  # whatever the driver raises: plain steps remain
            reason = f"it could not be recorded ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        log.warning("Training continues without a CUDA graph, which is slower: %s.", reason)
        self.recorder = None
        self.recorded.clear()
        # A generator that was being recorded may refuse to draw.
        state.generator = torch.Generator(device=state.generator.device)
        state.hold_lr(on_device=False)
        state.load_snapshot(before)
        state.set_lr(lr_factor)

    def _trial(self, batch: Minibatch, step: Callable[[Minibatch], Tensor]) -> Tensor:
        """Make three steps with different learning rates, the second one with other cells; return their losses, (3, 4)."""
        half = (len(batch) + 1) // 2
        other = _with_tensors(
            batch, [torch.cat([values[:half], values[: len(values) - half]]) for values in _tensors(batch)]
        )
        losses = []
        for cells, factor in zip((batch, other, batch), TRIAL_LR_FACTORS, strict=True):
            self.state.set_lr(factor)
            losses.append(step(cells))
        return torch.stack(losses)


def _tensors(batch: Minibatch) -> tuple[Tensor, ...]:
    labels = () if batch.label_n is None else (batch.label_n,)
    return batch.x_ng, batch.library_size_n1, batch.batch_n, batch.covariates_nc, *labels


def _with_tensors(batch: Minibatch, tensors: list[Tensor]) -> Minibatch:
    x_ng, library_size_n1, batch_n, covariates_nc, *labels = tensors
    return replace(
        batch,
        x=x_ng,
        library_size_n1=library_size_n1,
        batch_n=batch_n,
        covariates_nc=covariates_nc,
        label_n=labels[0] if labels else None,
    )


def _copy_into(place: Tensor, values: Tensor) -> None:
    place.copy_(values)
