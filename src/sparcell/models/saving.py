"""Read a saved model back: its settings, schema, weights and history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sparcell._utils import torch_runtime
from sparcell.data.schema import Schema
from sparcell.errors import InputError
from sparcell.io import model_folder
from sparcell.models.fitted import Model
from sparcell.protocols import EpochRecord, ModelSettings


def load(folder: str | Path, estimators: Mapping[str, Callable[..., ModelSettings]]) -> Model:
    """Read a saved model; `estimators` maps the saved name of a model to its class. No data is needed."""
    folder = Path(folder)
    description, tensors = model_folder.load(folder)
    try:
        settings = estimators[description["model"]](**_with_tuples(description["settings"]))
        schema = Schema.from_json(description["schema"])
        network = settings.network(*schema.sizes)
        network.load_state_dict(tensors)
        records = pd.DataFrame(description["history"]).rename(columns={"epoch": "number"})
        history = [
            EpochRecord(**{str(name): value for name, value in record.items()})
            for record in records.to_dict(orient="records")
        ]
        network = network.to(torch_runtime.resolve_device("auto"))
        model = Model(settings, schema, network, history, description.get("n_cells"))
        model.load_labels(description.get("label_classifiers", {}))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{folder} does not describe a whole model ({reason}); train and save it again."
        ) from error
    return model


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Turn lists, which JSON knows, into tuples, which the frozen settings hold."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
