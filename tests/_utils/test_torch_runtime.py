"""What is settled for the process: which precision a device has, compiled loops."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import torch

from helpers.kinds import settings_of
from helpers.simulated import simulated_cells
from sparcell import kernels
from sparcell._utils import torch_runtime
from sparcell.kernels import products

THREADS = """
import sys
import numba
import sparcell as sp

adata = sp.datasets.pbmc3k()[:300].copy()
adata.layers["counts"] = adata.X
getattr(sp.pp, sys.argv[1])(adata)
import torch
try:
    layer = numba.threading_layer()
except ValueError:  # this version of scanpy has no parallel loop in this step
    layer = "none"
print(torch.get_num_threads(), layer)
"""


@pytest.mark.parametrize("step", ["lognormalize", "variable_genes", "seurat"])
def test_preprocessing_leaves_torch_its_number_of_threads(step):
    """Scanpy's loops are parallel ones of numba, the first of which gives OpenMP all processors."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS, step],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    n_threads, layer = done.stdout.split()
    assert n_threads == "1", layer


TRAIN = """
import hashlib, logging, sys
import numpy as np
import sparcell as sp

logging.basicConfig()
logging.getLogger("sparcell").setLevel(logging.INFO)

adata = sp.datasets.pbmc3k()[:512].copy()
adata = adata[:, np.asarray(adata.X.sum(axis=0)).ravel() >= 30].copy()
for likelihood in ("gaussian", "zinb"):
    expression = {"log_normalize": True} if likelihood == "gaussian" else {}
    model = sp.BetaVAE(likelihood=likelihood, epochs=1, batch_size=256).fit(adata, silent=True, **expression)
    weights = [weight.numpy().tobytes() for weight in model.network.state_dict().values()]
    print(likelihood, hashlib.sha256(b"".join(weights)).hexdigest())
print("torch._dynamo" in sys.modules)
"""


def test_the_process_that_compiles_the_loops_gets_the_bits_of_those_that_load_them(tmp_path):
    outputs, notices = [], []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", TRAIN],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
        outputs.append(done.stdout.splitlines())
        notices.append(done.stderr.count("compiling loops"))
        assert any(tmp_path.rglob("*.nbc")), "nothing was kept on disk, so the next process compiles too"
    assert len(outputs[0]) == 3
    assert outputs[0] == outputs[1]
    assert outputs[0][2] == "False", "training imported torch's compiler, 2 s for nothing"
    assert notices == [1, 0]


@pytest.fixture
def without_bfloat16(monkeypatch):
    """As if the processor had no instructions for bfloat16."""
    monkeypatch.setattr(kernels, "has_bfloat16", lambda device: False)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"avx2": True, "avx512_f": True}, False),
        ({"bf16": True}, True),
        ({}, False),
    ],
)
def test_a_processor_has_bfloat16_by_its_instructions(features, expected, monkeypatch):
    monkeypatch.setattr(products, "ONEDNN", True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    assert products.has_bfloat16.__wrapped__(torch.device("cpu")) is expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_has_bfloat16_from_ampere_on(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert products.has_bfloat16.__wrapped__(torch.device("cuda")) is expected


@pytest.mark.usefixtures("without_bfloat16")
def test_where_bfloat16_would_be_imitated_training_is_in_float32_and_says_so(caplog):
    """Bit for bit: whoever writes one setting for all machines gets on each what is fast there."""
    curves = []
    for precision in ("float32", "bfloat16"):
        with caplog.at_level(logging.WARNING, logger="sparcell"):
            model = settings_of(("beta-vae", "nb"), epochs=2, precision=precision).fit(
                simulated_cells(), silent=True
            )
        curves.append(model.history["loss"].tolist())
        assert ("bfloat16" in caplog.text) is (precision == "bfloat16")
    assert curves[0] == curves[1]


@pytest.mark.usefixtures("without_bfloat16")
def test_float32_asks_nothing_of_the_processor(caplog):
    assert not torch_runtime.use_bfloat16("float32", torch.device("cpu"))
    assert not caplog.text
