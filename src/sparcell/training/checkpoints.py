"""Checkpoints of a training run, from which it can continue to the same bits after the process was killed."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparcell.errors import InputError
from sparcell.io import model_folder
from sparcell.protocols import EpochRecord

if TYPE_CHECKING:
    from sparcell.config.training import TrainConfig
    from sparcell.data.covariates import CovariateValues
    from sparcell.data.schema import Schema
    from sparcell.protocols import CellSource
    from sparcell.training.state import TrainState

FORMAT = 4
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

    @classmethod
    def open(
        cls,
        folder: Path | None,
        settings: TrainConfig,
        schema: Schema,
        source: CellSource,
        covariates: CovariateValues,
    ) -> CheckpointWriter:
        """Check the folder before any training; raise InputError unless it is new or holds a checkpoint of the same run."""
        if folder is None:
            return cls(None, "", time.monotonic())
        model_folder.check_target(folder)
        writer = cls(folder, fingerprint(settings, schema, source, covariates), time.monotonic())
        if model_folder.is_whole(folder):
            stored = model_folder.load(folder)[0].get("fingerprint")
            if stored != writer.fingerprint:
                raise InputError(
                    f"{folder} holds a checkpoint of a different run (settings or data differ). Pass a new folder, or delete this one "
                    "to start again."
                )
        return writer

    def resume(self, state: TrainState) -> list[EpochRecord]:
        """Load the checkpoint into `state` and return the history up to it; an empty list without a checkpoint."""
        if self.folder is None or not model_folder.is_whole(self.folder):
            return []
        described, tensors = model_folder.load(self.folder)
        state.from_disk(tensors, described["numbers"])
        self.saved_epoch = state.epoch
        return [EpochRecord(**record) for record in described["history"]]

    def maybe_save(self, state: TrainState, history: list[EpochRecord]) -> None:
        """Write a checkpoint if the last one is old enough."""
        if time.monotonic() - self.last_time >= SECONDS_BETWEEN:
            self.save(state, history)

    def save(self, state: TrainState, history: list[EpochRecord]) -> None:
        """Write a checkpoint. Call it only right after an epoch."""
        if self.folder is None or state.epoch == self.saved_epoch:
            return
        tensors, numbers = state.to_disk()
        described = {
            "fingerprint": self.fingerprint,
            "numbers": numbers,
            "history": [asdict(record) for record in history],
        }
        model_folder.save(self.folder, described, tensors)
        self.last_time, self.saved_epoch = time.monotonic(), state.epoch


def fingerprint(
    settings: TrainConfig, schema: Schema, source: CellSource, covariates: CovariateValues
) -> str:
    """Return a SHA-256 digest of everything that a training run depends on."""
    described = {
        "format": FORMAT,
        "model": type(settings).__name__,
        "settings": asdict(settings),
        "schema": asdict(schema),
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for start in range(0, len(source), HASHED_CELLS):
        block = source.rows(np.arange(start, min(start + HASHED_CELLS, len(source)))).matrix()
        for part in (block.indptr, block.indices, block.data):
            digest.update(np.ascontiguousarray(part).tobytes())
    for values in covariates:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
