"""sparcell turns single-cell RNA counts into short, readable latent representations. Public names are imported when first used."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from sparcell._utils.version import VERSION as __version__

if TYPE_CHECKING:
    from sparcell import analysis, benchmark, datasets, io, metrics, pl, pp, programs, report, study, tl
    from sparcell.config.analysis import AnalysisConfig
    from sparcell.config.experiments import BenchmarkConfig, FitConfig, ProgramsConfig, StudyConfig
    from sparcell.errors import InputError, OutputError, SparcellError, TrainingError
    from sparcell.models import Autoencoder, BetaVAE, BetaVSC, load
    from sparcell.models.fitted import Model


# Idle threads of GNU OpenMP, which torch brings along, spin before they sleep. With the default number of rounds two trainings on the same
# cores slow each other down more than tenfold (docs/guide/speed.md). The variable is read when torch is first imported. Results do not
# change.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__all__ = [
    "AnalysisConfig",
    "Autoencoder",
    "BenchmarkConfig",
    "BetaVAE",
    "BetaVSC",
    "FitConfig",
    "InputError",
    "Model",
    "OutputError",
    "ProgramsConfig",
    "SparcellError",
    "StudyConfig",
    "TrainingError",
    "__version__",
    "analysis",
    "benchmark",
    "datasets",
    "io",
    "load",
    "metrics",
    "pl",
    "pp",
    "programs",
    "report",
    "study",
    "tl",
]

_MODULE_OF = {
    "AnalysisConfig": "config.analysis",
    "Autoencoder": "models",
    "BenchmarkConfig": "config.experiments",
    "BetaVAE": "models",
    "BetaVSC": "models",
    "FitConfig": "config.experiments",
    "InputError": "errors",
    "Model": "models.fitted",
    "OutputError": "errors",
    "ProgramsConfig": "config.experiments",
    "SparcellError": "errors",
    "StudyConfig": "config.experiments",
    "TrainingError": "errors",
    "load": "models",
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"sparcell.{_MODULE_OF[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"sparcell.{name}")
    raise AttributeError(f"module 'sparcell' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
