"""Labels of new cells: what is predicted, written, kept and refused."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from helpers.simulated import COUNTS, simulated_cells
from sparcell.errors import InputError

LEFT_OUT = "type 3"


def cells(n_cells=400, seed=0, batch="a"):
    adata = simulated_cells(n_cells, n_genes=100, seed=seed)
    adata.obs["batch"] = pd.Categorical([batch] * n_cells)
    return adata


@pytest.fixture(scope="module")
def reference():
    return cells()


@pytest.fixture(scope="module")
def fitted(reference):
    settings = {k: v for k, v in COUNTS.items() if k != "n_prior_components"}
    model = sp.BetaVAE(**settings).fit(reference, batch_key="batch", silent=True)
    return model.fit_labels(reference, "type")


@pytest.fixture(scope="module")
def query(fitted):
    adata = cells(seed=1)
    fitted.predict_labels(adata)
    return adata


def test_types_of_new_cells_are_found_with_probabilities(query):
    assert (query.obs["type_predicted"].astype(str) == query.obs["type"].astype(str)).mean() > 0.85
    known_n = (query.obs["type_predicted"] != "unknown").to_numpy()
    table = query.obsm["type_probabilities"]
    assert list(table.columns) == [f"type {number}" for number in range(4)]
    np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-9)
    np.testing.assert_array_equal(query.obs["type_probability"], table.max(axis=1))
    likeliest = table.idxmax(axis=1).to_numpy()
    np.testing.assert_array_equal(query.obs["type_predicted"].astype(str)[known_n], likeliest[known_n])
    np.testing.assert_array_equal(query.obs["type_distance"] > 1, ~known_n)


def test_what_is_written_survives_a_file(query, tmp_path):
    query.write_h5ad(tmp_path / "labelled.h5ad")
    again = ad.read_h5ad(tmp_path / "labelled.h5ad")
    for name in ("type_predicted", "type_probability", "type_distance"):
        assert again.obs[name].tolist() == query.obs[name].tolist()
    pd.testing.assert_frame_equal(
        again.obsm["type_probabilities"], query.obsm["type_probabilities"], check_names=False
    )


def test_a_saved_model_predicts_the_same(fitted, query, tmp_path):
    fitted.save(tmp_path / "m")
    adata = cells(seed=1)
    assert sp.load(tmp_path / "m").predict_labels(adata) == "type"
    pd.testing.assert_frame_equal(adata.obs, query.obs)
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        "README.md",
        "model.json",
        "model.safetensors",
    }


def test_a_type_that_the_reference_lacks_is_unknown(reference):
    known = reference[reference.obs["type"] != LEFT_OUT].copy()
    settings = {k: v for k, v in COUNTS.items() if k != "n_prior_components"}
    model = sp.BetaVAE(**settings).fit(known, silent=True).fit_labels(known, "type")
    adata = cells(seed=1)
    model.predict_labels(adata, unknown_rate=0.05)
    is_new_n = (adata.obs["type"] == LEFT_OUT).to_numpy()
    ranks_n = adata.obs["type_distance"].rank().to_numpy()
    n_new = is_new_n.sum()
    above = ranks_n[is_new_n].sum() - n_new * (n_new + 1) / 2
    assert above / (n_new * (~is_new_n).sum()) > 0.85  # Mann-Whitney: the area under the ROC curve


def test_cells_without_a_label_are_left_out(fitted, reference, caplog):
    partly = reference.copy()
    labels = partly.obs["type"].astype(object)
    labels.iloc[:20], labels.iloc[20:40] = None, "unknown"
    partly.obs["partly"] = labels
    with caplog.at_level("INFO", logger="sparcell"):
        classifier = fitted.for_data(partly).fit_labels(partly, "partly").label_classifiers["partly"]
    assert "4 labels learned from 360 of 400 cells by obs['partly']" in caplog.text
    assert classifier.labels == tuple(f"type {number}" for number in range(4))


def test_a_copy_that_learns_does_not_change_the_model(fitted, reference):
    reference = reference.copy()
    reference.obs["half"] = np.where(np.arange(400) < 200, "first", "second")
    fitted.for_data(reference).fit_labels(reference, "half")
    assert list(fitted.label_classifiers) == ["type"]


def test_a_mapped_model_keeps_the_labels(fitted):
    adata = cells(seed=2, batch="b")
    mapped = fitted.map_query(adata, silent=True)
    assert mapped.predict_labels(adata, key_added="cell") == "cell"
    assert (adata.obs["cell_predicted"].astype(str) == adata.obs["type"].astype(str)).mean() > 0.8


def test_no_cell_is_unknown_at_rate_0(fitted):
    adata = cells(seed=1)
    fitted.predict_labels(adata, unknown_rate=0)
    assert "unknown" not in adata.obs["type_predicted"].cat.categories


def test_what_cannot_be_predicted_is_said(fitted, reference):
    with pytest.raises(InputError, match="has learned no labels of 'typ'; did you mean 'type'"):
        fitted.predict_labels(cells(), "typ")
    with pytest.raises(InputError, match="unknown_rate"):
        fitted.predict_labels(cells(), unknown_rate=1)
    bare = sp.BetaVAE(epochs=1, batch_size=64).fit(reference, silent=True)
    with pytest.raises(InputError, match=r"call model\.fit_labels"):
        bare.predict_labels(cells())
    with pytest.raises(InputError, match="no column 'kind'"):
        bare.fit_labels(reference, "kind")
    partly = reference.copy()
    partly.obs["one"] = np.where(np.arange(400) < 9, "unknown", "T")
    with pytest.raises(InputError, match="fewer than two labels"):
        bare.fit_labels(partly, "one")
