"""What every model promises, over every likelihood: posterior predictive checks of itself."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import torch

from helpers.kinds import explains_counts
from helpers.unchanged import assert_unchanged
from sparcell.models.autoencoder import Point
from sparcell.models.decoding import average_minibatch, decoded_cells
from sparcell.tl.predictive_checks import gene_table


def drawn_latents(model, adata, n_cells):
    """Return latents from the prior, or for an autoencoder those of cells."""
    generator = torch.Generator().manual_seed(0)
    if model.settings.generative:
        with torch.no_grad():
            return model.network.latent_encoder.prior(n_cells, generator)
    index_n = np.random.default_rng(0).integers(adata.n_obs, size=n_cells)
    return torch.from_numpy(model.transform(adata)[index_n])


def test_intervals_hold_what_they_should_on_cells_that_the_model_drew(model, adata, monkeypatch):
    """The latents are those that the cells were drawn with, so that an encoder that never saw such cells is not at fault."""
    z_nk = drawn_latents(model, adata, 800)
    x_ng = decoded_cells(model.network, model.schema, z_nk, torch.Generator().manual_seed(1)).X
    cells = average_minibatch(model.schema, model.schema.zscore(x_ng), model.device)
    # Library sizes are those of the decoder: the total of a drawn cell says something about its counts.
    cells = replace(
        cells, library_size_n1=torch.full_like(cells.library_size_n1, model.schema.median_library_size)
    )
    monkeypatch.setattr(model.network, "posterior", lambda cells: Point(z_nk))
    genes = gene_table(model._check_sums([cells], 2, 0), model.schema.genes)
    assert genes["coverage_50"].mean() == pytest.approx(0.5, abs=0.01)
    assert genes["coverage_90"].mean() == pytest.approx(0.9, abs=0.01)
    assert (genes["coverage_90"] - 0.9).abs().max() < 5 * np.sqrt(0.09 / 800)
    assert genes["misfit"].max() < 0.09


def test_tables_say_what_the_data_hold(short_model, kind, adata):
    cells = adata.copy()
    criticism = short_model.criticize(cells, n_cells=None)
    genes = criticism.genes.set_index("gene").loc[list(adata.var_names)]
    x_ng = (adata.X if explains_counts(kind) else adata.layers["lognorm"]).toarray()
    np.testing.assert_allclose(genes["mean_observed"], x_ng.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(genes["variance_observed"], x_ng.var(axis=0), rtol=1e-3)
    np.testing.assert_allclose(genes["zeros_observed"], (x_ng == 0).mean(axis=0))
    mean_ng = short_model.reconstruct(adata)
    assert np.corrcoef(genes["mean_expected"], mean_ng.mean(axis=0))[0, 1] > 0.98
    assert (
        genes[["coverage_50", "coverage_90", "pit_mean", "misfit", "zeros_expected"]]
        .stack()
        .between(0, 1)
        .all()
    )
    assert criticism.genes["misfit"].is_monotonic_decreasing
    assert criticism.n_cells == criticism.n_cells_given == adata.n_obs


def test_what_is_written_and_that_nothing_else_changes(short_model, adata, tmp_path):
    cells = adata.copy()
    criticism = short_model.criticize(cells, key_added="X_mine", n_cells=100)
    np.testing.assert_allclose(
        cells.var["mine_misfit"], criticism.genes.set_index("gene").loc[cells.var_names, "misfit"]
    )
    cells.write_h5ad(tmp_path / "cells.h5ad")
    stored = ad.read_h5ad(tmp_path / "cells.h5ad").uns["mine_criticism"]
    assert list(stored["genes"]["gene"]) == list(criticism.genes["gene"])
    assert stored["verdict"] == " ".join(criticism.verdict)
    del cells.var["mine_misfit"], cells.uns["mine_criticism"]
    assert_unchanged(cells, adata)


def test_the_seed_sets_cells_and_draws(short_model, adata):
    first, again, other = (
        short_model.criticize(adata.copy(), n_cells=120, seed=seed).genes for seed in (0, 0, 1)
    )
    assert first.equals(again)
    assert not first["mean_observed"].equals(other["mean_observed"])
