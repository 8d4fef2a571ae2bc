"""Cells in memory for an analysis: copied, sampled and named as cells of a file are; columns with holes are refused."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from helpers.analyses import CHANGES, typed_cells
from sparcell.analysis import prepare, representation
from sparcell.errors import InputError

SMALL = {"n_top_genes": 60, "programs": False}


@pytest.mark.filterwarnings("ignore:Observation names are not unique")  # anndata says it of the copy
def test_repeated_names_of_cells_get_numbers_in_the_copy_alone():
    """As anndata.concat leaves them, if each file numbers its cells."""
    adata = typed_cells(200)
    half = adata.n_obs // 2
    adata.obs_names = [*map(str, range(half)), *map(str, range(adata.n_obs - half))]
    with pytest.warns(UserWarning, match=r"data in memory: \d+ repeated cell name"):
        prepared = prepare.prepare(adata, sp.AnalysisConfig(**SMALL))
    assert prepared.adata.obs_names.is_unique
    assert prepared.qc.index.is_unique
    assert not adata.obs_names.is_unique


def test_a_number_of_cells_is_drawn_from_data_in_memory_too():
    adata = typed_cells(300)
    prepared = prepare.prepare(adata, sp.AnalysisConfig(**SMALL, n_cells=150))
    assert len(prepared.qc) == 150
    assert prepared.sampled == f"150 of {adata.n_obs} cells, drawn at random"
    assert set(prepared.qc.index) <= set(adata.obs_names)


def test_gene_symbols_name_the_genes_of_data_in_memory_too():
    adata = typed_cells(200)
    symbols = adata.var_names.tolist()
    adata.var["symbol"], adata.var_names = symbols, [f"ENSG{number:011}" for number in range(adata.n_vars)]
    prepared = prepare.prepare(adata, sp.AnalysisConfig(**SMALL, gene_symbols="symbol"))
    assert set(prepared.adata.var_names) <= set(symbols)
    assert adata.var_names[0] == "ENSG00000000000"


def test_data_that_a_file_backs_are_read(tmp_path):
    typed_cells(200).write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    prepared = prepare.prepare(backed, sp.AnalysisConfig(**SMALL))
    assert not prepared.adata.isbacked
    assert backed.isbacked
    assert prepared.digest == prepare.prepare(typed_cells(200), sp.AnalysisConfig(**SMALL)).digest


def test_cells_without_a_condition_are_one_error_before_any_work():
    adata = typed_cells(100)
    adata.obs["condition"] = adata.obs["condition"].astype(object)
    adata.obs.loc[adata.obs_names[:3], "condition"] = np.nan
    with pytest.raises(InputError, match=r"obs column condition is empty for 3 of \d+ cells") as error:
        prepare.prepare(adata, sp.AnalysisConfig(**SMALL, condition_key="condition"))
    assert "adata[adata.obs['condition'].notna()].copy()" in str(error.value)


def test_a_model_is_trained_again_once_batches_have_other_values(tmp_path, monkeypatch):
    """The column has the same name and the counts are the same: only the cells of each donor changed."""
    adata, changes = typed_cells(200), CHANGES | {"epochs": 1}
    config = sp.AnalysisConfig(**SMALL, batch_key="donor", min_genes=0, max_genes=0, max_pct_mito=100)
    sp.analysis.run(adata, tmp_path, config, changes=changes, silent=True)
    trained, train = [], representation.train
    monkeypatch.setattr(representation, "train", lambda *given: trained.append(given) or train(*given))
    sp.analysis.run(adata, tmp_path, config, changes=changes, resume=True, silent=True)
    assert not trained
    adata.obs["donor"] = pd.Categorical(adata.obs["donor"].astype(str).to_numpy()[::-1])
    sp.analysis.run(adata, tmp_path, config, changes=changes, resume=True, silent=True)
    assert len(trained) == 1
