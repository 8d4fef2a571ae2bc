"""Execute the notebooks of docs/tutorials, each in a fresh folder, and fail if a cell fails.

::

    python docs/execute_tutorials.py                       # executes all of them into docs/_build/tutorials
    python docs/execute_tutorials.py --update 3-gene-programs  # executes one, and writes its outputs into the committed notebook

Needs the packages of `pip install '.[docs]'`.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from light_png import light_png
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

TUTORIALS = Path(__file__).parent / "tutorials"
BUILD = Path(__file__).parent / "_build" / "tutorials"

QUIET = "import logging; logging.getLogger('sparcell').setLevel('WARNING')"
"""Runs before the first cell: lines of progress, such as those of `sp.pp.seurat`, are not kept in the outputs."""
CELL_SECONDS = 900
"""A cell that takes longer ends the run."""
MAX_KILOBYTES = 400
"""Largest size of a committed notebook."""
KEPT_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""What a notebook says about itself; versions of Python and of Jupyter stay out, so that diffs show changes of content."""


def execute(path: Path) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a run in a fresh temporary folder; raise CellExecutionError if a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    # The programs of this environment, such as sparcell and torchrun, are found by cells that call a shell.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            startup_timeout=CELL_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
        )
        client.on_notebook_start = lambda notebook: client.kc.execute(QUIET, silent=True)
        client.execute()
    return notebook


def clean(notebook: nbformat.NotebookNode) -> None:
    """Remove what changes from run to run, and store figures with 256 colors at the size they have on the page."""
    notebook.metadata = nbformat.from_dict(KEPT_METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: value for key, value in cell.metadata.items() if key == "tags"}
        )
        for output in cell.get("outputs", []):
            if "data" not in output:
                continue
            if "image/png" in output.data:
                width = output.metadata.get("image/png", {}).get("width")
                png = light_png(base64.b64decode(output.data["image/png"]), width)
                output.data["image/png"] = base64.b64encode(png).decode()
                output.data["text/plain"] = "a figure"
            output.metadata = nbformat.from_dict({})


def findings(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what a reader should not see in the outputs of a notebook: messages on stderr, and folders of this machine."""
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                found.append(f"cell {number} writes to stderr: {output.text.strip()[:300]}")
            text = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
            folders = re.findall(r"(?<![\w.:/])/(?:home|root|tmp|work|usr|Users|var)/\S+", text)
            found += [f"cell {number} shows the folder {folder}" for folder in folders]
    return found


def main() -> int:
    """Execute the notebooks that the command line names, or all; return 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="names of notebooks, such as 3-gene-programs; default: all")
    parser.add_argument("--update", action="store_true", help="write the outputs into docs/tutorials")
    arguments = parser.parse_args()
    paths = [TUTORIALS / f"{name}.ipynb" for name in arguments.names] or sorted(TUTORIALS.glob("*.ipynb"))
    folder = TUTORIALS if arguments.update else BUILD
    folder.mkdir(parents=True, exist_ok=True)
    failed = False
    for path in paths:
        start = time.perf_counter()
        try:
            notebook = execute(path)
        except CellExecutionError as error:
            print(f"{path.name}: a cell failed\n{error}", flush=True)
            failed = True
            continue
        clean(notebook)
        nbformat.validate(notebook)
        found = findings(notebook)
        text = nbformat.writes(notebook) + "\n"
        kilobytes = len(text.encode()) / 1000
        if kilobytes > MAX_KILOBYTES:
            found.append(f"{kilobytes:.0f} KB, more than {MAX_KILOBYTES}")
        aside = folder / f".{path.name}.part"
        aside.write_text(text, encoding="utf-8")
        aside.replace(folder / path.name)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s, {kilobytes:.0f} KB", flush=True)
        for line in found:
            print(f"  {line}", flush=True)
        failed |= bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
