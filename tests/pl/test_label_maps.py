"""Maps colored by columns of obs: the cells of a label have its color, where the map has them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

from sparcell import pl
from sparcell.errors import InputError
from sparcell.pl.colors import MISSING, palette
from sparcell.pl.style import name_places


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"type": ["b", "t", None] * 20, "donor": pd.Categorical(["x", "y"] * 30, ["x", "unused", "y"])}
    )
    obs.index = obs.index.astype(str)
    return AnnData(obs=obs, obsm={"X_tsne": rng.normal(size=(60, 2)), "X_other": rng.normal(size=(60, 2))})


def colors_of_cells(axes, map_n2):
    """Color of each cell, found by its place on the map."""
    points = axes.collections[0]
    place = {
        tuple(xy): to_hex(color)
        for xy, color in zip(points.get_offsets(), points.get_facecolors(), strict=True)
    }
    return [place[tuple(xy)] for xy in map_n2]


def test_cells_have_the_colors_of_their_labels(adata):
    types, donors = pl.label_maps(adata, ["type", "donor"], legend="donor").axes
    b, t = palette(2)
    assert colors_of_cells(types, adata.obsm["X_tsne"]) == [b, t, MISSING] * 20
    assert colors_of_cells(donors, adata.obsm["X_tsne"]) == [b, t] * 30
    assert {text.get_text() for text in types.texts} == {"b", "t"}
    assert not donors.texts


def test_a_legend_names_labels_that_have_cells(adata):
    figure = pl.label_maps(adata, "donor", legend=["donor"], basis="other")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["x", "y"]
    assert len(set(colors_of_cells(figure.axes[0], adata.obsm["X_other"]))) == 2
    many = adata.copy()
    many.obs["many"] = [str(number % 20) for number in range(60)]
    assert len(pl.label_maps(many, "many").legends[0].get_texts()) == 20


def test_a_missing_column_or_map_is_an_error_that_helps(adata):
    with pytest.raises(InputError, match="obs has no column 'donors'; did you mean 'donor'"):
        pl.label_maps(adata, ["donors"])
    with pytest.raises(InputError, match="no map of the cells in obsm\\['X_umap'\\]"):
        pl.label_maps(adata, "donor", basis="umap")


def test_the_name_of_a_small_group_is_above_it_in_spite_of_a_cell_far_away():
    large, small = np.random.default_rng(0).normal(size=(200, 2)) * 20, np.full((12, 2), 70.0)
    small[0] = 0.0
    codes = np.repeat([0, 1], [200, 12])
    places = name_places(np.vstack([large, small]), codes, 2)
    assert places[1][0] == 70
    assert 72 < places[1][1] < 80
    assert np.abs(places[0]).max() < 10
