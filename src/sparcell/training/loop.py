"""The training loop: one page, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from sparcell import kernels
from sparcell.errors import TrainingError
from sparcell.protocols import Epoch
from sparcell.training.cuda_graph import Player, wanted
from sparcell.training.objective import RATES, negative_elbo, warmed

if TYPE_CHECKING:
    from sparcell.config.settings import TrainConfig
    from sparcell.protocols import Batch, Feed
    from sparcell.training.state import Course

SEGMENT = 200
"""Steps between two looks at the loss: so far does a run go back when it was not finite."""
LEAST_EPOCHS, MOST_EPOCHS, ENOUGH_STEPS = 20, 400, 20_000
"""Epochs of a run whose epochs are not set, at least and at most, and the steps that do with fewer epochs."""
MOST_SETBACKS = 5
"""Tries with ever smaller steps before a run gives up."""


class Diverged(TrainingError):
    """The loss was not finite again and again; the network is back at the last good step."""


@dataclass(frozen=True)
class Plan:
    """How a run goes, step by step; steps count from 0 over all epochs."""

    config: TrainConfig
    n_epochs: int
    n_steps: int
    """Steps of an epoch."""
    beta: float
    rounded: bool = False
    """Whether the head's products are in bfloat16."""

    @classmethod
    def of(cls, config: TrainConfig, n_steps: int, beta: float, *, rounded: bool = False) -> Plan:
        """Settle the number of epochs: as set, or by its steps, but few enough for small data and enough for large data."""
        if config.epochs != "auto":
            return cls(config, config.epochs, n_steps, beta, rounded)
        least = max(1, min(LEAST_EPOCHS, ENOUGH_STEPS // n_steps))
        epochs = min(MOST_EPOCHS, max(least, round(config.steps / n_steps)))
        return cls(config, epochs, n_steps, beta, rounded)

    @property
    def n_warmup(self) -> int:
        """Steps of the warm-up."""
        return int(self.config.warmup * self.n_epochs * self.n_steps)

    def progress(self, step: int) -> float:
        """Share of the warm-up that is behind."""
        return warmed(step, self.n_warmup)

    def weight(self, step: int) -> float:
        """Weight of the KL: from its start to beta in the warm-up, then beta."""
        start = self.config.warmup_start
        return self.beta * (start + (1 - start) * self.progress(step))

    def rate(self, step: int) -> float:
        """Share of the step size."""
        return RATES[self.config.schedule](step, self.n_epochs * self.n_steps)


def train(course: Course, feed: Feed, plan: Plan) -> Iterator[Epoch]:
    """Train in place and yield a record after each epoch; stop early by not asking for the next one.

    Ends as planned, or when the held-out cells have not been restored better for `patience` epochs after the warm-up; then the network
    has its best weights. Raises Diverged when the loss is not finite even with small steps.
    """
    patience = plan.config.patience
    player = Player(
        course, partial(step, course, plan), plan.config.batch_size, wanted(course.generator.device)
    )
    while course.epoch < plan.n_epochs:
        if patience and course.best and course.epoch - course.best_epoch >= patience:
            break
        started = time.perf_counter()
        sums, n_cells = torch.zeros(4, dtype=torch.float64), 0
        for first in range(0, plan.n_steps, SEGMENT):
            more, cells = segment(player, feed, plan, first)
            sums, n_cells = sums + more, n_cells + cells
        course.epoch += 1
        held_out = loss_of_held_out(course, feed, plan)
        if held_out is not None and course.epoch * plan.n_steps >= plan.n_warmup:
            course.judge(held_out, plan.config.tolerance)
        loss, nll, kl, weight = (sums / n_cells).tolist()
        yield Epoch(course.epoch, loss, nll, kl, weight, held_out, time.perf_counter() - started)
    course.finish()


def segment(player: Player, feed: Feed, plan: Plan, first: int) -> tuple[torch.Tensor, int]:
    """Make up to SEGMENT steps; where the loss was not finite, go back and make them again with a smaller step size."""
    course = player.course
    course.note()
    for _ in range(MOST_SETBACKS + 1):
        sums, n_cells = steps(player, feed, plan, first)
        last = torch.stack([weight.detach().sum() for weight in course.network.parameters()]).sum()
        if math.isfinite(sums.sum().item() + last.item()):  # the only wait for the device
            return sums.cpu().double(), n_cells
        course.go_back()
    raise Diverged(
        f"the loss was not finite in epoch {course.epoch + 1}, even after {MOST_SETBACKS} tries with smaller steps"
    )


def steps(player: Player, feed: Feed, plan: Plan, first: int) -> tuple[torch.Tensor, int]:
    """Make the steps of a segment; sums over cells of loss, nll, KL and its weight."""
    course = player.course
    device = course.generator.device
    exact = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
    sums, n_cells = torch.zeros(4, dtype=exact, device=device), 0
    last = min(first + SEGMENT, plan.n_steps)
    course.network.train()
    for number, batch in enumerate(feed.batches(course.epoch + 1, first, last), first):
        at, size = course.epoch * plan.n_steps + number, len(batch.size_n1)
        sums += size * player.step(batch, plan.weight(at), plan.progress(at), plan.rate(at))
        n_cells += size
    course.network.eval()
    return sums, n_cells


def step(course: Course, plan: Plan, batch: Batch, weight: float, progress: float) -> torch.Tensor:
    """Make a step; its loss, nll, KL and weight of the KL, (4,). Nothing in it waits for the device."""
    network, generator, config = course.network, course.generator, plan.config
    with kernels.kept_awake(network.light(batch)):
        output = network(batch, generator, progress)
        # only the head's products are rounded
        with torch.autocast(generator.device.type, torch.bfloat16, enabled=plan.rounded):
            loss = negative_elbo(output, network.likelihood, batch, weight)
        loss.total.backward()  # type: ignore[no-untyped-call]
        course.learn(config.clip)
        terms = [loss.total.detach(), loss.nll.detach(), loss.kl.detach()]
        return torch.stack([*terms, torch.full_like(terms[0], weight)])


@torch.no_grad()
def loss_of_held_out(course: Course, feed: Feed, plan: Plan) -> float | None:
    """nll + beta · KL of the held-out cells, with the same draws each time; None where there are none."""
    network = course.network
    generator = torch.Generator(device=course.generator.device).manual_seed(plan.config.seed)
    losses, sizes = [], []
    for batch in feed.held_out():
        with kernels.kept_awake(network.light(batch)):
            found = negative_elbo(network(batch, generator), network.likelihood, batch, plan.beta)
        losses.append(found.total)
        sizes.append(len(batch.size_n1))
    if not losses:
        return None
    totals = [size * loss for size, loss in zip(sizes, torch.stack(losses).tolist(), strict=True)]
    return float(sum(totals)) / sum(sizes)
