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

# Threads of torch (GNU OpenMP) wait awake for their next piece of work, by default so long that two jobs on the same cores slow each
# other down thirty times. This is read when torch is first imported; the time alone and the results are the same (docs/speed.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

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
