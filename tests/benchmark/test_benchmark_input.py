"""What a benchmark refuses before any work."""

from __future__ import annotations

from dataclasses import replace

import anndata
import pytest

from helpers.benchmarks import CONFIG, MODELS_AND_PCA, N_CELLS, SMALL, run
from sparcell.benchmark import pipeline
from sparcell.errors import InputError


@pytest.fixture(scope="module")
def more_columns(data, tmp_path_factory):
    """Return the file of the data with a column of one value and one of different values."""
    adata = anndata.read_h5ad(data)
    adata.obs["one"] = "same"
    adata.obs["each"] = [f"x{i}" for i in range(N_CELLS)]
    path = tmp_path_factory.mktemp("changed") / "changed.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels_key": None}, "--labels-key KEY"),
        ({"labels_key": "progam"}, "did you mean 'program'"),
        ({"batch_key": "bach"}, "did you mean 'batch'"),
        ({"batch_key": "program"}, "both 'program'"),
        ({"batch_key": "one"}, "one batch only"),
        ({"batch_key": "each"}, "320 different values for 320 cells"),
        ({"labels_key": "one"}, "only one label"),
        ({"models": ("beta-vcs",)}, "did you mean 'beta-vsc'"),
        ({"baselines": ("pcaa",)}, "did you mean 'pca'"),
        ({"external_models": ("scvii",)}, "did you mean 'scvi'"),
        ({"external_models": ("drvy",)}, "did you mean 'drvi'"),
        ({"models": ("none",), "baselines": ("none",), "external_models": ("none",)}, "nothing to compare"),
        ({"models": ("none",), "baselines": ("none",)}, "scvi-tools is not installed"),
        ({"n_components": 60}, "--n-components to 59 or less"),
        ({"layer": "cuonts"}, "cuonts"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(more_columns, tmp_path, in_process, change, message):
    with pytest.raises(InputError, match=message):
        run(more_columns, tmp_path / "b", replace(CONFIG, **change))
    assert not in_process
    assert not (tmp_path / "b").exists()


def test_other_data_and_settings_that_cannot_work(data, tmp_path, in_process):
    adata = anndata.read_h5ad(data)
    adata[:80].write_h5ad(tmp_path / "few.h5ad")
    with pytest.raises(InputError, match="80 cells with a label; expected at least 100"):
        run(tmp_path / "few.h5ad", tmp_path / "b", CONFIG)
    adata.X = adata.X * 0.37
    adata.write_h5ad(tmp_path / "no_counts.h5ad")
    with pytest.raises(InputError, match="expected counts"):
        run(tmp_path / "no_counts.h5ad", tmp_path / "b", CONFIG)
    with pytest.raises(InputError, match=r"fewer than batch_size \(5000\)"):
        pipeline.run(data, tmp_path / "b", MODELS_AND_PCA, changes={**SMALL, "batch_size": 5000}, silent=True)
    with pytest.raises(InputError, match="no setting 'n_laten', so it would have no effect"):
        pipeline.run(data, tmp_path / "b", MODELS_AND_PCA, changes={"n_laten": 5}, silent=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(InputError, match="not empty"):
            run(data, tmp_path / "b", MODELS_AND_PCA, resume=resume)
