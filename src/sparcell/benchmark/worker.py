"""One run of a benchmark in a separate process: clean time and memory, and no settings of one method reach another.

`SubprocessRunner` starts the process. `run_process` runs in it: `main` writes the result to a file.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell import io
from sparcell._utils import signals
from sparcell.benchmark import methods
from sparcell.benchmark.methods import MethodInput, MethodOutput, TrainFn
from sparcell.errors import OutputError, SparcellError, TrainingError
from sparcell.experiments.embedding import seconds_before
from sparcell.io import places

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.protocols import EpochRecord

STOP_SECONDS = 15.0
"""Time that a worker has to write its checkpoint when it is stopped."""
START = "import sys; from sparcell.benchmark import worker; sys.exit(worker.run_process(worker.Path(sys.argv[1])))"
CELLS, REQUEST, RESULT, ERROR = "cells.h5ad", "request.json", "result.npz", "error.txt"


class SubprocessRunner:
    """A temporary folder for a benchmark: the cells are written once and read by every run.

    The folder of a benchmark that was killed is removed by its worker, or when the next benchmark starts.
    """

    def __init__(self, cells: AnnData, *, silent: bool = False) -> None:
        self.silent = silent
        base = Path(tempfile.gettempdir())
        places.sweep(base)
        self.folder = base / places.temporary_name()
        try:
            self.folder.mkdir(mode=0o700)
            io.write_h5ad(cells, self.folder / CELLS)
        except BaseException as error:
            places.remove(self.folder)
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise places.failure(self.folder, error) from error
            raise

    def __enter__(self) -> SubprocessRunner:
        return self

    def __exit__(self, *_: object) -> None:
        places.remove(self.folder)

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
        status = run_worker(self.folder)
        if (self.folder / RESULT).exists() and status == 0:
            with np.load(self.folder / RESULT, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        error = self.folder / ERROR
        if error.exists():
            raise TrainingError(error.read_text(encoding="utf-8"))
        raise TrainingError(f"the process was killed (status {status}), possibly for lack of memory")


def run_worker(folder: Path) -> int:
    """Start the process of a run, wait for it, and return its exit status.

    The pipe to its standard input closes when this process ends, however it ends, and the worker then ends too. At Ctrl-C the worker has
    STOP_SECONDS to write its checkpoint.
    """
    command = [sys.executable, "-c", START, str(folder)]
    process = subprocess.Popen(command, cwd=folder, env=_environment(), stdin=subprocess.PIPE)
    try:
        return process.wait()
    except BaseException:
        if process.stdin is not None:
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def end_with_parent(folder: Path) -> None:
    """Wait until standard input closes, which is when the parent process has ended or stops; then stop this process.

    The main thread gets SIGTERM, at which it writes its checkpoint. Code that does not end within STOP_SECONDS is cut off.
    """
    with suppress(OSError, ValueError):
        while os.read(sys.stdin.fileno(), 1024):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    _remove_if_orphan(folder)
    os._exit(143)


def _remove_if_orphan(folder: Path) -> None:
    """Remove the temporary folder if the process that made it has ended."""
    found = places.TEMPORARY.match(folder.name)
    if found is None:
        return
    maker = int(found[2])
    # A killed process that nobody has waited for yet still counts as running, but it has no children.
    if maker not in (os.getpid(), os.getppid()) or not places.is_running(maker):
        places.remove(folder)


def _environment() -> dict[str, str]:
    """Return the environment, with the folder of this package first in PYTHONPATH, so that it need not be installed."""
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


RESUMED = (
    "Training was interrupted and resumed: seconds are those of both parts, CPU time and memory of the last."
)


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
        trained: list[EpochRecord] = []
        fitted = estimator.fit(
            training,
            batch_key=inputs.batch_key,
            checkpoint_dir=inputs.checkpoint_dir,
            on_epoch=trained.append,
            silent=inputs.silent,
        )
        is_resumed = len(trained) < len(fitted.history)

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
            seconds_before=seconds_before(fitted, len(trained)),
            note=RESUMED if is_resumed else "",
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
        "train_seconds": seconds + output.seconds_before,
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
    except KeyboardInterrupt as stop:
        _remove_if_orphan(folder)
        return 143 if isinstance(stop, signals.Terminated) else 130
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


def run_process(folder: Path) -> int:
    """Run the request in a process of its own, which ends when its parent ends; return the exit status."""
    signals.stop_once()
    threading.Thread(target=end_with_parent, args=(folder,), daemon=True).start()
    return main(folder)
