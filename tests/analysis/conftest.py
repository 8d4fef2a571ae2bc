"""An analysis that several tests read."""

from __future__ import annotations

import pytest

import sparcell as sp
from helpers.analyses import CHANGES, typed_cells, write_sets


@pytest.fixture(scope="package")
def gmt(tmp_path_factory):
    return write_sets(tmp_path_factory.mktemp("sets") / "types.gmt")


@pytest.fixture(scope="package")
def finished(tmp_path_factory, gmt):
    """Return the folder and the results of an analysis with batches, conditions, known labels and programs. Tests only read them."""
    folder = tmp_path_factory.mktemp("analysis")
    config = sp.AnalysisConfig(
        batch_key="donor", condition_key="condition", labels_key="known", gmt=(gmt,), n_top_genes=100
    )
    adata = typed_cells()
    adata.obs["cluster"] = "of the user"
    results = sp.analysis.run(
        adata, folder, config, changes=CHANGES, silent=True, command="sparcell analyze x"
    )
    return folder, results
