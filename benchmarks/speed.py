"""How long training takes, beside scvi-tools in its own environment: `make bench`.

    python benchmarks/speed.py --scvi-python PYTHON [--rounds 5] [--cases NAME …] [--out FILE.md]

Each case trains the same network on the same cells with both packages by turns, each time in a new process. A run counts with its median
epoch, without the first one, which holds the compilation; a case counts with the median over its runs. The lower limit is the time of a
step's dense matrix products alone (without those of batch augmentation), by torch and by oneDNN, measured in the same process.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

THREADS = os.cpu_count() or 1
HERE = Path(__file__)


@dataclass(frozen=True)
class Case:
    """The network of scvi-tools' defaults, 128 hidden units and 10 latents, over a likelihood."""

    likelihood: str
    n_genes: int
    batch_size: int
    precision: str
    target: str
    batch_key: str | None = None
    """Column of obs with the batches that both packages get; sparcell then also augments batches."""

    @property
    def name(self) -> str:
        batches = f"-{self.batch_key}" if self.batch_key else ""
        return f"{self.likelihood}-{self.n_genes}-{self.batch_size}-{self.precision}{batches}"

    @property
    def epochs(self) -> int:
        """More of the short ones, whose times swing more."""
        return 4 if self.n_genes > 2000 else 16


CASES = [
    Case("nb", 13714, 256, "float32", "1/5"),
    Case("nb", 13714, 256, "bfloat16", "none"),
    Case("zinb", 13714, 256, "float32", "1/4"),
    Case("zinb", 13714, 256, "bfloat16", "none"),
    Case("nb", 2000, 128, "float32", "1/3.5"),
    Case("nb", 2000, 256, "float32", "1/3.5"),
    Case("nb", 13714, 256, "float32", "none", "thirds"),
    Case("nb", 2000, 128, "float32", "none", "thirds"),
]


def cells(n_genes: int) -> Any:
    """Counts of the 2,638 cells of PBMC3k that pass quality control, on all 13,714 genes or on the most variable ones."""
    import sparcell as sp

    adata = sp.datasets.pbmc3k()
    sp.pp.seurat(adata)
    selected = adata if n_genes >= adata.n_vars else adata[:, adata.var["highly_variable"]]
    counts = selected.copy()
    counts.X = selected.layers["counts"].copy()
    return counts


def prepare(path: str, case: Case) -> None:
    """Write the cells, in a process of its own: on Linux the peak of a process's memory begins with that of the one which started it."""
    adata = cells(case.n_genes)
    adata.obs["thirds"] = [str(number % 3) for number in range(adata.n_obs)]
    adata.write_h5ad(path)


def train_sparcell(path: str, case: Case) -> dict[str, Any]:
    """Train in this process and return the epochs' seconds."""
    import sparcell as sp

    adata = sp.io.read(path)
    shared: dict[str, Any] = {
        "n_latent": 10,
        "encoder_widths": (128,),
        "decoder_widths": (128,),
        "validation_fraction": 0.0,
        "early_stopping_patience": 0,
    }
    case_settings = {
        name: getattr(case, name) for name in ("likelihood", "batch_size", "epochs", "precision")
    }
    settings = sp.BetaVAE(**shared, **case_settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # with all imports, as with scvi-tools
    model = settings.fit(adata, batch_key=case.batch_key, silent=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": model.history["seconds"].tolist(),
        "peak_mb": peak / 1024,
        "more_mb": (peak - before) / 1024,
        "limit": limit(case),
    }


def limit(case: Case) -> dict[str, float]:
    """Seconds of the dense products of a step: two for the encoder, three for each head."""
    import torch

    from sparcell.kernels.products import product

    n, g, h = case.batch_size, case.n_genes, 128
    x_ng, weight_gh, h_nh = torch.rand(n, g), torch.rand(g, h), torch.rand(n, h)
    logit_ng = torch.rand(n, g)
    n_heads = 2 if case.likelihood == "zinb" else 1
    of_encoder = [(x_ng, weight_gh.t()), (h_nh.t(), x_ng.t())]
    of_head = [(h_nh, weight_gh), (logit_ng, weight_gh.t()), (h_nh.t(), logit_ng.t())]
    ways: dict[str, Callable[..., Any]] = {"torch": lambda a, b: torch.mm(a, b.t()), "onednn": product}
    return {
        name: sum(fastest(partial(by, *factors)) for factors in [*of_encoder, *(n_heads * of_head)])
        for name, by in ways.items()
    }


def fastest(work: Callable[[], Any]) -> float:
    """Median of fifteen."""
    taken = []
    for _ in range(16):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def train_scvi(path: str, case: Case) -> dict[str, Any]:
    """Train scvi-tools' SCVI in this process and return the epochs' seconds."""
    import logging
    import warnings

    import anndata
    import lightning.pytorch as lightning
    import scvi

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    seconds: list[float] = []

    class Clock(lightning.Callback):  # type: ignore[misc]
        start = 0.0

        def on_train_epoch_start(self, *arguments: Any) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self, *arguments: Any) -> None:
            seconds.append(time.perf_counter() - self.start)

    adata = anndata.read_h5ad(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scvi.model.SCVI.setup_anndata(adata, batch_key=case.batch_key)
    model = scvi.model.SCVI(adata, n_hidden=128, n_latent=10, n_layers=1, gene_likelihood=case.likelihood)
    model.train(
        max_epochs=case.epochs,
        batch_size=case.batch_size,
        train_size=1.0,
        accelerator="cpu",
        enable_progress_bar=False,
        logger=False,
        callbacks=[Clock()],
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_mb": peak / 1024, "more_mb": (peak - before) / 1024}


ROLES = {"prepare": prepare, "sparcell": train_sparcell, "scvi": train_scvi}


def run_role(python: str, role: str, path: Path, case: Case) -> Any:
    """Run a role in a new process on all processors. The variable sets them: `torch.set_num_threads` also forbids MKL to take fewer."""
    command = [python, str(HERE), role, str(path), case.name]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(case: Case, runs: list[dict[str, Any]], scvi_runs: list[dict[str, Any]]) -> str:
    """One line of the table."""
    seconds = [statistics.median(run["seconds"][1:]) for run in runs]
    scvi_seconds = [statistics.median(run["seconds"][1:]) for run in scvi_runs]
    steps = -(-2638 // case.batch_size)
    limits = {name: statistics.median(run["limit"][name] for run in runs) for name in ("torch", "onednn")}
    step = statistics.median(seconds) / steps
    cells = [
        case.name,
        spread(seconds),
        spread(scvi_seconds),
        f"1/{statistics.median(scvi_seconds) / statistics.median(seconds):.1f}",
        case.target,
        f"{step * 1e3:.1f}",
        f"{step / limits['torch']:.2f}",
        f"{step / limits['onednn']:.2f}",
        f"{statistics.median(run['more_mb'] for run in runs):.0f}",
        f"{statistics.median(run['more_mb'] for run in scvi_runs):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def spread(seconds: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"


HEAD = (
    "| case | sparcell, s an epoch | scvi-tools, s an epoch | ratio | target | ms a step | × products by torch.mm | × by oneDNN | "
    "MB beyond the data | scvi-tools |\n|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Parse the command line; a process of its own for each training."""
    if len(sys.argv) == 4 and sys.argv[1] in ROLES:
        case = next(case for case in CASES if case.name == sys.argv[3])
        print(json.dumps(ROLES[sys.argv[1]](sys.argv[2], case)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scvi-python", required=True, help="python of the environment that has scvi-tools")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        f"{datetime.date.today()}, {platform.machine()}, {THREADS} cores, Python {platform.python_version()}",
        "",
        HEAD,
    ]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        for case in (case for case in CASES if case.name in options.cases):
            path = Path(folder) / f"{case.n_genes}.h5ad"
            if not path.exists():
                run_role(sys.executable, "prepare", path, case)
            runs, scvi_runs = [], []
            for _ in range(options.rounds):
                runs.append(run_role(sys.executable, "sparcell", path, case))
                scvi_runs.append(run_role(options.scvi_python, "scvi", path, case))
            lines.append(row(case, runs, scvi_runs))
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
