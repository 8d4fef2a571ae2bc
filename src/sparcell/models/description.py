"""What is saved beside the weights of a model."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from sparcell._utils.version import VERSION

if TYPE_CHECKING:
    from sparcell.data.schema import Schema
    from sparcell.protocols import ModelSettings


def describe(
    settings: ModelSettings, schema: Schema, history: pd.DataFrame, n_cells: int | None
) -> dict[str, Any]:
    """Return settings, schema, history, number of cells and versions as JSON can hold them."""
    versions = {
        "sparcell": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    columns = {
        name: [None if pd.isna(value) else value for value in history[name].tolist()] for name in history
    }
    return {
        "model": settings.name,
        "settings": asdict(settings),
        "schema": asdict(schema),
        "history": columns,
        "n_cells": n_cells,
        "versions": versions,
    }
