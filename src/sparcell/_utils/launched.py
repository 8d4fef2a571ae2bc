"""Whether this process is one of several that `torchrun` started to train together: it says so in environment variables."""

from __future__ import annotations

import os


def world_size() -> int:
    """Return the number of processes that train together; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() else 1


def rank() -> int:
    """Return the number of this process among those that train together, from 0."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def local_rank() -> int:
    """Return the number of this process among those on this machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if world_size() > 1 else 0
