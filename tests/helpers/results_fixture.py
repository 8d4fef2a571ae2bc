"""Realistic study results with simulated clouds of cells, for the tests of figures, texts and page."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparcell.results.study import CLUSTERING_METRICS, MethodResult, StudyResults

TYPES = (
    "Naive CD4 T", "Memory CD4 T", "CD14+ Mono", "B", "CD8 T", "FCGR3A+ Mono", "NK", "DC", "Platelet",
)  # fmt: skip
FRACTIONS = (0.26, 0.18, 0.18, 0.13, 0.11, 0.06, 0.05, 0.02, 0.01)
NASTY = ('T <b>cells</b> & "friends"', "</script><script>alert(1)</script> $x$")

ROWS = (
    # name, title, model, preset, mean NMI
    ("autoencoder", "Autoencoder", "autoencoder", "study-2019", 0.671),
    ("beta-vae", "β-VAE", "beta-vae", "study-2019", 0.707),
    ("beta-vsc", "β-VSC", "beta-vsc", "study-2019", 0.679),
    ("autoencoder-hvg", "Autoencoder, variable genes", "autoencoder", "hvg", 0.724),
    ("beta-vae-hvg", "β-VAE, variable genes", "beta-vae", "hvg", 0.747),
    ("beta-vsc-hvg", "β-VSC, variable genes", "beta-vsc", "hvg", 0.712),
    ("pca-6", "PCA, 6 components", None, "baseline", 0.741),
    ("pca-10", "PCA, 10 components", None, "baseline", 0.798),
)


def clouds(codes_n, n_labels, dims, rng, spread=14.0):
    """Return round clouds, one for each label, on a circle (2-D) or a sphere."""
    turn = 2 * np.pi * np.arange(n_labels) / max(n_labels, 1)
    centres = spread * np.column_stack([np.cos(turn), np.sin(turn), np.cos(3 * turn)])[:, :dims]
    return centres[codes_n] + rng.normal(0, 2.2, (len(codes_n), dims))


def score_table(means, seeds, rng, sd=0.008):
    lines = []
    for name, nmi in means:
        for seed in seeds:
            for space, shift in (("tsne2d", 0.0), ("latent", -0.05)):
                values = np.clip(nmi + shift + np.array([0, -0.13, 0.04, -0.03]) + rng.normal(0, sd, 4), 0, 1)
                lines.append(
                    {
                        "model": name,
                        "seed": seed,
                        "space": space,
                        **dict(zip(CLUSTERING_METRICS, values, strict=True)),
                    }
                )
    return pd.DataFrame(lines)


def history_table(names, seeds, rng, epochs=60):
    frames = []
    for place, name in enumerate(names):
        for seed in seeds:
            epoch = np.arange(1, epochs + 1)
            nll = 900 + 40 * place + 900 * np.exp(-epoch / 6) + rng.normal(0, 2, epochs)
            kl = np.zeros(epochs) if "autoencoder" in name else 12 - 8 * np.exp(-epoch / 10)
            frames.append(
                pd.DataFrame(
                    {
                        "model": name,
                        "seed": seed,
                        "epoch": epoch,
                        "loss": nll + 2 * kl,
                        "reconstruction_loss": nll,
                        "kl": kl,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def make_row(spec, codes_n, n_labels, rng, tsne2d=None):
    name, title, model, preset, _ = spec
    xy = clouds(codes_n, n_labels, 2, rng) if tsne2d is None else tsne2d
    kmeans = codes_n.copy()
    kmeans[kmeans < 0] = 0
    if n_labels > 4:  # naive and memory T cells share a cluster; monocytes fall into two
        kmeans[kmeans == 1] = 0
        mono = np.flatnonzero(codes_n == 2)
        kmeans[mono[: len(mono) // 2]] = 1
    shuffled = rng.permutation(n_labels)[kmeans]
    centroids = np.array(
        [xy[shuffled == c].mean(axis=0) if (shuffled == c).any() else [0.0, 0.0] for c in range(n_labels)]
    )
    variational = model is not None and model != "autoencoder"
    n_latents = 6
    active = np.array([True] * 5 + [name != "beta-vsc"]) if model else None
    return MethodResult(
        name=name, title=title, model=model, preset=preset,
        settings={} if model is None else {"n_latent": 6, "beta": 2.0, "epochs": 200, "n_genes": 13714, "likelihood": "gaussian"},
        latent_nk=rng.normal(size=(len(codes_n), n_latents)), tsne2d_n2=xy, kmeans_n=shuffled, centroids_c2=centroids,
        tsne3d_n3=clouds(codes_n, n_labels, 3, rng),
        inclusion_nk=rng.uniform(0, 1, (len(codes_n), n_latents)) if model == "beta-vsc" else None,
        kl_k=np.array([3.1, 2.2, 1.9, 1.2, 0.8, 0.001 if name == "beta-vsc" else 0.6]) if variational else None,
        active_k=active,
        generated_m2=xy[rng.integers(len(xy), size=200)] + rng.normal(0, 0.8, (200, 2)) if variational else None,
        interpolated_s2=np.linspace(xy[0], xy[-1], 12) if variational else None,
        interpolated_labels=(str(codes_n[0]), str(codes_n[-1])) if variational else None,
    )  # fmt: skip


def qc_table(n_cells, rng):
    genes = rng.lognormal(6.7, 0.4, n_cells)
    mito = rng.gamma(3, 0.8, n_cells)
    kept = (genes > 200) & (genes < 2500) & (mito < 5)
    return pd.DataFrame(
        {
            "n_genes": genes.astype(int),
            "total_counts": (genes * 2.7).astype(int),
            "pct_mito": mito,
            "kept": kept,
        }
    )


def full_results(n=600, seeds=(0, 1)):
    """Return results with nine types, eight rows, two seeds and all fields."""
    rng = np.random.default_rng(7)
    codes = rng.choice(len(TYPES), n, p=np.array(FRACTIONS))
    codes[: len(TYPES)] = np.arange(len(TYPES))
    with_missing = codes.copy()
    with_missing[-7:] = -1
    trained = [spec[0] for spec in ROWS if spec[2]]
    times = pd.DataFrame([
        {"model": name, "seed": seed, "epochs": 200, "train_seconds": 40 + 25 * place + rng.uniform(0, 4)}
        for place, name in enumerate(trained) for seed in seeds
    ])  # fmt: skip
    return StudyResults(
        title="PBMC3k",
        labels=pd.Categorical.from_codes(with_missing, categories=list(TYPES)),
        label_source="column seurat of labels.csv",
        labels_from_pca=True,
        rows=tuple(make_row(spec, codes, len(TYPES), rng) for spec in ROWS),
        scores=score_table([(spec[0], spec[4]) for spec in ROWS], seeds, rng),
        times=times,
        history=history_table(trained, seeds, rng),
        qc=qc_table(n + 40, rng),
        provenance={
            "command": "sparcell study --out study --seeds 2",
            "versions": {"sparcell": "0.1.0", "torch": "2.9.0", "numpy": "2.4.6"},
            "seeds": list(seeds), "input": "pbmc3k, sha256 1f3a…", "machine": "x86_64, 2 cores",
            "n_cells": n, "n_genes": 13714, "seconds": 512.3, "date": "2025-11-22",
            "qc_limits": {"n_genes": (200, 2500), "pct_mito": (None, 5)},
        },
    )  # fmt: skip


def bare_results(n=60):
    """Return minimal results: one seed, two labels with hostile names, no spikes, no generated cells, no quality control."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 2, n)
    codes[:2] = (0, 1)
    specs = [
        ("autoencoder", "Autoencoder <i>", "autoencoder", "study-2019", 0.4),
        ("pca-2", "PCA, 2 components", None, "baseline", 0.5),
    ]
    rows = [make_row(spec, codes, 2, rng) for spec in specs]
    return StudyResults(
        title='Two "types" & <script>alert(0)</script>',
        labels=pd.Categorical.from_codes(codes, categories=list(NASTY)),
        label_source="column <type>",
        labels_from_pca=False,
        rows=tuple(rows),
        scores=score_table([(spec[0], spec[4]) for spec in specs], (0,), rng),
        times=pd.DataFrame([{"model": "autoencoder", "study-2019": 0, "epochs": 5, "train_seconds": 0.8}]),
        history=history_table(["autoencoder"], (0,), rng, epochs=1),
        qc=pd.DataFrame(columns=["n_genes", "total_counts", "pct_mito", "kept"]),
    )
