"""Interruptions of a training run."""

from __future__ import annotations


class Stop(Exception):
    """Raised by `stop_after`."""


def stop_after(n_epochs):
    """Return a callback for `on_epoch` that interrupts the run after an epoch."""

    def stop(record):
        if record.number == n_epochs:
            raise Stop

    return stop
