"""Simulated gene programs are recovered, one per latent: by the preset programs, and from counts.

Suffixes: n cells, k latents, p programs.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score

from sparcell.datasets.simulate import simulate_branches, simulate_programs
from sparcell.metrics.matching import matched_correlation
from sparcell.models import MODELS

N_PROGRAMS, N_LATENT = 6, 12
COUNT_SETTINGS = {
    "likelihood": "nb",
    "decoder_type": "nonnegative-linear",
    "slab": "softplus-normal",
    "n_prior_components": 1,
    "alpha": 0.3,
    "beta": 1.0,
    "learning_rate": 0.01,
    "kl_warmup_fraction": 0.5,
    "kl_warmup_start": 2.0,
    "epochs": 200,
}


@pytest.fixture(scope="module")
def adata():
    return simulate_programs(N_PROGRAMS, n_genes=400, n_cells=1500)


def match_programs(latent_nk, amount_np):
    """Return |Pearson r| of each program with its latent in the best one-to-one matching, and these latents."""
    varies = latent_nk.std(axis=0) > 1e-6
    r_kp = np.zeros((latent_nk.shape[1], amount_np.shape[1]))
    both = np.corrcoef(latent_nk[:, varies].T, amount_np.T)
    r_kp[varies] = np.abs(both[: varies.sum(), varies.sum() :])
    latent_p, program_p = linear_sum_assignment(-r_kp)
    order = np.argsort(program_p)
    return r_kp[latent_p, program_p][order], latent_p[order]


def test_the_beta_vsc_recovers_programs_one_per_latent_where_a_beta_vae_mixes_them(adata):
    amount_np = adata.obsm["activity"]
    model = MODELS["beta-vsc"](**COUNT_SETTINGS, n_latent=N_LATENT).fit(adata, silent=True)
    latents = model.latent_representation(adata)
    r_p, latent_p = match_programs(latents.mean_nk, amount_np)
    assert r_p.mean() >= 0.9
    assert abs(latents.active_k.sum() - N_PROGRAMS) <= 2

    on_np, inclusion_np = amount_np > 0, latents.inclusion_nk[:, latent_p]
    assert (inclusion_np[on_np].mean() - inclusion_np[~on_np].mean()) > 0.5

    effect_gp = model.network.likelihood.head.weight.detach().numpy()[:, latent_p]
    assert (effect_gp >= 0).all()
    for simulated_g, learned_g in zip(adata.varm["effects"].T, effect_gp.T, strict=True):
        assert learned_g[simulated_g > 0].mean() > 3 * learned_g[simulated_g == 0].mean()

    mixed = MODELS["beta-vae"](likelihood="nb", n_latent=N_LATENT).fit(adata, silent=True)
    assert match_programs(mixed.transform(adata), amount_np)[0].mean() < r_p.mean() - 0.2


def test_the_programs_preset_recovers_twelve_programs_with_at_most_two_more_active_latents():
    """Depths are those of PBMC3k, over 2,000 genes, with 32 latents. Inclusion probabilities give the cells in which a program is on."""
    adata = simulate_programs()
    on_np = adata.obsm["activity"] > 0
    latents = MODELS["beta-vsc"].for_programs().fit(adata, silent=True).latent_representation(adata)
    r_p, latent_p = match_programs(latents.mean_nk, adata.obsm["activity"])
    assert (r_p >= 0.9).sum() >= 11
    assert latents.active_k.sum() <= 14
    pairs = zip(on_np.T, latents.inclusion_nk[:, latent_p].T, strict=True)
    assert np.mean([roc_auc_score(on_n, inclusion_n) for on_n, inclusion_n in pairs]) >= 0.95


def test_the_programs_preset_keeps_programs_of_branching_paths_alive():
    """Few genes and shallow counts: with beta 2 a model keeps 7 latents for 15 programs, which reach a mean correlation of .57."""
    adata = simulate_branches(8, n_genes=600, n_cells=1500)
    model = MODELS["beta-vsc"].for_programs(max_steps=1200).fit(adata, silent=True)
    latents = model.latent_representation(adata)
    assert latents.active_k.sum() >= 9
    assert matched_correlation(latents.mean_nk, adata.obsm["activity"]).mean >= 0.65
