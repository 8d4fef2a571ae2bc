"""Interruptions of a training run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from sparcell.training import loop


class Stop(Exception):
    """Raised by `stop_after` and `stopped_in`."""


def stop_after(n_epochs):
    """Return a callback for `on_epoch` that interrupts the run after an epoch."""

    def stop(record):
        if record.number == n_epochs:
            raise Stop

    return stop


@contextmanager
def steps_counted(chunk=2, stop_in=None, error=Stop) -> Iterator[list[None]]:
    """Train in chunks of `chunk` steps, and yield a list with an item for each training step; raise `error` in step `stop_in`, from 0."""
    steps, train_step = [], loop.train_step

    def counted(*arguments):
        if len(steps) == stop_in:
            raise error
        steps.append(None)
        return train_step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHUNK_STEPS", chunk)
        patch.setattr(loop, "train_step", counted)
        yield steps


def stopped_in(step, run, **keywords):
    """Run until a training step, from 0, which leaves a checkpoint of the chunk of two steps before it."""
    with steps_counted(stop_in=step), suppress(Stop):
        run(**keywords)
        raise AssertionError("the run ended before that step")
