"""`sparcell programs` and its Python twin: tables, names, maps, traversals, page and errors.

Suffixes: n cells, m cells on the map, g genes, k latents, s steps.
"""

from __future__ import annotations

import copy
import json
import logging
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from helpers.shell import sparcell
from helpers.simulated import COUNTS, simulated_cells
from sparcell.config.experiments import ProgramsConfig
from sparcell.metrics.active_latents import predict_active_latents
from sparcell.models import MODELS, load
from sparcell.programs import embedding, pipeline, write
from sparcell.programs.prediction import leading_eigenvalues
from sparcell.tl.gene_sets import GeneSets, gmt_text
from sparcell.tl.program_enrichment import enrich_programs
from sparcell.tl.program_names import name_programs

N_CELLS = 300
FILES = {"programs.html", "programs.csv", "genes.csv", "effects.csv", "enrichment.csv", "figures"}
PROGRAMS = {
    "likelihood": "nb",
    "decoder_type": "nonnegative-linear",
    "slab": "softplus-normal",
    "n_prior_components": 1,
    "alpha": 0.3,
}


@pytest.fixture(scope="module")
def cells():
    return simulated_cells(N_CELLS)


@pytest.fixture(scope="module")
def model(cells):
    return MODELS["beta-vsc"](**{**COUNTS, **PROGRAMS, "epochs": 60}).fit(cells, silent=True)


@pytest.fixture(scope="module")
def gaussian(cells):
    settings = {
        **COUNTS,
        "likelihood": "gaussian",
        "gaussian_variance": 0.5,
        "standardize_input": False,
        "epochs": 30,
    }
    return {
        name: kind(**{key: value for key, value in settings.items() if key in kind.__dataclass_fields__}).fit(
            cells, layer="lognorm", silent=True
        )
        for name, kind in MODELS.items()
    }


@pytest.fixture(scope="module")
def sets():
    """Sets of the simulated types' markers, and one set of genes that mark no type."""
    markers = {
        f"markers of type {kind}": tuple(f"gene{g}" for g in range(kind * 15, kind * 15 + 15))
        for kind in range(4)
    }
    return GeneSets({**markers, "others": tuple(f"gene{g}" for g in range(70, 90))})


@pytest.fixture(scope="module")
def saved(tmp_path_factory, cells, model, sets):
    folder = tmp_path_factory.mktemp("input")
    cells.write_h5ad(folder / "cells.h5ad")
    model.save(folder / "model")
    (folder / "sets.gmt").write_text(gmt_text(sets))
    return folder


def test_the_shell_writes_page_tables_and_figures_and_does_not_change_the_data(
    saved, tmp_path, monkeypatch, capfd
):
    before = (saved / "cells.h5ad").read_bytes()
    words = ("programs", saved / "cells.h5ad", "--model-dir", saved / "model", "--out", tmp_path / "out", "--gmt", saved / "sets.gmt",
             "--labels-key", "type", "--seeds", "2")  # fmt: skip
    assert sparcell(*words, monkeypatch=monkeypatch) == 0
    assert "programs.html" in capfd.readouterr().out
    out = tmp_path / "out"
    written = {entry.name for entry in out.iterdir() if not entry.name.startswith(".")}
    assert written == FILES | {"labels.csv", "matches.csv"}
    assert (saved / "cells.h5ad").read_bytes() == before
    figures = {entry.name for entry in (out / "figures").iterdir()}
    assert figures == {
        f"program-{name}.{ending}"
        for name in ("labels", "maps", "genes", "traversals")
        for ending in ("png", "pdf")
    }

    programs = pd.read_csv(out / "programs.csv")
    best = programs.loc[programs.groupby("label")["label_auc"].idxmax()]
    assert len(best) == 4, "each simulated type has a program"
    assert (best["label_auc"] > 0.95).all()
    assert (best["set"] == "markers of " + best["label"]).all()
    assert {"n_reproduced", "n_others", "median_match", "stable"} <= set(programs)
    effects = pd.read_csv(out / "effects.csv", index_col="gene")
    assert effects.shape == (120, len(programs))
    genes = pd.read_csv(out / "genes.csv")
    for key, listed in genes.groupby(genes["program"] + genes["direction"]):
        np.testing.assert_allclose(listed["effect"], effects.loc[listed["gene"], key], rtol=1e-3, atol=1e-3)
        assert (np.diff(listed["effect"]) <= 1e-9).all()
    assert list(pd.read_csv(out / "labels.csv", index_col="program").columns) == [
        f"type {kind}" for kind in range(4)
    ]
    page = (out / "programs.html").read_text(encoding="utf-8")
    assert "sets of sets.gmt" in page
    assert "sparcell programs" in page


def test_python_gives_the_same_tables_as_the_shell(saved, tmp_path, monkeypatch, cells, model):
    words = (
        "programs",
        saved / "cells.h5ad",
        "--model-dir",
        saved / "model",
        "--out",
        tmp_path / "shell",
        "--gmt",
        saved / "sets.gmt",
        "--seeds",
        "1",
        "--quiet",
    )
    assert sparcell(*words, monkeypatch=monkeypatch) == 0
    copy = cells.copy()
    found = pipeline.run(
        copy, model, tmp_path / "python", ProgramsConfig(gmt=(saved / "sets.gmt",), seeds=1), silent=True
    )
    for name in ("programs", "genes", "effects", "enrichment"):
        shell, python = ((tmp_path / kind / f"{name}.csv").read_text() for kind in ("shell", "python"))
        assert shell == python
    assert not copy.varm
    assert "beta_vsc_programs" not in copy.uns
    assert list(copy.obsm) == list(cells.obsm)
    assert found.n_cells == N_CELLS
    assert found.label_fractions is None
    assert found.matches is None


def test_names_and_sets_equal_those_of_the_enrichment(cells, model, sets):
    config = ProgramsConfig(n_genes_listed=30, n_genes_enrichment=12, seeds=1)
    found = pipeline.collect(model, cells, config, sets=sets, sets_source="custom")
    programs = model.programs(cells.copy(), n_genes=30)
    names = name_programs(programs, sets, n_genes=12)
    named = found.programs[list(names)].set_axis(names.index)
    pd.testing.assert_frame_equal(named, names, check_dtype=False)
    table = enrich_programs(programs, sets, n_genes=12)
    pd.testing.assert_frame_equal(found.enrichment, table, check_dtype=False)
    assert found.sets_source == "custom"
    capitals = GeneSets({name: tuple(gene.upper() for gene in genes) for name, genes in sets.genes.items()})
    other = pipeline.collect(model, cells, config, sets=capitals, sets_source="custom")
    assert other.sets_source == "custom, matched without regard to upper and lower case"
    assert other.programs["set"].tolist() == found.programs["set"].tolist()


def test_a_traversal_equals_the_sum_of_the_decoder(cells, model):
    """The frequencies of a nonnegative linear decoder written out: softmax of bias + Σ z_k W_gk, at 0 and at the 99th percentile."""
    found = pipeline.collect(model, cells, sets=None)
    latents, head = model.latent_representation(cells), model.network.likelihood.head
    weight_gk, bias_g = head.weight.detach().numpy().astype(float), head.bias.detach().numpy().astype(float)
    genes = list(model.schema.genes)
    for _, row in found.programs.iterrows():
        traversal, latent = found.traversals[row["key"]], row["latent"]
        latent -= 1
        on_n = latents.inclusion_nk[:, latent] >= 0.5
        end = np.percentile(latents.mean_nk[on_n, latent], 99)
        assert traversal.distance_s[0] == 0
        np.testing.assert_allclose(traversal.distance_s[-1], end, rtol=1e-6)
        z_k = latents.mean_nk[on_n].mean(axis=0).astype(float)
        for step in (0, -1):
            z_k[latent] = traversal.distance_s[step]
            logit_g = bias_g + weight_gk @ z_k
            frequency_g = np.exp(logit_g - logit_g.max())
            frequency_g /= frequency_g.sum()
            expected = np.log1p(1e4 * frequency_g[[genes.index(gene) for gene in traversal.genes]])
            np.testing.assert_allclose(traversal.expected_sg[step], expected, rtol=1e-3)
        assert list(traversal.genes) == found.top_genes(row["key"], 6)["gene"].tolist()


def test_the_map_comes_from_obsm_and_programs_are_off_below_an_inclusion_of_one_half(
    cells, model, monkeypatch
):
    monkeypatch.setattr(embedding, "MAX_MAP_CELLS", 120)
    copy = cells.copy()
    rng = np.random.default_rng(0)
    copy.obsm["X_umap"] = rng.normal(size=(N_CELLS, 3))
    config = ProgramsConfig(labels_key="type", seeds=1)
    found = pipeline.collect(model, copy, config)
    assert found.embedding.source == "obsm['X_umap'] of the data"
    assert found.embedding.xy_m2.shape == (120, 2)
    assert found.embedding.n_cells == N_CELLS
    rows = [np.flatnonzero((copy.obsm["X_umap"][:, :2] == xy).all(axis=1))[0] for xy in found.embedding.xy_m2]
    assert sorted(set(rows)) == rows
    assert found.embedding.labels.tolist() == copy.obs["type"].iloc[rows].tolist()
    latents = model.latent_representation(copy)
    for place, latent in enumerate(found.programs["latent"] - 1):
        on_m = latents.inclusion_nk[rows, latent] >= 0.5
        np.testing.assert_allclose(
            found.embedding.activity_mp[:, place], np.where(on_m, latents.mean_nk[rows, latent], 0)
        )
    copy.obsm["X_umap"][5] = np.nan
    monkeypatch.setattr(embedding, "MAX_MAP_CELLS", 1000)
    assert pipeline.collect(model, copy).embedding.source == "a t-SNE of the latents"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_any_model_has_a_page_that_explains_when_a_program_is_on(gaussian, cells, name, tmp_path):
    found = pipeline.run(cells, gaussian[name], tmp_path / "out", ProgramsConfig(seeds=1), silent=True)
    page = (tmp_path / "out" / "programs.html").read_text(encoding="utf-8")
    assert ("has no spikes, so its latents are never off" in page) == (not found.spikes)
    assert found.spikes == (gaussian[name].latent_representation(cells).inclusion_nk is not None)
    assert "log2_fold" not in found.genes
    if found.n_active_predicted is None:
        assert not gaussian[name].settings.generative
    else:
        dense_ng = cells.layers["lognorm"].toarray().astype(float)
        settings = gaussian[name].settings
        value_g = np.linalg.eigvalsh(np.cov(dense_ng.T, bias=True))
        assert found.n_active_predicted == predict_active_latents(
            value_g, 6, beta=settings.beta, gaussian_variance=0.5
        )
        assert not found.prediction_exact, "the decoder has hidden layers"


def test_the_largest_eigenvalues_equal_those_of_the_whole_matrix():
    x_ng = sparse.random(80, 60, density=0.3, random_state=0, format="csr")
    value_g = np.linalg.eigvalsh(np.cov(x_ng.toarray().T, bias=True))[::-1]
    found = leading_eigenvalues(x_ng, 5)
    np.testing.assert_allclose(found[:6], value_g[:6], rtol=1e-6)
    np.testing.assert_allclose(found.sum(), value_g.sum())
    below, above = (float(value_g[3]) * factor for factor in (1 - 1e-9, 1 + 1e-9))  # beyond rounding
    for beta, variance in ((1.0, None), (2.0, None), (1.0, 0.05), (1.0, below), (1.0, above)):
        assert predict_active_latents(
            found, 5, beta=beta, gaussian_variance=variance
        ) == predict_active_latents(value_g, 5, beta=beta, gaussian_variance=variance)
    np.testing.assert_allclose(
        leading_eigenvalues(x_ng[:, :6], 9),
        np.linalg.eigvalsh(np.cov(x_ng[:, :6].toarray().T, bias=True))[::-1],
        atol=1e-12,
    )


def test_raw_counts_in_x_stand_in_for_a_layer(gaussian, cells, tmp_path):
    bare = ad.AnnData(cells.X, obs=cells.obs, var=cells.var)
    model = gaussian["beta-vsc"]
    found = pipeline.collect(model, bare)
    from_layer = pipeline.collect(model, cells)
    np.testing.assert_allclose(found.effects, from_layer.effects, rtol=1e-3, atol=1e-3)
    assert model.schema.layer == "lognorm", "the user's model does not change"


def test_genes_in_no_built_in_set_leave_the_page_without_names(cells, model, caplog, tmp_path):
    caplog.set_level(logging.WARNING, "sparcell")
    found = pipeline.run(cells, model, tmp_path / "out", ProgramsConfig(seeds=1), silent=True)
    assert found.sets_source == ""
    assert found.programs["name"].str.match(r"unnamed \(gene\d+, gene\d+, gene\d+\)").all()
    assert (
        "none of the model's genes (gene0, gene1, gene2, …) is in a built-in set. Pass other gene sets with --gmt FILE"
        in caplog.text
    )
    assert "programs have no names" in (tmp_path / "out" / "programs.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--labels-key", "typ"), "obs has no column 'typ': did you mean 'type'"),
        (("--gmt", "broken.gmt"), "has no tab"),
        (("--gmt", "none.gmt"), "There is no file"),
        (("--gmt", "strange.gmt"), "None of the 2 genes of the sets is in the background"),
        (("--n-genes-listed", "0"), "n_genes_listed is 0"),
        (("--n-genes-enrichment", "60"), "n_genes_enrichment is 60; expected at most n_genes_listed, 50"),
        (("--seeds", "0"), "seeds is 0"),
        (("--model-dir", "nowhere"), "not a sparcell model"),
        (("--out", "full"), "is not empty"),
        (("INPUT", "lognorm.h5ad"), "expected"),
        (("INPUT", "fewer.h5ad"), "of the model's 120 genes are not in the data"),
    ],
)  # fmt: skip
def test_wrong_input_raises_and_nothing_is_written(
    saved, tmp_path, monkeypatch, capfd, cells, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.gmt").write_text("a set without tabs\n")
    (tmp_path / "strange.gmt").write_text("a\tb\tXX1\tXX2\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("notes")
    arguments = {"INPUT": saved / "cells.h5ad", "--model-dir": saved / "model", "--out": "out"}
    if words[1] == "lognorm.h5ad":
        ad.AnnData(cells.layers["lognorm"], obs=cells.obs, var=cells.var).write_h5ad(
            tmp_path / "lognorm.h5ad"
        )
    elif words[1] == "fewer.h5ad":
        cells[:, 5:].copy().write_h5ad(tmp_path / "fewer.h5ad")
    arguments |= {words[0]: words[1]} if words[0] in arguments else {}
    extra = () if words[0] in arguments else words
    line = (
        "programs",
        arguments["INPUT"],
        "--model-dir",
        arguments["--model-dir"],
        "--out",
        arguments["--out"],
        *extra,
    )
    assert sparcell(*line, monkeypatch=monkeypatch) == 1
    error = capfd.readouterr().err
    assert error.startswith("Error: ") or "\nError: " in error
    assert message in error
    assert not (tmp_path / "out").exists()
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["notes.txt"]


def test_a_model_without_active_latents_gets_a_page_that_says_so(cells, model, tmp_path, saved):
    inactive = load(saved / "model")
    with torch.no_grad():
        for parameter in inactive.network.latent_encoder.parameters():
            parameter.zero_()
    with pytest.warns(UserWarning, match="no latent is active"):
        found = pipeline.run(
            cells, inactive, tmp_path / "out", ProgramsConfig(labels_key="type", seeds=1), silent=True
        )
    assert found.n_active == 0
    page = (tmp_path / "out" / "programs.html").read_text(encoding="utf-8")
    assert "no programs to show" in page
    assert pd.read_csv(tmp_path / "out" / "programs.csv").empty


def test_many_effects_are_gzipped(cells, model, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MIN_GZIPPED_EFFECTS", 100)
    found = pipeline.run(cells, model, tmp_path / "out", ProgramsConfig(seeds=1), silent=True)
    table = pd.read_csv(tmp_path / "out" / "effects.csv.gz", index_col="gene")
    np.testing.assert_allclose(table, found.effects, rtol=1e-4, atol=1e-4)
    assert not (tmp_path / "out" / "effects.csv").exists()


def test_the_charts_of_the_page_show_the_results(cells, model, tmp_path):
    found = pipeline.run(cells, model, tmp_path / "out", ProgramsConfig(seeds=1), silent=True)
    page = (tmp_path / "out" / "programs.html").read_text(encoding="utf-8")
    store = json.loads(re.search(r'id="charts">(.*?)</script>', page, flags=re.DOTALL).group(1))
    for place, key in enumerate(found.programs["key"]):
        assert len(store["map"][key]["values"]["at"]) == (found.embedding.activity_mp[:, place] > 0.02 * np.percentile(
            found.embedding.activity_mp[:, place][found.embedding.activity_mp[:, place] > 0], 99
        )).sum()  # fmt: skip
        assert store["bars"][key]["data"][0]["x"] == pytest.approx(
            found.top_genes(key, 20)["effect"].tolist(), abs=1e-3
        )
        assert len(store["traversal"][key]["data"]) == len(found.traversals[key].genes)
    expression = found.embedding.expression
    assert store["genes"]["names"] == list(expression.genes)
    assert expression.genes[0] == found.top_genes(found.programs["key"].iloc[0], 1)["gene"].iloc[0]
    counts = np.asarray(cells.X[:, cells.var_names.get_indexer(expression.genes)].todense())
    np.testing.assert_array_equal(expression.values_ng > 0, counts > 0)


def test_five_seeds_are_compared_where_that_takes_less_than_two_minutes(cells, model, monkeypatch, caplog):
    quick, slow = model.history.assign(seconds=0.1), model.history.assign(seconds=10.0)
    with caplog.at_level("INFO", logger="sparcell"):
        assert pipeline.choose_n_seeds(replace_history(model, quick), cells, "auto") == 5
    assert "training 4 more models" in caplog.text
    assert "(in a shell: --seeds 1) trains none" in caplog.text
    assert pipeline.choose_n_seeds(replace_history(model, slow), cells, "auto") == 1
    assert pipeline.choose_n_seeds(replace_history(model, slow), cells, 3) == 3
    few = cells[: model.settings.batch_size - 1]
    assert pipeline.choose_n_seeds(replace_history(model, quick), few, "auto") == 1
    assert pipeline.seconds_for_seeds(replace_history(model, slow)) == pytest.approx(40 * len(slow))
    monkeypatch.setattr(pipeline, "AUTO_SEEDS", 2)
    config = ProgramsConfig()
    assert pipeline.collect(replace_history(model, quick), cells, config).matches.shape[1] == 1


def test_tables_have_six_digits_and_latents_are_counted_from_1(cells, model, tmp_path):
    pipeline.run(cells, model, tmp_path / "out", ProgramsConfig(seeds=1), silent=True)
    programs = pd.read_csv(tmp_path / "out" / "programs.csv", dtype=str)
    assert (programs["program"] == "beta_vsc_" + programs["latent"]).all()
    digits = programs["fraction_explained"].str.replace(r"e.*|[-.]|^-?0[.]0*", "", regex=True)
    assert digits.str.len().max() <= 6


def replace_history(model, history):
    other = copy.copy(model)
    other.history = history
    return other
