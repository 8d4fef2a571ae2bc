"""The model card: a page that stands beside a saved model, so that its folder explains itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparcell.models.display import changed_settings

if TYPE_CHECKING:
    from sparcell.data.schema import Schema
    from sparcell.protocols import ModelSettings

N_NAMED = 20
"""Longer lists of genes, batches and labels are cut."""

FRONT = """---
library_name: sparcell
tags:
- single-cell
- scrna-seq
- {name}
---
"""

USES = """## Intended use

Encode cells of the same kind of tissue and technology into {n_latent} latents, read the latents as gene programs, and decode them.

- Genes are matched by name. The model reads its own genes only: `sp.load(folder).schema.genes`.
- Cells of tissues, species or technologies that the model has not seen get latents too. Check these against known marker genes.
- This is a research tool. It is not meant for diagnosis.

```python
import sparcell as sp

model = sp.load("path/to/this/folder")
model.embed(adata)  # obsm["X_{name}"]
```
"""

FILES = """## Files

`model.safetensors` holds the weights. `model.json` holds settings, genes, names of batches and labels, the history of the training, and
a checksum of the weights. No file holds code or cells. Names of batches can be names of donors: look at them before sharing this folder.
"""


def model_card(settings: ModelSettings, description: dict[str, Any], schema: Schema) -> str:
    """Return the card of a model as Markdown, with the front matter that model hubs read.

    Parameters
    ----------
    settings
        The settings that were fitted.
    description
        What is saved as model.json.
    schema
        Genes, units and covariates of the model.
    """
    title = f"# {type(settings).__name__} over {len(schema.genes):,} genes\n"
    sections = (
        _table("Data", _data(description, schema)),
        _table("Training", _training(description["history"])),
        _table("Settings that differ from the defaults", changed_settings(settings)),
        _table("Versions", description["versions"]),
    )
    uses = USES.format(n_latent=settings.n_latent, name=settings.name)
    return "\n".join([FRONT.format(name=settings.name.replace("_", "-")), title, *sections, uses, FILES])


def _data(description: dict[str, Any], schema: Schema) -> dict[str, Any]:
    batch, n_cells = schema.covariates.batch, description["n_cells"]
    units = "log-normalized expression" if not schema.counts else "raw counts"
    facts = {
        "cells": "unknown" if n_cells is None else f"{n_cells:,}",
        "genes": _listed(schema.genes),
        "the model explains": units,
        "layer": "X" if schema.layer is None else schema.layer,
    }
    if batch is not None:
        facts[f"batches ({batch.key})"] = _listed(batch.names)
    further = schema.covariates.keys[0 if batch is None else 1 :]
    if further:
        facts["further covariates"] = _listed(further)
    if schema.labels is not None:
        facts[f"labels in training ({schema.labels.key})"] = _listed(schema.labels.names)
    for key, classifier in description["label_classifiers"].items():
        if schema.labels is not None and key == schema.labels.key:
            continue
        facts[f"labels learned ({key})"] = _listed(classifier["labels"])
    return facts


def _training(history: dict[str, list[Any]]) -> dict[str, Any]:
    losses = [loss for loss in history.get("validation_loss", []) if loss is not None]
    facts: dict[str, Any] = {"epochs": len(history["epoch"])}
    if history["loss"]:
        facts["loss in the last epoch"] = f"{history['loss'][-1]:,.2f} nats per cell"
    if losses:
        facts["lowest validation loss"] = f"{min(losses):,.2f} nats per cell"
    return facts


def _listed(names: tuple[str, ...] | list[str]) -> str:
    """Return the number of names and the first ones."""
    more = ", …" if len(names) > N_NAMED else ""
    return f"{len(names):,}: {', '.join(map(str, names[:N_NAMED]))}{more}"


def _table(title: str, facts: dict[str, Any]) -> str:
    """Return a section with a table of names and values; "none" if there are none."""
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()]
    body = "\n".join(["| | |", "|---|---|", *rows]) if rows else "None."
    return f"## {title}\n\n{body}\n"


def _cell(value: object) -> str:
    """Return a value as one cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|")
