"""Programs as tables: effects, what is explained and where a program is on, against sums written out, on networks made by hand.

Suffixes: n cells, g genes, k latents, p programs and their directions.
"""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from helpers.simulated import simulated_cells, two_batches
from helpers.untrained import BUILT, N_CELLS, N_GENES, N_LATENT, made
from sparcell.data.loader import Loader
from sparcell.errors import InputError
from sparcell.metrics.clustering import label_aucs
from sparcell.models import MODELS
from sparcell.results.latents import LatentRepresentation
from sparcell.tl import programs


@pytest.fixture
def adata():
    return two_batches(N_CELLS, n_affected=10)[:, :N_GENES].copy()


def hand_codes(n_cells=N_CELLS, *, spikes=True):
    """Codes of either sign: latent 1 is never below 0, latent 3 is dead."""
    rng = np.random.default_rng(2)
    mean_nk = rng.normal(size=(n_cells, N_LATENT)).astype(np.float32)
    inclusion_nk = rng.uniform(size=mean_nk.shape).astype(np.float32)
    mean_nk[:, 1] = np.abs(mean_nk[:, 1])
    mean_nk[:, 3] *= 0.01
    return LatentRepresentation(mean_nk, np.zeros_like(mean_nk), inclusion_nk if spikes else None)


def reader_of(model, adata, codes):
    known = model.schema.covariates.read(adata.obs)
    loader = Loader(model.schema.rows(adata), known, len(model.schema.genes), model.device, dense_limit=0)
    return programs.ProgramDecoder(model.network, model.schema, loader, codes)


@torch.no_grad()
def decoded(model, adata, z_nk):
    """Expected expression of each cell, and -log p(x|z), with all cells dense in one batch."""
    known = model.schema.covariates.read(adata.obs)
    batch = model._batch(model.schema.matrix(adata).toarray(), known)
    given = model.network.likelihood.distribution(model.network.decode(torch.from_numpy(z_nk), batch), batch)
    return given.mean.double().numpy(), -given.log_prob(batch.x_ng).double().sum(dim=1).numpy()


def switched(mean_nk, latent):
    off_nk = mean_nk.copy()
    off_nk[:, latent] = 0
    return off_nk


@pytest.mark.parametrize("spikes", [True, False])
@pytest.mark.parametrize("name", BUILT)
def test_effects_and_what_is_explained_are_those_of_a_loop_over_cells_and_genes(
    adata, name, spikes, monkeypatch
):
    monkeypatch.setattr(programs, "BLOCK_CELLS", 7)
    model, codes = made(adata, name), hand_codes(spikes=spikes)
    mean_nk = codes.mean_nk
    found = programs.find(reader_of(model, adata, codes), seed=0)
    sides = list(zip(found.latent_p.tolist(), found.sign_p.tolist(), strict=True))
    assert sorted(sides) == [(0, -1), (0, 1), (1, 1), (2, -1), (2, 1)]
    as_is_ng, nll_n = decoded(model, adata, mean_nk)
    size_n = adata.X.toarray().sum(axis=1, dtype=float)
    sd_g = np.ones(N_GENES) if model.schema.sd is None else np.array(model.schema.sd)
    for place, (latent, sign) in enumerate(sides):
        off_ng, off_nll_n = decoded(model, adata, switched(mean_nk, latent))
        rise, effects, folds, far = 0.0, [], [], []
        rms = np.sqrt(np.mean(mean_nk[:, latent].astype(float) ** 2))
        for cell in range(N_CELLS):
            z = float(mean_nk[cell, latent])
            if np.sign(z) != sign:
                continue
            rise += (off_nll_n[cell] - nll_n[cell]) / N_CELLS
            if (codes.inclusion_nk[cell, latent] >= 0.5) if spikes else (abs(z) >= rms):
                far.append(abs(z))
                pairs = list(zip(as_is_ng[cell], off_ng[cell], sd_g, strict=True))
                if model.schema.counts:
                    size = size_n[cell]
                    effects.append(
                        [np.log2((on / size * 1e4 + 1) / (off / size * 1e4 + 1)) for on, off, _ in pairs]
                    )
                    folds.append([np.log2(on / off) for on, off, _ in pairs])
                else:
                    folds.append([np.nan] * N_GENES)
                    effects.append([(on - off) * sd / np.log(2) for on, off, sd in pairs])
        assert found.on_np[:, place].sum() == len(effects)
        np.testing.assert_allclose(
            found.effect_pg[place], np.average(effects, axis=0, weights=far), rtol=1e-4, atol=2e-5
        )
        np.testing.assert_allclose(
            found.fold_pg[place], np.average(folds, axis=0, weights=far), rtol=1e-4, atol=2e-5
        )
        np.testing.assert_allclose(found.rise_p[place], rise, rtol=1e-3, atol=1e-3)
    none_n = decoded(model, adata, np.zeros_like(mean_nk))[1]
    np.testing.assert_allclose(found.whole, (none_n - nll_n).mean(), rtol=1e-4)


@pytest.mark.parametrize("name", ["additive", "nonnegative-linear", "scaled"])
def test_folds_of_effects_that_add_up_are_the_head_s_weights_times_the_mean_code(adata, name):
    model, codes = made(adata, name), hand_codes()
    found = programs.find(reader_of(model, adata, codes), seed=0)
    weight_gk = model.network.likelihood.head.weight.detach().numpy()
    sd_g = np.ones(N_GENES) if model.schema.sd is None else np.array(model.schema.sd)
    counts = model.schema.counts
    for place, latent in enumerate(found.latent_p):
        z_n = codes.mean_nk[found.on_np[:, place], latent].astype(float)
        z = np.average(z_n, weights=np.abs(z_n))
        fold_g = (found.fold_pg if counts else found.effect_pg)[place]
        rest_g = fold_g - z * weight_gk[:, latent] * sd_g / np.log(2)
        np.testing.assert_allclose(rest_g, rest_g[0], atol=1e-5)
        assert counts or abs(rest_g[0]) < 1e-5


def test_effects_of_a_latent_weigh_its_two_sides_by_their_cells(adata):
    model, codes = made(adata, "additive"), hand_codes()
    found = programs.find(reader_of(model, adata, codes), seed=0)
    by_latent = found.by_latent(N_LATENT)
    assert (by_latent[:, 3] == 0).all()
    for latent in range(3):
        places = np.flatnonzero(found.latent_p == latent)
        cells = [found.on_np[:, place].sum() for place in places]
        sides = [found.sign_p[place] * found.effect_pg[place] for place in places]
        np.testing.assert_allclose(by_latent[:, latent], np.average(sides, axis=0, weights=cells))


def test_a_gene_that_hardly_any_cell_has_does_not_lead_the_list(adata):
    """Doubled by the same code: 40 counts per 10,000 become 80, and .04 become .08."""
    model = made(adata, "additive")
    head, codes = model.network.likelihood.head, hand_codes()
    with torch.no_grad():
        head.weight.zero_()
        head.weight[[0, 1], 0] = np.log(2)
        head.bias.copy_(torch.log(torch.tensor([40.0, 0.04, *[9959.96 / 38] * 38])))
    mean_nk = np.zeros_like(codes.mean_nk)
    mean_nk[::2, 0] = 1
    one = LatentRepresentation(mean_nk, codes.kl_nk, (mean_nk > 0).astype(np.float32))
    found = programs.find(reader_of(model, adata, one), seed=0)
    assert found.latent_p.tolist() == [0]
    effect_g, fold_g = found.effect_pg[0], found.fold_pg[0]
    total = (10_000 + 40 + 0.04) / 10_000
    np.testing.assert_allclose(fold_g[:2], 1 - np.log2(total), rtol=1e-4)
    np.testing.assert_allclose(effect_g[0], np.log2((80 / total + 1) / 41), rtol=1e-4)
    np.testing.assert_allclose(effect_g[1], np.log2((0.08 / total + 1) / 1.04), rtol=1e-3)
    assert effect_g[0] > 10 * effect_g[1]


def test_programs_that_explain_more_stand_first_and_the_larger_side_of_each(adata):
    model, codes = made(adata, "expression"), hand_codes()
    found = programs.find(reader_of(model, adata, codes), seed=0)
    total = {latent: found.rise_p[found.latent_p == latent].sum() for latent in found.latent_p}
    order = list(dict.fromkeys(found.latent_p.tolist()))
    assert order == sorted(total, key=lambda latent: -total[latent])
    for latent in order:
        assert (np.diff(found.rise_p[found.latent_p == latent]) <= 0).all()
    assert list(np.flatnonzero(np.diff(found.latent_p))) == list(
        np.cumsum([(found.latent_p == latent).sum() for latent in order])[:-1] - 1
    )


def test_a_cell_is_decoded_in_its_own_batch(adata):
    """In layers the batch changes what a latent does; where effects add up it changes only the constant."""
    other = adata.copy()
    other.obs["batch"] = pd.Categorical(np.where(adata.obs["batch"] == "a", "b", "a"))
    for name, least, most in [("layers", 0.01, np.inf), ("additive", 0.0, 1e-5)]:
        model, codes = made(adata, name), hand_codes()
        one, two = (programs.find(reader_of(model, cells, codes), seed=0) for cells in (adata, other))
        place = {(k, s): p for p, (k, s) in enumerate(zip(two.latent_p, two.sign_p, strict=True))}
        for first, side in enumerate(zip(one.latent_p, one.sign_p, strict=True)):
            gap_g = one.fold_pg[first] - two.fold_pg[place[side]]
            assert least <= np.abs(gap_g - gap_g.mean()).max() <= most


def test_draws_are_the_same_for_the_same_seed_and_near_the_whole(adata, monkeypatch):
    cells = two_batches(300, n_affected=10)[:, :N_GENES].copy()
    model, codes = made(adata), hand_codes(300)
    reader = reader_of(model, cells, codes)
    whole = programs.find(reader, seed=0)
    monkeypatch.setattr(programs, "MOST_CELLS", 60)
    one, again, other = (programs.find(reader, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.effect_pg, again.effect_pg)
    np.testing.assert_array_equal(one.rise_p, again.rise_p)
    assert not np.array_equal(one.effect_pg, other.effect_pg)
    np.testing.assert_array_equal(one.on_np.sum(axis=0).max(), whole.on_np.sum(axis=0).max())
    for found in (one, other):
        side = (found.latent_p == 1).argmax(), (whole.latent_p == 1).argmax()
        assert np.corrcoef(found.effect_pg[side[0]], whole.effect_pg[side[1]])[0, 1] > 0.95


@pytest.fixture
def named(adata):
    """What the tables are made of: program 2+ on in all cells of type 1 and in half of type 0."""
    types = pd.Categorical(["type 0", "type 1", None] * 10, categories=["type 0", "type 1"])
    on_np = np.zeros((N_CELLS, 2), dtype=bool)
    on_np[types == "type 1", 0] = True
    on_np[np.flatnonzero(types == "type 0")[:5], 0] = True
    on_np[0, 1] = True
    effect_pg = np.array([[0.5, -1.0, 2.0, 0.0], [-1.0, 3.0, -2.0, 1.0]])
    return types, programs.ProgramEffects(
        latent_p=np.array([1, 0]),
        sign_p=np.array([1, -1]),
        on_np=on_np,
        amount_np=on_np * np.array([2.0, 4.0]),
        effect_pg=effect_pg,
        fold_pg=2 * effect_pg,
        high_pg=2.0 + effect_pg,
        low_pg=np.full_like(effect_pg, 2.0),
        rise_p=np.array([6.0, 1.0]),
        whole=8.0,
    )


def test_the_tables_say_what_was_found(named):
    types, found = named
    made_tables = programs.tables(found, "m", ["A", "B", "C", "D"], 2, types)
    summary = made_tables.summary
    assert summary["program"].tolist() == ["m_2", "m_1"]
    assert summary["direction"].tolist() == ["+", "-"]
    assert summary["latent"].tolist() == [1, 0]
    np.testing.assert_allclose(summary["share_on"], [0.5, 1 / 30])
    np.testing.assert_allclose(summary["activity"], [2.0, 4.0])
    np.testing.assert_allclose(summary["explained"], [0.75, 0.125])
    assert summary["genes"].tolist() == ["C, A", "B, D"]
    assert summary["label"].tolist() == ["type 1", "type 0"]
    np.testing.assert_allclose(summary["label_share"], [1.0, 0.1])
    np.testing.assert_allclose(
        summary["label_auc"], [0.75, 0.55]
    )  # half of the others tie; one of ten is above
    np.testing.assert_allclose(made_tables.labels.loc["m_2+"], [0.5, 1.0])
    listed = made_tables.genes
    assert listed["gene"].tolist() == ["C", "A", "B", "D"]
    assert listed["rank"].tolist() == [1, 2, 1, 2]
    assert listed["program"].tolist() == ["m_2", "m_2", "m_1", "m_1"]
    np.testing.assert_allclose(listed["effect"], [2.0, 0.5, 3.0, 1.0])
    np.testing.assert_allclose(listed["mean_on"] - listed["mean_off"], listed["effect"])
    np.testing.assert_allclose(listed["log2_fold"], 2 * listed["effect"])
    assert made_tables.effects.loc["B", "m_1-"] == 3.0
    assert list(made_tables.ranked_genes.items()) == [("m_2+", ["C", "A"]), ("m_1-", ["B", "D"])]
    assert len(programs.tables(found, "m", ["A", "B", "C", "D"], 9, None).genes) == 4, "raised genes only"
    assert programs.tables(found, "m", ["A", "B", "C", "D"], 9, None).labels is None


def test_a_program_that_is_on_in_all_cells_has_the_label_where_its_code_is_largest(named):
    types, found = named
    everywhere = replace(
        found,
        on_np=np.ones((N_CELLS, 2), dtype=bool),
        amount_np=np.where(types == "type 1", 2.0, 1.0)[:, None] * [1.0, -1.0] + [0.0, 3.0],
    )
    summary = programs.tables(everywhere, "m", list("ABCD"), 2, types).summary
    assert summary["label"].tolist() == ["type 1", "type 0"]
    assert summary["label_auc"].tolist() == summary["label_share"].tolist() == [1.0, 1.0]


def test_label_aucs_are_the_shares_of_pairs_in_order():
    rng = np.random.default_rng(0)
    values, labels = rng.integers(0, 5, 40), rng.integers(0, 3, 40)
    for label, found in enumerate(label_aucs(values, labels)):
        own, others = values[labels == label], values[labels != label]
        assert found == pytest.approx(
            np.mean([(one > two) + 0.5 * (one == two) for one in own for two in others])
        )
    shifted = np.concatenate([rng.normal(size=4000), rng.normal(1, 1, 4000)])
    found = label_aucs(shifted, np.arange(8000) // 4000)
    np.testing.assert_allclose(found[1], norm.cdf(1 / np.sqrt(2)), atol=0.01)
    np.testing.assert_allclose(found.sum(), 1)


def test_genes_that_the_model_does_not_know_have_no_effect_and_names_survive_a_file(adata, tmp_path):
    model = made(adata)
    wide = two_batches(N_CELLS, n_affected=10)[:, ::-1].copy()
    narrow = wide[:, adata.var_names].copy()
    of_wide = model.programs(wide, labels_key="type")
    of_narrow = model.programs(narrow, labels_key="type", key_added="mine")
    known = wide.var_names.isin(adata.var_names)
    assert wide.varm["beta_vsc_effects"].shape == (wide.n_vars, N_LATENT)
    assert wide.varm["beta_vsc_effects"].dtype == np.float32
    assert (wide.varm["beta_vsc_effects"][~known] == 0).all()
    found_gk = pd.DataFrame(wide.varm["beta_vsc_effects"], index=wide.var_names).loc[narrow.var_names]
    np.testing.assert_array_equal(found_gk, narrow.varm["mine_effects"])
    assert (found_gk.to_numpy() != 0).any()
    assert of_narrow.summary["program"].str.startswith("mine_").all()
    np.testing.assert_array_equal(of_wide.effects, of_narrow.effects)
    wide.write_h5ad(tmp_path / "wide.h5ad")
    read = ad.read_h5ad(tmp_path / "wide.h5ad").uns["beta_vsc_programs"]
    for name, table in {"summary": of_wide.summary, "genes": of_wide.genes}.items():
        back = read[name].reset_index(drop=True)
        pd.testing.assert_frame_equal(back, table, check_dtype=False, check_categorical=False)


def test_unseen_batches_are_refused_or_average(adata):
    model, strange = made(adata), adata.copy()
    strange.obs["batch"] = "c"
    with pytest.raises(InputError, match="which the model has not seen"):
        model.programs(strange)
    assert not strange.varm
    assert len(model.programs(strange, unseen="average").summary)


def test_no_live_latent_gives_empty_tables_and_says_so(adata):
    model = made(adata)
    with torch.no_grad():
        for parameter in model.network.latent.parameters():
            parameter.zero_()
    with pytest.warns(UserWarning, match="no latent is live and on in these 30 cells"):
        found = model.programs(adata, labels_key="type")
    full = made(adata).programs(adata.copy(), labels_key="type")
    assert len(found.summary) == len(found.genes) == 0
    assert list(found.summary) == list(full.summary)
    assert list(found.genes) == list(full.genes)
    assert found.effects.shape == (N_GENES, 0)
    assert found.ranked_genes == {}
    assert (adata.varm["beta_vsc_effects"] == 0).all()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"labels_key": "typ"}, "obs has no column 'typ': did you mean 'type'"),
        ({"n_top": 0}, "n_top"),
        ({"n_top": 2.5}, "n_top"),
        ({"unseen": "none"}, "unseen is 'none'"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(adata, keywords, message):
    with pytest.raises(InputError, match=message):
        made(adata).programs(adata, **keywords)
    assert not adata.varm
    assert not [key for key in adata.uns if "programs" in key]


def test_missing_genes_are_named(adata):
    with pytest.raises(InputError, match="1 of the model's 40 genes are not in the data"):
        made(adata).programs(adata[:, 1:].copy())


def test_planted_types_are_programs_with_their_own_markers():
    """Trained: a type's marker genes lead the list of a program that is on in that type."""
    adata = simulated_cells()
    settings = {
        "likelihood": "nb",
        "decoder_type": "nonnegative-linear",
        "slab": "softplus-normal",
        "n_prior_components": 1,
    }
    model = MODELS["beta-vsc"](
        **settings, n_latent=6, alpha=0.3, beta=1.0, learning_rate=0.01, epochs=60, batch_size=64, seed=1
    ).fit(adata, silent=True)
    found = model.programs(adata, labels_key="type")
    best = found.summary[found.summary["label_auc"] > 0.95]
    assert best["label"].nunique() >= 3
    for row in best.itertuples():
        top = found.genes.query("program == @row.program and rank <= 10")["gene"]
        number = int(row.label.removeprefix("type "))
        own = {f"gene{gene}" for gene in range(15 * number, 15 * number + 15)}
        assert len(own & set(top)) >= 8
