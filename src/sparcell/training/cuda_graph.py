"""A training step recorded as a CUDA graph and played back: the GPU then gets a step's hundreds of small operations as one.

Only steps after the warm-up, on full batches, are recorded: nothing but the cells, the step size and the noise differs between them.
Before a recording is used, three steps are made both ways from the same state; where their losses differ, or anything fails, training
goes on without it from that state. Off unless SPARCELL_CUDA_GRAPH=1, until it has been measured (docs/speed.md).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from sparcell.protocols import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.training.state import Course

log = logging.getLogger("sparcell")

CLOSE = 1e-4
"""How far the losses of recorded steps may be from those of the same steps made one operation at a time, relative to the largest."""
SHARES = (1.0, 0.5, 1.0)
"""Step sizes of the steps that are tried."""

Make = Callable[[Batch, float, float], "Tensor"]
"""Makes a step from cells, weight of the KL and progress of the warm-up, and gives its loss, nll, KL and that weight, (4,)."""
Record = Callable[[Callable[[], None], torch.Generator], Callable[[], None]]
"""Records work that draws from a generator, without doing it, and gives what plays it back."""


def cuda_graph(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
    """Record work on the GPU."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def wanted(device: torch.device) -> Record | None:
    """What records steps on this device; None where they are made one operation at a time."""
    return cuda_graph if device.type == "cuda" and os.environ.get("SPARCELL_CUDA_GRAPH") == "1" else None


@dataclass
class Played:
    """A recorded step: it reads its cells from one place, and leaves what it found in another."""

    cells: Batch
    weight: float
    terms: Tensor
    play: Callable[[], None]
    moves: int
    """Of the course: where Adam's memory moves, the recording still writes to where it was."""

    def step(self, batch: Batch) -> Tensor:
        """Make the step with other cells."""
        for place, values in zip(_parts(self.cells), _parts(batch), strict=True):
            place.copy_(values)
        self.play()
        return self.terms.clone()


@dataclass
class Player:
    """Makes the steps of a course: plays them back where it can."""

    course: Course
    make: Make
    n_cells: int
    """Of a full batch."""
    record: Record | None = None
    played: Played | None = field(default=None, init=False)

    def step(self, batch: Batch, weight: float, progress: float, share: float) -> Tensor:
        """Make a step of a share of the step size; its loss, nll, KL and weight of the KL, (4,)."""
        plain = progress < 1 or len(batch.size_n1) < self.n_cells
        record = self.record
        if record is not None and not plain and self.course.adam.state:
            self.record = None  # tried once
            self.played = self._recorded(record, batch, weight)
        self.course.set_rate(share)
        played = self.played
        if played is None or plain or (weight, self.course.moves) != (played.weight, played.moves):
            return self.make(batch, weight, progress)
        return played.step(batch)

    def _recorded(self, record: Record, batch: Batch, weight: float) -> Played | None:
        """Record the step, and keep the recording if it does what the step does."""
        course = self.course
        course.hold_rates(on_device=True)
        good = course.tensors()
        try:
            expected = self._tried(batch, lambda cells: self.make(cells, weight, 1.0))
            course.restore(good)
            cells = Batch(*(values.clone() for values in _parts(batch)))
            terms = torch.zeros_like(expected[0])
            play = record(lambda: _keep(terms, self.make(cells, weight, 1.0)), course.generator)
            played = Played(cells, weight, terms, play, course.moves)
            found = self._tried(batch, played.step)
            course.restore(good)
            apart = float((found - expected).abs().max() / expected.abs().max())
            if apart <= CLOSE:
                return played
            reason = f"a recorded step is {apart:.1e} of the loss off"
        except Exception as error:  # whatever the driver says: steps one operation at a time remain
            reason = f"it could not be recorded ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        log.warning("Training goes on without a CUDA graph: %s.", reason)
        # a generator that was being recorded may refuse to draw
        course.generator = torch.Generator(device=course.generator.device)
        course.hold_rates(on_device=False)
        course.restore(good)
        return None

    def _tried(self, batch: Batch, step: Callable[[Batch], Tensor]) -> Tensor:
        """Make steps of different sizes, the second one with other cells: what they found, (3, 4)."""
        half = (len(batch.size_n1) + 1) // 2
        other = Batch(*(torch.cat([v[:half], v[: len(v) - half]]) for v in _parts(batch)))
        found = []
        for cells, share in zip((batch, other, batch), SHARES, strict=True):
            self.course.set_rate(share)
            found.append(step(cells))
        return torch.stack(found)


def _parts(batch: Batch) -> tuple[Tensor, ...]:
    return batch.x_ng, batch.size_n1, batch.batch_nb, batch.covariates_nc


def _keep(place: Tensor, values: Tensor) -> None:
    place.copy_(values)
