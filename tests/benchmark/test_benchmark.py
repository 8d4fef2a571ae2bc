"""The benchmark from end to end on some hundred cells: protocol, what it writes, what it refuses, that it stops and goes on."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest

import sparcell
import sparcell as sp
from helpers.fakes import fake_drvi, fake_harmony, fake_scib, fake_scvi, remove
from helpers.shell import sparcell as shell
from sparcell.benchmark import pipeline, split, worker, write
from sparcell.benchmark.methods import BATCH, HELD_OUT, MethodInput
from sparcell.config.experiments import BenchmarkConfig
from sparcell.errors import InputError, TrainingError
from sparcell.metrics import clustering, disentanglement, matching, sparsity
from sparcell.results.benchmark import MEASURES, READABILITY, SPARSITY

N_CELLS = 320
OPTIONAL = ("scib-metrics", "harmonypy", "scvi-tools", "drvi-py")
SMALL = {"epochs": 2, "encoder_widths": (16,), "decoder_widths": (16,), "n_latent": 4, "batch_size": 64}
CONFIG = BenchmarkConfig(
    labels_key="program",
    batch_key="batch",
    seeds=1,
    n_top_genes=60,
    n_components=5,
    n_samples=3,
    perplexity=20,
)
OURS = replace(CONFIG, baselines=("pca",), peers=("none",))
BASELINES = replace(CONFIG, models=("none",), baselines=("pca", "ica"), peers=("none",))


def counts():
    """Counts of two batches with four programs planted in them; a cell's label is its strongest program."""
    adata = sp.datasets.simulate_programs(n_programs=4, n_cells=N_CELLS, n_genes=120, n_batches=2, seed=1)
    adata.obs["program"] = [f"p{place}" for place in np.asarray(adata.obsm["activity"]).argmax(axis=1)]
    adata.obs["batch"] = adata.obs["batch"].astype(str)
    return adata


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    counts().write_h5ad(path)
    return path


@pytest.fixture
def alone(monkeypatch):
    """As if no optional library were installed."""
    remove(monkeypatch, *OPTIONAL)


@pytest.fixture
def here(monkeypatch, alone):
    """Runs in the tests' own process: quicker than a new one each, and fakes reach them. Returns what was run."""
    orders = []

    def run_in_subprocess(shop, order):
        orders.append(order)
        given = {name: value for name, value in order.items() if name != "runner"}
        cells = anndata.read_h5ad(shop.folder / worker.CELLS)
        return worker.measured(MethodInput(cells=cells, silent=True, **given), order["runner"])

    monkeypatch.setattr(worker.SubprocessRunner, "run_apart", run_in_subprocess)
    return orders


def run(data, out, config, **more):
    return pipeline.run(
        data, out, config, changes=SMALL if config.models != ("none",) else {}, silent=True, **more
    )


# ---------------------------------------------------------------- the protocol


def test_a_tenth_of_each_batch_is_held_out_the_same_each_time():
    batches = pd.Categorical(["a"] * 200 + ["b"] * 50 + ["c"])
    first, again = split.held_out(251, batches), split.held_out(251, batches)
    assert np.array_equal(first, again)
    assert [int(first[batches == name].sum()) for name in "abc"] == [20, 5, 0]
    assert split.held_out(251, None).sum() == 25


def test_every_method_gets_counts_of_the_chosen_genes_and_nothing_else(data):
    ground = split.prepare(data, CONFIG)
    assert ground.cells.shape == (N_CELLS, 60)
    assert set(ground.cells.obs) == {BATCH, HELD_OUT}
    assert not ground.cells.obsm
    full = anndata.read_h5ad(data)
    assert np.array_equal(ground.cells.X.toarray(), full[:, ground.cells.var_names].X.toarray())
    marked = sp.pp.variable_genes
    full.layers["counts"] = full.X
    marked(full, n_top_genes=60, batch_key="batch")
    assert list(ground.cells.var_names) == list(full.var_names[full.var["highly_variable"]])


def test_cells_without_counts_in_the_genes_are_dropped_and_told(data, tmp_path):
    adata = counts()
    genes = split.prepare(data, CONFIG).cells.var_names
    x = adata.X.toarray()
    x[7] = 0
    x[7, ~adata.var_names.isin(genes)] = 1
    adata.X = x
    adata.write_h5ad(tmp_path / "holes.h5ad")
    ground = split.prepare(tmp_path / "holes.h5ad", CONFIG)
    assert ground.n_dropped == 1
    assert adata.obs_names[7] not in ground.cells.obs_names
    assert len(ground.labels) == ground.cells.n_obs == N_CELLS - 1


def test_our_models_are_trained_on_the_other_cells_only_and_code_all(data, tmp_path, here, monkeypatch):
    seen = []
    kind = type(sp.BetaVSC())
    fit = kind.fit
    monkeypatch.setattr(
        kind, "fit", lambda self, adata, **given: seen.append(adata) or fit(self, adata, **given)
    )
    standings = run(data, tmp_path / "b", OURS)
    cells = anndata.read_h5ad(tmp_path / "b" / "benchmark.h5ad")
    assert set(seen[0].obs_names) == set(cells.obs_names[~cells.obs[HELD_OUT]])
    assert standings.rows[0].latent_nk.shape == (N_CELLS, 4)
    model = fit(
        sp.BetaVSC(**SMALL, likelihood="nb", seed=0),
        cells[~cells.obs[HELD_OUT]].copy(),
        batch_key=BATCH,
        silent=True,
    )
    test = cells[cells.obs[HELD_OUT].to_numpy()].copy()
    told = standings.scores.set_index("method")
    assert told.at["beta-vsc", "log_likelihood"] == pytest.approx(
        model.log_likelihood(test, n_samples=3, seed=0).mean()
    )
    assert np.isnan(told.at["pca", "log_likelihood"])
    assert told.at["beta-vsc", "epochs"] == 2


def test_an_autoencoder_has_no_likelihood_to_compare(data, tmp_path, here):
    standings = run(data, tmp_path / "b", replace(OURS, models=("autoencoder",), baselines=("none",)))
    assert standings.scores["log_likelihood"].isna().all()


# ---------------------------------------------------------------- what it writes


def test_it_writes_tables_figures_page_and_record(data, tmp_path, here, monkeypatch):
    fake_scib(monkeypatch), fake_harmony(monkeypatch)
    config = replace(OURS, baselines=("pca", "ica", "harmony"), peers=("scvi",), seeds=2)
    standings = run(data, tmp_path / "b", config, command="sparcell benchmark counts.h5ad")
    assert {entry.name for entry in (tmp_path / "b").iterdir()} == {
        *("benchmark.html", "scores.csv", "summary.csv", "provenance.json", "benchmark.h5ad"),
        *("figures", "runs", "scores"),
    }
    scores = pd.read_csv(tmp_path / "b" / "scores.csv")
    assert list(scores) == ["method", "seed", "epochs", *MEASURES]
    assert scores.groupby("method", sort=False)["seed"].apply(list).to_dict() == {
        name: [0, 1] for name in ("beta-vsc", "pca", "ica", "harmony")
    }
    assert (scores["total"] == 0.5).all()
    summary = pd.read_csv(tmp_path / "b" / "summary.csv").set_index("method")
    own = scores[scores["method"] == "beta-vsc"]
    assert summary.at["beta-vsc", "map_nmi"] == pytest.approx(own["map_nmi"].mean())
    assert summary.at["beta-vsc", "map_nmi_sd"] == pytest.approx(own["map_nmi"].std(ddof=1))
    record = json.loads((tmp_path / "b" / "provenance.json").read_text())
    assert record["command"] == "sparcell benchmark counts.h5ad"
    assert record["n_test"] == split.prepare(data, CONFIG).n_test
    assert record["versions"]["scib-metrics"] == "0.0.fake"
    told = [(entry.title, entry.reason) for entry in standings.skipped]
    assert told == [
        (title, "scvi-tools is not installed; pip install 'sparcell[scvi]'")
        for title in ("scVI, 10 latents, 1 layer", "scVI, 30 latents, 2 layers")
    ]
    page = (tmp_path / "b" / "benchmark.html").read_text(encoding="utf-8")
    assert "scvi-tools is not installed" in page
    assert all(png.read_bytes().startswith(b"\x89PNG") for png in (tmp_path / "b" / "figures").iterdir())


def test_the_clustering_scores_are_those_of_the_map_and_the_codes(data, tmp_path, here):
    standings = run(data, tmp_path / "b", replace(BASELINES, baselines=("pca",)))
    row, told = standings.rows[0], standings.scores.iloc[0]
    assert told["map_ari"] == pytest.approx(
        sp.metrics.clustering_scores(standings.labels.codes, row.kmeans_n)["ari"]
    )
    partition, _ = sp.embed.kmeans(row.latent_nk, len(standings.labels.categories), seed=0)
    assert told["code_nmi"] == pytest.approx(
        sp.metrics.clustering_scores(standings.labels.codes, partition)["nmi"]
    )


def test_what_is_not_installed_is_skipped_and_named(data, tmp_path, here, caplog):
    with caplog.at_level("WARNING", "sparcell"):
        standings = run(data, tmp_path / "b", replace(CONFIG, models=("none",)))
    reasons = {entry.title: entry.reason for entry in standings.skipped}
    assert set(reasons) == {
        "Harmony",
        "scVI, 10 latents, 1 layer",
        "scVI, 30 latents, 2 layers",
        "scIB's measures",
    }
    assert reasons["Harmony"] == "harmonypy is not installed; pip install 'sparcell[benchmark]'"
    assert "scvi-tools is not installed" in caplog.text
    assert standings.scores["total"].isna().all()
    assert standings.scores["map_nmi"].notna().all()


def test_unlabelled_cells_count_in_no_score(data, tmp_path, here, monkeypatch):
    calls = fake_scib(monkeypatch)
    adata = anndata.read_h5ad(data)
    adata.obs["program"] = adata.obs["program"].astype(object)
    adata.obs.iloc[:20, adata.obs.columns.get_loc("program")] = None
    adata.write_h5ad(tmp_path / "some.h5ad")
    with pytest.warns(UserWarning, match="20 of 320 cells have no label"):
        standings = run(tmp_path / "some.h5ad", tmp_path / "b", BASELINES)
    assert [call.adata.n_obs for call in calls] == [300, 300]
    assert standings.rows[0].latent_nk.shape[0] == 320


# ---------------------------------------------------------------- scIB and scVI at the border


def test_scib_gets_codes_types_and_batches_and_is_not_scaled(data, tmp_path, here, monkeypatch):
    calls = fake_scib(monkeypatch)
    standings = run(data, tmp_path / "b", replace(BASELINES, baselines=("pca",)))
    (call,) = calls
    assert np.allclose(call.adata.obsm["code"], standings.rows[0].latent_nk)
    assert list(call.adata.obs[call.label_key]) == list(standings.labels)
    assert list(call.adata.obs[call.batch_key]) == list(standings.batches)
    before = call.adata.obsm[call.pre_integrated_embedding_obsm_key]
    assert before.shape == (N_CELLS, 50)
    assert np.allclose(
        np.abs(before[:, :5]), np.abs(standings.rows[0].latent_nk), atol=1e-3
    )  # PCA is what it is compared with
    assert call.scaled is False
    assert call.progress_bar is False


def test_where_scib_s_library_fails_the_other_scores_stand(data, tmp_path, here, monkeypatch):
    fake_scib(monkeypatch)

    def fail(*_):
        raise ValueError("singular")

    monkeypatch.setattr("sparcell.metrics.scib.scib_scores", fail)
    for resume in (False, True):
        standings = run(data, tmp_path / "b", replace(BASELINES, baselines=("pca",)), resume=resume)
        assert standings.scores["map_nmi"].notna().all()
        assert standings.scores["total"].isna().all()
        assert [(entry.title, entry.reason) for entry in standings.skipped] == [
            ("scIB's measures of PCA, seed 0", "ValueError: singular")
        ]


def test_without_batches_only_biology_is_scored(data, tmp_path, here, monkeypatch):
    (calls, _) = fake_scib(monkeypatch), fake_harmony(monkeypatch)
    standings = run(data, tmp_path / "b", replace(CONFIG, batch_key=None, models=("none",), peers=("none",)))
    assert calls[0].batch_correction_metrics is None
    assert calls[0].bio_conservation_metrics == {"isolated_labels": False}
    assert standings.scores["bio_conservation"].notna().all()
    assert standings.scores["total"].isna().all()
    reasons = {entry.title: entry.reason for entry in standings.skipped}
    assert reasons == {"Harmony": "it removes batches, and none are given (--batch-key)"}


def test_scvi_is_trained_on_the_same_split_and_scored_on_the_held_out_cells(
    data, tmp_path, here, monkeypatch
):
    calls = fake_scvi(monkeypatch)
    standings = run(
        data, tmp_path / "b", replace(CONFIG, models=("none",), baselines=("none",), peer_epochs=40)
    )
    cells = anndata.read_h5ad(tmp_path / "b" / "benchmark.h5ad")
    test = np.flatnonzero(cells.obs[HELD_OUT])
    assert [call.given for call in calls] == [
        {"n_latent": 10, "n_layers": 1, "gene_likelihood": "nb"},
        {"n_latent": 30, "n_layers": 2, "gene_likelihood": "nb"},
    ]
    for call in calls:
        train, held_out = call.trained["datasplitter_kwargs"]["external_indexing"]
        assert np.array_equal(held_out, test)
        assert np.array_equal(np.sort(np.concatenate([train, held_out])), np.arange(N_CELLS))
        assert np.array_equal(call.scored, test)
        assert (call.batch_key, call.n_samples, call.max_epochs) == (BATCH, 3, 40)
        assert call.warmup == 40  # a tenth of the usual 400, as the epochs are
    assert (standings.scores["log_likelihood"] == -100).all()
    assert standings.notes["scvi-10x1"] == "40 epochs; the library's own rule says 400."


def test_a_peer_that_would_take_too_long_is_cut_short_for_all_seeds(
    data, tmp_path, here, monkeypatch, caplog
):
    calls = fake_scvi(monkeypatch)
    monkeypatch.setattr("sparcell.benchmark.methods.LONGEST", 0.0)
    with caplog.at_level("INFO", "sparcell"):
        standings = run(data, tmp_path / "b", replace(CONFIG, models=("none",), baselines=("none",), seeds=2))
    assert (standings.scores["epochs"] == 100).all()
    assert [call.max_epochs for call in calls] == [400, 400, 100, 100]
    assert all(call.warmup == 100 for call in calls)
    assert "100 are made. Set --peer-epochs for another number." in caplog.text
    assert "100 are made" in standings.notes["scvi-10x1"]


# ---------------------------------------------------------------- readable codes

PROGRAMS = replace(CONFIG, disentangle=True, seeds=2, baselines=("nmf",), peers=("drvi",), peer_epochs=40)


OUR_READABLE = "beta-vsc" + pipeline.PROGRAMS.suffix


def stored(folder, name, seed):
    with np.load(folder / "runs" / f"{name}-seed{seed}.npz") as run:
        return {key: run[key] for key in run.files}


def test_each_measure_of_readability_is_that_of_the_stored_codes(data, tmp_path, here, monkeypatch):
    fake_drvi(monkeypatch)

    def planted(job):
        """Four latents of which one vanished, on in some cells."""
        generator = np.random.default_rng(job.seed)
        inclusion_nk = generator.random((N_CELLS, 4)).astype(np.float32)
        latent_nk = inclusion_nk * generator.normal(size=inclusion_nk.shape) * [1, 1, 0.001, 1]
        latent_nk[:, 0] = job.cells.X[:, 0].toarray().ravel()
        return lambda: worker.MethodOutput(codes=lambda: latent_nk, gamma=lambda: inclusion_nk)

    monkeypatch.setitem(worker.RUNNERS, "model", planted)
    standings = run(data, tmp_path / "b", PROGRAMS)
    assert [row.name for row in standings.rows] == [OUR_READABLE, "nmf", "drvi"]
    told = standings.scores.set_index(["method", "seed"])
    labels = np.asarray(standings.labels)
    for (name, seed), line in told.iterrows():
        found = stored(tmp_path / "b", name, seed)
        code, other = found["latent_nk"].astype(float), stored(tmp_path / "b", name, 1 - seed)["latent_nk"]
        has_prior = name in (OUR_READABLE, "drvi")
        live = (code.var(axis=0) > 0.01) if has_prior else np.ptp(code, axis=0) > 0
        for key, value in disentanglement.disentanglement_scores(code, labels, live).items():
            assert line[key] == pytest.approx(value)
        every = disentanglement.disentanglement_scores(code, labels)
        assert line["all_lms_smi"] == pytest.approx(every["lms_smi"])
        assert line["all_lms_spn"] == pytest.approx(every["lms_spn"])
        on = found["inclusion_nk"] > 0.5 if "inclusion_nk" in found else code != 0
        assert line["live"] == live.sum()
        assert line["on"] == pytest.approx(on[:, live].sum(axis=1).mean())
        assert line["hoyer"] == pytest.approx(
            sparsity.hoyer_sparsity(code[:, live] / code[:, live].std(axis=0))
        )
        alive = [
            c[:, clustering.active_latents(c) if has_prior else np.ptp(c, axis=0) > 0]
            for c in (found["latent_nk"], other)
        ]
        again = matching.program_reproducibility(alive).fraction[0]
        assert line["reproduced"] == pytest.approx((again == 1).mean())
    assert told.at[(OUR_READABLE, 0), "live"] == 3
    assert told.at[(OUR_READABLE, 0), "reproduced"] == pytest.approx(1 / 3)
    assert 0 < told.at[("nmf", 0), "on"] < told.at[("nmf", 0), "live"] == 5
    page = (tmp_path / "b" / "benchmark.html").read_text(encoding="utf-8")
    assert "LMS-SMI" in page
    assert {"readability.png", "one-latent-a-type.png"} <= {
        path.name for path in (tmp_path / "b" / "figures").iterdir()
    }


def test_what_is_on_comes_from_the_model_itself(data, tmp_path, here):
    run(data, tmp_path / "b", replace(OURS, models=("beta-vsc", "beta-vae")))
    found = stored(tmp_path / "b", "beta-vsc", 0)
    cells = anndata.read_h5ad(tmp_path / "b" / "benchmark.h5ad")
    train = cells[~cells.obs[HELD_OUT]].copy()
    model = sp.BetaVSC(**SMALL, likelihood="nb", seed=0).fit(train, batch_key=BATCH, silent=True)
    assert np.allclose(found["inclusion_nk"], model.gamma(cells), atol=1e-6)
    assert np.allclose(found["latent_nk"], model.transform(cells), atol=1e-6)
    assert "inclusion_nk" not in stored(tmp_path / "b", "beta-vae", 0)


def test_nothing_is_said_of_readability_unless_asked(data, tmp_path, here):
    standings = run(data, tmp_path / "b", replace(BASELINES, baselines=("pca",)))
    keys = [measure.key for group in (READABILITY, SPARSITY) for measure in group.measures]
    assert standings.scores[keys].isna().all(axis=None)
    assert "LMS-SMI" not in (tmp_path / "b" / "benchmark.html").read_text(encoding="utf-8")


def test_runs_without_readability_are_taken_up_with_it(data, tmp_path, here):
    config = replace(BASELINES, baselines=("pca",), n_components=5)
    run(data, tmp_path / "b", config)
    here.clear()
    standings = run(data, tmp_path / "b", replace(config, disentangle=True), resume=True)
    assert not here
    assert standings.scores["lms_smi"].notna().all()
    assert standings.scores["reproduced"].isna().all()  # one seed


def test_asked_for_readability_methods_have_32_latents_and_ours_its_own_settings(monkeypatch, alone):
    fake_scvi(monkeypatch)
    usual = BenchmarkConfig(labels_key="program", batch_key="batch")
    rows = {row.name: row for row in pipeline.contenders(replace(usual, disentangle=True), {})}
    assert list(rows) == [
        OUR_READABLE,
        "pca",
        "ica",
        "nmf",
        "harmony",
        "scvi-10x1",
        "scvi-30x2",
        "drvi",
    ]
    sizes = {name: row.method.settings.get("n_components") for name, row in rows.items()}
    assert [sizes[name] for name in ("pca", "ica", "nmf", "harmony")] == [32] * 4
    latents = [rows[name].method.settings["n_latent"] for name in ("scvi-10x1", "scvi-30x2", "drvi")]
    assert latents == [10, 30, 32]
    ours = rows[OUR_READABLE].method.settings["settings"]
    wanted = pipeline.PROGRAMS.settings | pipeline.PROGRAMS.by_model.get("beta-vsc", {})
    assert {name: ours[name] for name in wanted} == wanted
    assert ours["n_latent"] == 32
    changed = next(pipeline.contenders(replace(usual, disentangle=True), {"n_latent": 7, "beta": 3.0}))
    told = changed.method.settings["settings"]
    assert (told["n_latent"], told["beta"], told["effects"]) == (7, 3.0, ours["effects"])
    plain = [row.name for row in pipeline.contenders(usual, {})]
    assert plain == ["beta-vsc", "pca", "ica", "harmony", "scvi-10x1", "scvi-30x2"]
    assert (
        rows["drvi"].unavailable_reason(batches=True)
        == "drvi-py is not installed; pip install 'sparcell[drvi]'"
    )


def test_drvi_is_trained_on_the_same_split_and_gives_no_likelihood(data, tmp_path, here, monkeypatch):
    calls = fake_drvi(monkeypatch)
    config = replace(CONFIG, models=("none",), baselines=("none",), peers=("drvi",), peer_epochs=40)
    standings = run(data, tmp_path / "b", config)
    (call,) = calls
    cells = anndata.read_h5ad(tmp_path / "b" / "benchmark.h5ad")
    assert call.given == {"n_latent": 5}
    assert (call.batch_key, call.max_epochs, call.warmup) == (BATCH, 40, 40)
    train, held_out = call.trained["datasplitter_kwargs"]["external_indexing"]
    assert np.array_equal(held_out, np.flatnonzero(cells.obs[HELD_OUT]))
    assert np.array_equal(train, np.flatnonzero(~cells.obs[HELD_OUT]))
    assert standings.scores["log_likelihood"].isna().all()
    assert standings.notes["drvi"] == "40 epochs; its authors' tutorials say 400."
    monkeypatch.setattr("sparcell.benchmark.methods.LONGEST", 0.0)
    run(data, tmp_path / "c", replace(config, peer_epochs=None))
    assert (calls[1].max_epochs, calls[1].warmup, len(calls)) == (400, 100, 2)


# ---------------------------------------------------------------- stopped, resumed, failed


def test_a_stopped_benchmark_says_what_is_saved_and_goes_on(data, tmp_path, here, monkeypatch):
    original = pipeline.run_method

    def stop(row, *more):
        if row.name == "ica":
            raise KeyboardInterrupt
        return original(row, *more)

    monkeypatch.setattr(pipeline, "one_run", stop)
    with pytest.raises(KeyboardInterrupt, match=r"1 of 2 runs are saved .* --resume"):
        run(data, tmp_path / "b", BASELINES)
    monkeypatch.setattr(pipeline, "one_run", original)
    here.clear()
    standings = run(data, tmp_path / "b", BASELINES, resume=True)
    assert [order["runner"] for order in here] == ["ica"]
    assert [row.name for row in standings.rows] == ["pca", "ica"]


def test_a_resumed_benchmark_repeats_nothing_and_writes_the_same(data, tmp_path, here):
    run(data, tmp_path / "b", OURS)
    first = (tmp_path / "b" / "scores.csv").read_text()
    here.clear()
    run(data, tmp_path / "b", OURS, resume=True)
    assert not here
    assert (tmp_path / "b" / "scores.csv").read_text() == first


def test_our_own_version_changes_our_rows_and_no_peer_s(monkeypatch, alone):
    fake_scvi(monkeypatch)
    rows = list(pipeline.contenders(replace(CONFIG, baselines=("pca",)), SMALL))
    before = {row.name: row.fingerprint("data", 0, 3) for row in rows}
    known = write.metadata.version
    monkeypatch.setattr(write.metadata, "version", lambda name: "9.9" if name == "sparcell" else known(name))
    monkeypatch.setattr(pipeline, "OUR_FORMAT", 99)
    after = {
        row.name: row.fingerprint("data", 0, 3)
        for row in pipeline.contenders(replace(CONFIG, baselines=("pca",)), SMALL)
    }
    assert {name for name in before if before[name] != after[name]} == {"beta-vsc"}
    monkeypatch.setattr(
        write.metadata, "version", lambda name: "9.9" if name == "scvi-tools" else known(name)
    )
    newer = {row.name: row.fingerprint("data", 0, 3) for row in rows}
    assert {name for name in before if before[name] != newer[name]} == {"scvi-10x1", "scvi-30x2"}


@pytest.mark.parametrize("change", [{"n_top_genes": 50}, {"n_components": 4}, {"batch_key": None}])
def test_runs_of_other_genes_settings_or_batches_are_not_taken_up(data, tmp_path, here, change):
    config = replace(BASELINES, baselines=("pca",))
    run(data, tmp_path / "b", config)
    (tmp_path / "b" / "provenance.json").unlink()
    here.clear()
    run(data, tmp_path / "b", replace(config, **change), resume=True)
    assert len(here) == 1


def test_results_of_other_data_are_not_replaced(data, tmp_path, here):
    run(data, tmp_path / "b", replace(BASELINES, baselines=("pca",)))
    with pytest.raises(InputError, match=r"other counts, genes or batches \(counts.h5ad\)"):
        run(data, tmp_path / "b", replace(BASELINES, n_top_genes=50), resume=True)


def test_the_folder_of_a_study_is_not_taken_up(data, tmp_path, here):
    (tmp_path / "s" / "runs").mkdir(parents=True)
    for name in ("runs/pca-6-seed0.npz", "study.h5ad"):
        (tmp_path / "s" / name).write_bytes(b"of a study")
    with pytest.raises(InputError, match="s is not empty"):
        run(data, tmp_path / "s", replace(BASELINES, baselines=("pca",)), resume=True)
    assert not here


def test_a_run_that_fails_is_told_and_the_others_go_on(data, tmp_path, here, monkeypatch):
    def fail(job):
        raise TrainingError("the loss was not finite")

    monkeypatch.setitem(worker.RUNNERS, "ica", fail)
    standings = run(data, tmp_path / "b", BASELINES)
    assert [row.name for row in standings.rows] == ["pca"]
    assert ("ICA", "failed with seed 0: the loss was not finite") in [
        (entry.title, entry.reason) for entry in standings.skipped
    ]
    monkeypatch.setitem(worker.RUNNERS, "pca", fail)
    with pytest.raises(TrainingError, match="no run came to its end; the first: PCA, failed with seed 0"):
        run(data, tmp_path / "c", BASELINES)


# ---------------------------------------------------------------- a process of its own


def test_a_run_in_a_process_of_its_own_gives_what_it_gives_here(data, tmp_path, alone):
    ground = split.prepare(data, CONFIG)
    order = {
        "runner": "pca",
        "settings": {"n_components": 5},
        "title": "PCA",
        "seed": 0,
        "n_samples": 3,
        "decided": None,
    }
    with worker.SubprocessRunner(ground.cells, silent=True) as shop:
        found = shop.run_in_subprocess(order)
        with pytest.raises(TrainingError, match="KeyError"):
            shop.run_in_subprocess({**order, "settings": {}})
    given = {name: value for name, value in order.items() if name != "runner"}
    assert np.allclose(
        found["latent_nk"],
        worker.measured(MethodInput(cells=ground.cells, **given), "pca")["latent_nk"],
        atol=1e-4,
    )
    assert not shop.folder.exists()


def test_a_process_that_is_ended_is_told_as_such(data, monkeypatch, tmp_path, alone):
    with worker.SubprocessRunner(split.prepare(data, CONFIG).cells, silent=True) as shop:
        order = {"runner": "pca", "settings": {"n_components": 5}, "seed": 0, "n_samples": 3}
        (shop.folder / worker.ORDER).write_text(json.dumps(order), encoding="utf-8")
        monkeypatch.setattr(worker, "measured", lambda *_: (_ for _ in ()).throw(SystemExit))
        monkeypatch.setattr(worker.logging, "basicConfig", lambda **_: None)
        with warnings.catch_warnings():
            assert worker.main(shop.folder) == 143
            monkeypatch.setattr(worker, "measured", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            assert worker.main(shop.folder) == 130
        assert not (shop.folder / worker.RESULT).exists()
        killed = worker.subprocess.CompletedProcess([], -9)
        monkeypatch.setattr(worker.subprocess, "run", lambda *_, **__: killed)
        with pytest.raises(TrainingError, match=r"ended from outside \(status -9\)"):
            shop.run_in_subprocess(order)


def test_time_and_memory_are_those_of_training_alone(monkeypatch):
    def hungry(job):
        loaded = np.ones(10_000_000)  # before: not counted

        def ready():
            eaten = np.ones(25_000_000)
            return worker.MethodOutput(codes=lambda: np.ones((3, 1)) * eaten[0] * loaded[0])

        return ready

    monkeypatch.setitem(worker.RUNNERS, "hungry", hungry)
    found = worker.measured(MethodInput(cells=None, settings={}, seed=0, n_samples=1), "hungry")
    assert found["peak_bytes"] == pytest.approx(200e6, rel=0.2)
    assert 0 < found["train_seconds"] < 60


# ---------------------------------------------------------------- what it refuses


def with_obs(data, tmp_path, **columns):
    adata = anndata.read_h5ad(data)
    for name, values in columns.items():
        adata.obs[name] = values
    path = tmp_path / "changed.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.mark.parametrize(
    ("change", "said"),
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
        ({"peers": ("scvii",)}, "did you mean 'scvi'"),
        ({"peers": ("drvy",)}, "did you mean 'drvi'"),
        ({"models": ("none",), "baselines": ("none",), "peers": ("none",)}, "nothing to compare"),
        ({"models": ("none",), "baselines": ("none",)}, "scvi-tools is not installed"),
        ({"n_components": 60}, "--n-components to 59 or less"),
        ({"counts_layer": "cuonts"}, "cuonts"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(data, tmp_path, here, change, said):
    path = with_obs(data, tmp_path, one="same", each=[f"x{i}" for i in range(N_CELLS)])
    with pytest.raises(InputError, match=said):
        run(path, tmp_path / "b", replace(CONFIG, **change))
    assert not here
    assert not (tmp_path / "b").exists()


def test_other_data_and_settings_that_cannot_work(data, tmp_path, here):
    adata = anndata.read_h5ad(data)
    adata[:80].write_h5ad(tmp_path / "few.h5ad")
    with pytest.raises(InputError, match="80 cells with a label; expected at least 100"):
        run(tmp_path / "few.h5ad", tmp_path / "b", CONFIG)
    adata.X = adata.X * 0.37
    adata.write_h5ad(tmp_path / "no_counts.h5ad")
    with pytest.raises(InputError, match="expected counts"):
        run(tmp_path / "no_counts.h5ad", tmp_path / "b", CONFIG)
    with pytest.raises(InputError, match="fewer than a batch"):
        pipeline.run(data, tmp_path / "b", OURS, changes={**SMALL, "batch_size": 5000}, silent=True)
    with pytest.raises(InputError, match="no setting 'n_laten' there"):
        pipeline.run(data, tmp_path / "b", OURS, changes={"n_laten": 5}, silent=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(InputError, match="not empty"):
            run(data, tmp_path / "b", OURS, resume=resume)


def test_from_a_shell(data, tmp_path, here, monkeypatch, capsys):
    words = (
        "benchmark",
        data,
        "--labels-key",
        "program",
        "--batch-key",
        "batch",
        "--models",
        "none",
        "--baselines",
        "pca",
    )
    more = (
        "--peers",
        "none",
        "--seeds",
        "1",
        "--n-top-genes",
        "60",
        "--n-components",
        "5",
        "--out",
        tmp_path / "b",
    )
    assert shell(*words, *more, monkeypatch=monkeypatch) == 0
    told = capsys.readouterr()
    assert "pca" in told.out.lower()
    assert "Skipped: scIB's measures (scib-metrics is not installed" in told.out
    assert "benchmark.html" in told.out
    several = [*words[:-1], "pca", "nmf", *more[:-1], tmp_path / "d", "--disentangle"]
    assert shell(*several, monkeypatch=monkeypatch) == 0
    assert "readable codes" in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "d" / "scores.csv")
    assert found["method"].tolist() == ["pca", "nmf"]
    assert found["lms_smi"].notna().all()
    assert shell("benchmark", data, "--out", tmp_path / "c", monkeypatch=monkeypatch) == 1
    assert "Error: no labels are named" in capsys.readouterr().err


def test_the_version_of_sparcell_is_recorded(data, tmp_path, here):
    standings = run(data, tmp_path / "b", replace(BASELINES, baselines=("pca",)))
    assert standings.provenance["versions"]["sparcell"] == sparcell.__version__
