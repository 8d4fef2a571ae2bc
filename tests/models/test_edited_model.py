"""A model.json that was edited is refused with one message."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from helpers import small
from sparcell.errors import InputError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "m"
    adata = small.counts(64)[:, :300].copy()
    adata = adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()
    adata.obs["donor"] = pd.Categorical(["a", "b"] * (adata.n_obs // 2) + ["a"] * (adata.n_obs % 2))
    settings = {"encoder_widths": (8,), "decoder_widths": (8,), "n_latent": 2, "batch_size": 16}
    sp.BetaVAE(epochs=1, **settings).fit(adata, batch_key="donor", silent=True).save(folder)
    return folder, (folder / "model.json").read_text()


def edited(text, path, value):
    description = json.loads(text)
    *outer, last = path.split("/")
    inner = description
    for name in outer:
        inner = inner[name]
    inner[last] = value
    return json.dumps(description)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema/genes", list(range(300))),
        ("schema/genes", ["A"] * 300),
        ("schema/genes", "A" * 300),
        ("schema/layer", {"a": 1}),
        ("schema/counts", "yes"),
        ("schema/mean", ["x"] * 300),
        ("schema/median_library_size", None),
        ("schema/missing_genes", "some"),
        ("schema/covariates/batch/names", [1, 2]),
        ("schema/covariates/batch/proportions", [0.5]),
        ("schema/covariates", []),
        ("schema", []),
        ("settings", 3),
        ("settings/n_latent", [2]),
        ("history", {"epoch": [[1]], "loss": 1}),
        ("model", ["beta-vae"]),
    ],
)
def test_an_edited_model_is_refused(saved, path, value):
    folder, text = saved
    (folder / "model.json").write_text(edited(text, path, value))
    with pytest.raises(InputError, match="does not describe a whole model"):
        sp.load(folder)


def test_deep_nesting_is_refused(saved):
    folder, text = saved
    (folder / "model.json").write_text(text.rstrip()[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(InputError, match=r"model\.json is damaged"):
        sp.load(folder)


def test_the_model_as_it_was_saved_is_read(saved):
    folder, text = saved
    (folder / "model.json").write_text(text)
    assert sp.load(folder).schema.covariates.n_batches == 2
