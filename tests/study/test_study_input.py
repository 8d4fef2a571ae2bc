"""What a study refuses, warns of and chooses before any training: settings, columns, labels, limits of quality control."""

from __future__ import annotations

import anndata
import pandas as pd
import pytest

from helpers.studies import CHANGES, ONE
from sparcell.config.experiments import StudyConfig
from sparcell.errors import InputError
from sparcell.study import pipeline, prepare, write


def test_several_seeds_and_partial_labels(data, tmp_path, no_output):
    adata = anndata.read_h5ad(data)
    labels = pd.Series(["a", "b"] * (adata.n_obs // 2), index=adata.obs_names, name="type").iloc[:300]
    labels.to_csv(tmp_path / "labels.csv", index_label="barcode")
    config = StudyConfig(
        n_top_genes=300,
        perplexity=20,
        models=("autoencoder",),
        presets=("hvg",),
        seeds=2,
        labels=tmp_path / "labels.csv",
    )
    with pytest.warns(UserWarning, match="120 of 420 cells have no label"):
        results = pipeline.run(data, tmp_path / "s", config, changes=CHANGES, silent=True)
    assert sorted(results.scores["seed"].unique()) == [0, 1]
    assert pd.isna(results.labels).sum() > 0
    assert not results.labels_from_pca


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (StudyConfig(models=("beta-vea",)), {}, "beta-vae"),
        (StudyConfig(presets=("study",)), {}, "study-2019"),
        (StudyConfig(labels_key="cell_typ"), {}, "no column"),
        (ONE, {"batch_size": 5000}, r"fewer than batch_size \(5000\)"),
        (ONE, {"n_latent": 0}, "n_latent"),
        (ONE, {"n_laten": 5}, "no setting 'n_laten', so it would have no effect; did you mean 'n_latent'"),
        (
            StudyConfig(max_genes=300),
            {},
            r"max_genes=300 removes .* --max-genes \d+\)\. Expected to keep at least 50%",
        ),
        (StudyConfig(min_genes=3000, max_genes=0), {}, r"min_genes=3000 removes 419, .* --min-genes \d+\)\."),
    ],
)
def test_what_cannot_work_is_refused_before_training(data, tmp_path, monkeypatch, config, changes, message):
    monkeypatch.setattr(pipeline.embedding, "train_run", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(InputError, match=message):
        pipeline.run(data, tmp_path / "s", config, changes=changes, silent=True)
    assert not (tmp_path / "s" / "runs").exists()


def test_a_batch_size_above_the_number_of_cells_is_refused_before_clustering(data, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.pp, "cell_types", lambda *a, **k: pytest.fail("clustered"))
    with pytest.raises(InputError, match=r"fewer than batch_size \(5000\).*--batch-size 4\d\d"):
        pipeline.run(data, tmp_path / "s", ONE, changes={"batch_size": 5000}, silent=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda:77"}, "device is 'cuda:77'"),
        ({"genes_key": "highly_varied"}, "no column 'highly_varied' in var"),
        ({"batch_key": "donor"}, "obs has no column 'donor'"),
        ({"covariates": ("age",)}, "obs has no column 'age'"),
        ({"layer": "umis"}, "no layer 'umis'"),
    ],
)
def test_missing_columns_and_layers_are_refused_before_any_work(
    data, tmp_path, monkeypatch, changes, message
):
    monkeypatch.setattr(prepare.pp, "quality_control", lambda *a, **k: pytest.fail("worked"))
    with pytest.raises(InputError, match=message):
        pipeline.run(data, tmp_path / "s", ONE, changes=CHANGES | changes, silent=True)
    assert not (tmp_path / "s").exists()


def test_limits_of_genes_are_those_of_the_settings(data):
    prepared = prepare.prepare(data, StudyConfig(n_top_genes=300, min_genes=600, max_genes=1500))
    kept = prepared.qc["kept"]
    assert prepared.adata.n_obs == kept.sum()
    assert (prepared.qc["n_genes"][kept] > 600).all()
    assert (prepared.qc["n_genes"][kept] < 1500).all()
    record = write.provenance("", prepared, StudyConfig(min_genes=600), 1.0)
    assert record["qc_limits"]["n_genes"] == (600, 1500)
    with pytest.raises(InputError, match="min_genes is 3000; expected at least 2 fewer than max_genes, 2500"):
        StudyConfig(min_genes=3000, max_genes=2500)


def test_limits_that_are_not_set_are_those_of_2019_for_its_data_and_preset_alone(data):
    def limits(source, **settings):
        config = StudyConfig(n_top_genes=300, **settings)
        return prepare.prepare(source, config).qc.attrs["limits"]

    of_2019 = {"min_genes": (200, 200), "max_genes": (2500, 2500), "max_pct_mito": (5, 5)}
    assert limits(data, presets=("study-2019",)) == of_2019
    assert limits(data, presets=("study-2019",), max_genes=2000) == of_2019 | {"max_genes": (2000, 2000)}
    assert limits(data, presets=("study-2019", "hvg"))["max_pct_mito"] == (8, 8)
    assert prepare.keeps_cells_of_2019(None, StudyConfig())


def test_one_warning_says_that_many_cells_are_removed(data):
    with pytest.warns(
        UserWarning, match=r"Quality control removed \d+ of 420 cells: min_genes=742 removes"
    ) as record:
        prepare.prepare(data, StudyConfig(n_top_genes=300, min_genes=742))
    assert len([one for one in record if "Quality control" in str(one.message)]) == 1


def test_each_message_appears_once(data, tmp_path, caplog, no_output):
    config = StudyConfig(n_top_genes=300, perplexity=500, models=("beta-vsc",), presets=("hvg",), seeds=1)
    with caplog.at_level("INFO", logger="sparcell"):
        pipeline.run(data, tmp_path / "s", config, changes=CHANGES, silent=True)
    for word in ("perplexity", "quality control"):
        assert len([line for line in caplog.messages if word in line]) == 1
    assert len(set(caplog.messages)) == len(caplog.messages)


def test_variable_genes_of_a_study_are_chosen_within_its_batches(data, tmp_path):
    adata = anndata.read_h5ad(data)
    adata.obs["donor"] = ["a", "b"] * (adata.n_obs // 2)
    adata.write_h5ad(tmp_path / "donors.h5ad")
    specs = list(pipeline.plan_runs(ONE, {"batch_key": "donor"}))
    prepared = prepare.prepare(tmp_path / "donors.h5ad", ONE, [specs[0].entry])
    assert prepared.adata.var["highly_variable_nbatches"].max() == 2
    without = prepare.prepare(tmp_path / "donors.h5ad", ONE)
    pca = specs[-1]  # its components use the same genes
    assert pca.fingerprint(prepared, ONE) != pca.fingerprint(without, ONE)


def test_other_values_of_the_batch_column_are_another_run(data, tmp_path):
    adata = anndata.read_h5ad(data)
    prints = []
    for name, donors in (("one", ["a", "b"]), ("same", ["a", "b"]), ("other", ["b", "a"])):
        adata.obs["donor"] = donors * (adata.n_obs // 2)
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
        spec = next(iter(pipeline.plan_runs(ONE, {"batch_key": "donor"})))
        prepared = prepare.prepare(tmp_path / f"{name}.h5ad", ONE, [spec.entry])
        prints.append(spec.fingerprint(prepared, ONE))
    assert prints[0] == prints[1] != prints[2]
