"""One run (a method with one seed) on disk, so that an interrupted study or benchmark can continue.

A stored run carries a fingerprint: the digests of all inputs that its result depends on. `run_or_load` reads the run back if the
fingerprint is the same, and computes it again otherwise.
"""

from __future__ import annotations

import io as bytes_io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from sparcell.errors import InputError
from sparcell.experiments.provenance import digest_of
from sparcell.io import files, locks, model_folder, places
from sparcell.metrics.clustering import clustering_scores
from sparcell.results.study import CLUSTERING_METRICS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

log = logging.getLogger("sparcell")

Fingerprint = dict[str, str]
"""Name of an input of a run → digest of its value."""

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints of runs that are being trained."""
PARTS = {"runs", "models", "scores", CHECKPOINTS}
"""What an experiment writes before its first run is stored."""

HISTORY = ("epoch", "loss", "reconstruction_loss", "kl", "seconds")


def fingerprint_of(**inputs: object) -> Fingerprint:
    """Return the digest of each input of a run."""
    return {name: digest_of(value) for name, value in inputs.items()}


@dataclass(frozen=True)
class Run:
    """The result of one run: named arrays, with the same names on disk."""

    arrays: dict[str, NDArray[Any]]

    @property
    def history(self) -> pd.DataFrame:
        """Columns epoch, loss, reconstruction_loss, kl, seconds; empty for a baseline."""
        columns = {name: self.arrays[name] for name in HISTORY if name in self.arrays}
        return pd.DataFrame(columns, columns=list(HISTORY))

    def get(self, name: str) -> NDArray[Any] | None:
        """Return an array, or None where this kind of run has none."""
        return self.arrays.get(name)

    def scores(self, labels: pd.Categorical) -> dict[str, dict[str, float]]:
        """Score both k-means partitions over the cells that have a label: space → metric → value."""
        labeled_n = ~pd.isna(labels)
        spaces = {"tsne2d": "kmeans_n", "latent": "latent_kmeans_n"}
        types = labels.codes[labeled_n]
        return {
            space: dict(
                zip(
                    CLUSTERING_METRICS,
                    clustering_scores(types, self.arrays[name][labeled_n]).values(),
                    strict=True,
                )
            )
            for space, name in spaces.items()
        }

    def to_bytes(self, fingerprint: Fingerprint) -> bytes:
        """Return the content of the run's file: the arrays and the fingerprint."""
        buffer = bytes_io.BytesIO()
        named: dict[str, Any] = {"fingerprint": np.array(json.dumps(fingerprint)), **self.arrays}
        np.savez(buffer, **named)
        return buffer.getvalue()

    @classmethod
    def from_file(cls, path: Path, fingerprint: Fingerprint) -> Run | None:
        """Return the stored run; None where there is none, the file is damaged, or the inputs differ."""
        run, stored = _read(path)
        return run if run is not None and stored == fingerprint else None


def _read(path: Path) -> tuple[Run | None, Fingerprint]:
    """Return the run in a file and its fingerprint; (None, {}) where the file is missing, damaged, or of an older format."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        fingerprint = dict(json.loads(str(arrays.pop("fingerprint"))))
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, TypeError):
        return None, {}
    return Run(arrays), fingerprint


def run_or_load(
    path: Path,
    fingerprint: Fingerprint,
    compute: Callable[[], Run],
    *,
    incomplete: str = "",
    checkpoint: Path | None = None,
    is_quick: bool = False,
) -> Run:
    """Return the run stored at `path` if its inputs are the same; otherwise compute and store it.

    Parameters
    ----------
    path
        File of the run; its folder is made if it is missing.
    fingerprint
        Digests of the inputs, from `fingerprint_of`.
    compute
        Called where no run with the same inputs is stored.
    incomplete
        What else belongs to the run and is missing, in words, for example "its saved model"; empty if nothing is. A stored run
        that is incomplete is computed again.
    checkpoint
        Folder of the checkpoints of the run, which is removed once the run is stored.
    is_quick
        Whether the run trains nothing: computing it again is then no reason for a warning, only a line of information.

    Returns
    -------
    The run, which is on disk when the function returns.
    """
    run, stored = _read(path)
    if run is not None and stored == fingerprint and not incomplete:
        log.info("resuming from %s", path)
        return run
    if path.exists():
        reason = _reason(run, stored, fingerprint, incomplete)
        log.log(logging.INFO if is_quick else logging.WARNING, "recomputing %s (%s)", path, reason)
    run = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as aside:
        aside.write_bytes(run.to_bytes(fingerprint))
    if checkpoint is not None:
        places.remove(checkpoint)
    return run


def _reason(run: Run | None, stored: Fingerprint, fingerprint: Fingerprint, incomplete: str) -> str:
    if run is None:
        return "the file is damaged, or of an older format"
    changed = sorted(name for name in {*stored, *fingerprint} if stored.get(name) != fingerprint.get(name))
    if changed:
        return f"inputs changed: {', '.join(name.replace('_', ' ') for name in changed)}"
    return f"{incomplete} is missing"


@contextmanager
def open_folder(folder: Path, resume: bool, *, foreign: str) -> Iterator[Path]:
    """Lock the output folder of a study or benchmark for as long as the block runs.

    Parameters
    ----------
    folder
        The folder. A new one in which nothing was written is removed at the end, so that an input error leaves no empty folder.
    resume
        Whether the folder may hold an earlier study or benchmark.
    foreign
        File that marks another kind of experiment, whose folder is refused.

    Raises
    ------
    InputError
        If the folder holds other files, cannot be written, or is in use by another run.
    """
    places.check_folder(folder)
    with places.before_work(folder):
        is_new = not folder.exists()
        earlier = resume and not is_new and _is_experiment(folder) and not (folder / foreign).exists()
    files.check_output_folder(folder, allow_existing=earlier)
    try:
        with locks.lock(folder / places.LOCK, folder):
            yield folder
    finally:
        if is_new:
            with suppress(OSError):
                folder.rmdir()


def _is_experiment(folder: Path) -> bool:
    """Return whether a folder holds runs, or was left by an experiment that was stopped in its first run."""
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".sparcell-")}
    return any((folder / "runs").glob("*-seed*.npz")) or names <= PARTS


def checkpoint_dir(run_file: Path, fingerprint: Fingerprint) -> Path:
    """Return the folder for checkpoints of a run, which has another name if any input differs. One that cannot be read is removed."""
    name = f"{run_file.stem}-{digest_of(fingerprint)[:12]}"
    folder = run_file.parent.with_name(CHECKPOINTS) / name
    if model_folder.is_whole(folder):
        try:
            model_folder.load(folder)
            log.info("continuing a training that was interrupted, from %s", folder)
        except InputError as error:
            log.warning("training from the start: %s", error)
            places.remove(folder)
    return folder


def remove_checkpoints(folder: Path) -> None:
    """Remove what interrupted trainings left in the output folder, once everything is written."""
    places.remove(folder / CHECKPOINTS)


def check_same_data(folder: Path, digest: str, *, experiment: str, parts: str) -> None:
    """Raise InputError if the folder holds finished results of other data, which would be overwritten.

    Parameters
    ----------
    folder
        Output folder.
    digest
        Digest of the data now.
    experiment, parts
        For the message: the kind of results ("study") and which parts of the data differ ("counts").
    """
    try:
        earlier = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["input"]
        name, same = earlier["name"], earlier["sha256"] == digest
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not same:
        raise InputError(
            f"{folder} holds a {experiment} of other {parts} ({name}), which would be overwritten; expected one folder for each data set. "
            "Pass another --out."
        )


def interruption(stop: KeyboardInterrupt, n_saved: int, n_runs: int, folder: Path) -> KeyboardInterrupt:
    """Return the exception, of the type of `stop`, that tells the user how to continue after Ctrl-C or SIGTERM."""
    unfinished = any((folder / CHECKPOINTS).glob(f"*/{model_folder.DESCRIPTION}"))
    also = ", and a checkpoint of the unfinished one" if unfinished else ""
    return type(stop)(
        f"{n_saved} of {n_runs} runs are saved in {folder}{also}; run again with --resume to continue."
    )
