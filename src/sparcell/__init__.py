"""sparcell turns single-cell RNA counts into short, readable codes: the public names, each imported when it is first used."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparcell import (
        datasets,
        embed,
        enrichment,
        gene_sets,
        io,
        metrics,
        pl,
        pp,
        program_report,
        readability,
        report,
        stability,
        study,
    )
    from sparcell.command_config import ProgramsConfig, StudyConfig
    from sparcell.errors import InputError, SparcellError, TrainingError
    from sparcell.model import Model
    from sparcell.models import Autoencoder, BetaVAE, BetaVSC, load

__version__ = "0.1.0"

# Torch's idle threads (GNU OpenMP) spin for milliseconds after each operation, on the cores that the threads of our kernels need. This is
# read when torch is first imported: where that came before, training is up to a third slower, with the same results.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__all__ = [
    "Autoencoder",
    "BetaVAE",
    "BetaVSC",
    "InputError",
    "Model",
    "ProgramsConfig",
    "SparcellError",
    "StudyConfig",
    "TrainingError",
    "datasets",
    "embed",
    "enrichment",
    "gene_sets",
    "io",
    "load",
    "metrics",
    "pl",
    "pp",
    "program_report",
    "readability",
    "report",
    "stability",
    "study",
]

_HOME = {
    "Autoencoder": "models",
    "BetaVAE": "models",
    "BetaVSC": "models",
    "InputError": "errors",
    "Model": "model",
    "ProgramsConfig": "command_config",
    "SparcellError": "errors",
    "StudyConfig": "command_config",
    "TrainingError": "errors",
    "load": "models",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"sparcell.{_HOME[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"sparcell.{name}")
    raise AttributeError(f"module 'sparcell' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
