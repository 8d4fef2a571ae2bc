"""One run of a benchmark in a process of its own: clean time and memory, and nothing that one method sets touches another.

`run_apart` starts it; `main` is what then runs, and hands the result back in a file.
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

CELLS, ORDER, RESULT, TROUBLE = "cells.h5ad", "job.json", "result.npz", "trouble.txt"


class SubprocessRunner:
    """A folder for the time of a benchmark: the cells are written once and read by every run."""

    def __init__(self, cells: AnnData, *, silent: bool = False) -> None:
        self.silent = silent
        self._folder = tempfile.TemporaryDirectory(prefix="sparcell-")
        self.folder = Path(self._folder.name)
        cells.write_h5ad(self.folder / CELLS)

    def __enter__(self) -> SubprocessRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def run_in_subprocess(self, order: dict[str, Any]) -> dict[str, NDArray[Any]]:
        """Run a method in a new process and return what it found.

        `order` has the runner's name, and settings, title, seed, n_samples and decided as in `peers.Job`.
        Raises TrainingError with the run's own last words where it failed.
        """
        for name in (RESULT, TROUBLE):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / ORDER).write_text(json.dumps({**order, "silent": self.silent}), encoding="utf-8")
        call = [sys.executable, "-m", "sparcell.benchmark.worker", str(self.folder)]
        status = subprocess.run(call, cwd=self.folder, check=False, env=_environment()).returncode
        if (self.folder / RESULT).exists() and status == 0:
            with np.load(self.folder / RESULT, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        trouble = self.folder / TROUBLE
        if trouble.exists():
            raise TrainingError(trouble.read_text(encoding="utf-8"))
        raise TrainingError(
            f"its process was ended from outside (status {status}), for want of memory perhaps"
        )


def _environment() -> dict[str, str]:
    """The same environment, and this very package even where it is not installed."""
    ours = str(Path(__file__).parents[2])
    paths = [ours, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def model(job: MethodInput) -> TrainFn:
    """Train a model of sparcell on the cells that are not held out."""
    from sparcell.likelihoods import LIKELIHOODS
    from sparcell.models import MODELS

    given: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in job.settings["settings"].items()
    }
    estimator = MODELS[job.settings["model"]](**given, seed=job.seed)
    explains = estimator.generative and LIKELIHOODS[estimator.likelihood].counts
    training, held_out = job.cells[job.train_n].copy(), job.cells[job.test_t].copy()

    def run() -> MethodOutput:
        fitted = estimator.fit(training, batch_key=job.batch_key, silent=job.silent)

        def log_likelihood() -> NDArray[np.float64]:
            return fitted.marginal_log_likelihood(
                held_out, n_samples=job.n_samples, seed=methods.LIKELIHOOD_SEED
            )

        losses = tuple(float(loss) for loss in fitted.history["loss"])
        codes = cache(lambda: fitted.latent_representation(job.cells))
        return MethodOutput(
            codes=lambda: codes().mean_nk,
            gamma=lambda: codes().inclusion_nk,
            log_likelihood=log_likelihood if explains else None,
            n_epochs=len(losses),
            losses=losses,
        )

    return run


RUNNERS: dict[str, Callable[[MethodInput], TrainFn]] = {**methods.RUNNERS, "model": model}


def measured(job: MethodInput, runner: str) -> dict[str, NDArray[Any]]:
    """Train, timed and with its memory watched; then encode and score, which is neither."""
    ready = RUNNERS[runner](job)
    before = memory()
    forget_peak()
    started, started_cpu = time.perf_counter(), time.process_time()
    fitted = ready()
    seconds, seconds_cpu = time.perf_counter() - started, time.process_time() - started_cpu
    found: dict[str, Any] = {
        "train_seconds": seconds,
        "cpu_seconds": seconds_cpu,
        "peak_bytes": max(0.0, peak_memory() - before),
        "process_bytes": peak_memory(),
        "n_epochs": fitted.n_epochs,
        "note": fitted.note,
        "losses": np.asarray(fitted.losses, dtype=np.float64),
        "latent_nk": np.asarray(fitted.codes(), dtype=np.float32),
    }
    if fitted.gamma is not None and (inclusion_nk := fitted.gamma()) is not None:
        found["inclusion_nk"] = np.asarray(inclusion_nk, dtype=np.float32)
    if fitted.log_likelihood is not None:
        found["log_likelihood_t"] = fitted.log_likelihood()
    return {name: np.asarray(value) for name, value in found.items()}


def memory() -> float:
    """Bytes of memory that this process holds; not a number where the system does not tell."""
    return _status("VmRSS")


def peak_memory() -> float:
    """The most that it held since `forget_peak`, or since its start."""
    found = _status("VmHWM")
    if np.isnan(found):
        with suppress(ImportError):
            import resource

            unit = 1 if sys.platform == "darwin" else 1024
            found = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    return found


def forget_peak() -> None:
    """Let the system's record of the peak begin anew; where that cannot be, loading of libraries counts too."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(key: str) -> float:
    # Not getrusage: on Linux a new process inherits there the peak of the one that started it.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return float(line.split()[1]) * 1024
    return float("nan")


def main(folder: Path) -> int:
    """Do the job that lies in the folder."""
    import anndata

    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("sparcell").setLevel(logging.INFO)
    warnings.simplefilter("ignore")
    order = json.loads((folder / ORDER).read_text(encoding="utf-8"))
    runner = order.pop("runner")
    try:
        found = measured(MethodInput(cells=anndata.read_h5ad(folder / CELLS), **order), runner)
    except KeyboardInterrupt:
        return 130
    except SystemExit:  # how lightning takes a request to end: status 0, as if all were done
        return 143
    except SparcellError as error:
        (folder / TROUBLE).write_text(str(error), encoding="utf-8")
        return 1
    except (
        Exception
    ) as error:  # whatever a library raises: it is told on the page, and the other methods go on
        (folder / TROUBLE).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        logging.getLogger("sparcell").debug("the run failed", exc_info=True)
        return 1
    np.savez(folder / RESULT, **found)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
