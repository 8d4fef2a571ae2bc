"""The models by the name the command line uses: a new one is a file here and a line in MODELS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparcell.models import saving
from sparcell.models.autoencoder import Autoencoder
from sparcell.models.beta_vae import BetaVAE
from sparcell.models.beta_vsc import BetaVSC

if TYPE_CHECKING:
    from pathlib import Path

    from sparcell.models.estimator import Estimator
    from sparcell.models.fitted import Model

MODELS: dict[str, type[Estimator]] = {
    "autoencoder": Autoencoder,
    "beta-vae": BetaVAE,
    "beta-vsc": BetaVSC,
}


def load(folder: str | Path) -> Model:
    """Read a model that was saved with `Model.save`; the data it was trained on is not needed.

    Raises InputError where the folder is not a whole, undamaged sparcell model.
    """
    return saving.load(folder, {kind.name: kind for kind in MODELS.values()})


__all__ = ["MODELS", "Autoencoder", "BetaVAE", "BetaVSC", "load"]


def __dir__() -> list[str]:
    return list(__all__)
