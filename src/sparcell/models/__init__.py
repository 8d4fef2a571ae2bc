"""Models by their name on the command line. To add one, write a file here and a line in MODELS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparcell.models import saving
from sparcell.models.autoencoder import Autoencoder
from sparcell.models.beta_vae import BetaVAE
from sparcell.models.beta_vsc import BetaVSC
from sparcell.models.display import document

if TYPE_CHECKING:
    from pathlib import Path

    from sparcell.models.estimator import Estimator
    from sparcell.models.fitted import Model

MODELS: dict[str, type[Estimator]] = {
    "autoencoder": Autoencoder,
    "beta-vae": BetaVAE,
    "beta-vsc": BetaVSC,
}
for _kind in MODELS.values():
    document(_kind)


def load(folder: str | Path) -> Model:
    """Return the model that `Model.save` wrote into a folder. The training data is not needed.

    Raises
    ------
    InputError
        If the folder is missing, incomplete or damaged, or was written in another format.

    Examples
    --------
    >>> import sparcell as sp
    >>> model = sp.load("vsc")  # doctest: +SKIP
    """
    return saving.load(folder, {kind.name: kind for kind in MODELS.values()})


__all__ = ["MODELS", "Autoencoder", "BetaVAE", "BetaVSC", "load"]


def __dir__() -> list[str]:
    return list(__all__)
