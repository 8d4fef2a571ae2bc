"""How long training takes, beside scvi-tools in its own environment: `make bench`.

    python benchmarks/speed.py --peer PYTHON [--rounds 5] [--cases NAME …] [--out FILE.md]

Each case trains the same network on the same cells, ours and the peer's by turns, each time in a new process; what counts is the median
epoch of a run (the first one left out: it holds the compilation), and of these the median over the rounds. The arithmetic limit is the
time of a step's dense matrix products alone (without those that `translate` adds), by torch and by the faster library that sparcell
uses, measured in the same process.
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
    """Column of obs with the batches, of which both packages are told; sparcell then also shows cells in other batches (`translate`)."""

    @property
    def name(self) -> str:
        told = f"-{self.batch_key}" if self.batch_key else ""
        return f"{self.likelihood}-{self.n_genes}-{self.batch_size}-{self.precision}{told}"

    @property
    def epochs(self) -> int:
        """More of the short ones, whose times swing more."""
        return 4 if self.n_genes > 2000 else 16


CASES = [
    Case("nb", 13714, 256, "float32", "1/8"),
    Case("nb", 13714, 256, "bfloat16", "1/12"),
    Case("zinb", 13714, 256, "float32", "1/8"),
    Case("zinb", 13714, 256, "bfloat16", "1/12"),
    Case("nb", 2000, 128, "float32", "1/5"),
    Case("nb", 2000, 256, "float32", "1/5"),
    Case("nb", 13714, 256, "float32", "none", "thirds"),
    Case("nb", 2000, 128, "float32", "none", "thirds"),
]


def cells(n_genes: int) -> Any:
    """Counts of the 2,638 cells of PBMC3k that pass quality control, on all 13,714 genes or on the most variable ones."""
    import sparcell as sp

    adata = sp.datasets.pbmc3k()
    sp.pp.seurat(adata)
    kept = adata if n_genes >= adata.n_vars else adata[:, adata.var["highly_variable"]]
    counts = kept.copy()
    counts.X = kept.layers["counts"].copy()
    return counts


def prepare(path: str, case: Case) -> None:
    """Write the cells, in a process of its own: on Linux the peak of a process's memory begins with that of the one which started it."""
    adata = cells(case.n_genes)
    adata.obs["thirds"] = [str(number % 3) for number in range(adata.n_obs)]
    adata.write_h5ad(path)


def ours(path: str, case: Case) -> dict[str, Any]:
    """Train in this process and tell the epochs' seconds."""
    import sparcell as sp

    adata = sp.io.read(path)
    same: dict[str, Any] = {
        "n_latent": 10,
        "encoder_widths": (128,),
        "decoder_widths": (128,),
        "validation_fraction": 0.0,
        "early_stopping_patience": 0,
    }
    of_case = {name: getattr(case, name) for name in ("likelihood", "batch_size", "epochs", "precision")}
    settings = sp.BetaVAE(**same, **of_case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # with all imports, as in the peer
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


def peer(path: str, case: Case) -> dict[str, Any]:
    """Train scvi-tools' SCVI in this process and tell the epochs' seconds."""
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

        def on_train_epoch_start(self, *given: Any) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self, *given: Any) -> None:
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


ROLES = {"prepare": prepare, "ours": ours, "peer": peer}


def spawned(python: str, role: str, path: Path, case: Case) -> Any:
    """Play a role in a new process, on all processors as a user would say it: `torch.set_num_threads` also forbids MKL to take fewer."""
    command = [python, str(HERE), role, str(path), case.name]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(case: Case, mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """One line of the table."""
    own, other = ([statistics.median(run["seconds"][1:]) for run in runs] for runs in (mine, theirs))
    steps = -(-2638 // case.batch_size)
    limits = {name: statistics.median(run["limit"][name] for run in mine) for name in ("torch", "onednn")}
    step = statistics.median(own) / steps
    cells = [
        case.name,
        spread(own),
        spread(other),
        f"1/{statistics.median(other) / statistics.median(own):.1f}",
        case.target,
        f"{step * 1e3:.1f}",
        f"{step / limits['torch']:.2f}",
        f"{step / limits['onednn']:.2f}",
        f"{statistics.median(run['more_mb'] for run in mine):.0f}",
        f"{statistics.median(run['more_mb'] for run in theirs):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def spread(seconds: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"


HEAD = (
    "| case | sparcell, s an epoch | scvi-tools, s an epoch | ratio | target | ms a step | × products by torch.mm | × by oneDNN | "
    "MB beyond the data | peer's |\n|---|---|---|---|---|---|---|---|---|---|"
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
    parser.add_argument("--peer", required=True, help="python of the environment that has scvi-tools")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = [
        f"{datetime.date.today()}, {platform.machine()}, {THREADS} cores, Python {platform.python_version()}",
        "",
        HEAD,
    ]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        for case in (case for case in CASES if case.name in given.cases):
            path = Path(folder) / f"{case.n_genes}.h5ad"
            if not path.exists():
                spawned(sys.executable, "prepare", path, case)
            mine, theirs = [], []
            for _ in range(given.rounds):
                mine.append(spawned(sys.executable, "ours", path, case))
                theirs.append(spawned(given.peer, "peer", path, case))
            lines.append(row(case, mine, theirs))
            print(lines[-1], flush=True)
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
