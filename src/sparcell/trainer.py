"""The training loop: one page, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from sparcell.contracts import Epoch
from sparcell.errors import TrainingError
from sparcell.objective import negative_elbo, warmed

if TYPE_CHECKING:
    from sparcell.config import TrainConfig
    from sparcell.contracts import Feed
    from sparcell.course import Course

SEGMENT = 200
"""Steps between two looks at the loss: so far does a run go back when it was not finite."""
MOST_SETBACKS = 5
"""Tries with ever smaller steps before a run gives up."""


class Diverged(TrainingError):
    """The loss was not finite again and again; the network is back at the last good step."""


def epochs_for(n_cells: int, config: TrainConfig) -> int:
    """Most epochs of a run: as set, or chosen so that small data is seen often and large data often enough."""
    if config.epochs != "auto":
        return config.epochs
    return min(400, max(20, round(400 * 20_000 / n_cells)))


def train(course: Course, feed: Feed, config: TrainConfig, n_epochs: int, beta: float) -> Iterator[Epoch]:
    """Train in place and yield a record after each epoch; stop early by not asking for the next one.

    Ends after `n_epochs`, or when the held-out cells have not been restored better for `patience` epochs after the warm-up;
    then the network has its best weights. Raises Diverged when the loss is not finite even with small steps.
    """
    n_warmup = int(config.warmup * n_epochs * feed.n_steps)
    while course.epoch < n_epochs:
        if config.patience and course.best and course.epoch - course.best_epoch >= config.patience:
            break
        started = time.perf_counter()
        sums, n_cells = torch.zeros(4, dtype=torch.float64), 0
        for first in range(0, feed.n_steps, SEGMENT):
            more, cells = segment(course, feed, config, first, n_warmup, beta)
            sums, n_cells = sums + more, n_cells + cells
        course.epoch += 1
        held_out = loss_of_held_out(course, feed, config, beta)
        if held_out is not None and course.epoch * feed.n_steps >= n_warmup:
            course.judge(held_out)
        loss, nll, kl, weight = (sums / n_cells).tolist()
        yield Epoch(course.epoch, loss, nll, kl, weight, held_out, time.perf_counter() - started)
    course.finish()


def segment(
    course: Course, feed: Feed, config: TrainConfig, first: int, n_warmup: int, beta: float
) -> tuple[torch.Tensor, int]:
    """Make up to SEGMENT steps; where the loss was not finite, go back and make them again with a smaller step size."""
    good = course.tensors()
    for _ in range(MOST_SETBACKS + 1):
        sums, n_cells = steps(course, feed, config, first, n_warmup, beta)
        last = torch.stack([weight.detach().sum() for weight in course.network.parameters()]).sum()
        if math.isfinite(sums.sum().item() + last.item()):  # the only wait for the device
            return sums.cpu().double(), n_cells
        course.restore(good)
        course.slow_down()
    raise Diverged(
        f"the loss was not finite in epoch {course.epoch + 1}, even after {MOST_SETBACKS} tries with smaller steps"
    )


def steps(
    course: Course, feed: Feed, config: TrainConfig, first: int, n_warmup: int, beta: float
) -> tuple[torch.Tensor, int]:
    """Make the steps of a segment; sums over cells of loss, nll, KL and its weight."""
    network, adam, generator = course.network, course.adam, course.generator
    exact = torch.float32 if generator.device.type == "mps" else torch.float64  # mps has no float64
    sums, n_cells = torch.zeros(4, dtype=exact, device=generator.device), 0
    last = min(first + SEGMENT, feed.n_steps)
    network.train()
    for number, batch in enumerate(feed.batches(course.epoch + 1, first, last), first):
        progress = warmed(course.epoch * feed.n_steps + number, n_warmup)
        output = network(batch, generator, progress)
        loss = negative_elbo(output, network.likelihood, batch, beta * progress)
        adam.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        if config.clip > 0:
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        adam.step()
        size = batch.x_ng.shape[0]
        n_cells += size
        terms = [loss.total.detach(), loss.nll.detach(), loss.kl.detach()]
        sums += size * torch.stack([*terms, torch.full_like(terms[0], beta * progress)])
    network.eval()
    return sums, n_cells


@torch.no_grad()
def loss_of_held_out(course: Course, feed: Feed, config: TrainConfig, beta: float) -> float | None:
    """nll + beta · KL of the held-out cells, with the same draws each time; None where there are none."""
    generator = torch.Generator(device=course.generator.device).manual_seed(config.seed)
    total, n_cells = 0.0, 0
    for batch in feed.held_out():
        loss = negative_elbo(course.network(batch, generator), course.network.likelihood, batch, beta)
        size = batch.x_ng.shape[0]
        total, n_cells = total + size * loss.total.item(), n_cells + size
    return total / n_cells if n_cells else None
