"""Device, precision and seeds: the hidden state of torch is met here and left as it was."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sparcell import kernels
from sparcell._utils import launched
from sparcell.errors import InputError

log = logging.getLogger("sparcell")


def resolve_device(name: str) -> torch.device:
    """Turn a setting into a device; "auto" takes a CUDA GPU where there is one, else the CPU.

    Of several processes that torchrun started on a machine, each takes a GPU of its own.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and launched.world_size() > 1 and torch.cuda.device_count() > 1:
        if launched.local_rank() >= torch.cuda.device_count():
            raise InputError(
                f"torchrun started more processes on this machine than its {torch.cuda.device_count()} GPUs; expected "
                f"--nproc-per-node {torch.cuda.device_count()} or less, or --device cpu."
            )
        name = f"cuda:{launched.local_rank()}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device is {name!r}, which cannot be used here ({reason}); expected auto, cpu, cuda or mps."
        ) from error
    return device


def set_threads(n_threads: int) -> None:
    """Let torch and the kernels use this many threads from now on."""
    torch.set_num_threads(n_threads)


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Turn a setting into whether products are in bfloat16: not where the device would only imitate them, at a tenth of the speed."""
    if precision == "bfloat16" and not kernels.has_bfloat16(device):
        log.warning(
            "precision is bfloat16, which this %s has no instructions for: trained in float32, which is faster here.",
            "processor" if device.type == "cpu" else "GPU",
        )
        return False
    return precision == "bfloat16"


@contextmanager
def calling_scanpy() -> Iterator[None]:
    """Keep scanpy's warnings from the user, and leave torch as many threads as it has.

    The first parallel loop of numba in a process, such as one of scanpy's, gives OpenMP all processors. Where torch uses the same OpenMP
    that would be its number too, whatever OMP_NUM_THREADS or the user said.
    """
    n_threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if torch.get_num_threads() != n_threads:  # set only then: it also forbids MKL to take fewer
            torch.set_num_threads(n_threads)


@contextmanager
def fork_torch_seed(seed: int) -> Iterator[None]:
    """Initialise weights from `seed`, and leave torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def make_generator(seed: int, device: torch.device) -> torch.Generator:
    """Return a generator of our own for the draws of a run."""
    return torch.Generator(device=device).manual_seed(seed)
