"""One run of a benchmark in a separate process: clean time and memory, and no settings of one method reach another.

`SubprocessRunner` starts the process. `main` runs in the process, and writes the result to a file.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.benchmark import methods
from sparcell.benchmark.methods import MethodInput, MethodOutput, TrainFn
from sparcell.errors import SparcellError, TrainingError

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

CELLS, REQUEST, RESULT, ERROR = "cells.h5ad", "request.json", "result.npz", "error.txt"


class SubprocessRunner:
    """A temporary folder for a benchmark: the cells are written once and read by every run."""

    def __init__(self, cells: AnnData, *, silent: bool = False) -> None:
        self.silent = silent
        self._folder = tempfile.TemporaryDirectory(prefix="sparcell-")
        self.folder = Path(self._folder.name)
        cells.write_h5ad(self.folder / CELLS)

    def __enter__(self) -> SubprocessRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def run_in_subprocess(self, request: dict[str, Any]) -> dict[str, NDArray[Any]]:
        """Run a method in a new process, and return the arrays of its run.

        Parameters
        ----------
        request
            "function", the key in FUNCTIONS, and the fields of MethodInput except cells and silent.

        Raises
        ------
        TrainingError
            If the run failed, with the message of the run.
        """
        for name in (RESULT, ERROR):
            (self.folder / name).unlink(missing_ok=True)
        text = json.dumps({**request, "silent": self.silent})
        (self.folder / REQUEST).write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "sparcell.benchmark.worker", str(self.folder)]
        status = subprocess.run(command, cwd=self.folder, check=False, env=_environment()).returncode
        if (self.folder / RESULT).exists() and status == 0:
            with np.load(self.folder / RESULT, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        error = self.folder / ERROR
        if error.exists():
            raise TrainingError(error.read_text(encoding="utf-8"))
        raise TrainingError(f"the process was killed (status {status}), possibly for lack of memory")


def _environment() -> dict[str, str]:
    """Return the environment, with the folder of this package first in PYTHONPATH, so that it need not be installed."""
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def model(inputs: MethodInput) -> TrainFn:
    """Return a function that trains a model of sparcell on the cells that are not held out."""
    from sparcell.likelihoods import LIKELIHOODS
    from sparcell.models import MODELS

    settings: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in inputs.settings["settings"].items()
    }
    estimator = MODELS[inputs.settings["model"]](**settings, seed=inputs.seed)
    has_likelihood = estimator.generative and LIKELIHOODS[estimator.likelihood].counts
    training, held_out = inputs.cells[inputs.train_n].copy(), inputs.cells[inputs.test_t].copy()

    def train() -> MethodOutput:
        fitted = estimator.fit(training, batch_key=inputs.batch_key, silent=inputs.silent)

        def log_likelihood() -> NDArray[np.float64]:
            return fitted.marginal_log_likelihood(
                held_out, n_samples=inputs.n_samples, seed=methods.LIKELIHOOD_SEED
            )

        losses = tuple(float(loss) for loss in fitted.history["loss"])
        latents = cache(lambda: fitted.latent_representation(inputs.cells))
        return MethodOutput(
            encode=lambda: latents().mean_nk,
            inclusion=lambda: latents().inclusion_nk,
            log_likelihood=log_likelihood if has_likelihood else None,
            n_epochs=len(losses),
            losses=losses,
        )

    return train


FUNCTIONS: dict[str, Callable[[MethodInput], TrainFn]] = {**methods.FUNCTIONS, "model": model}


def run_and_measure(inputs: MethodInput, function: str) -> dict[str, NDArray[Any]]:
    """Train a method and measure time and memory; then encode and compute the likelihood, which are not measured.

    Returns the arrays of a run: latent_nk, inclusion_nk and log_likelihood_t where available, losses, n_epochs, note, train_seconds,
    cpu_seconds, peak_bytes (of training alone) and process_bytes (of the whole process).
    """
    train = FUNCTIONS[function](inputs)
    before = memory()
    reset_peak_memory()
    started, started_cpu = time.perf_counter(), time.process_time()
    output = train()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    arrays: dict[str, Any] = {
        "train_seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": max(0.0, peak_memory() - before),
        "process_bytes": peak_memory(),
        "n_epochs": output.n_epochs,
        "note": output.note,
        "losses": np.asarray(output.losses, dtype=np.float64),
        "latent_nk": np.asarray(output.encode(), dtype=np.float32),
    }
    if output.inclusion is not None and (inclusion_nk := output.inclusion()) is not None:
        arrays["inclusion_nk"] = np.asarray(inclusion_nk, dtype=np.float32)
    if output.log_likelihood is not None:
        arrays["log_likelihood_t"] = output.log_likelihood()
    return {name: np.asarray(value) for name, value in arrays.items()}


def memory() -> float:
    """Return the memory that this process holds, in bytes; NaN where the system does not report it."""
    return _status("VmRSS")


def peak_memory() -> float:
    """Return the peak memory of this process since `reset_peak_memory` (or since its start), in bytes."""
    peak = _status("VmHWM")
    if np.isnan(peak):
        with suppress(ImportError):
            import resource

            unit = 1 if sys.platform == "darwin" else 1024
            peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    return peak


def reset_peak_memory() -> None:
    """Reset the peak memory of this process; where the system cannot, the peak includes loading of libraries."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(key: str) -> float:
    # Not getrusage: on Linux a new process starts with the peak of its parent there.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return float(line.split()[1]) * 1024
    return float("nan")


def main(folder: Path) -> int:
    """Run the request in the folder; return the exit status."""
    import anndata

    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("sparcell").setLevel(logging.INFO)
    warnings.simplefilter("ignore")
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    function = request.pop("function")
    try:
        arrays = run_and_measure(MethodInput(cells=anndata.read_h5ad(folder / CELLS), **request), function)
    except KeyboardInterrupt:
        return 130
    except SystemExit:  # lightning exits with status 0 when it is asked to stop
        return 143
    except SparcellError as error:
        (folder / ERROR).write_text(str(error), encoding="utf-8")
        return 1
    except Exception as error:  # any error of a library: the page reports it, and the other methods run
        (folder / ERROR).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        logging.getLogger("sparcell").debug("the run failed", exc_info=True)
        return 1
    np.savez(folder / RESULT, **arrays)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
