"""Differential expression of cells with known differences, and of cells without any."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import sparcell as sp
from helpers.simulated import simulated_cells
from helpers.untrained import untrained_model
from sparcell.errors import InputError
from sparcell.io.stored import StoredCells
from sparcell.tl import log_fold_changes

MARKERS = [f"gene{number}" for number in range(15)]


@pytest.fixture(scope="module")
def cells():
    """Four types; every other cell of type 0 has 20 genes that are four times as high. Two batches, unrelated to both."""
    adata = simulated_cells(n_cells=600)
    rng = np.random.default_rng(3)
    counts_ng = adata.X.toarray()
    treated_n = rng.random(adata.n_obs) < 0.5
    changed = treated_n & (adata.obs["type"] == "type 0").to_numpy()
    counts_ng[np.ix_(changed, np.arange(70, 90))] *= 4
    adata.X = type(adata.X)(counts_ng)
    adata.obs["treated"] = np.where(treated_n, "yes", "no")
    adata.obs["batch"] = pd.Categorical(rng.choice(["1", "2"], adata.n_obs))
    return adata


@pytest.fixture(scope="module")
def model(cells):
    settings = {"n_latent": 6, "encoder_widths": (32,), "decoder_widths": (32,), "epochs": 40}
    return sp.BetaVSC(**settings).fit(cells, batch_key="batch", silent=True)


def called(table):
    return set(table.loc[table["is_de"], "names"])


def test_the_genes_of_a_treatment_are_found_in_the_type_that_it_changes(model, cells):
    table = model.differential_expression(cells.copy(), "treated", "yes", "no", within="type")
    assert list(table["within"].unique()) == sorted(cells.obs["type"].cat.categories)
    of_type = dict(list(table.groupby("within")))
    changed = set(cells.var_names[70:90])
    found = called(of_type["type 0"])
    assert len(found & changed) >= 16
    rising = of_type["type 0"].set_index("names")["logfoldchanges"]
    assert rising[list(changed)].min() > 0.4
    assert 1 < rising[list(changed)].median() < 2.2  # 2, less what 20 higher genes take from the fractions
    for name in ("type 1", "type 2", "type 3"):
        assert called(of_type[name]) == set()


def test_pairs_and_references_are_those_asked_for(model, cells):
    adata = cells.copy()
    pair = model.differential_expression(adata, "type", "type 1", "type 2")
    turned = model.differential_expression(adata, "type", "type 2", "type 1").set_index("names")
    np.testing.assert_allclose(
        pair.set_index("names")["lfc_counts"], -turned.loc[pair["names"], "lfc_counts"], atol=1e-12
    )
    table = model.differential_expression(adata, "type", key_added="X_mine")
    read = sc.get.rank_genes_groups_df(adata, "type 3", key="mine_de")
    assert list(read["names"]) == list(table.loc[table["group"] == "type 3", "names"])


def test_counts_per_10_000_and_the_share_of_expressing_cells_by_hand(model, cells):
    """A cell weighs 1 / (u + median u), u = 1 / library size."""
    adata = cells.copy()
    adata.obs["one"] = "1"
    table = model.differential_expression(adata, "type", "type 0", batch_key="one").set_index("names")
    counts_ng = adata.X.toarray()
    fraction_ng = counts_ng / counts_ng.sum(axis=1, keepdims=True)
    in_type = (adata.obs["type"] == "type 0").to_numpy()
    unit_n = 1 / counts_ng.sum(axis=1)
    value_n = 1 / (unit_n + np.median(unit_n))
    gene = adata.var_names[20]
    assert table.loc[gene, "mean_group"] == pytest.approx(
        1e4 * np.average(fraction_ng[in_type, 20], weights=value_n[in_type]), rel=1e-5
    )
    assert table.loc[gene, "pct_reference"] == pytest.approx(
        np.average(counts_ng[~in_type, 20] > 0, weights=value_n[~in_type]), rel=1e-5
    )


def test_cells_on_disk_and_several_passes_give_the_same_table(model, cells, tmp_path, monkeypatch):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    expected = model.differential_expression(cells.copy(), "type")
    stored = StoredCells(tmp_path / "cells.h5ad", obs_keys=["type", "batch"])
    pd.testing.assert_frame_equal(model.differential_expression(stored, "type"), expected)
    monkeypatch.setattr(log_fold_changes, "MAX_WEIGHTS", 1)
    pd.testing.assert_frame_equal(model.differential_expression(cells.copy(), "type"), expected)


def test_labels_of_chance_have_no_calls(cells):
    """The rule holds whatever the decoder says: here it has random weights."""
    adata = cells[cells.obs["type"] == "type 1"].copy()
    adata.layers["lognorm"] = adata.layers["lognorm"].tocsr()
    model = untrained_model(adata)
    n_called = 0
    for seed in range(20):
        labels = np.random.default_rng(seed).permutation(adata.n_obs) % 2
        adata.obs["label"] = pd.Categorical(labels).rename_categories(str)
        n_called += model.differential_expression(adata, "label", "0", "1")["is_de"].any()
    assert n_called <= 3  # .05 + 2 standard errors of 20 runs is .15


def test_a_condition_that_is_a_batch_is_refused(model, cells):
    adata = cells.copy()
    adata.obs["copy"] = adata.obs["batch"].astype(str)
    with pytest.raises(InputError, match="cannot be told from a difference between batches"):
        model.differential_expression(adata, "copy", "1", "2")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"groupby": "tpye"}, "no column 'tpye'"),
        ({"groupby": "type", "within": "tpye"}, "obs has no column 'tpye'"),
        ({"groupby": "type", "batch_key": "donor"}, "obs has no column 'donor'"),
        ({"groupby": "type", "group1": "type 9"}, "no group 'type 9'"),
    ],
)
def test_columns_and_groups_that_do_not_exist_are_named(model, cells, keywords, message):
    with pytest.raises(InputError, match=message):
        model.differential_expression(cells.copy(), **keywords)


def test_the_tools_take_a_model_or_its_folder(model, cells, tmp_path):
    model.save(tmp_path / "vsc")
    adata = cells.copy()
    table = sp.tl.differential_expression(adata, tmp_path / "vsc", "type", "type 0")
    pd.testing.assert_frame_equal(table, model.differential_expression(cells.copy(), "type", "type 0"))
    sp.tl.denoise(adata, tmp_path / "vsc", batch="1")
    expected = model.denoise(cells, batch="1", copy=True).layers["denoised"]
    np.testing.assert_array_equal(adata.layers["denoised"], expected)


def test_denoised_counts_in_another_batch_keep_what_the_cell_s_own_counts_say(model, cells):
    """m (r + x) / (r + m) by hand: the factor is that of the cell's own batch."""
    own = model.denoise(cells, own_counts=False, copy=True).layers["denoised"]
    moved = model.denoise(cells, batch="2", own_counts=False, copy=True).layers["denoised"]
    r_g = model.network.likelihood.log_r.detach().exp().numpy()
    factor_ng = (r_g + cells.X.toarray()) / (r_g + own)
    both = model.denoise(cells, batch="2", copy=True).layers["denoised"]
    np.testing.assert_allclose(both, moved * factor_ng, rtol=1e-4)


def test_batches_that_the_encoder_does_not_know_are_encoded_as_average_ones(cells):
    model = sp.BetaVSC(n_latent=4, epochs=1, encode_covariates=True).fit(
        cells, batch_key="batch", silent=True
    )
    new = cells.copy()
    new.obs["batch"] = new.obs["batch"].map({"1": "3", "2": "4"})
    table = model.differential_expression(new, "type", "type 0")
    known = model.differential_expression(cells.copy(), "type", "type 0")
    assert called(table) == called(known)


def test_a_group_typed_as_a_number_is_named(model, cells):
    adata = cells.copy()
    adata.obs["cluster"] = [str(number % 2) for number in range(adata.n_obs)]
    with pytest.raises(InputError, match="has no group 0; did you mean '0'"):
        model.differential_expression(adata, "cluster", 0)


def test_denoised_genes_are_those_that_the_data_has(model, cells):
    few = cells[:, :110].copy()
    reader = model.for_data(few, missing_genes="zero")
    copied = reader.denoise(few, copy=True)
    assert list(copied.var_names) == list(few.var_names)
    assert reader.denoise(few) is None
    np.testing.assert_array_equal(few.layers["denoised"], copied.layers["denoised"])


def test_denoised_cells_that_stay_on_disk_need_a_file(model, cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(InputError, match=r"expected out=FILE\.h5ad"):
        model.denoise(StoredCells(tmp_path / "cells.h5ad", obs_keys=["batch"]))


def test_denoised_data_that_a_file_backs_are_a_copy_in_memory(model, cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    denoised = model.denoise(backed, copy=True)
    assert not denoised.isbacked
    expected = model.denoise(cells, copy=True).layers["denoised"]
    np.testing.assert_allclose(denoised.layers["denoised"], expected, rtol=1e-5)


def test_columns_of_cells_on_disk_are_read_when_they_are_compared(model, cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    table = model.differential_expression(
        StoredCells(tmp_path / "cells.h5ad"), "type", "type 0", batch_key="batch"
    )
    expected = model.differential_expression(cells.copy(), "type", "type 0", batch_key="batch")
    assert list(table["names"]) == list(expected["names"])


@pytest.mark.parametrize("as_given", [np.float64, list, np.float32])
def test_latents_of_any_number_type_are_decoded(model, as_given):
    z_nk = np.eye(6)
    given = z_nk.tolist() if as_given is list else z_nk.astype(as_given)
    assert model.decode(given).shape == (6, 120)
    with pytest.raises(InputError, match=r"shape \(6,\); expected cells × 6 latents"):
        model.decode(given[0])
