"""How long training takes on a GPU, and whether it does there what it does elsewhere: part of `make bench`.

    python benchmarks/speed_gpu.py [--rounds 5] [--out FILE.md]

Without a GPU it prints so and measures nothing. With one it measures cells per second of nb over 2,000 genes and 100,000 cells in memory,
at several batch sizes, with and without the recorded step (SPARCELL_CUDA_GRAPH); seconds of the study-2019 preset's three models, 200
epochs on all genes; and the difference of the losses over 20 epochs with and without the fused kernels, the recorded step and the GPU.
Each training runs in a new process; medians over the rounds, least and most in brackets.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speed import cells, spread

HERE = Path(__file__)
N_CELLS, N_GENES, EPOCHS = 100_000, 2000, 4
BATCHES = (256, 1024, 4096, 16384)
MODELS = {"Autoencoder": "autoencoder", "BetaVAE": "β-VAE", "BetaVSC": "β-VSC"}


def simulated() -> Any:
    """Counts of which about a tenth are not 0, as sparse rows."""
    import anndata
    import numpy as np
    from scipy import sparse

    draw = np.random.default_rng(0)
    rate_g = draw.gamma(0.3, 0.5, N_GENES)
    blocks = [
        sparse.csr_matrix(draw.poisson(rate_g, (1000, N_GENES)).astype(np.float32))
        for _ in range(N_CELLS // 1000)
    ]
    return anndata.AnnData(sparse.vstack(blocks, format="csr"))


def throughput(batch_size: int) -> dict[str, Any]:
    """Seconds of the epochs; none in a warm-up, so that the recorded step is what is timed."""
    import sparcell as sp

    settings: dict[str, Any] = {
        "likelihood": "nb",
        "n_latent": 10,
        "encoder_widths": (128,),
        "decoder_widths": (128,),
    }
    settings |= {"batch_size": batch_size, "epochs": EPOCHS, "kl_warmup_fraction": 0.0}
    settings |= {"validation_fraction": 0.0, "early_stopping_patience": 0}
    model = sp.BetaVAE(**settings, device="cuda").fit(simulated(), silent=True)
    return {"seconds": statistics.median(model.history["seconds"][1:]), "memory": _memory()}


def study_model(name: str) -> dict[str, Any]:
    """Return the seconds of the second of two trainings: the first loads and compiles."""
    import sparcell as sp
    from sparcell.config.presets import STUDY_2019

    counts = cells(13714)
    for _ in range(2):
        model_class = getattr(sp, name)
        settings = {
            key: value for key, value in STUDY_2019.items() if key in model_class.__dataclass_fields__
        }
        settings |= {"likelihood": "gaussian", "epochs": 200, "device": "cuda"}
        model = model_class(**settings).fit(counts, log_normalize=True, silent=True)
    return {"seconds": float(model.history["seconds"].sum()), "memory": _memory()}


def curve(likelihood: Any, device: str, kernels: str) -> dict[str, Any]:
    """Losses of 20 epochs of an autoencoder, which draws no noise: the same on any device up to rounding."""
    import sparcell as sp
    from sparcell.kernels import counts

    if kernels == "plain":
        counts.gpu_kernels = lambda device: None  # type: ignore[assignment]
    model = sp.Autoencoder(
        likelihood=likelihood,
        dropout=0.0,
        kl_warmup_fraction=0.0,
        validation_fraction=0.0,
        early_stopping_patience=0,
        epochs=20,
        device=device,
    ).fit(cells(N_GENES), silent=True)
    return {"losses": model.history["loss"].tolist()}


def _memory() -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


def run_role(role: str, *arguments: str, graph: bool = False) -> dict[str, Any]:
    """Run a role in a new process and show its warnings: a fused kernel or a recording that was refused says so there."""
    environment = {**os.environ, "SPARCELL_CUDA_GRAPH": str(int(graph))}
    command = [sys.executable, str(HERE), role, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    sys.stderr.write(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def measured(rounds: int) -> list[str]:
    """Lines of both tables."""
    lines = ["| case | recorded step | seconds | cells/s | MB |", "|---|---|---|---|---|"]
    cases = [("throughput", str(size), N_CELLS) for size in BATCHES]
    cases += [("study_model", name, 2638 * 200) for name in MODELS]
    for role, argument, n_cells in cases:
        for graph in (False, True):
            runs = [run_role(role, argument, graph=graph) for _ in range(rounds)]
            seconds = [run["seconds"] for run in runs]
            lines.append(
                f"| {MODELS.get(argument, f'nb, batch {argument}')} | {'yes' if graph else 'no'} | {spread(seconds)} | "
                f"{n_cells / statistics.median(seconds):,.0f} | {runs[0]['memory']:.0f} |"
            )
            print(lines[-1], flush=True)
    lines += ["", "| losses of 20 epochs | largest relative difference |", "|---|---|"]
    for likelihood in ("nb", "zinb"):
        usual = run_role("curve", likelihood, "cuda", "fused")["losses"]
        others = {
            "recorded step": run_role("curve", likelihood, "cuda", "fused", graph=True),
            "plain formulas": run_role("curve", likelihood, "cuda", "plain"),
            "CPU": run_role("curve", likelihood, "cpu", "fused"),
        }
        for name, other in others.items():
            difference = max(abs(a / b - 1) for a, b in zip(other["losses"], usual, strict=True))
            lines.append(f"| {likelihood}, GPU against {name} | {difference:.1e} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Parse the command line; a process of its own for each training."""
    import torch

    if sys.argv[1:2] and sys.argv[1] in ROLES:
        role, *words = sys.argv[1:]
        print(json.dumps(ROLES[role](*words)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU: not measured")
        return
    head = f"{datetime.date.today()}, {torch.cuda.get_device_name()}, torch {torch.__version__}"
    print(head)
    lines = measured(options.rounds)
    if options.out:
        options.out.write_text("\n".join([head, "", *lines]) + "\n", encoding="utf-8")


ROLES: dict[str, Callable[..., dict[str, Any]]] = {
    "throughput": lambda size: throughput(int(size)),
    "study_model": study_model,
    "curve": curve,
}

if __name__ == "__main__":
    main()
