"""Writing of a zarr result that is killed in chosen moments: started from tests/io/test_zarr_folders.py.

    python killed_results.py FOLDER

Each moment gets a folder of its own with an earlier result, number 1. A forked process writes number 2 and is killed, the next one looks
and writes number 3. What they found is written into FOLDER/found.json. This process itself uses no zarr, whose threads do not survive a
fork.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import anndata
import numpy as np

from helpers.killed import call_of, kill, rename_to
from sparcell.io import marks, places, zarr_folders
from sparcell.io.result_files import write_anndata


def half_removed(folder):
    (folder / "zarr.json").unlink()
    kill()


MOMENTS = {
    "while it is written": partial(call_of, marks, "mark", 1, lambda *_: kill()),
    "before the first rename": partial(rename_to, ".out.zarr.earlier", 1, after=False),
    "between the renames": partial(rename_to, ".out.zarr.earlier", 1, after=True),
    "after the renames": partial(rename_to, "out.zarr", 1, after=True),
    "while the earlier one is removed": partial(call_of, places, "remove", 1, half_removed),
}


def write(folder, number):
    adata = anndata.AnnData(np.full((20, 3), number, dtype=np.float32))
    write_anndata(adata, folder / "out.zarr")


def number_in(folder):
    """Return which result lies in the folder, read whole, or None."""
    if not (folder / "out.zarr").exists():
        return None
    values = np.unique(anndata.io.read_zarr(folder / "out.zarr").X)
    return int(values.item()) if marks.is_marked_folder(folder / "out.zarr") else -1


def first(folder):
    write(folder, 1)


def killed(folder, prepare):
    prepare()
    write(folder, 2)


def looked(folder):
    before = number_in(folder)
    zarr_folders.check_target(folder / "out.zarr")
    checked = number_in(folder)
    write(folder, 3)
    names = sorted(path.name for path in folder.iterdir())
    found = {"before": before, "checked": checked, "after": number_in(folder), "names": names}
    folder.with_suffix(".json").write_text(json.dumps(found))


def in_a_process(do, *arguments):
    """Return how a forked process ended."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            do(*arguments)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main_of(folder):
    found = {}
    for number, (moment, prepare) in enumerate(MOMENTS.items()):
        here = folder / str(number)
        here.mkdir()
        status = [in_a_process(first, here), in_a_process(killed, here, prepare), in_a_process(looked, here)]
        found[moment] = {"status": status, **json.loads(here.with_suffix(".json").read_text())}
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main_of(Path(sys.argv[1]))
