"""Runs that several processes make together: started by torch.distributed.run from tests/training/test_distributed.py.

    python -m torch.distributed.run … in_ranks.py RUNS FOLDER

Each of RUNS is a function below; what it returns is written into FOLDER for each rank. `prepare` makes the file and the checkpoints of one
process that the runs need.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.broken_loss import BrokenLoss
from helpers.interrupts import steps_counted, stopped_in
from helpers.kinds import fit, settings_of, weights
from helpers.simulated import two_batches
from sparcell.errors import SparcellError
from sparcell.training import loop

KIND = ("beta-vsc", "nb")
FILE = "cells.h5ad"
N_CELLS = 330
"""264 training cells: minibatches of 53 cells, which two processes cannot halve, and a last one of 52."""
LONG = {"epochs": 4, "validation_fraction": 0.2, "batch_size": 53}
RANK = int(os.environ.get("RANK", "0"))


def curve(model):
    """Return the learning curve and, to tell bits apart, the sums of all weights."""
    columns = ("loss", "reconstruction_loss", "kl", "validation_loss")
    found = {name: [float(value) for value in model.history[name]] for name in columns}
    return {"curve": found, "weights": {name: float(w.sum()) for name, w in weights(model).items()}}


def in_memory(folder, *, kind=KIND, **keywords):
    """Train on batches, with counterfactual batches and dropout: every kind of noise."""
    settings = {**LONG, "batch_augmentation": True}
    return curve(fit(kind, two_batches(N_CELLS), settings=settings, batch_key="batch", **keywords))


def again(folder):
    return in_memory(folder)


def tails(folder):
    """Train with 1 cell in the last step of an epoch, which one process has."""
    settings = {"epochs": 3, "batch_size": 37}
    return curve(fit(("beta-vae", "gaussian"), two_batches(75), settings=settings))


def from_file(folder, **keywords):
    settings = settings_of(KIND, **LONG)
    return curve(settings.fit(folder / FILE, memory="1KB", silent=True, **keywords))


def of_one(folder):
    """Continue a run from memory that one process began."""
    return in_memory(folder, checkpoint_dir=folder / "memory-1")


def file_of_one(folder):
    """Continue a run from a file that one process began."""
    return from_file(folder, checkpoint_dir=folder / "file-1")


def begun(folder):
    """Begin runs that one process continues, amid the third epoch of five steps."""
    for run, name in ((in_memory, "memory-2"), (from_file, "file-2")):
        stopped_in(13, partial(run, folder), checkpoint_dir=folder / name)
    return {}


def amid_an_epoch(folder):
    """Stop amid the third epoch and continue, with cells in memory and from a file."""
    found = {}
    for run, name in ((in_memory, "memory-amid"), (from_file, "file-amid")):
        stopped_in(13, partial(run, folder), checkpoint_dir=folder / name)
        with steps_counted() as steps:
            found[name] = run(folder, checkpoint_dir=folder / name)
        found["steps"] = len(steps)
        with steps_counted():
            found[f"whole {name}"] = run(folder)
    return found


def not_finite(folder):
    """The loss of one process is NaN in one step."""
    loop.training_loss = BrokenLoss(loop.training_loss, at=lambda call: RANK == 1 and call == 7)
    try:
        return in_memory(folder)
    finally:
        loop.training_loss = loop.training_loss.training_loss


def other_settings(folder):
    """The processes are asked for different models."""
    try:
        fit(KIND, two_batches(N_CELLS), settings={**LONG, "seed": RANK})
    except SparcellError as error:
        return {"error": str(error)}
    return {}


def few_cells(folder):
    try:
        fit(KIND, two_batches(N_CELLS), settings={**LONG, "batch_size": 1})
    except SparcellError as error:
        return {"error": str(error)}
    return {}


def embedded(folder):
    """The first process alone encodes the cells; the other one goes on."""
    adata = two_batches(N_CELLS)
    model = fit(KIND, adata, settings={**LONG, "epochs": 1})
    if RANK > 0:
        return {}
    model.embed(adata)
    return {"shape": list(adata.obsm["X_beta_vsc"].shape)}


def killed(folder):
    """One process is killed amid the training."""

    def kill(record):
        if record.number == 3 and RANK == 1:
            (folder / "killed").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        fit(KIND, two_batches(N_CELLS), settings={**LONG, "epochs": 10_000}, on_epoch=kill)
    except SparcellError as error:
        return {"error": str(error), "seconds": time.time() - float((folder / "killed").read_text())}
    return {}


def prepare(folder):
    """Write the file and the checkpoints of one process."""
    two_batches(N_CELLS).write_h5ad(folder / FILE)
    for run, name in ((in_memory, "memory-1"), (from_file, "file-1")):
        stopped_in(13, partial(run, folder), checkpoint_dir=folder / name)


if __name__ == "__main__":
    target = Path(sys.argv[2])
    for one in sys.argv[1].split(","):
        found = globals()[one](target)
        (target / f"{one}-{RANK}.json").write_text(json.dumps(found))
