"""Training in one call, as in scanpy: latents and gene programs are written into the AnnData.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

import importlib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sparcell.config.presets import find_preset
from sparcell.errors import InputError, did_you_mean
from sparcell.io import model_folder
from sparcell.io.labels import labels_from_obs
from sparcell.results.stored_programs import stored_programs

if TYPE_CHECKING:
    from anndata import AnnData

FIT_OPTIONS = ("layer", "genes_key", "batch_key", "covariates", "log_normalize", "scale", "silent")
"""Keyword arguments that go to `fit`; the other ones are settings of the model."""


def beta_vsc(
    adata: AnnData,
    *,
    key_added: str | None = None,
    labels_key: str | None = None,
    model_dir: str | Path | None = None,
    copy: bool = False,
    **settings: Any,
) -> AnnData | None:
    """Train a β-VSC, and write its latents and gene programs into `adata`.

    The same as ``model = sp.BetaVSC(**settings).fit(adata)`` with `Model.embed` and `Model.programs`, which also give access to the model.

    Parameters
    ----------
    adata
        Raw counts (n cells × g genes) or log-normalized values, in X or in the layer that `layer` names.
    key_added
        Stem of the keys below. Default: beta_vsc.
    labels_key
        Column of obs with cell types, to report in which types a program is on. Training does not read them: for that, call
        ``sp.BetaVSC(**settings).fit(adata, labels_key="cell_type")``.
    model_dir
        New folder for the trained model, which `sp.load` reads. Default: the model is not kept.
    copy
        Write into a copy and return it.
    settings
        Settings of `BetaVSC` such as ``n_latent=20, beta=1.0, seed=1``; ``preset="programs"`` begins with the settings for latents that are
        gene programs ("counts" and "hvg" are other presets of `sparcell fit`). Also what `fit` reads of the data: layer, genes_key,
        batch_key, covariates, log_normalize, scale; ``silent=True`` hides the progress.

    Returns
    -------
    None, or with `copy` the AnnData.

    Writes
    ------
    ``obsm["X_<key>"]``, ``obsm["<key>_inclusion"]`` and ``uns["<key>"]`` as `Model.embed`; ``varm["<key>_effects"]`` and
    ``uns["<key>_programs"]`` as `Model.programs`.

    Raises
    ------
    InputError
        Before any training, for settings that do not exist or data that do not fit.

    Examples
    --------
    ::

        sp.tl.beta_vsc(adata, preset="programs", batch_key="donor")
        sc.pp.neighbors(adata, use_rep="X_beta_vsc")
        sp.pl.program(adata, "beta_vsc_3")
    """
    return _fit_into("beta-vsc", adata, settings, key_added, labels_key, model_dir, copy=copy)


def beta_vae(
    adata: AnnData,
    *,
    key_added: str | None = None,
    labels_key: str | None = None,
    model_dir: str | Path | None = None,
    copy: bool = False,
    **settings: Any,
) -> AnnData | None:
    """Train a β-VAE, and write its latents and gene programs into `adata`. Arguments, results and errors as in `beta_vsc`.

    Writes
    ------
    ``obsm["X_<key>"]``, ``uns["<key>"]``, ``varm["<key>_effects"]``, ``uns["<key>_programs"]``; the default key is beta_vae.

    Examples
    --------
    ::

        sp.tl.beta_vae(adata, n_latent=20, batch_key="donor")
        sc.pp.neighbors(adata, use_rep="X_beta_vae")
    """
    return _fit_into("beta-vae", adata, settings, key_added, labels_key, model_dir, copy=copy)


def autoencoder(
    adata: AnnData,
    *,
    key_added: str | None = None,
    labels_key: str | None = None,
    model_dir: str | Path | None = None,
    copy: bool = False,
    **settings: Any,
) -> AnnData | None:
    """Train an autoencoder, and write its latents and gene programs into `adata`. Arguments, results and errors as in `beta_vsc`.

    Writes
    ------
    ``obsm["X_<key>"]``, ``uns["<key>"]``, ``varm["<key>_effects"]``, ``uns["<key>_programs"]``; the default key is autoencoder.

    Examples
    --------
    ::

        with_latents = sp.tl.autoencoder(adata, n_latent=20, copy=True)
        with_latents.obsm["X_autoencoder"]
    """
    return _fit_into("autoencoder", adata, settings, key_added, labels_key, model_dir, copy=copy)


def _fit_into(
    model: str,
    adata: AnnData,
    settings: dict[str, Any],
    key_added: str | None,
    labels_key: str | None,
    model_dir: str | Path | None,
    *,
    copy: bool,
) -> AnnData | None:
    """Train the model of a name in MODELS on `adata`, and write its latents and programs."""
    preset = settings.pop("preset", None)
    changes = settings if preset is None else find_preset(preset).for_model(model) | settings
    estimators = importlib.import_module(
        "sparcell.models"
    ).MODELS  # imported late: models build on this module's tools
    kind = estimators[model]
    accepted = {field.name for field in fields(kind)}
    for name in settings:
        if name not in accepted and name not in FIT_OPTIONS:
            raise InputError(
                f"{kind.__name__} has no setting {name!r}; {did_you_mean(name, sorted({*accepted, *FIT_OPTIONS, 'preset'}))}"
            )
    estimator = kind(**{name: value for name, value in changes.items() if name in accepted})
    if labels_key is not None:
        labels_from_obs(adata, labels_key)
    if model_dir is not None:
        model_folder.check_target(Path(model_dir))
    fitted = estimator.fit(adata, **{name: value for name, value in settings.items() if name in FIT_OPTIONS})
    target = adata.copy() if copy else adata
    fitted.embed(target, key_added=key_added)
    fitted.programs(target, labels_key=labels_key, key_added=key_added)
    if model_dir is not None:
        fitted.save(model_dir)
    return target if copy else None


def program_activity(adata: AnnData, key: str = "beta_vsc") -> pd.DataFrame:
    """Return how far each gene program is on in each cell, n × programs: the distance of the latent from 0, and 0 where it is off.

    Parameters
    ----------
    adata
        Data with the latents and programs of a model: see `beta_vsc`.
    key
        Stem of the model's keys.

    Returns
    -------
    One row per cell, one column per program and direction ("beta_vsc_3+"), those that explain most first.

    Raises
    ------
    InputError
        If latents or programs are missing; the message says what to run.

    Examples
    --------
    ::

        adata.obs = adata.obs.join(sp.tl.program_activity(adata))
        sc.pl.umap(adata, color=["beta_vsc_3+", "cell_type"])
    """
    stored = stored_programs(adata, key)
    return pd.DataFrame(stored.activity_np, index=adata.obs_names, columns=stored.names)
