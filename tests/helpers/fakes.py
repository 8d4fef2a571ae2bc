"""Fakes of the optional libraries of a benchmark, where they are called."""

from __future__ import annotations

import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
from scipy import sparse


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
    """Install functions of scib-metrics that record their arguments and score 0.5. Returns the list of calls, each (name, arguments)."""
    calls = []

    def metric(name, value):
        def compute(*arguments, **options):
            calls.append((name, arguments))
            return value

        return compute

    class NeighborsResults:
        def __init__(self, indices, distances):
            self.indices, self.distances = indices, distances
            n = len(indices)
            rows = np.arange(n).repeat(indices.shape[1])
            graph = sparse.coo_matrix((np.ones(indices.size), (rows, indices.ravel())), shape=(n, n)).tocsr()
            self.knn_graph_connectivities = (graph + graph.T).tocoo()

        def subset_neighbors(self, n):
            return NeighborsResults(self.indices[:, :n], self.distances[:, :n])

    functions = {
        name: metric(name, 0.5) for name in ("clisi_knn", "ilisi_knn", "graph_connectivity", "pcr_comparison")
    }
    functions["nmi_ari_cluster_labels_kmeans"] = metric("kmeans", {"nmi": 0.5, "ari": 0.5})
    add_modules(
        monkeypatch,
        {
            "scib_metrics": {"settings": SimpleNamespace(verbosity=0), **functions},
            "scib_metrics.nearest_neighbors": {"NeighborsResults": NeighborsResults},
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
            for _ in range(max_epochs):
                for callback in callbacks:
                    callback.on_train_epoch_end(None, None)
            self.call.warmup = options["plan_kwargs"].get("n_epochs_kl_warmup", 400)
            self.history = {"elbo_train": pd.DataFrame({"elbo_train": np.linspace(9, 5, max_epochs)})}

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
