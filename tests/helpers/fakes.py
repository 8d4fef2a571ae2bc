"""Fakes of the optional libraries of a benchmark, where they are called."""

from __future__ import annotations

import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd

from sparcell.results.benchmark import SCIB_COLUMNS


def add_modules(monkeypatch, modules, versions):
    """Make modules importable, and their distributions installed, for one test."""
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    before = metadata.version  # of a fake added before, or the real one
    monkeypatch.setattr(
        metadata, "version", lambda name: versions[name] if name in versions else before(name)
    )


def remove(monkeypatch, *names):
    """Make distributions look as if they were not installed."""
    before = metadata.version

    def version(name):
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return before(name)

    monkeypatch.setattr(metadata, "version", version)


def fake_scib(monkeypatch):
    """Install a Benchmarker that records its arguments and scores every metric 0.5. Returns the list of calls."""
    calls = []

    class Benchmarker:
        def __init__(self, adata, **options):
            calls.append(SimpleNamespace(adata=adata, **options))

        def benchmark(self):
            calls[-1].ran = True

        def get_results(self, min_max_scale):
            calls[-1].scaled = min_max_scale
            names = list(SCIB_COLUMNS)
            if calls[-1].batch_correction_metrics is None:
                names = ["KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI", "Bio conservation"]
            return pd.DataFrame(0.5, index=["latent"], columns=names)

    add_modules(
        monkeypatch,
        {
            "scib_metrics": {"settings": SimpleNamespace(verbosity=0)},
            "scib_metrics.benchmark": {
                "Benchmarker": Benchmarker,
                "BioConservation": lambda **options: options,
                "BatchCorrection": lambda **options: options,
            },
        },
        {"scib-metrics": "0.0.fake"},
    )
    return calls


def fake_scvi(monkeypatch):
    """Install an SCVI that records its training, calls callbacks like lightning, and encodes cells by their first genes."""
    model, calls = recording_model()
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
    """Install the same fake as DRVI, which scvi-tools trains."""
    fake_scvi(monkeypatch)
    model, calls = recording_model()
    add_modules(monkeypatch, {"drvi": {}, "drvi.model": {"DRVI": model}}, {"drvi-py": "0.0.fake"})
    return calls


def recording_model():
    """Return a class that is trained like those of scvi-tools, and the list of its calls."""
    calls = []

    class RecordingModel:
        @staticmethod
        def setup_anndata(adata, batch_key):
            calls.append(SimpleNamespace(batch_key=batch_key))

        def __init__(self, adata, **options):
            self.adata, self.call = adata, calls[-1]
            self.call.options = options

        def train(self, *, max_epochs, callbacks, **options):
            self.call.max_epochs, self.call.trained = max_epochs, options
            trainer = SimpleNamespace(current_epoch=0, fit_loop=SimpleNamespace(max_epochs=max_epochs))
            plan = SimpleNamespace(n_epochs_kl_warmup=options["plan_kwargs"].get("n_epochs_kl_warmup", 400))
            while trainer.current_epoch < trainer.fit_loop.max_epochs:
                for callback in callbacks:
                    callback.on_train_epoch_start(trainer, plan)
                    callback.on_train_epoch_end(trainer, plan)
                trainer.current_epoch += 1
            self.call.warmup = plan.n_epochs_kl_warmup
            self.history = {
                "elbo_train": pd.DataFrame({"elbo_train": np.linspace(9, 5, trainer.current_epoch)})
            }

        def get_latent_representation(self):
            return self.adata.X[:, : self.call.options["n_latent"]].toarray()

        def get_marginal_ll(self, *, indices, n_mc_samples, **options):
            self.call.scored, self.call.n_samples = indices, n_mc_samples
            return np.full(len(indices), -100.0)

    return RecordingModel, calls


def fake_harmony(monkeypatch):
    """Install a Harmony that adds one to every latent."""

    def run_harmony(latent_nk, obs, batch, **options):
        assert batch in obs
        return SimpleNamespace(Z_corr=latent_nk + 1)

    add_modules(monkeypatch, {"harmonypy": {"run_harmony": run_harmony}}, {"harmonypy": "0.0.fake"})
