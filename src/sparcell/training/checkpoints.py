"""A training run noted on disk, so that it can go on after the process was killed, to the same bits."""

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
from sparcell.protocols import Epoch

if TYPE_CHECKING:
    from sparcell.config.settings import TrainConfig
    from sparcell.data.covariates import Known
    from sparcell.data.schema import Schema
    from sparcell.protocols import Rows
    from sparcell.training.state import Course

FORMAT = 3
"""Of the tensors that are noted; raise it whenever they change their order or their names."""
EVERY = 30.0
"""Seconds between two notes."""


@dataclass
class Notes:
    """What a run writes down; nothing where no folder was asked for."""

    folder: Path | None
    fingerprint: str
    written: float
    """Time of the last note."""
    noted: int = 0
    """Epochs it holds."""

    @classmethod
    def open(
        cls, folder: Path | None, settings: TrainConfig, schema: Schema, rows: Rows, known: Known
    ) -> Notes:
        """Refuse, before any training, a folder that holds anything but notes of the same settings and data."""
        if folder is None:
            return cls(None, "", time.monotonic())
        model_folder.check_target(folder)
        notes = cls(folder, fingerprint(settings, schema, rows, known), time.monotonic())
        if model_folder.is_whole(folder):
            found = model_folder.load(folder)[0].get("fingerprint")
            if found != notes.fingerprint:
                raise InputError(
                    f"{folder} holds the training of other settings, data or another kind of file; expected a new folder, or the one of "
                    "this very run: give another checkpoint, or remove it."
                )
        return notes

    def take_up(self, course: Course) -> list[Epoch]:
        """Bring a run to where the notes end, and return the records up to there."""
        if self.folder is None or not model_folder.is_whole(self.folder):
            return []
        described, tensors = model_folder.load(self.folder)
        course.from_disk(tensors, described["numbers"])
        self.noted = course.epoch
        return [Epoch(**record) for record in described["history"]]

    def keep(self, course: Course, history: list[Epoch]) -> None:
        """Write where the run stands, if the last note is old enough."""
        if time.monotonic() - self.written >= EVERY:
            self.close(course, history)

    def close(self, course: Course, history: list[Epoch]) -> None:
        """Write where the run stands; only right after an epoch, never amid one."""
        if self.folder is None or course.epoch == self.noted:
            return
        tensors, numbers = course.to_disk()
        told = {
            "fingerprint": self.fingerprint,
            "numbers": numbers,
            "history": [asdict(epoch) for epoch in history],
        }
        model_folder.save(self.folder, told, tensors)
        self.written, self.noted = time.monotonic(), course.epoch


def fingerprint(settings: TrainConfig, schema: Schema, rows: Rows, known: Known) -> str:
    """Digest of all that the course of a training depends on."""
    told = {
        "format": FORMAT,
        "model": type(settings).__name__,
        "settings": asdict(settings),
        "schema": asdict(schema),
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for start in range(0, len(rows), 4096):
        block = rows.rows(np.arange(start, min(start + 4096, len(rows)))).matrix()
        for part in (block.indptr, block.indices, block.data):
            digest.update(np.ascontiguousarray(part).tobytes())
    for values in known:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
