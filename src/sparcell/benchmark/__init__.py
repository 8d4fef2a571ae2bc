"""Comparison of sparcell's models with baselines and external models on the same cells: `run` makes it, `show` prints its tables."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparcell.benchmark.pipeline import run
    from sparcell.benchmark.write import show

__all__ = [
    "run",
    "show",
]

_MODULE_OF = {"run": "pipeline", "show": "write"}
"""Loaded when first used, so that the process of one run (`worker`) starts without figures and pages."""


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"sparcell.benchmark.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'sparcell.benchmark' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
