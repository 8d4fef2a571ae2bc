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
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.errors import InputError, SparcellError
from sparcell.io import locks, model_folder, places
from sparcell.protocols import EpochRecord

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.training import TrainConfig
    from sparcell.data.covariates import CovariateValues
    from sparcell.data.schema import Schema
    from sparcell.protocols import CellSource
    from sparcell.training.state import TrainState

log = logging.getLogger("sparcell")

FORMAT = 6
"""Format of the stored tensors; raise it whenever their order or names change."""
SECONDS_BETWEEN = 30.0
"""Least time between two checkpoints."""
HASHED_CELLS = 4096
"""Cells that are hashed at a time."""


@dataclass
class CheckpointWriter:
    """Writes checkpoints of a run into a folder; does nothing without a folder."""

    folder: Path | None
    fingerprint: str
    last_time: float
    """Time of the last checkpoint."""
    saved_epoch: int = 0
    """Epochs done at the last checkpoint."""
    noted: tuple[dict[str, Tensor], dict[str, Any], list[EpochRecord]] | None = None
    """State after the last epoch, in memory: an interruption may come amid the next one."""
    has_warned: bool = False
    """Whether a checkpoint could not be written."""

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path | None,
        settings: TrainConfig,
        schema: Schema,
        source: CellSource,
        covariates: CovariateValues,
    ) -> Iterator[CheckpointWriter]:
        """Lock the folder and check it before any training.

        Raises InputError unless the folder is new or holds a checkpoint of the same run, and while another process uses it. An
        exception in the block, such as KeyboardInterrupt, leaves a checkpoint of the last whole epoch.
        """
        if folder is None:
            yield cls(None, "", time.monotonic())
            return
        lock_file = model_folder.lock_file(folder)
        with places.before_work(folder):
            lock_file.parent.mkdir(parents=True, exist_ok=True)
        with locks.lock(lock_file, folder):
            model_folder.recover(folder)
            model_folder.check_target(folder)
            writer = cls(folder, fingerprint(settings, schema, source, covariates), time.monotonic())
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

    def resume(self, state: TrainState) -> list[EpochRecord]:
        """Load the checkpoint into `state` and return the history up to it; an empty list without a checkpoint."""
        if self.folder is None or not model_folder.is_whole(self.folder):
            return []
        described, tensors = model_folder.load(self.folder)
        state.from_disk(tensors, described["numbers"])
        self.saved_epoch = state.epoch
        return [EpochRecord(**record) for record in described["history"]]

    def note(self, state: TrainState, history: list[EpochRecord]) -> None:
        """Note the state after an epoch in memory, and write a checkpoint if the last one is old enough."""
        if self.folder is None:
            return
        tensors, numbers = state.to_disk(None if self.noted is None else self.noted[0])
        self.noted = tensors, numbers, list(history)
        if time.monotonic() - self.last_time >= SECONDS_BETWEEN:
            self.save_noted()

    def save(self, state: TrainState, history: list[EpochRecord]) -> None:
        """Write a checkpoint of the end of a run."""
        if self.folder is not None:
            self.noted = *state.to_disk(), history
            self.save_noted()

    def save_noted(self) -> None:
        """Write a checkpoint of the noted state, unless it is on disk. What cannot be written is warned of once; training goes on."""
        if self.folder is None or self.noted is None:
            return
        tensors, numbers, history = self.noted
        if numbers["epoch"] == self.saved_epoch:
            return
        described = {
            "fingerprint": self.fingerprint,
            "numbers": numbers,
            "history": [asdict(record) for record in history],
        }
        self.last_time = time.monotonic()
        try:
            model_folder.save(self.folder, described, tensors)
        except SparcellError as error:
            if not self.has_warned:
                log.warning("no checkpoint of epoch %d, training goes on: %s", numbers["epoch"], error)
            self.has_warned = True
        else:
            self.saved_epoch = numbers["epoch"]

    def interruption(self, stop: KeyboardInterrupt, n_epochs: int) -> KeyboardInterrupt:
        """Write a checkpoint of the last whole epoch; return the exception of the same type that says so."""
        self.save_noted()
        if self.folder is None or self.saved_epoch == 0:
            return stop
        return type(stop)(
            f"Epoch {self.saved_epoch} of {n_epochs} is saved in {self.folder}; run again with --resume (in Python with the same "
            "checkpoint_dir) to continue."
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
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
