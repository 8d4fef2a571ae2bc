"""Processes that torchrun started: what they are told apart by, which GPU each takes, which commands refuse them."""

from __future__ import annotations

import logging

import pytest
import torch

from helpers.shell import sparcell
from sparcell._utils import launched, torch_runtime
from sparcell.errors import InputError
from sparcell.training import distributed


@pytest.fixture
def second_of_two(monkeypatch):
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, str(value))


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # without RANK: left by something else
    assert (launched.rank(), launched.world_size(), launched.local_rank()) == (0, 1, 0)
    assert distributed.join(torch.device("cpu")) is distributed.ALONE


@pytest.mark.usefixtures("second_of_two")
def test_each_process_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch_runtime.torch, "empty", lambda *_, **__: None)
    assert torch_runtime.resolve_device("auto") == torch.device("cuda:1")
    assert torch_runtime.resolve_device("cuda") == torch.device("cuda:1")
    assert torch_runtime.resolve_device("cuda:0") == torch.device("cuda:0")
    assert torch_runtime.resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(
        InputError, match="more processes on this machine than its 2 GPUs; expected --nproc-per-node 2"
    ):
        torch_runtime.resolve_device("auto")


@pytest.mark.usefixtures("second_of_two")
def test_a_device_on_which_processes_cannot_train_together_is_an_error():
    with pytest.raises(InputError, match="torchrun started 2 processes, which cannot train together on mps"):
        distributed.join(torch.device("mps"))


@pytest.mark.usefixtures("second_of_two")
@pytest.mark.parametrize("command", ["study", "benchmark", "embed", "programs"])
def test_only_fit_runs_in_several_processes(command, tmp_path, monkeypatch, capfd):
    words = [command, tmp_path / "cells.h5ad", "--out", tmp_path / "out.h5ad"]
    words += ["--model-dir", tmp_path / "model"] if command in ("embed", "programs") else []
    assert sparcell(*words, monkeypatch=monkeypatch) == 1
    error = capfd.readouterr().err
    assert "Error in rank 1: torchrun started 2 processes, and this command runs in one; only fit" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("second_of_two")
def test_only_the_first_process_has_messages(tmp_path, monkeypatch, capfd):
    """The second one also checks no target: it writes none."""
    words = ["fit", tmp_path / "none.h5ad", "--model", "beta-vsc"]
    assert sparcell(*words, monkeypatch=monkeypatch) == 1
    assert logging.getLogger("sparcell").level == logging.ERROR
    assert "nothing would be saved" not in capfd.readouterr().err
