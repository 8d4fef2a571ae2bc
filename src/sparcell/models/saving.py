"""Read a saved model back: its settings, schema, weights and history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sparcell._utils import torch_runtime
from sparcell.data.covariates import Covariates
from sparcell.data.schema import Schema
from sparcell.errors import InputError
from sparcell.io import model_folder
from sparcell.models.fitted import Model, Settings
from sparcell.protocols import Epoch


def load(folder: str | Path, estimators: Mapping[str, Callable[..., Settings]]) -> Model:
    """Read a saved model; `estimators` maps names as saved to classes. No data is needed."""
    folder = Path(folder)
    description, tensors = model_folder.load(folder)
    try:
        settings = estimators[description["model"]](**_tuples(description["settings"]))
        told = _tuples(description["schema"])
        schema = Schema(**{**told, "covariates": Covariates.from_json(told["covariates"])})
        network = settings.network(len(schema.genes), schema.covariates.n_batches, schema.covariates.n_others)
        network.load_state_dict(tensors)
        records = (
            pd.DataFrame(description["history"]).rename(columns={"epoch": "number"}).to_dict(orient="records")
        )
        history = [Epoch(**{str(name): value for name, value in record.items()}) for record in records]
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{folder} does not describe a whole model ({reason}); train and save it again."
        ) from error
    return Model(settings, schema, network.to(torch_runtime.resolve_device("auto")), history)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists only; the frozen settings hold tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
