"""Programs as tables: effects, explained fractions and cells on, against sums written out, on networks with chosen weights.

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
from helpers.untrained import ARCHITECTURES, N_CELLS, N_GENES, N_LATENT, untrained_model
from sparcell.data.loader import Loader
from sparcell.errors import InputError
from sparcell.metrics.clustering import label_aucs
from sparcell.models import MODELS
from sparcell.protocols import Minibatch
from sparcell.results.latents import LatentRepresentation
from sparcell.tl import program_effects
from sparcell.tl.program_effects import ProgramDecoder, ProgramEffects, find_programs
from sparcell.tl.programs import program_tables


@pytest.fixture
def adata():
    return two_batches(N_CELLS, n_affected=10)[:, :N_GENES].copy()


def chosen_latents(n_cells=N_CELLS, *, spikes=True):
    """Return latents of either sign; latent 1 is never below 0, latent 3 is inactive."""
    rng = np.random.default_rng(2)
    mean_nk = rng.normal(size=(n_cells, N_LATENT)).astype(np.float32)
    inclusion_nk = rng.uniform(size=mean_nk.shape).astype(np.float32)
    mean_nk[:, 1] = np.abs(mean_nk[:, 1])
    mean_nk[:, 3] *= 0.01
    return LatentRepresentation(mean_nk, np.zeros(N_LATENT), inclusion_nk if spikes else None)


def decoder_of(model, adata, latents):
    covariates = model.schema.covariates.read(adata.obs)
    n_genes = len(model.schema.genes)
    loader = Loader(model.schema.cells(adata), covariates, n_genes, model.device, max_resident_bytes=0)
    return ProgramDecoder(model.network, model.schema, loader, latents)


@torch.no_grad()
def decoded(model, adata, z_nk):
    """Return the expected expression of each cell, and -log p(x|z), with all cells dense in one minibatch."""
    x_ng = torch.from_numpy(model.schema.matrix(adata).toarray()).float()
    covariates = [torch.from_numpy(values) for values in model.schema.covariates.read(adata.obs)[:3]]
    batch = Minibatch(x_ng, x_ng.sum(dim=1, keepdim=True).clamp_min(1.0), *covariates)
    expected = model.network.likelihood.distribution(
        model.network.decode(torch.from_numpy(z_nk), batch), batch
    )
    return expected.mean.double().numpy(), -expected.log_prob(x_ng).double().sum(dim=1).numpy()


def with_latent_at_0(mean_nk, latent):
    off_nk = mean_nk.copy()
    off_nk[:, latent] = 0
    return off_nk


@pytest.mark.parametrize("spikes", [True, False])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_effects_and_delta_nll_equal_a_loop_over_cells_and_genes(adata, name, spikes, monkeypatch):
    monkeypatch.setattr(program_effects, "BLOCK_CELLS", 7)
    model, latents = untrained_model(adata, name), chosen_latents(spikes=spikes)
    mean_nk = latents.mean_nk
    found = find_programs(decoder_of(model, adata, latents), seed=0)
    sides = list(zip(found.latent_p.tolist(), found.sign_p.tolist(), strict=True))
    assert sorted(sides) == [(0, -1), (0, 1), (1, 1), (2, -1), (2, 1)]
    as_is_ng, nll_n = decoded(model, adata, mean_nk)
    size_n = adata.X.toarray().sum(axis=1, dtype=float)
    sd_g = np.ones(N_GENES) if model.schema.sd is None else np.array(model.schema.sd)
    for place, (latent, sign) in enumerate(sides):
        off_ng, off_nll_n = decoded(model, adata, with_latent_at_0(mean_nk, latent))
        delta_nll, effects, folds, weights = 0.0, [], [], []
        rms = np.sqrt(np.mean(mean_nk[:, latent].astype(float) ** 2))
        for cell in range(N_CELLS):
            z = float(mean_nk[cell, latent])
            if np.sign(z) != sign:
                continue
            delta_nll += (off_nll_n[cell] - nll_n[cell]) / N_CELLS
            if (latents.inclusion_nk[cell, latent] >= 0.5) if spikes else (abs(z) >= rms):
                weights.append(abs(z))
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
            found.effect_pg[place], np.average(effects, axis=0, weights=weights), rtol=1e-4, atol=2e-5
        )
        np.testing.assert_allclose(
            found.log2_fold_pg[place], np.average(folds, axis=0, weights=weights), rtol=1e-4, atol=2e-5
        )
        np.testing.assert_allclose(found.delta_nll_p[place], delta_nll, rtol=1e-3, atol=1e-3)
    joint_nk = mean_nk
    for place, (latent, _) in enumerate(sides):
        joint_nk = with_latent_at_0(joint_nk, latent)
        joint = (decoded(model, adata, joint_nk)[1] - nll_n).mean()
        np.testing.assert_allclose(found.joint_delta_nll_p[place], joint, rtol=1e-3, atol=1e-3)
    none_n = decoded(model, adata, np.zeros_like(mean_nk))[1]
    np.testing.assert_allclose(found.delta_nll_all, (none_n - nll_n).mean(), rtol=1e-4)


@pytest.mark.parametrize("name", ["additive", "nonnegative-linear", "scaled"])
def test_log2_folds_of_a_linear_decoder_are_the_weights_of_the_head_times_the_mean_latent(adata, name):
    model, latents = untrained_model(adata, name), chosen_latents()
    found = find_programs(decoder_of(model, adata, latents), seed=0)
    weight_gk = model.network.likelihood.head.weight.detach().numpy()
    sd_g = np.ones(N_GENES) if model.schema.sd is None else np.array(model.schema.sd)
    counts = model.schema.counts
    for place, latent in enumerate(found.latent_p):
        z_n = latents.mean_nk[found.on_np[:, place], latent].astype(float)
        z = np.average(z_n, weights=np.abs(z_n))
        fold_g = (found.log2_fold_pg if counts else found.effect_pg)[place]
        rest_g = fold_g - z * weight_gk[:, latent] * sd_g / np.log(2)
        np.testing.assert_allclose(rest_g, rest_g[0], atol=1e-5)
        assert counts or abs(rest_g[0]) < 1e-5


def test_effects_of_a_latent_weight_its_two_directions_by_their_cells(adata):
    model, latents = untrained_model(adata, "additive"), chosen_latents()
    found = find_programs(decoder_of(model, adata, latents), seed=0)
    by_latent = found.by_latent(N_LATENT)
    assert (by_latent[:, 3] == 0).all()
    for latent in range(3):
        places = np.flatnonzero(found.latent_p == latent)
        cells = [found.on_np[:, place].sum() for place in places]
        sides = [found.sign_p[place] * found.effect_pg[place] for place in places]
        np.testing.assert_allclose(by_latent[:, latent], np.average(sides, axis=0, weights=cells))


def test_a_gene_that_hardly_any_cell_has_does_not_lead_the_list(adata):
    """Doubled by the same latent: 40 counts per 10,000 become 80, and .04 become .08."""
    model = untrained_model(adata, "additive")
    head, latents = model.network.likelihood.head, chosen_latents()
    with torch.no_grad():
        head.weight.zero_()
        head.weight[[0, 1], 0] = np.log(2)
        head.bias.copy_(torch.log(torch.tensor([40.0, 0.04, *[9959.96 / 38] * 38])))
    mean_nk = np.zeros_like(latents.mean_nk)
    mean_nk[::2, 0] = 1
    one = LatentRepresentation(mean_nk, latents.kl_k, (mean_nk > 0).astype(np.float32))
    found = find_programs(decoder_of(model, adata, one), seed=0)
    assert found.latent_p.tolist() == [0]
    effect_g, fold_g = found.effect_pg[0], found.log2_fold_pg[0]
    total = (10_000 + 40 + 0.04) / 10_000
    np.testing.assert_allclose(fold_g[:2], 1 - np.log2(total), rtol=1e-4)
    np.testing.assert_allclose(effect_g[0], np.log2((80 / total + 1) / 41), rtol=1e-4)
    np.testing.assert_allclose(effect_g[1], np.log2((0.08 / total + 1) / 1.04), rtol=1e-3)
    assert effect_g[0] > 10 * effect_g[1]


def test_programs_that_explain_more_come_first_and_of_a_latent_the_larger_direction(adata):
    model, latents = untrained_model(adata, "expression"), chosen_latents()
    found = find_programs(decoder_of(model, adata, latents), seed=0)
    total = {latent: found.delta_nll_p[found.latent_p == latent].sum() for latent in found.latent_p}
    order = list(dict.fromkeys(found.latent_p.tolist()))
    assert order == sorted(total, key=lambda latent: -total[latent])
    for latent in order:
        assert (np.diff(found.delta_nll_p[found.latent_p == latent]) <= 0).all()
    assert list(np.flatnonzero(np.diff(found.latent_p))) == list(
        np.cumsum([(found.latent_p == latent).sum() for latent in order])[:-1] - 1
    )


def test_a_cell_is_decoded_in_its_own_batch(adata):
    """With an MLP decoder the batch changes the effect of a latent; with a linear decoder it changes only the constant."""
    other = adata.copy()
    other.obs["batch"] = pd.Categorical(np.where(adata.obs["batch"] == "a", "b", "a"))
    for name, least, most in [("layers", 0.01, np.inf), ("additive", 0.0, 1e-5)]:
        model, latents = untrained_model(adata, name), chosen_latents()
        one, two = (find_programs(decoder_of(model, cells, latents), seed=0) for cells in (adata, other))
        place = {(k, s): p for p, (k, s) in enumerate(zip(two.latent_p, two.sign_p, strict=True))}
        for first, side in enumerate(zip(one.latent_p, one.sign_p, strict=True)):
            gap_g = one.log2_fold_pg[first] - two.log2_fold_pg[place[side]]
            assert least <= np.abs(gap_g - gap_g.mean()).max() <= most


def test_samples_repeat_with_the_seed_and_are_close_to_all_cells(adata, monkeypatch):
    cells = two_batches(300, n_affected=10)[:, :N_GENES].copy()
    model, latents = untrained_model(adata), chosen_latents(300)
    decoder = decoder_of(model, cells, latents)
    whole = find_programs(decoder, seed=0)
    monkeypatch.setattr(program_effects, "MAX_CELLS", 60)
    one, again, other = (find_programs(decoder, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.effect_pg, again.effect_pg)
    np.testing.assert_array_equal(one.delta_nll_p, again.delta_nll_p)
    assert not np.array_equal(one.effect_pg, other.effect_pg)
    np.testing.assert_array_equal(one.on_np.sum(axis=0).max(), whole.on_np.sum(axis=0).max())
    for found in (one, other):
        side = (found.latent_p == 1).argmax(), (whole.latent_p == 1).argmax()
        assert np.corrcoef(found.effect_pg[side[0]], whole.effect_pg[side[1]])[0, 1] > 0.95


@pytest.fixture
def effects(adata):
    """Types, and effects of two programs: program 2+ is on in all cells of type 1 and in half of type 0."""
    types = pd.Categorical(["type 0", "type 1", None] * 10, categories=["type 0", "type 1"])
    on_np = np.zeros((N_CELLS, 2), dtype=bool)
    on_np[types == "type 1", 0] = True
    on_np[np.flatnonzero(types == "type 0")[:5], 0] = True
    on_np[0, 1] = True
    effect_pg = np.array([[0.5, -1.0, 2.0, 0.0], [-1.0, 3.0, -2.0, 1.0]])
    return types, ProgramEffects(
        latent_p=np.array([1, 0]),
        sign_p=np.array([1, -1]),
        on_np=on_np,
        activity_np=on_np * np.array([2.0, 4.0]),
        effect_pg=effect_pg,
        log2_fold_pg=2 * effect_pg,
        mean_on_pg=2.0 + effect_pg,
        mean_off_pg=np.full_like(effect_pg, 2.0),
        delta_nll_p=np.array([6.0, 1.0]),
        joint_delta_nll_p=np.array([6.0, 7.6]),
        delta_nll_all=8.0,
    )


def test_the_tables_show_the_effects(effects):
    types, found = effects
    tables = program_tables(found, "m", ["A", "B", "C", "D"], 2, types)
    summary = tables.summary
    assert summary["program"].tolist() == ["m_2", "m_1"]
    assert summary["direction"].tolist() == ["+", "-"]
    assert summary["latent"].tolist() == [2, 1], "counted from 1, as in the name"
    np.testing.assert_allclose(summary["fraction_cells_on"], [0.5, 1 / 30])
    np.testing.assert_allclose(summary["activity"], [2.0, 4.0])
    np.testing.assert_allclose(summary["fraction_explained"], [0.75, 0.125])
    np.testing.assert_allclose(summary["cumulative_explained"], [0.75, 0.95])
    assert summary["genes"].tolist() == ["C, A", "B, D"]
    assert summary["label"].tolist() == ["type 1", "type 0"]
    np.testing.assert_allclose(summary["label_fraction_on"], [1.0, 0.1])
    np.testing.assert_allclose(
        summary["label_auc"], [0.75, 0.55]
    )  # half of the others tie; one of ten is above
    np.testing.assert_allclose(summary["label_share"], [2 / 3, 1.0])
    np.testing.assert_allclose(tables.label_fractions.loc["m_2+"], [0.5, 1.0])
    np.testing.assert_allclose(tables.label_shares.loc["m_2+"], [1 / 3, 2 / 3])
    listed = tables.genes
    assert listed["gene"].tolist() == ["C", "A", "B", "D"]
    assert listed["rank"].tolist() == [1, 2, 1, 2]
    assert listed["program"].tolist() == ["m_2", "m_2", "m_1", "m_1"]
    np.testing.assert_allclose(listed["effect"], [2.0, 0.5, 3.0, 1.0])
    np.testing.assert_allclose(listed["mean_on"] - listed["mean_off"], listed["effect"])
    np.testing.assert_allclose(listed["log2_fold"], 2 * listed["effect"])
    assert tables.effects.loc["B", "m_1-"] == 3.0
    assert list(tables.ranked_genes.items()) == [("m_2+", ["C", "A"]), ("m_1-", ["B", "D"])]
    assert len(program_tables(found, "m", ["A", "B", "C", "D"], 9, None).genes) == 4, "raised genes only"
    assert program_tables(found, "m", ["A", "B", "C", "D"], 9, None).label_fractions is None


def test_the_label_of_a_program_is_one_in_which_the_program_is_on(effects):
    """Type 0 has the higher latents, but the program is on in none of its cells."""
    types, found = effects
    off_in_0 = replace(
        found,
        on_np=np.repeat((types == "type 1")[:, None], 2, axis=1),
        activity_np=np.where(types == "type 0", 3.0, 1.0)[:, None] * np.ones(2),
    )
    summary = program_tables(off_in_0, "m", list("ABCD"), 2, types).summary
    assert summary["label"].tolist() == ["type 1", "type 1"]
    assert summary["label_auc"].tolist() == [0.0, 0.0]


def test_a_model_of_expression_has_no_column_that_only_counts_fill(effects):
    types, found = effects
    tables = program_tables(replace(found, counts=False), "m", list("ABCD"), 2, types)
    assert "log2_fold" not in tables.genes


def test_a_program_that_is_on_in_all_cells_has_the_label_with_the_largest_latent(effects):
    types, found = effects
    everywhere = replace(
        found,
        on_np=np.ones((N_CELLS, 2), dtype=bool),
        activity_np=np.where(types == "type 1", 2.0, 1.0)[:, None] * [1.0, -1.0] + [0.0, 3.0],
    )
    summary = program_tables(everywhere, "m", list("ABCD"), 2, types).summary
    assert summary["label"].tolist() == ["type 1", "type 0"]
    assert summary["label_auc"].tolist() == summary["label_fraction_on"].tolist() == [1.0, 1.0]


def test_label_aucs_are_the_fractions_of_ordered_pairs():
    rng = np.random.default_rng(0)
    values, labels = rng.integers(0, 5, 40), rng.integers(0, 3, 40)
    for label, found in enumerate(label_aucs(values, labels)):
        inside, outside = values[labels == label], values[labels != label]
        assert found == pytest.approx(
            np.mean([(one > two) + 0.5 * (one == two) for one in inside for two in outside])
        )
    shifted = np.concatenate([rng.normal(size=4000), rng.normal(1, 1, 4000)])
    found = label_aucs(shifted, np.arange(8000) // 4000)
    np.testing.assert_allclose(found[1], norm.cdf(1 / np.sqrt(2)), atol=0.01)
    np.testing.assert_allclose(found.sum(), 1)


def test_genes_outside_the_model_have_no_effect_and_names_survive_a_file(adata, tmp_path):
    model = untrained_model(adata)
    wide = two_batches(N_CELLS, n_affected=10)[:, ::-1].copy()
    narrow = wide[:, adata.var_names].copy()
    of_wide = model.programs(wide, labels_key="type")
    of_narrow = model.programs(narrow, labels_key="type", key_added="mine")
    in_model = wide.var_names.isin(adata.var_names)
    assert wide.varm["beta_vsc_effects"].shape == (wide.n_vars, N_LATENT)
    assert wide.varm["beta_vsc_effects"].dtype == np.float32
    assert (wide.varm["beta_vsc_effects"][~in_model] == 0).all()
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
    model, strange = untrained_model(adata), adata.copy()
    strange.obs["batch"] = "c"
    with pytest.raises(InputError, match="which the model has not seen"):
        model.programs(strange)
    assert not strange.varm
    assert len(model.programs(strange, unseen="average").summary)


def test_no_active_latent_gives_empty_tables_and_a_warning(adata):
    model = untrained_model(adata)
    with torch.no_grad():
        for parameter in model.network.latent_encoder.parameters():
            parameter.zero_()
    with pytest.warns(UserWarning, match="no latent is active and on in these 30 cells"):
        found = model.programs(adata, labels_key="type")
    full = untrained_model(adata).programs(adata.copy(), labels_key="type")
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
        ({"n_genes": 0}, "n_genes"),
        ({"n_genes": 2.5}, "n_genes"),
        ({"unseen": "none"}, "unseen is 'none'"),
    ],
)
def test_wrong_arguments_raise_and_nothing_is_written(adata, keywords, message):
    with pytest.raises(InputError, match=message):
        untrained_model(adata).programs(adata, **keywords)
    assert not adata.varm
    assert not [key for key in adata.uns if "programs" in key]


def test_missing_genes_raise(adata):
    with pytest.raises(InputError, match="1 of the model's 40 genes are not in the data"):
        untrained_model(adata).programs(adata[:, 1:].copy())


def test_simulated_types_are_programs_with_their_own_markers():
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
        markers = {f"gene{gene}" for gene in range(15 * number, 15 * number + 15)}
        assert len(markers & set(top)) >= 8
