"""What a GPU must do as the CPU does: `pytest tests/gpu --device cuda`. Skipped without that option.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

import sparcell as sp
from helpers.broken_loss import BrokenLoss
from helpers.interrupts import Stop, stop_after
from helpers.kinds import DEVICE, KINDS, assert_same_weights, fit, learning_curve, weights
from helpers.simulated import simulated_cells, two_batches
from sparcell.config.model import LikelihoodConfig
from sparcell.data import loader
from sparcell.kernels import counts
from sparcell.likelihoods import LIKELIHOODS
from sparcell.protocols import Minibatch
from sparcell.training import cuda_graph, loop
from sparcell.training.objective import training_loss

pytestmark = pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU: pytest --device cuda")

EPOCHS = {"epochs": 20, "validation_fraction": 0.2, "kl_warmup_fraction": 0.3}
each_kind = pytest.mark.parametrize("kind", KINDS, ids="-".join)
SOME = [("beta-vae", "nb"), ("beta-vsc", "zinb"), ("autoencoder", "gaussian")]
some_kinds = pytest.mark.parametrize("kind", SOME, ids="-".join)


@pytest.fixture(autouse=True)
def no_warnings(caplog):
    """A recording or a kernel that is given up says so in a warning."""
    with caplog.at_level(logging.WARNING, logger="sparcell"):
        yield
    told = [line.message for line in caplog.records if line.levelno >= logging.WARNING]
    assert not [message for message in told if "GPU kernels" in message or "CUDA graph" in message]


@cache
def cells():
    return simulated_cells()


@cache
def recorded(kind):
    return fit(kind, cells(), settings=EPOCHS)


def largest_difference(one, two):
    one, two = np.asarray(one, dtype=float), np.asarray(two, dtype=float)
    return float(np.nanmax(np.abs(one - two)) / np.nanmax(np.abs(two)))


@pytest.mark.parametrize("shape", [(4096, 2000), (130, 13714)], ids=str)
@pytest.mark.parametrize(
    ("name", "dispersion"), [("nb", "gene"), ("zinb", "gene"), ("nb", "gene-batch"), ("zinb", "gene-batch")]
)
def test_loss_and_gradients_of_whole_minibatches_are_those_in_double_precision(name, dispersion, shape):
    n_cells, n_genes = shape
    draw = np.random.default_rng(0)
    x_ng = draw.poisson(draw.gamma(0.1, 2.0, (64, n_genes))).astype(np.float64)
    x_ng[0, 0], x_ng[-1] = 3000, 0
    x_ng = np.tile(x_ng, (-(-n_cells // 64), 1))[:n_cells]
    found = []
    for dtype, gpu_kernels in ((torch.float64, lambda *of: None), (torch.float32, counts.gpu_kernels)):
        x = torch.from_numpy(x_ng).to(DEVICE, dtype)
        torch.manual_seed(0)
        config = LikelihoodConfig(likelihood=name, dispersion=dispersion)
        likelihood = LIKELIHOODS[name](130, n_genes, 2, config).double()
        for weight in likelihood.parameters():
            torch.nn.init.normal_(weight, std=0.1)
        likelihood.to(DEVICE, dtype)
        h_nh = torch.randn((n_cells, 130), dtype=torch.float64).to(DEVICE, dtype).requires_grad_()
        batch_n = torch.arange(n_cells, device=DEVICE) % 2
        none = x.new_zeros((n_cells, 0))
        batch = Minibatch(x, x.sum(1, keepdim=True).clamp_min(1), batch_n, none, x.new_full((2,), 0.5))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(counts, "gpu_kernels", gpu_kernels)
            nll_n = likelihood.nll(h_nh, batch)
        weight_n = torch.linspace(0.5, 1.5, n_cells, device=DEVICE, dtype=dtype)
        grads = torch.autograd.grad((weight_n * nll_n).sum(), [h_nh, *likelihood.parameters()])
        found.append([values.double().cpu() for values in (nll_n.detach(), *grads)])
    for exact, single in zip(*found, strict=True):
        torch.testing.assert_close(single, exact, rtol=1e-4, atol=2e-5 * float(exact.abs().max()))


@each_kind
def test_recorded_steps_train_as_plain_ones_do(kind, monkeypatch):
    model = recorded(kind)
    monkeypatch.setattr(cuda_graph, "recorder_for", lambda device: None)
    plain = fit(kind, cells(), settings=EPOCHS)
    for column in ("loss", "validation_loss"):
        assert largest_difference(model.history[column], plain.history[column]) < 1e-4


def test_recorded_steps_read_the_labels(monkeypatch):
    given = {"settings": EPOCHS, "labels_key": "type"}
    model = fit(("beta-vsc", "nb"), cells(), **given)
    monkeypatch.setattr(cuda_graph, "recorder_for", lambda device: None)
    plain = fit(("beta-vsc", "nb"), cells(), **given)
    assert largest_difference(model.history["loss"], plain.history["loss"]) < 1e-4


@each_kind
def test_the_same_seed_gives_the_same_bits(kind):
    again = fit(kind, cells(), settings=EPOCHS)
    assert_same_weights(again, recorded(kind))
    pd.testing.assert_frame_equal(learning_curve(again), learning_curve(recorded(kind)), check_exact=True)


@each_kind
def test_the_same_weights_give_the_same_latents_on_both_devices(kind, tmp_path):
    model = recorded(kind)
    model.save(tmp_path / "model")
    other = sp.load(tmp_path / "model")
    other.network.to("cpu")
    assert largest_difference(other.transform(cells()), model.transform(cells())) < 1e-4
    on_cpu = fit(kind, cells(), settings=EPOCHS | {"epochs": 2, "device": "cpu"})
    on_cpu.save(tmp_path / "other")
    on_gpu = sp.load(tmp_path / "other")
    on_gpu.network.to(DEVICE)
    assert largest_difference(on_gpu.transform(cells()), on_cpu.transform(cells())) < 1e-4


@some_kinds
def test_models_learn_as_on_the_cpu(kind):
    """The noise differs, so only the level that is reached is compared."""
    settings = EPOCHS | {"epochs": 60}
    there, here = (fit(kind, cells(), settings=settings | {"device": device}) for device in (DEVICE, "cpu"))
    last = [model.history["loss"].iloc[-5:].mean() for model in (there, here)]
    assert abs(last[0] / last[1] - 1) < 0.02


@pytest.mark.parametrize("recording", [True, False])
@some_kinds
def test_a_resumed_run_ends_with_the_same_weights(kind, recording, tmp_path, monkeypatch):
    if not recording:
        monkeypatch.setattr(cuda_graph, "recorder_for", lambda device: None)
    whole = fit(kind, cells(), settings=EPOCHS)
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        fit(kind, cells(), settings=EPOCHS, checkpoint_dir=folder, on_epoch=stop_after(7))
    resumed = fit(kind, cells(), settings=EPOCHS, checkpoint_dir=folder)
    if not recording:
        assert_same_weights(resumed, whole)
    for name, values in weights(whole).items():  # a new recording may round otherwise
        np.testing.assert_allclose(weights(resumed)[name], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recording", [True, False])
def test_after_a_loss_of_nan_the_run_goes_back(recording, monkeypatch):
    """With a recording the loss is broken before it is made, in the first step; without one, in the middle."""
    if not recording:
        monkeypatch.setattr(cuda_graph, "recorder_for", lambda device: None)
    at = 0 if recording else 11
    monkeypatch.setattr(loop, "training_loss", BrokenLoss(training_loss, at=lambda call: call == at))
    model = fit(("beta-vae", "nb"), cells(), settings={"epochs": 5})
    assert np.isfinite(model.history["loss"]).all()
    assert all(np.isfinite(values).all() for values in weights(model).values())


def test_a_recorded_run_whose_weights_explode_goes_back():
    """Of its own accord: the learning rate is far too high."""
    settings = {"epochs": 8, "learning_rate": 0.9, "max_grad_norm": 0.0}
    model = fit(("beta-vae", "gaussian"), cells(), settings=settings)
    assert all(np.isfinite(values).all() for values in weights(model).values())


@pytest.mark.parametrize("recording", [True, False])
def test_early_stopping_keeps_the_best_weights(recording, monkeypatch):
    if not recording:
        monkeypatch.setattr(cuda_graph, "recorder_for", lambda device: None)
    settings = EPOCHS | {"epochs": 200, "early_stopping_patience": 3, "learning_rate": 0.05}
    model = fit(("beta-vae", "nb"), cells(), settings=settings)
    assert len(model.history) < 200


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_windows_and_resident_cells_give_the_same_bits(batch_key, monkeypatch):
    data = two_batches()
    kind, settings = ("beta-vsc", "nb"), EPOCHS | {"dropout": 0.0}
    resident = fit(kind, data, settings=settings, batch_key=batch_key)
    monkeypatch.setattr(loader, "_resident_limit", lambda device: 0)
    monkeypatch.setattr(loader, "WINDOW_BYTES", 100 * 4 * data.n_vars)
    windows = fit(kind, data, settings=settings, batch_key=batch_key)
    assert_same_weights(windows, resident)


def test_cells_on_disk_train_and_are_encoded(tmp_path):
    data = cells().copy()
    path = tmp_path / "cells.h5ad"
    del data.layers["lognorm"]
    data.write_h5ad(path)
    config = sp.BetaVAE(likelihood="nb", epochs=5, batch_size=64, device=DEVICE)
    model = config.fit(sp.io.StoredCells(path), silent=True)
    assert np.isfinite(model.history["loss"]).all()
    np.testing.assert_allclose(model.transform(path), model.transform(data), rtol=1e-4, atol=1e-4)


def test_bfloat16_trains_to_about_the_same_loss():
    kind = ("beta-vae", "nb")
    exact, rounded = (
        fit(kind, cells(), settings=EPOCHS | {"precision": precision})
        for precision in ("float32", "bfloat16")
    )
    assert abs(rounded.history["loss"].iloc[-1] / exact.history["loss"].iloc[-1] - 1) < 0.01


def test_programs_are_those_of_the_cpu():
    kind = ("beta-vsc", "nb", "programs")
    model = recorded(kind)
    there = model.programs(cells().copy())
    settings = replace(model.settings, device="cpu")
    model.network.to("cpu")
    here = type(model)(settings, model.schema, model.network, [], 300).programs(cells().copy())
    model.network.to(DEVICE)
    assert (
        there.genes.equals(here.genes)
        or largest_difference(there.summary.select_dtypes(float), here.summary.select_dtypes(float)) < 1e-2
    )
