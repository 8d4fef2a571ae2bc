"""`sparcell fit` that is killed in chosen moments, and the same command after it: started from tests/cli/test_killed.py.

    python killed.py FOLDER

Each moment gets a folder of its own with the input, a file of the user, and the results of an earlier fit. Processes are forked from this
one, which has imported all libraries and trains nothing itself. What the processes of a moment have left is written into FOLDER/found.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.simulated import simulated_cells
from sparcell.cli import main
from sparcell.data.facts import MatrixFacts
from sparcell.io import marks, matrix_files, model_folder
from sparcell.models import load
from sparcell.training import loop

KEPT = ("cells.h5ad", "notes.txt")
WIDTHS = ["--n-latent", "3", "--encoder-widths", "8", "--decoder-widths", "8"]
SETTINGS = ["--epochs", "2", "--batch-size", "64", *WIDTHS]
N_STEPS = 10
"""300 cells, 270 of them for training. A checkpoint is written after 2, 4 and 5 steps of an epoch."""


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def call_of(owner, name, number, do):
    """Call `do` in place of call `number` of a function, counted from 1."""
    function, calls = getattr(owner, name), []

    def counted(*arguments, **keywords):
        calls.append(1)
        return (do if len(calls) == number else function)(*arguments, **keywords)

    setattr(owner, name, counted)


def rename_to(name, number, *, after):
    """Kill before or after the rename to `name` that is number `number`."""
    replace, calls = os.replace, []

    def counted(source, target, **keywords):
        calls.append(Path(target).name == name)
        is_it = calls[-1] and sum(calls) == number
        if is_it and not after:
            kill()
        replace(source, target, **keywords)
        if is_it:
            kill()

    os.replace = counted


def half_written(path, content):
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
    kill()


MOMENTS = {
    "while the facts are read": partial(call_of, MatrixFacts, "add", 2, lambda *_: kill()),
    "amid an epoch": partial(call_of, loop, "train_step", 8, lambda *_: kill()),
    "while a checkpoint is written": partial(call_of, Path, "write_bytes", 3, half_written),
    "before the first checkpoint is renamed": partial(rename_to, "run", 1, after=False),
    "between the renames of a checkpoint": partial(rename_to, ".run.earlier", 2, after=True),
    "after a checkpoint is renamed": partial(rename_to, "run", 3, after=True),
    "between the renames of the model": partial(rename_to, ".model.earlier", 1, after=True),
    "after the model is renamed": partial(rename_to, "model", 1, after=True),
    "while the output is written": partial(call_of, marks, "mark", 1, lambda *_: kill()),
    "before the output is renamed": partial(rename_to, "out.h5ad", 1, after=False),
    "after the output is renamed": partial(rename_to, "out.h5ad", 1, after=True),
}


def fit(folder, *words):
    """Run the command in this process, which ends."""
    targets = [
        "--model-dir",
        folder / "model",
        "--out",
        folder / "out.h5ad",
        "--checkpoint-dir",
        folder / "run",
    ]
    how = ["--memory", "1KB", "--checkpoint-seconds", "0", "--resume", "--overwrite", "--quiet"]
    command = ["fit", folder / "cells.h5ad", "--model", "beta-vae", *SETTINGS, *targets, *how, *words]
    sys.argv = ["sparcell", *map(str, command)]
    main.main()


def in_a_process(folder, *words, prepare=lambda: None):
    """Run the command in a process of its own; return how it ended, the message, and the number of training steps."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.dup2(os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        torch.set_num_threads(1)
        matrix_files.BLOCK_VALUES, loop.CHUNK_STEPS = 4000, 2
        train_step = loop.train_step

        def counted(*arguments):
            os.write(write, b".")
            return train_step(*arguments)

        loop.train_step = counted
        status = 1
        try:
            prepare()
            fit(folder, *words)
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        n_steps = len(pipe.read())
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    message = (folder / "stderr").read_text()
    (folder / "stderr").unlink()
    return {"status": status, "message": message, "n_steps": n_steps}


def left(folder):
    """Return what a folder holds: names, digests of the user's files, and which results are there."""
    names = sorted(path.name for path in folder.iterdir())
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in KEPT}
    whole = model_folder.is_whole(folder / "run")
    return {"names": names, "digests": digests, "results": results(folder), "has_checkpoint": whole}


def results(folder):
    """Return a number for the model and one for the output, by which two runs can be told apart."""
    weights = load(folder / "model").network.state_dict().values()
    model = float(sum(weight.double().sum() for weight in weights))
    with h5py.File(folder / "out.h5ad") as file:
        output = float(np.abs(file["obsm/X_beta_vae"][:]).sum())
    return {"model": model, "output": output}


def main_of(folder):
    """Make an earlier result, an uninterrupted one, and those of each moment."""
    first = folder / "earlier"
    first.mkdir()
    simulated_cells().write_h5ad(first / "cells.h5ad", compression="gzip")
    (first / "notes.txt").write_text("years of work")
    in_a_process(first, "--seed", "1")
    shutil.rmtree(first / "run")
    whole = Path(shutil.copytree(first, folder / "whole"))
    found = {"earlier": left(first), "whole": {**in_a_process(whole), **left(whole)}}
    for number, (moment, prepare) in enumerate(MOMENTS.items()):
        here = Path(shutil.copytree(first, folder / str(number)))
        killed = {**in_a_process(here, prepare=prepare), **left(here)}
        found[moment] = {"killed": killed, "next": {**in_a_process(here), **left(here)}}
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main_of(Path(sys.argv[1]))
