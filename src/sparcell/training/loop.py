"""The training loop: one page, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from sparcell.errors import TrainingError
from sparcell.protocols import EpochRecord
from sparcell.training.cuda_graph import wrap_step
from sparcell.training.objective import training_loss
from sparcell.training.snapshot import EpochSums

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import BatchProvider, Minibatch
    from sparcell.training.cuda_graph import Step
    from sparcell.training.plan import TrainPlan
    from sparcell.training.snapshot import Snapshot
    from sparcell.training.state import TrainState

CHUNK_STEPS = 200
"""Steps between two checks of the loss; a run whose loss is not finite goes back by at most this many."""
MAX_ROLLBACKS = 5
"""Attempts with ever lower learning rates before a run gives up."""


class NonFiniteLossError(TrainingError):
    """The loss was not finite in every attempt; the network is back at its last snapshot."""


def train(
    state: TrainState,
    data: BatchProvider,
    plan: TrainPlan,
    on_snapshot: Callable[[Snapshot], None] = lambda snapshot: None,
) -> Iterator[EpochRecord]:
    """Train the network in place and yield a record after each epoch; to stop, do not ask for the next one.

    Begins where `state` is, which may be amid an epoch. `on_snapshot` gets the state before each chunk of steps. Ends after the planned
    epochs or by early stopping; the network then has its best weights. Raises NonFiniteLossError if the loss is not finite even with small
    steps.
    """
    step = wrap_step(train_step, state, plan)
    while state.epoch < plan.n_epochs and not state.early_stopping.should_stop(
        state.epoch, plan.warmup_epochs
    ):
        started = time.perf_counter() - state.epoch_sums.seconds
        for first in range(state.epoch_sums.n_steps, plan.n_steps, CHUNK_STEPS):
            on_snapshot(state.snapshot())
            sums, n_cells = run_chunk(step, state, data, plan, first)
            done, seconds = min(first + CHUNK_STEPS, plan.n_steps), time.perf_counter() - started
            state.epoch_sums = state.epoch_sums.plus(sums, n_cells, n_steps=done, seconds=seconds)
        loss, reconstruction, kl, kl_weight = state.epoch_sums.means
        state.epoch, state.epoch_sums = state.epoch + 1, EpochSums()
        loss_of_validation = validation_loss(state, data, plan)
        if loss_of_validation is not None:
            state.early_stopping.update(loss_of_validation, state.epoch, state.network)
        seconds = time.perf_counter() - started
        record = EpochRecord(state.epoch, loss, reconstruction, kl, kl_weight, loss_of_validation, seconds)
        state.history.append(record)
        yield record
    state.early_stopping.load_best(state.network)


def run_chunk(
    step: Step, state: TrainState, data: BatchProvider, plan: TrainPlan, first: int
) -> tuple[Tensor, int]:
    """Run up to CHUNK_STEPS steps from step `first` of the epoch; if the loss is not finite, roll back and repeat with smaller steps."""
    for _ in range(MAX_ROLLBACKS + 1):
        sums, n_cells = run_steps(step, state, data, plan, first)
        weights = torch.stack([weight.detach().sum() for weight in state.network.parameters()]).sum()
        # What is not finite in one process is so in all, and all go back. This is the only wait for the device.
        checked = state.ranks.sum(torch.cat([sums, weights.to(sums)[None]])).cpu().double()
        if math.isfinite(checked.sum().item()):
            return checked[:-1], n_cells
        state.rollback()
    raise NonFiniteLossError(
        f"the loss was not finite in epoch {state.epoch + 1}, even after {MAX_ROLLBACKS} attempts with lower learning rates"
    )


def run_steps(
    step: Step, state: TrainState, data: BatchProvider, plan: TrainPlan, first: int
) -> tuple[Tensor, int]:
    """Run the steps of a chunk; return the sums over own cells of loss, reconstruction, KL and its weight, and the number of all cells."""
    device = state.generator.device
    dtype = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
    sums, n_cells = torch.zeros(4, dtype=dtype, device=device), 0
    last = min(first + CHUNK_STEPS, plan.n_steps)
    state.network.train()
    for number, batch in enumerate(data.batches(state.epoch + 1, first, last), first):
        at = state.epoch * plan.n_steps + number
        state.set_lr(plan.lr_factor(at))
        sums += batch.n_own * step(batch, plan.kl_weight(at), plan.progress(at))
        n_cells += batch.n_cells
    state.network.eval()
    return sums, n_cells


def train_step(
    state: TrainState,
    plan: TrainPlan,
    batch: Minibatch,
    kl_weight: float | Tensor,
    progress: float | Tensor,
) -> Tensor:
    """Make one step; return its loss, reconstruction, KL and weight of the KL, (4,). Nothing in it waits for the device."""
    network, generator = state.network, state.generator
    output = network(batch, state.ranks.noise(batch, generator), progress)
    with torch.autocast(generator.device.type, torch.bfloat16, enabled=plan.use_bfloat16):  # the head only
        loss = training_loss(output, network, batch, kl_weight, plan.config.label_weight)
    own_part = batch.n_own / batch.n_cells * loss.total  # the sum over the processes is the loss of the step
    own_part.backward()  # type: ignore[no-untyped-call]
    state.optimizer_step(plan.config.max_grad_norm)
    terms = [loss.total.detach(), loss.reconstruction.detach(), loss.kl.detach()]
    return torch.stack([*terms, torch.zeros_like(terms[0]) + kl_weight])


@torch.no_grad()
def validation_loss(state: TrainState, data: BatchProvider, plan: TrainPlan) -> float | None:
    """Return the mean loss of the validation cells, with the same draws each time; None without validation cells."""
    network = state.network
    generator = torch.Generator(device=state.generator.device).manual_seed(plan.config.seed)
    losses, sizes, n_cells = [], [], 0
    for batch in data.validation_batches():
        output = network(batch, state.ranks.noise(batch, generator))
        losses.append(training_loss(output, network, batch, plan.beta, plan.config.label_weight).total)
        sizes.append(batch.n_own)
        n_cells += batch.n_cells
    if not losses:
        return None
    totals = [size * loss for size, loss in zip(sizes, torch.stack(losses).tolist(), strict=True)]
    total = state.ranks.sum(torch.tensor([sum(totals)], dtype=torch.float64))
    return total.item() / n_cells
