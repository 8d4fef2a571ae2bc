"""A layer, raw, backed data and features that are not genes: one matrix is read, and the user's object and file stay as they are."""

from __future__ import annotations

import logging
import tracemalloc

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import sparcell as sp
from sparcell.config.data import DataConfig
from sparcell.data import blocks
from sparcell.data.schema import Schema
from sparcell.errors import InputError

MODEL = sp.BetaVAE(epochs=2, batch_size=32, encoder_widths=(16,), decoder_widths=(16,), n_latent=3)
N, G = 80, 40


def counts(n=N, g=G):
    rng = np.random.default_rng(0)
    x_ng = rng.poisson(rng.gamma(0.5, 2, (1, g)) * rng.gamma(5, 0.2, (n, 1))).astype("f4")
    x_ng[:, :2] += 1
    names = pd.DataFrame(index=[f"c{i}" for i in range(n)]), pd.DataFrame(index=[f"G{i}" for i in range(g)])
    return ad.AnnData(sparse.csr_matrix(x_ng), obs=names[0], var=names[1])


def with_raw():
    """Return log-normalized values of some genes in X, and counts of all genes in raw, as CELLxGENE and scanpy's tutorials keep them."""
    adata = counts()
    adata.raw = adata.copy()
    adata = adata[:, 5:].copy()
    sp.pp.lognormalize(adata)
    adata.X = adata.layers.pop("lognorm")
    return adata


@pytest.fixture(scope="module")
def fitted():
    return MODEL.fit(counts(), silent=True)


def test_a_fit_to_raw_is_that_to_the_same_counts_in_x(fitted):
    adata = with_raw()
    model = MODEL.fit(adata, layer="raw", silent=True)
    expected = fitted.transform(counts())
    np.testing.assert_array_equal(model.transform(adata), expected)
    np.testing.assert_array_equal(fitted.for_data(adata, layer="raw").transform(adata), expected)
    model.programs(adata)  # raw has genes that var has not
    assert adata.varm["beta_vae_effects"].shape == (G - 5, 3)
    assert sp.tl.seed_stability(model, adata, 2, silent=True).seeds == (0, 1)


def test_genes_of_raw_are_chosen_by_a_column_of_var():
    adata = with_raw()
    adata.var["use"] = np.arange(adata.n_vars) < 10
    assert Schema.fit(adata, DataConfig(layer="raw", genes_key="use"), counts=True).genes == tuple(
        adata.var_names[:10]
    )


def test_the_error_names_raw_where_it_alone_holds_counts(fitted):
    nb = sp.BetaVAE(likelihood="nb", batch_size=32)
    with pytest.raises(InputError, match=r"which raw holds: layer='raw' \(in a shell: --layer raw\)"):
        nb.fit(with_raw(), silent=True)
    with pytest.raises(InputError, match=r"which raw holds: model.for_data\(adata, layer='raw'\)"):
        fitted.for_data(with_raw(), missing_genes="zero").transform(with_raw())
    adata = with_raw()
    adata.raw = None
    with pytest.raises(InputError, match="neither X nor a layer nor raw holds"):
        nb.fit(adata, silent=True)


@pytest.fixture
def backed(tmp_path):
    adata = counts()
    adata.layers["copy"] = adata.X.copy()
    adata.raw = adata.copy()
    adata.write_h5ad(tmp_path / "a.h5ad")
    return ad.read_h5ad(tmp_path / "a.h5ad", backed="r")


@pytest.mark.parametrize("layer", [None, "copy", "raw"])
def test_backed_data_give_the_same_model_and_stay_backed(layer, backed, fitted):
    content = backed.filename.read_bytes()
    model = MODEL.fit(backed, layer=layer, silent=True)
    model.embed(backed)
    model.programs(backed)
    np.testing.assert_array_equal(backed.obsm["X_beta_vae"], fitted.transform(counts()))
    sp.pp.lognormalize(backed, layer=layer)
    sp.pp.variable_genes(backed, n_top_genes=20, layer=layer)
    assert backed.isbacked
    assert backed.filename.read_bytes() == content


def test_quality_control_of_backed_data_leaves_the_file(backed):
    path, content = backed.filename, backed.filename.read_bytes()
    sp.pp.quality_control(backed, min_genes=5, max_genes=None)
    assert 0 < backed.n_obs <= N
    assert not backed.isbacked
    assert path.read_bytes() == content


def with_antibodies(kind=sparse.csr_matrix):
    adata = counts()
    antibodies = ad.AnnData(sparse.csr_matrix(np.full((N, 3), 500, "f4")), obs=adata.obs[[]])
    antibodies.var_names = ["CD3", "CD4", "CD8"]
    both = ad.concat([adata, antibodies], axis=1)
    both.X = kind(both.X)
    both.var["feature_types"] = ["Gene Expression"] * G + ["Antibody Capture"] * 3
    return both


def test_features_in_memory_that_are_not_genes_are_left_out_with_one_line(fitted, caplog):
    adata = with_antibodies()
    with caplog.at_level(logging.INFO, "sparcell"):
        model = MODEL.fit(adata, silent=True)
    assert model.schema.genes == fitted.schema.genes
    np.testing.assert_array_equal(model.transform(adata), fitted.transform(counts()))
    assert [line for line in caplog.messages if "Antibody" in line] == [
        "3 features that are not gene expression are left out (3 Antibody Capture)"
    ]
    assert adata.n_vars == G + 3


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, lambda x: x.toarray()])
def test_steps_of_pp_leave_other_features_out(kind):
    adata, genes = with_antibodies(kind), counts()
    sp.pp.lognormalize(adata)
    sp.pp.lognormalize(genes)
    np.testing.assert_array_equal(adata.layers["lognorm"][:, :G].toarray(), genes.layers["lognorm"].toarray())
    sp.pp.variable_genes(adata, n_top_genes=20)
    assert not adata.var["highly_variable"][-3:].any()
    sp.pp.quality_control(adata, min_genes=5, max_genes=None)
    assert "CD3" not in adata.var_names


@pytest.mark.parametrize("fraction", [1, 0.25])
def test_preparing_cells_needs_no_second_copy_of_the_matrix(fraction, monkeypatch):
    monkeypatch.setattr(blocks, "ROW_BLOCK_VALUES", 1 << 14)
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 1 << 14)
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 1 << 14)
    n, g, per_cell = 2000, 2000, 500
    columns = np.tile(np.arange(per_cell) * 4, n).astype("i4")
    data = np.random.default_rng(0).geometric(0.5, n * per_cell).astype("f4")
    x_ng = sparse.csr_matrix((data, columns, np.arange(n + 1, dtype="i4") * per_cell), shape=(n, g))
    adata = ad.AnnData(
        x_ng, var=pd.DataFrame({"use": np.arange(g) < fraction * g}, index=np.arange(g).astype(str))
    )
    size = x_ng.data.nbytes + x_ng.indices.nbytes
    schema = Schema.fit(adata, DataConfig(genes_key="use"), counts=True)  # imports what it needs
    tracemalloc.start()
    schema = Schema.fit(adata, DataConfig(genes_key="use"), counts=True)
    cells = schema.cells(adata)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        peak < (0.5 if fraction == 1 else 1.5) * size
    )  # arrays for a part of the genes are reserved whole, and filled in part
    np.testing.assert_array_equal(cells.x_ng.toarray(), x_ng[:, : cells.x_ng.shape[1]].toarray())


def test_counts_above_ten_million_are_no_counts():
    adata = counts()
    adata.X[0, 0] = 3e38
    with pytest.raises(InputError, match=r"whole numbers up to 3e\+38; expected counts of molecules"):
        MODEL.fit(adata, silent=True)


@pytest.mark.parametrize("model", [MODEL, sp.BetaVSC.for_programs()])
def test_a_single_expressed_gene_is_an_error_before_training(model):
    adata = counts()
    adata.X = sparse.csr_matrix(adata.X.multiply(np.arange(G) == 0))
    with pytest.raises(InputError, match="has values of 1 of the 40 genes to read; expected two genes"):
        model.fit(adata, silent=True)
