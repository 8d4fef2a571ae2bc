"""Stand-ins for the optional libraries of a benchmark, at the border where they are called."""

from __future__ import annotations

import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd

from sparcell.results.benchmark import SCIB

REAL_VERSION = metadata.version


def add_modules(monkeypatch, modules, versions):
    """Make modules importable and their distributions known for one test."""
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    known = metadata.version  # that of a fake added before, or the real one
    monkeypatch.setattr(metadata, "version", lambda name: versions[name] if name in versions else known(name))


def remove(monkeypatch, *names):
    """Make distributions look as if they were not installed."""
    known = metadata.version

    def version(name):
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(metadata, "version", version)


def fake_scib(monkeypatch):
    """A Benchmarker that notes what it is given and scores every measure with .5, scaled or not as it was asked."""
    calls = []

    class Benchmarker:
        def __init__(self, adata, **given):
            calls.append(SimpleNamespace(adata=adata, **given))

        def benchmark(self):
            calls[-1].ran = True

        def get_results(self, min_max_scale):
            calls[-1].scaled = min_max_scale
            names = list(SCIB)
            if calls[-1].batch_correction_metrics is None:
                names = ["KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI", "Bio conservation"]
            return pd.DataFrame(0.5, index=["code"], columns=names)

    add_modules(
        monkeypatch,
        {
            "scib_metrics": {"settings": SimpleNamespace(verbosity=0)},
            "scib_metrics.benchmark": {
                "Benchmarker": Benchmarker,
                "BioConservation": lambda **given: given,
                "BatchCorrection": lambda **given: given,
            },
        },
        {"scib-metrics": "0.0.fake"},
    )
    return calls


def fake_scvi(monkeypatch):
    """An SCVI that notes how it was trained, calls the callbacks as lightning does, and codes cells by their first genes."""
    model, calls = noting_model()
    add_modules(
        monkeypatch,
        {
            "scvi": {"settings": SimpleNamespace(seed=None), "model": SimpleNamespace(SCVI=model)},
            "lightning": {},
            "lightning.pytorch": {},
            "lightning.pytorch.callbacks": {"Callback": object},
        },
        {"scvi-tools": "0.0.fake", "lightning": "0.0.fake"},
    )
    return calls


def fake_drvi(monkeypatch):
    """The same as DRVI, which is trained by scvi-tools."""
    fake_scvi(monkeypatch)
    model, calls = noting_model()
    add_modules(monkeypatch, {"drvi": {}, "drvi.model": {"DRVI": model}}, {"drvi-py": "0.0.fake"})
    return calls


def noting_model():
    """A class that is trained as those of scvi-tools are, and the list of what it was given."""
    calls = []

    class NotingModel:
        @staticmethod
        def setup_anndata(adata, batch_key):
            calls.append(SimpleNamespace(batch_key=batch_key))

        def __init__(self, adata, **given):
            self.adata, self.note = adata, calls[-1]
            self.note.given = given

        def train(self, *, max_epochs, callbacks, **given):
            self.note.max_epochs, self.note.trained = max_epochs, given
            trainer = SimpleNamespace(current_epoch=0, fit_loop=SimpleNamespace(max_epochs=max_epochs))
            plan = SimpleNamespace(n_epochs_kl_warmup=given["plan_kwargs"].get("n_epochs_kl_warmup", 400))
            while trainer.current_epoch < trainer.fit_loop.max_epochs:
                for callback in callbacks:
                    callback.on_train_epoch_start(trainer, plan)
                    callback.on_train_epoch_end(trainer, plan)
                trainer.current_epoch += 1
            self.note.warmup = plan.n_epochs_kl_warmup
            self.history = {
                "elbo_train": pd.DataFrame({"elbo_train": np.linspace(9, 5, trainer.current_epoch)})
            }

        def get_latent_representation(self):
            return self.adata.X[:, : self.note.given["n_latent"]].toarray()

        def get_marginal_ll(self, *, indices, n_mc_samples, **given):
            self.note.scored, self.note.n_samples = indices, n_mc_samples
            return np.full(len(indices), -100.0)

    return NotingModel, calls


def fake_harmony(monkeypatch):
    """A Harmony that moves every code by one."""

    def run_harmony(codes_nk, obs, batch, **given):
        assert batch in obs
        return SimpleNamespace(Z_corr=codes_nk + 1)

    add_modules(monkeypatch, {"harmonypy": {"run_harmony": run_harmony}}, {"harmonypy": "0.0.fake"})
