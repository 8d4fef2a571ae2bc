"""What every model promises, over every likelihood: differential expression and denoised layers."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from helpers.kinds import COUNT_KINDS, GAUSSIAN_KINDS, fitted
from sparcell.errors import InputError

count_kinds = pytest.mark.parametrize("kind", COUNT_KINDS, ids="-".join)
gaussian_kinds = pytest.mark.parametrize("kind", GAUSSIAN_KINDS, ids="-".join)


def test_genes_that_differ_between_types_come_first(model, adata):
    table = model.differential_expression(adata.copy(), "type")
    x_ng = np.asarray(adata.layers["lognorm"].todense())
    for name, of_type in table.groupby("group"):
        in_type = (adata.obs["type"] == name).to_numpy()
        difference_g = x_ng[in_type].mean(axis=0) - x_ng[~in_type].mean(axis=0)
        difference_g = dict(zip(adata.var_names, difference_g, strict=True))
        lfc = of_type.set_index("names")["logfoldchanges"]
        assert np.corrcoef(lfc, [difference_g[gene] for gene in lfc.index])[0, 1] > 0.9
        assert of_type["is_de"].any()
    assert (
        (table["lfc_low"] <= table["logfoldchanges"]) & (table["logfoldchanges"] <= table["lfc_high"])
    ).all()
    assert table["prob_de"].between(0, 1).all()


def test_the_same_call_gives_the_same_bits_and_changes_uns_alone(model, adata):
    first_cells, second_cells = adata.copy(), adata.copy()
    first = model.differential_expression(first_cells, "type")
    assert first.equals(model.differential_expression(second_cells, "type"))
    assert set(first_cells.uns) - set(adata.uns) == {f"{model.settings.name}_de"}
    np.testing.assert_array_equal(first_cells.X.toarray(), adata.X.toarray())


def test_the_decoder_s_mean_is_that_of_reconstruct(short_model, adata):
    cells = adata.copy()
    short_model.denoise(cells, own_counts=False)
    assert cells.layers["denoised"].dtype == np.float32
    np.testing.assert_allclose(cells.layers["denoised"], short_model.reconstruct(adata), rtol=1e-5, atol=1e-6)


def test_a_file_holds_the_layer_of_the_data_in_memory(short_model, adata, tmp_path):
    cells = adata.copy()
    short_model.denoise(cells)
    short_model.denoise(adata, out=tmp_path / "denoised.h5ad")
    stored = ad.read_h5ad(tmp_path / "denoised.h5ad")
    np.testing.assert_array_equal(stored.layers["denoised"], cells.layers["denoised"])
    assert list(stored.obs_names) == list(adata.obs_names)
    assert list(stored.var_names) == list(adata.var_names)
    assert "denoised" not in adata.layers


def test_genes_that_the_model_does_not_know_need_a_copy(short_model, adata):
    cells, another = adata.copy(), adata[:, :1].copy()
    cells.raw = another.raw = None
    another.var_names = ["another"]
    more = ad.concat([cells, another], axis=1, merge="first")
    with pytest.raises(InputError, match=r"1 genes that the model does not know.*copy=True"):
        short_model.denoise(more)
    denoised = short_model.denoise(more, copy=True)
    assert list(denoised.var_names) == list(short_model.schema.genes)
    assert "denoised" not in more.layers


@count_kinds
def test_all_cells_get_the_library_size_that_is_asked_for(kind, adata):
    model, cells = fitted(kind, epochs=4), adata.copy()
    own = model.denoise(cells, own_counts=False, copy=True).layers["denoised"]
    size_n = adata.X.toarray().sum(axis=1)
    for size, expected in ((1000, 1000.0), ("median", model.schema.median_library_size)):
        values_ng = model.denoise(cells, library_size=size, own_counts=False, copy=True).layers["denoised"]
        np.testing.assert_allclose(values_ng, own * (expected / size_n)[:, None], rtol=1e-4)
    for bad in (0, "large", float("nan")):
        with pytest.raises(InputError, match="library_size is"):
            model.denoise(cells, library_size=bad)


@gaussian_kinds
def test_log_normalized_expression_has_no_library_size(kind, adata):
    with pytest.raises(InputError, match="no library size"):
        fitted(kind, epochs=4).denoise(adata.copy(), library_size="median")


def test_a_path_needs_a_place_to_write_to(short_model, tmp_path):
    with pytest.raises(InputError, match=r"expected out=FILE\.h5ad"):
        short_model.denoise(tmp_path / "cells.h5ad")


def test_a_delta_that_is_no_effect_is_refused(short_model, adata):
    for delta in (0, -1, float("nan")):
        with pytest.raises(InputError, match="delta is"):
            short_model.differential_expression(adata.copy(), "type", delta=delta)
