"""Training into an AnnData, and what figures and columns read from there."""

from __future__ import annotations

import importlib

import numpy as np
import pandas as pd
import pytest

import sparcell as sp
from sparcell.models import MODELS
from sparcell.pl.programs import COLOR_BAR

pytestmark = pytest.mark.filterwarnings("ignore::sparcell.errors.NoProgramsWarning")  # models of three epochs

SMALL = {"epochs": 3, "n_latent": 3, "batch_size": 40, "silent": True}


def cells():
    return sp.datasets.simulate_programs(n_programs=3, n_cells=120, n_genes=50, n_batches=2, seed=0)


@pytest.mark.parametrize("name", MODELS)
def test_one_call_writes_what_embed_and_programs_write(name):
    kind = MODELS[name]
    adata, reference = cells(), cells()
    call = getattr(sp.tl, kind.name)
    assert call(adata, batch_key="batch", **SMALL) is None
    settings = {key: value for key, value in SMALL.items() if key != "silent"}
    model = kind(**settings).fit(reference, batch_key="batch", silent=True)
    model.embed(reference)
    model.programs(reference)
    key = kind.name
    assert np.array_equal(adata.obsm[f"X_{key}"], reference.obsm[f"X_{key}"])
    assert np.array_equal(adata.varm[f"{key}_effects"], reference.varm[f"{key}_effects"])
    assert adata.uns[f"{key}_programs"]["summary"].equals(reference.uns[f"{key}_programs"]["summary"])
    assert set(adata.obsm) == set(reference.obsm)
    assert set(adata.uns) == set(reference.uns)


def test_a_copy_leaves_the_data_as_they_are_and_the_model_can_be_kept(tmp_path):
    adata = cells()
    before = set(adata.obsm)
    result = sp.tl.beta_vae(adata, copy=True, key_added="first", model_dir=tmp_path / "m", **SMALL)
    assert set(adata.obsm) == before
    assert "first" not in adata.uns
    assert np.allclose(sp.load(tmp_path / "m").transform(adata), result.obsm["X_first"], atol=1e-6)


def test_a_preset_gives_the_settings_that_are_not_given():
    adata = cells()
    sp.tl.beta_vsc(adata, preset="programs", **SMALL)
    settings = adata.uns["beta_vsc"]["settings"]
    expected = sp.BetaVSC.for_programs()
    assert settings["decoder_type"] == expected.decoder_type
    assert settings["slab"] == expected.slab
    assert settings["n_latent"] == 3
    with pytest.raises(sp.InputError, match=r"no preset 'program'; did you mean 'programs'\?"):
        sp.tl.beta_vsc(adata, preset="program")


def test_mistakes_are_told_before_training(tmp_path):
    adata = cells()
    with pytest.raises(sp.InputError, match=r"BetaVSC has no setting 'n_latnt'; did you mean 'n_latent'\?"):
        sp.tl.beta_vsc(adata, n_latnt=3)
    with pytest.raises(sp.InputError, match="cell_tpye"):
        sp.tl.beta_vsc(adata, labels_key="cell_tpye", **SMALL)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "file.txt").write_text("mine")
    with pytest.raises(sp.InputError):
        sp.tl.beta_vsc(adata, model_dir=tmp_path / "m", **SMALL)
    assert "X_beta_vsc" not in adata.obsm


@pytest.fixture(scope="module")
def with_programs():
    adata, generator = cells(), np.random.default_rng(0)
    adata.obsm["X_beta_vsc"] = generator.normal(size=(120, 4)).astype(np.float32)
    adata.obsm["beta_vsc_inclusion"] = generator.random((120, 4)).astype(np.float32)
    genes = [", ".join(adata.var_names[place : place + 5]) for place in range(3)]
    summary = pd.DataFrame(
        {
            "program": ["beta_vsc_3", "beta_vsc_1", "beta_vsc_1"], "latent": [3, 1, 1], "direction": ["+", "+", "-"],
            "fraction_cells_on": [0.3, 0.2, 0.1], "fraction_explained": [0.2, 0.1, np.nan], "genes": genes,
        }
    )  # fmt: skip
    table = [
        {"program": row.program, "direction": row.direction, "gene": gene, "effect": 2.0 - place}
        for row in summary.itertuples()
        for place, gene in enumerate(row.genes.split(", "))
    ]
    adata.uns["beta_vsc_programs"] = {"summary": summary, "genes": pd.DataFrame(table)}
    adata.obsm["X_umap"] = generator.normal(size=(120, 2))
    return adata


def test_the_activity_of_programs_is_the_latent_where_it_is_on(with_programs):
    activity = sp.tl.program_activity(with_programs)
    summary = with_programs.uns["beta_vsc_programs"]["summary"]
    assert len(summary) > 0
    assert activity.columns.tolist() == (summary["program"] + summary["direction"]).tolist()
    assert activity.index.equals(with_programs.obs_names)
    for place, (latent, sign) in enumerate([(2, 1), (0, 1), (0, -1)]):
        z_n = with_programs.obsm["X_beta_vsc"][:, latent]
        on_n = with_programs.obsm["beta_vsc_inclusion"][:, latent] >= 0.5
        assert np.allclose(activity.iloc[:, place], np.where(on_n & (sign * z_n > 0), sign * z_n, 0))
    without_spikes = with_programs.copy()
    del without_spikes.obsm["beta_vsc_inclusion"]
    activity = sp.tl.program_activity(without_spikes, "X_beta_vsc")
    assert np.allclose(activity["beta_vsc_1-"], (-without_spikes.obsm["X_beta_vsc"][:, 0]).clip(min=0))


def maps_of(figure):
    """The axes of a figure without its color bar."""
    return [axes for axes in figure.axes if axes.get_label() != COLOR_BAR]


def texts_of_bar(figure):
    """What stands at the color bar of a figure."""
    (bar,) = (axes for axes in figure.axes if axes.get_label() == COLOR_BAR)
    assert len(np.unique(bar.images[0].get_array())) > 100, "a bar of many colors"
    return {text.get_text() for text in bar.texts}


def direction_of(summary, program):
    """The direction of a program that explains more: that of its first row."""
    return summary.loc[summary["program"] == program, "direction"].iloc[0]


def test_programs_of_an_anndata_are_drawn(with_programs):
    summary = with_programs.uns["beta_vsc_programs"]["summary"]
    figure = sp.pl.programs(with_programs, n_programs=2)
    assert len(maps_of(figure)) == min(2, len(summary))
    assert texts_of_bar(figure) == {"0", "99th percentile", "activity; gray: off"}
    name = "beta_vsc_3"
    one = sp.pl.program(with_programs, name, n_genes=5)
    minus = sp.pl.program(with_programs, "beta_vsc_1-")
    assert "beta_vsc_1-" in [text.get_text() for text in minus.texts]
    activity = sp.tl.program_activity(with_programs)[f"{name}{direction_of(summary, name)}"].to_numpy()
    limit = np.percentile(activity[activity > 0], 99)
    assert texts_of_bar(one) == {"0", f"{limit:.2g} or more", "activity; gray: off"}
    genes = [label.get_text() for label in maps_of(one)[1].get_yticklabels()]
    assert genes == str(summary["genes"].iloc[0]).split(", ")[: len(genes)]
    assert name in " ".join(text.get_text() for text in one.texts)
    stored = importlib.import_module("sparcell.pl.stored_programs")
    assert sp.pl.programs is stored.programs


def test_what_is_missing_is_told_with_the_remedy(with_programs):
    with pytest.raises(sp.InputError, match=r"no program 'beta_vsc_99'; did you mean 'beta_vsc_"):
        sp.pl.program(with_programs, "beta_vsc_99")
    with pytest.raises(
        sp.InputError, match=r"uns\['beta_vae_programs'\]; programs of other models are there: key='beta_vsc'"
    ):
        sp.pl.programs(with_programs, "beta_vae")
    with pytest.raises(
        sp.InputError, match=r"write them with model.programs\(adata\), or train with sp.tl.beta_vsc\(adata\)"
    ):
        sp.pl.programs(cells())
    with pytest.raises(
        sp.InputError, match=r"no map of the cells in obsm\['X_umpa'\]; did you mean 'X_umap'"
    ):
        sp.pl.programs(with_programs, basis="umpa")
    without = with_programs.copy()
    del without.obsm["X_umap"]
    with pytest.raises(
        sp.InputError, match=r"obsm\['X_umap'\] or obsm\['X_tsne'\]; write one with sc.tl.umap\(adata\)"
    ):
        sp.pl.programs(without)
    del without.obsm["X_beta_vsc"]
    with pytest.raises(sp.InputError, match=r"write it with model.embed\(adata\)"):
        sp.tl.program_activity(without)
