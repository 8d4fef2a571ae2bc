"""The optional libraries themselves; without a library its tests are not defined."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, special, stats

from sparcell import datasets
from sparcell.benchmark import methods
from sparcell.benchmark.methods import BATCH, HELD_OUT, MethodInput
from sparcell.metrics import scib
from sparcell.results.benchmark import SCIB_COLUMNS

pytestmark = pytest.mark.filterwarnings("default")  # other libraries raise their own warnings


def cells(n_cells=240):
    simulated = datasets.simulate_programs(n_programs=4, n_cells=n_cells, n_genes=60, n_batches=2, seed=0)
    obs = pd.DataFrame(
        {BATCH: pd.Categorical(simulated.obs["batch"].astype(str)), HELD_OUT: np.arange(n_cells) % 10 == 0}
    )
    return anndata.AnnData(sparse.csr_matrix(simulated.X), obs=obs.set_index(simulated.obs_names))


if find_spec("scib_metrics"):

    def scores_by_column(*arrays):
        """Return the scores of the library by the columns of the benchmark."""
        scores = scib.scib_scores(*arrays)
        return {SCIB_COLUMNS[name]: value for name, value in scores.items() if name in SCIB_COLUMNS}

    def test_scib_scores_a_perfect_representation_above_noise():
        generator = np.random.default_rng(0)
        labels = np.repeat(["a", "b", "c"], 100)
        batches = np.tile(["x", "y"], 150)
        before = generator.normal(size=(300, 10)) + 3 * (batches == "x")[:, None]
        perfect = 10 * np.eye(3)[np.repeat([0, 1, 2], 100)] + generator.normal(size=(300, 3))
        good, bad = (
            scores_by_column(latent_nk, labels, batches, before)
            for latent_nk in (perfect, generator.normal(size=(300, 3)))
        )
        assert set(good) == set(SCIB_COLUMNS.values())
        assert good["kmeans_nmi"] == pytest.approx(1)
        assert good["bio_conservation"] > bad["bio_conservation"] + 0.3
        assert good["total"] == pytest.approx(0.4 * good["batch_correction"] + 0.6 * good["bio_conservation"])
        unmixed = scores_by_column(before, labels, batches, before)
        assert unmixed["pcr_comparison"] == 0
        assert unmixed["ilisi"] < good["ilisi"]
        alone = scores_by_column(perfect, labels, None, before)
        assert set(alone) == {"kmeans_nmi", "kmeans_ari", "silhouette_label", "clisi", "bio_conservation"}

    @pytest.mark.slow
    @pytest.mark.parametrize("shift", [0.0, 0.7, 3.0])
    def test_scib_s_scores_are_those_of_its_benchmarker(shift):
        from scib_metrics.benchmark import Benchmarker

        generator = np.random.default_rng(1)
        type_n = generator.choice(4, 900, p=[0.4, 0.3, 0.2, 0.1])
        batches = generator.choice(["x", "y", "z"], 900)
        before = generator.normal(size=(900, 20)) + 4 * np.eye(20)[type_n] + 2 * (batches == "x")[:, None]
        latent_nk = (
            3 * np.eye(6)[type_n] + generator.normal(size=(900, 6)) + shift * (batches == "y")[:, None]
        ).astype("f4")
        obs = pd.DataFrame({"label": type_n.astype(str), "batch": batches}, index=np.arange(900).astype(str))
        data = anndata.AnnData(
            np.zeros((900, 1), dtype="f4"), obs=obs, obsm={"latent": latent_nk, "before": before}
        )
        library = Benchmarker(
            data, "batch", "label", ["latent"], pre_integrated_embedding_obsm_key="before", progress_bar=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library.benchmark()
            expected = library.get_results(min_max_scale=False).loc["latent"]
        scores = scib.scib_scores(latent_nk, obs["label"].to_numpy(), batches, before)
        assert {name: float(expected[name]) for name in scores} == pytest.approx(scores, abs=0.01)


if find_spec("harmonypy"):

    def test_harmony_moves_batches_nearer_and_keeps_the_cells_in_their_places():
        data = cells(600)
        inputs = MethodInput(data, {"n_components": 6}, 0, 5, silent=True)
        before, after = (method(inputs)().encode() for method in (methods.pca, methods.harmony))
        one = (data.obs[BATCH] == data.obs[BATCH].iloc[0]).to_numpy()

        def distance(z_nk):
            return np.linalg.norm(z_nk[one].mean(axis=0) - z_nk[~one].mean(axis=0)) / z_nk.std()

        assert after.shape == before.shape
        assert distance(after) < 0.95 * distance(before)
        assert min(np.corrcoef(before[:, k], after[:, k])[0, 1] for k in range(6)) > 0.5


if find_spec("scvi"):

    def test_scvi_s_bound_is_the_importance_weighted_one_of_our_models():
        data = cells()
        inputs = MethodInput(data, {"n_latent": 3, "n_layers": 1, "epochs": 40}, 0, 300, silent=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = methods.scvi(inputs)()
            bound_t = fitted.log_likelihood()
            again = fitted.log_likelihood()
        assert fitted.n_epochs == 40
        assert fitted.encode().shape == (240, 3)
        assert np.array_equal(bound_t, again)
        assert np.abs(bound_t.mean() - bound(fitted, data, inputs.test_t, 300).mean()) < 0.5

    def bound(fitted, data, rows, n_samples):
        """log 1/S Σ p(x|z) p(z) / q(z|x), with scipy's densities and the network's own quantities."""
        import torch

        model = next(
            cell.cell_contents for cell in fitted.encode.__closure__ if hasattr(cell.cell_contents, "module")
        )
        x = torch.tensor(data.X[rows].toarray())
        batch = torch.tensor(data.obs[BATCH].cat.codes.to_numpy()[rows].astype(np.int64))[:, None]
        size = x.sum(1, keepdim=True).log()
        weights = []
        with torch.no_grad():
            posterior = model.module.inference(x, batch)["qz"]
            for _ in range(n_samples):
                z = posterior.sample()
                counts = model.module.generative(z, size, batch)["px"]
                mean, shape = (np.asarray(part, dtype=float) for part in (counts.mu, counts.theta))
                log_p = stats.nbinom.logpmf(x.numpy(), shape, shape / (shape + mean)).sum(axis=1)
                log_ratio = stats.norm.logpdf(z) - stats.norm.logpdf(z, posterior.loc, posterior.scale)
                weights.append(log_p + log_ratio.sum(axis=1))
        return special.logsumexp(weights, axis=0) - np.log(n_samples)


if find_spec("drvi"):

    def test_drvi_is_trained_like_scvi_and_encodes_all_cells():
        data = cells()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = methods.drvi(MethodInput(data, {"n_latent": 6, "epochs": 30}, 0, 5, silent=True))()
            shorter = methods.drvi(MethodInput(data, {"n_latent": 6, "epochs": 2}, 0, 5, silent=True))()
        assert (fitted.n_epochs, shorter.n_epochs) == (30, 2)
        assert len(fitted.losses) == 30
        assert fitted.losses[-1] < fitted.losses[0]
        assert fitted.encode().shape == (240, 6)
        assert np.array_equal(fitted.encode(), fitted.encode())
        assert fitted.log_likelihood is None
