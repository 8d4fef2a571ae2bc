"""`sparcell programs` and its Python twin: what is read, named, put on a map, walked along and written.

Suffixes: n cells, m cells on the map, g genes, k latents, s steps.
"""

from __future__ import annotations

import json
import logging
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from helpers.simulated import COUNTS, simulated_cells
from helpers.shell import sparcell
from sparcell.config.experiments import ProgramsConfig
from sparcell.metrics.active_latents import predict_active_latents
from sparcell.models import MODELS, load
from sparcell.programs import pipeline
from sparcell.tl import enrichment
from sparcell.tl.gene_sets import GeneSets, gmt_text

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
    """The planted types' markers, one set each, and some that nothing marks."""
    marked = {
        f"markers of type {kind}": tuple(f"gene{g}" for g in range(kind * 15, kind * 15 + 15))
        for kind in range(4)
    }
    return GeneSets({**marked, "others": tuple(f"gene{g}" for g in range(70, 90))})


@pytest.fixture(scope="module")
def saved(tmp_path_factory, cells, model, sets):
    folder = tmp_path_factory.mktemp("given")
    cells.write_h5ad(folder / "cells.h5ad")
    model.save(folder / "model")
    (folder / "sets.gmt").write_text(gmt_text(sets))
    return folder


def test_the_shell_writes_page_tables_and_figures_and_leaves_the_data_alone(
    saved, tmp_path, monkeypatch, capfd
):
    before = (saved / "cells.h5ad").read_bytes()
    words = ("programs", saved / "cells.h5ad", "--load", saved / "model", "--out", tmp_path / "out", "--gmt", saved / "sets.gmt",
             "--labels-key", "type", "--seeds", "2")  # fmt: skip
    assert sparcell(*words, monkeypatch=monkeypatch) == 0
    assert "programs.html" in capfd.readouterr().out
    out = tmp_path / "out"
    assert {entry.name for entry in out.iterdir()} == FILES | {"labels.csv", "matches.csv"}
    assert (saved / "cells.h5ad").read_bytes() == before
    drawn = {entry.name for entry in (out / "figures").iterdir()}
    assert drawn == {
        f"program-{name}.{ending}"
        for name in ("labels", "maps", "genes", "traversals")
        for ending in ("png", "pdf")
    }

    programs = pd.read_csv(out / "programs.csv")
    best = programs.loc[programs.groupby("label")["label_auc"].idxmax()]
    assert len(best) == 4, "each planted type has a program"
    assert (best["label_auc"] > 0.95).all()
    assert (best["name"] == "markers of " + best["label"]).all()
    assert {"n_found", "n_others", "median_match", "stable"} <= set(programs)
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
        "--load",
        saved / "model",
        "--out",
        tmp_path / "shell",
        "--gmt",
        saved / "sets.gmt",
        "--quiet",
    )
    assert sparcell(*words, monkeypatch=monkeypatch) == 0
    given = cells.copy()
    found = pipeline.run(
        given, model, tmp_path / "python", ProgramsConfig(gmt=(saved / "sets.gmt",)), silent=True
    )
    for name in ("programs", "genes", "effects", "enrichment"):
        shell, python = ((tmp_path / kind / f"{name}.csv").read_text() for kind in ("shell", "python"))
        assert shell == python
    assert not given.varm
    assert "beta_vsc_programs" not in given.uns
    assert list(given.obsm) == list(cells.obsm)
    assert found.n_cells == N_CELLS
    assert found.shares is None
    assert found.matches is None


def test_names_and_sets_are_those_of_the_enrichment(cells, model, sets):
    config = ProgramsConfig(n_top=30, n_named=12)
    found = pipeline.catalogue(model, cells, config, sets=sets, sets_source="mine")
    programs = model.programs(cells.copy(), n_top=30)
    named = enrichment.name_programs(programs.ranked_genes, sets, model.schema.genes, n_top=12)
    assert found.programs["name"].tolist() == named["name"].tolist()
    np.testing.assert_array_equal(found.programs["fdr"], named["fdr"])
    first = found.programs["key"].iloc[0]
    table = enrichment.enrich(programs.ranked_genes[first][:12], sets, model.schema.genes)
    own = found.enrichment[found.enrichment["key"] == first].reset_index(drop=True)
    pd.testing.assert_frame_equal(own.drop(columns="key"), table, check_dtype=False)
    assert found.sets_source == "mine"


def test_a_traversal_is_the_decoder_s_own_sum(cells, model):
    """The shares of a nonnegative decoder written out: softmax of bias + Σ z_k W_gk, at code 0 and at the 99th percentile."""
    found = pipeline.catalogue(model, cells, sets=None)
    codes, head = model.codes(cells), model.network.likelihood.head
    weight_gk, bias_g = head.weight.detach().numpy().astype(float), head.bias.detach().numpy().astype(float)
    genes = list(model.schema.genes)
    for _, row in found.programs.iterrows():
        walk, latent = found.traversals[row["key"]], row["latent"]
        on_n = codes.inclusion_nk[:, latent] >= 0.5
        end = np.percentile(codes.mean_nk[on_n, latent], 99)
        assert walk.amount_s[0] == 0
        np.testing.assert_allclose(walk.amount_s[-1], end, rtol=1e-6)
        z_k = codes.mean_nk[on_n].mean(axis=0).astype(float)
        for step in (0, -1):
            z_k[latent] = walk.amount_s[step]
            logit_g = bias_g + weight_gk @ z_k
            share_g = np.exp(logit_g - logit_g.max())
            share_g /= share_g.sum()
            expected = np.log1p(1e4 * share_g[[genes.index(gene) for gene in walk.genes]])
            np.testing.assert_allclose(walk.expected_sg[step], expected, rtol=1e-3)
        assert list(walk.genes) == found.first_genes(row["key"], 6)["gene"].tolist()


def test_the_map_is_the_data_s_own_where_it_has_one_and_cells_are_off_where_gamma_says_so(
    cells, model, monkeypatch
):
    monkeypatch.setattr(pipeline, "N_MAPPED", 120)
    mine = cells.copy()
    rng = np.random.default_rng(0)
    mine.obsm["X_umap"] = rng.normal(size=(N_CELLS, 3))
    config = ProgramsConfig(labels_key="type")
    found = pipeline.catalogue(model, mine, config)
    assert found.map.source == "obsm['X_umap'] of the data"
    assert found.map.xy_m2.shape == (120, 2)
    assert found.map.n_all == N_CELLS
    rows = [np.flatnonzero((mine.obsm["X_umap"][:, :2] == xy).all(axis=1))[0] for xy in found.map.xy_m2]
    assert sorted(set(rows)) == rows
    assert found.map.labels.tolist() == mine.obs["type"].iloc[rows].tolist()
    codes = model.codes(mine)
    for place, latent in enumerate(found.programs["latent"]):
        on_m = codes.inclusion_nk[rows, latent] >= 0.5
        np.testing.assert_allclose(
            found.map.amount_mp[:, place], np.where(on_m, codes.mean_nk[rows, latent], 0)
        )
    mine.obsm["X_umap"][5] = np.nan
    monkeypatch.setattr(pipeline, "N_MAPPED", 1000)
    assert pipeline.catalogue(model, mine).map.source == "a t-SNE of the code"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_any_model_has_a_page_and_it_says_what_on_means(gaussian, cells, name, tmp_path):
    found = pipeline.run(cells, gaussian[name], tmp_path / "out", silent=True)
    page = (tmp_path / "out" / "programs.html").read_text(encoding="utf-8")
    assert ("has no spikes, so nothing is ever off" in page) == (not found.spikes)
    assert found.spikes == (gaussian[name].codes(cells).inclusion_nk is not None)
    assert found.genes["log2_fold"].isna().all()
    if found.n_expected is None:
        assert not gaussian[name].settings.generative
    else:
        dense_ng = cells.layers["lognorm"].toarray().astype(float)
        settings = gaussian[name].settings
        value_g = np.linalg.eigvalsh(np.cov(dense_ng.T, bias=True))
        assert found.n_expected == predict_active_latents(
            value_g, 6, beta=settings.beta, gaussian_variance=0.5
        )
        assert not found.exact, "there are layers between code and genes"


def test_the_first_eigenvalues_are_those_of_the_whole_matrix():
    x_ng = sparse.random(80, 60, density=0.3, random_state=0, format="csr")
    value_g = np.linalg.eigvalsh(np.cov(x_ng.toarray().T, bias=True))[::-1]
    found = pipeline.leading_eigenvalues(x_ng, 5)
    np.testing.assert_allclose(found[:6], value_g[:6], rtol=1e-6)
    np.testing.assert_allclose(found.sum(), value_g.sum())
    for beta, variance in ((1.0, None), (2.0, None), (1.0, 0.05), (1.0, float(value_g[3]))):
        assert predict_active_latents(
            found, 5, beta=beta, gaussian_variance=variance
        ) == predict_active_latents(value_g, 5, beta=beta, gaussian_variance=variance)
    np.testing.assert_allclose(
        pipeline.leading_eigenvalues(x_ng[:, :6], 9),
        np.linalg.eigvalsh(np.cov(x_ng[:, :6].toarray().T, bias=True))[::-1],
        atol=1e-12,
    )


def test_raw_counts_in_x_stand_in_for_a_layer(gaussian, cells, tmp_path):
    bare = ad.AnnData(cells.X, obs=cells.obs, var=cells.var)
    model = gaussian["beta-vsc"]
    found = pipeline.catalogue(model, bare)
    whole = pipeline.catalogue(model, cells)
    np.testing.assert_allclose(found.effects, whole.effects, rtol=1e-3, atol=1e-3)
    assert model.schema.layer == "lognorm", "the user's model stays as it is"


def test_two_files_may_name_a_set_alike(tmp_path):
    (tmp_path / "one.gmt").write_text("same\tx\tA\tB\nfirst\t\tC\n")
    (tmp_path / "two.gmt").write_text("same\ty\tD\tE\n")
    sets, told = pipeline.read_sets([tmp_path / "one.gmt", tmp_path / "two.gmt"])
    assert dict(sets.genes) == {"same": ("A", "B"), "first": ("C",), "same (two)": ("D", "E")}
    assert sets.descriptions["same (two)"] == "y"
    assert told == "3 sets of one.gmt, two.gmt"


def test_names_that_no_built_in_set_knows_leave_the_page_without_names(cells, model, caplog, tmp_path):
    caplog.set_level(logging.WARNING, "sparcell")
    found = pipeline.run(cells, model, tmp_path / "out", silent=True)
    assert found.sets_source == ""
    assert (found.programs["name"] == "").all()
    assert (
        "none of the model's genes (gene0, gene1, gene2, …) is in a built-in set; --gmt FILE" in caplog.text
    )
    assert "programs have no names" in (tmp_path / "out" / "programs.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--labels-key", "typ"), "obs has no column 'typ': did you mean 'type'"),
        (("--gmt", "broken.gmt"), "has no tab"),
        (("--gmt", "none.gmt"), "There is no file"),
        (("--gmt", "strange.gmt"), "None of the 2 genes of the sets is in the background"),
        (("--n-top", "0"), "n_top is 0"),
        (("--n-named", "60"), "n_named is 60; expected at most n_top, 50"),
        (("--seeds", "0"), "seeds is 0"),
        (("--load", "nowhere"), "not a sparcell model"),
        (("--out", "full"), "is not empty"),
        (("INPUT", "lognorm.h5ad"), "expected"),
        (("INPUT", "fewer.h5ad"), "of the model's 120 genes are not in the data"),
    ],
)  # fmt: skip
def test_mistakes_are_told_and_nothing_is_written(saved, tmp_path, monkeypatch, capfd, cells, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.gmt").write_text("a set without tabs\n")
    (tmp_path / "strange.gmt").write_text("a\tb\tXX1\tXX2\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    given = {"INPUT": saved / "cells.h5ad", "--load": saved / "model", "--out": "out"}
    if words[1] == "lognorm.h5ad":
        ad.AnnData(cells.layers["lognorm"], obs=cells.obs, var=cells.var).write_h5ad(
            tmp_path / "lognorm.h5ad"
        )
    elif words[1] == "fewer.h5ad":
        cells[:, 5:].copy().write_h5ad(tmp_path / "fewer.h5ad")
    given |= {words[0]: words[1]} if words[0] in given else {}
    extra = () if words[0] in given else words
    line = ("programs", given["INPUT"], "--load", given["--load"], "--out", given["--out"], *extra)
    assert sparcell(*line, monkeypatch=monkeypatch) == 1
    error = capfd.readouterr().err
    assert error.startswith("Error: ") or "\nError: " in error
    assert message in error
    assert not (tmp_path / "out").exists()
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_model_without_live_latents_gets_a_page_that_says_so(cells, model, tmp_path, saved):
    dead = load(saved / "model")
    with torch.no_grad():
        for parameter in dead.network.latent.parameters():
            parameter.zero_()
    with pytest.warns(UserWarning, match="no latent is live"):
        found = pipeline.run(cells, dead, tmp_path / "out", ProgramsConfig(labels_key="type"), silent=True)
    assert found.n_active == 0
    page = (tmp_path / "out" / "programs.html").read_text(encoding="utf-8")
    assert "no programs to show" in page
    assert pd.read_csv(tmp_path / "out" / "programs.csv").empty


def test_many_effects_are_gzipped(cells, model, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "LARGE_TABLE", 100)
    found = pipeline.run(cells, model, tmp_path / "out", silent=True)
    table = pd.read_csv(tmp_path / "out" / "effects.csv.gz", index_col="gene")
    np.testing.assert_allclose(table, found.effects, rtol=1e-4, atol=1e-4)
    assert not (tmp_path / "out" / "effects.csv").exists()


def test_the_page_s_charts_hold_what_was_found(cells, model, tmp_path):
    found = pipeline.run(cells, model, tmp_path / "out", silent=True)
    page = (tmp_path / "out" / "programs.html").read_text(encoding="utf-8")
    store = json.loads(re.search(r'id="charts">(.*?)</script>', page, flags=re.DOTALL).group(1))
    for place, key in enumerate(found.programs["key"]):
        drawn = store["map"][key]["data"][0]
        assert len(drawn["x"]) == (found.map.amount_mp[:, place] > 0.02 * np.percentile(
            found.map.amount_mp[:, place][found.map.amount_mp[:, place] > 0], 99
        )).sum()  # fmt: skip
        assert store["bars"][key]["data"][0]["x"] == pytest.approx(
            found.first_genes(key, 20)["effect"].tolist(), abs=1e-3
        )
        assert len(store["walk"][key]["data"]) == len(found.traversals[key].genes)
