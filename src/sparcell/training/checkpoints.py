"""Checkpoints of a training run, from which it can continue to the same bits after the process was killed."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparcell.errors import InputError, SparcellError
from sparcell.io import locks, model_folder, places

if TYPE_CHECKING:
    from sparcell.config.training import TrainConfig
    from sparcell.data.covariates import CovariateValues
    from sparcell.data.schema import Schema
    from sparcell.protocols import CellSource
    from sparcell.training.plan import TrainPlan
    from sparcell.training.snapshot import Snapshot
    from sparcell.training.state import TrainState

log = logging.getLogger("sparcell")

FORMAT = 7
"""Format of the stored tensors; raise it whenever their order or names change."""
HASHED_CELLS = 4096
"""Cells that are hashed at a time."""


@dataclass
class CheckpointWriter:
    """Writes checkpoints of a run into a folder; does nothing without a folder."""

    folder: Path | None
    fingerprint: str
    seconds_between: float
    """Least time between two checkpoints."""
    last_time: float
    """Time of the last checkpoint."""
    saved: tuple[int, int] = (0, 0)
    """Whole epochs done at the last checkpoint, and steps of the next one."""
    noted: Snapshot | None = None
    """The last snapshot, in memory: an interruption may come amid the steps after it."""
    has_warned: bool = False
    """Whether a checkpoint could not be written."""

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path | None,
        seconds_between: float,
        settings: TrainConfig,
        schema: Schema,
        source: CellSource,
        covariates: CovariateValues,
    ) -> Iterator[CheckpointWriter]:
        """Lock the folder and check it before any training.

        Raises InputError unless the folder is new or holds a checkpoint of the same run, and while another process uses it. An
        exception in the block, such as KeyboardInterrupt, leaves a checkpoint of the last snapshot.
        """
        if folder is None:
            yield cls(None, "", seconds_between, time.monotonic())
            return
        lock_file = model_folder.lock_file(folder)
        with places.before_work(folder):
            lock_file.parent.mkdir(parents=True, exist_ok=True)
        with locks.lock(lock_file, folder):
            model_folder.recover(folder)
            model_folder.check_target(folder)
            digest = fingerprint(settings, schema, source, covariates)
            writer = cls(folder, digest, seconds_between, time.monotonic())
            if model_folder.is_whole(folder):
                stored = model_folder.load(folder)[0].get("fingerprint")
                if stored != writer.fingerprint:
                    raise InputError(
                        f"{folder} holds a checkpoint of a different run (settings or data differ). Pass a new folder, or delete "
                        "this one to start again."
                    )
            try:
                yield writer
            except BaseException:
                writer.save_noted()
                raise

    def resume(self, state: TrainState) -> None:
        """Load the checkpoint into `state`, if there is one."""
        if self.folder is None or not model_folder.is_whole(self.folder):
            return
        described, tensors = model_folder.load(self.folder)
        state.from_disk(tensors, described)
        self.saved = (state.epoch, state.epoch_sums.n_steps)

    def maybe_save(self, snapshot: Snapshot) -> None:
        """Note a snapshot, and write a checkpoint of it if the last one is old enough."""
        if self.folder is None:
            return
        self.noted = snapshot
        if time.monotonic() - self.last_time >= self.seconds_between:
            self.save_noted()

    def end_epoch(self, state: TrainState) -> None:
        """Do the same with a snapshot of the end of an epoch."""
        if self.folder is not None:
            self.maybe_save(state.snapshot())

    def save(self, state: TrainState) -> None:
        """Write a checkpoint of the end of a run."""
        if self.folder is not None:
            self.noted = state.snapshot()
            self.save_noted()

    def save_noted(self) -> None:
        """Write a checkpoint of the noted state, unless it is on disk. What cannot be written is warned of once; training goes on."""
        if self.folder is None or self.noted is None or self.noted.place == self.saved:
            return
        tensors, described = self.noted.to_disk()
        self.last_time = time.monotonic()
        try:
            model_folder.save(self.folder, {"fingerprint": self.fingerprint, **described}, tensors)
        except SparcellError as error:
            if not self.has_warned:
                epoch, step = self.noted.place
                where = f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"
                log.warning("no checkpoint of %s, training goes on: %s", where, error)
            self.has_warned = True
        else:
            self.saved = self.noted.place

    def interruption(self, stop: KeyboardInterrupt, plan: TrainPlan) -> KeyboardInterrupt:
        """Write a checkpoint of the last snapshot; return the exception of the same type that says so."""
        self.save_noted()
        if self.folder is None or self.saved == (0, 0):
            return stop
        epoch, step = self.saved
        up_to = f" up to step {step:,} of {plan.n_steps:,}" if step else ""
        return type(stop)(
            f"Epoch {epoch + (step > 0)} of {plan.n_epochs} is saved{up_to} in {self.folder}; run again with --resume (in Python with the "
            "same checkpoint_dir) to continue."
        )


def fingerprint(
    settings: TrainConfig, schema: Schema, source: CellSource, covariates: CovariateValues
) -> str:
    """Return a SHA-256 digest of everything that a training run depends on."""
    described = {
        "format": FORMAT,
        "model": type(settings).__name__,
        "settings": asdict(settings),
        "schema": asdict(schema),
        "file": source.identity,
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for start in range(0, len(source) if source.identity is None else 0, HASHED_CELLS):
        block = source.rows(np.arange(start, min(start + HASHED_CELLS, len(source)))).matrix()
        for part in (block.indptr, block.indices, block.data):
            digest.update(np.ascontiguousarray(part).tobytes())
    for values in covariates:
        if values is not None:
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
