"""Settings and models in a terminal, a notebook and `help`."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from sparcell.config.options import settings_of
from sparcell.models import MODELS
from sparcell.models.display import model_html, type_text


@pytest.fixture(scope="module")
def model():
    adata = sp.datasets.simulate_programs(n_programs=2, n_cells=80, n_genes=40, seed=0)
    return sp.BetaVSC(epochs=2, n_latent=3, batch_size=40, encoder_widths=(8,)).fit(adata, silent=True)


def test_settings_show_what_differs_from_the_defaults():
    assert repr(sp.BetaVSC()) == "BetaVSC()"
    assert repr(sp.BetaVAE(n_latent=6, likelihood="nb")) == "BetaVAE(likelihood='nb', n_latent=6)"
    assert eval(repr(sp.BetaVSC(alpha=0.3, seed=2)), {"BetaVSC": sp.BetaVSC}) == sp.BetaVSC(alpha=0.3, seed=2)


def test_a_model_shows_cells_genes_and_active_latents_in_short(model):
    text = repr(model)
    assert "cells: 80" in text
    assert "genes: 40" in text
    assert "latents: 3" in text
    assert "epochs: 2" in text
    assert len(text) < 400
    adata = sp.datasets.simulate_programs(n_programs=2, n_cells=80, n_genes=40, seed=0)
    latents = model.latent_representation(adata)
    n_active = int(latents.active_k.sum())
    assert f"active latents: {n_active} (in the last 80 cells encoded)" in repr(model)
    html = model_html(model)
    assert html.startswith("<div><strong>Fitted BetaVSC</strong><table>")
    assert ">40</td>" in html


def test_a_saved_model_still_knows_its_cells(model, tmp_path):
    model.save(tmp_path / "m")
    assert "cells: 80" in repr(sp.load(tmp_path / "m"))


def test_the_training_is_drawn(model):
    figure = model.plot_history()
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["training"].get_ydata().tolist() == model.history["loss"].tolist()
    assert lines["validation cells"].get_ydata().tolist() == model.history["validation_loss"].tolist()
    assert figure.axes[1].lines[0].get_ydata().tolist() == model.history["kl"].tolist()


@pytest.mark.parametrize("kind", MODELS.values())
def test_help_lists_every_setting_with_type_default_and_meaning(kind):
    text = inspect.getdoc(kind)
    for setting in settings_of(kind):
        assert f"\n{setting.name} : {type_text(setting.type)}" in text
        assert " ".join(setting.help.split()[:4]) in " ".join(text.split())
    signature = str(inspect.signature(kind))
    assert "Annotated" not in signature
    assert len(signature) < 1200
    assert set(inspect.signature(kind).parameters) == {setting.name for setting in settings_of(kind)}
    assert "Annotated" not in str(inspect.signature(kind.__init__))
    own = next(iter(inspect.get_annotations(kind.__mro__[1])))
    assert signature.startswith(f"(*, {own}=")


@pytest.mark.parametrize("kind", MODELS.values())
def test_what_only_a_fitted_model_has_is_explained_and_protocols_hold(kind):
    settings = kind()
    for name in ("embed", "programs", "save", "plot_history", "history"):
        with pytest.raises(
            AttributeError, match=rf"fit returns the trained model: model = {kind.__name__}\(\)\.fit\(adata\)"
        ):
            getattr(settings, name)
        assert not hasattr(settings, name)
    assert copy.deepcopy(settings) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert not hasattr(settings, "_repr_html_")


def test_programs_show_where_each_is_on_and_its_genes():
    summary = pd.DataFrame(
        {
            "program": ["beta_vsc_2"], "direction": ["+"], "fraction_cells_on": [0.25], "fraction_explained": [np.nan],
            "genes": ["CD3D, <IL7R>"], "label": ["T cell"],
        }
    )  # fmt: skip
    effects = pd.DataFrame({"beta_vsc_2+": np.zeros(40)})
    programs = sp.tl.Programs(summary, pd.DataFrame(), effects, None)
    first, titles, line = repr(programs).splitlines()
    assert first == "Programs: 1 of 40 genes each"
    assert titles.split() == ["program", "on", "explained", "label", "genes"]
    assert line.split() == ["beta_vsc_2+", "25", "%", "–", "T", "cell", "CD3D,", "<IL7R>"]
    html = programs._repr_html_()
    assert "<table" in html
    assert "&lt;IL7R&gt;" in html
