"""Gene programs that were planted are found again, one a latent: in expression by the preset, in few counts by settings for counts.

Suffixes: n cells, k latents, p programs.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score

from sparcell.datasets.simulate import simulate_programs
from sparcell.models import MODELS

N_PROGRAMS, N_LATENT = 6, 12
COUNTED = {
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


def matched(latent_nk, amount_np):
    """|Pearson r| of each program with the latent that is matched to it, one to one, and these latents."""
    varies = latent_nk.std(axis=0) > 1e-6
    r_kp = np.zeros((latent_nk.shape[1], amount_np.shape[1]))
    both = np.corrcoef(latent_nk[:, varies].T, amount_np.T)
    r_kp[varies] = np.abs(both[: varies.sum(), varies.sum() :])
    latent_p, program_p = linear_sum_assignment(-r_kp)
    order = np.argsort(program_p)
    return r_kp[latent_p, program_p][order], latent_p[order]


def test_planted_programs_are_found_one_a_latent_where_a_beta_vae_mixes_them(adata):
    amount_np = adata.obsm["activity"]
    model = MODELS["beta-vsc"](**COUNTED, n_latent=N_LATENT).fit(adata, silent=True)
    codes = model.codes(adata)
    r_p, latent_p = matched(codes.mean_nk, amount_np)
    assert r_p.mean() >= 0.9
    assert abs(codes.active_k.sum() - N_PROGRAMS) <= 2

    on_np, gamma_np = amount_np > 0, codes.inclusion_nk[:, latent_p]
    assert (gamma_np[on_np].mean() - gamma_np[~on_np].mean()) > 0.5

    effect_gp = model.network.likelihood.head.weight.detach().numpy()[:, latent_p]
    assert (effect_gp >= 0).all()
    for planted_g, found_g in zip(adata.varm["effects"].T, effect_gp.T, strict=True):
        assert found_g[planted_g > 0].mean() > 3 * found_g[planted_g == 0].mean()

    mixed = MODELS["beta-vae"](likelihood="nb", n_latent=N_LATENT).fit(adata, silent=True)
    assert matched(mixed.transform(adata), amount_np)[0].mean() < r_p.mean() - 0.2


def test_the_preset_finds_twelve_programs_with_no_more_than_two_latents_to_spare():
    """At PBMC3k's depths, over 2,000 genes, with 32 latents; which cells a program is on in is read from gamma."""
    adata = simulate_programs()
    on_np = adata.obsm["activity"] > 0
    codes = MODELS["beta-vsc"].readable().fit(adata, silent=True).codes(adata)
    r_p, latent_p = matched(codes.mean_nk, adata.obsm["activity"])
    assert (r_p >= 0.9).sum() >= 11
    assert codes.active_k.sum() <= 14
    pairs = zip(on_np.T, codes.inclusion_nk[:, latent_p].T, strict=True)
    assert np.mean([roc_auc_score(on_n, gamma_n) for on_n, gamma_n in pairs]) >= 0.95
