"""Device and seeds: the hidden state of torch is met here and left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sparcell.errors import InputError


def resolve_device(name: str) -> torch.device:
    """Turn a setting into a device; "auto" takes a CUDA GPU where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device is {name!r}, which cannot be used here ({reason}); expected auto, cpu, cuda or mps."
        ) from error
    return device


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise weights from `seed`, and leave torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def noise(seed: int, device: torch.device) -> torch.Generator:
    """Return a generator of our own for the draws of a run."""
    return torch.Generator(device=device).manual_seed(seed)
