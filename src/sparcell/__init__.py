"""sparcell turns single-cell RNA counts into short, readable codes: the public names, each imported when it is first used."""

from __future__ import annotations

import importlib
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
