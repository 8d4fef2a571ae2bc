"""Measure `Model.criticize`: coverage on cells that the model drew itself, and real data beside scvi-tools' criticism.

    python benchmarks/criticism.py simulated [--seeds 2]
    python benchmarks/criticism.py real DATA.h5ad [--batch-key batch] [--seeds 1] [--external scvi] [--external-epochs 100]

simulated: models learn PBMC3k (500 genes), then draw cells, with latents from the prior or those of measured cells. criticize encodes these
cells; "true latents" skips the encoder. real: `scvi.criticism.PosteriorPredictiveCheck` with the same cells for a model of sparcell and for
scVI, and the coverage of both by randomized intervals. Suffixes: n cells, g genes, s replicates.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import anndata as ad
import numpy as np
import torch
from numpy.typing import NDArray

import sparcell as sp
from sparcell.data.sampler import subsample
from sparcell.likelihoods import LIKELIHOODS
from sparcell.likelihoods.negative_binomial import NegativeBinomialDistribution
from sparcell.models import MODELS
from sparcell.models.autoencoder import Point
from sparcell.models.decoding import average_minibatch, decoded_cells
from sparcell.models.fitted import Model
from sparcell.protocols import Minibatch
from sparcell.tl.predictive_checks import CheckSums, Replicate, gene_table

Floats = NDArray[np.floating]
N_DRAWN, N_SIMULATED_GENES = 2000, 500
N_CHECKED, N_SAMPLES = 1000, 5
MAX_ERROR = 0.03
"""Deviation from the nominal coverage of a gene that counts as small."""


def main() -> None:
    arguments = parse()
    if arguments.what == "simulated":
        simulated(arguments.seeds)
    else:
        real(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["simulated", "real"])
    parser.add_argument("data", nargs="?")
    parser.add_argument("--batch-key")
    parser.add_argument("--n-top-genes", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--external", choices=["none", "scvi"], default="none")
    parser.add_argument("--external-epochs", type=int, default=100)
    return parser.parse_args()


def simulated(n_seeds: int) -> None:
    """Print the coverage on cells drawn from models of PBMC3k."""
    cells = sp.datasets.pbmc3k()
    sp.pp.quality_control(cells)
    cells = chosen_genes(cells, N_SIMULATED_GENES, None)
    cells.layers["lognorm"] = cells.X.copy()
    sp.pp.lognormalize(cells)
    print(
        "| model | likelihood | seed | latents from the prior | latents of cells | true latents |\n|---|---|---|---|---|---|"
    )
    for name, kind in MODELS.items():
        for likelihood, of_likelihood in LIKELIHOODS.items():
            for seed in range(n_seeds):
                values: Any = {"likelihood": likelihood, "seed": seed, "epochs": 30}
                settings = kind(**values)
                layer = "counts" if of_likelihood.counts else "lognorm"
                model = settings.fit(cells, layer=layer, silent=True)
                columns = " | ".join(coverages(model, cells, seed))
                print(f"| {name} | {likelihood} | {seed} | {columns} |", flush=True)


def coverages(model: Model, cells: ad.AnnData, seed: int) -> list[str]:
    """Return coverage 50 / 90 by the encoder for both kinds of latents, and with the true latents."""
    generator = torch.Generator().manual_seed(seed)
    index_n = np.random.default_rng(seed).integers(cells.n_obs, size=N_DRAWN)
    of_cells_nk = torch.from_numpy(model.transform(cells)[index_n])
    texts = ["–"]
    if model.settings.generative:
        with torch.no_grad():
            prior_nk = model.network.latent_encoder.prior(N_DRAWN, generator)
        texts = [coverage_text(model, drawn(model, prior_nk, generator))]
    minibatch = drawn(model, of_cells_nk, generator)
    texts.append(coverage_text(model, minibatch))
    with mock.patch.object(model.network, "posterior", return_value=Point(of_cells_nk)):
        texts.append(coverage_text(model, minibatch))
    return texts


def drawn(model: Model, z_nk: torch.Tensor, generator: torch.Generator) -> Minibatch:
    """Return cells drawn with these latents, at the median library size."""
    x_ng = decoded_cells(model.network, model.schema, z_nk, generator).X
    cells = average_minibatch(model.schema, model.schema.zscore(x_ng), model.device)
    sizes_n1 = torch.full_like(cells.library_size_n1, model.schema.median_library_size)
    return replace(cells, library_size_n1=sizes_n1)


def coverage_text(model: Model, cells: Minibatch) -> str:
    """Return the mean coverage 50 / 90 over genes, and the fraction of genes with both within .03 of nominal."""
    genes = gene_table(model._check_sums([cells], 2, 0), model.schema.genes)
    near_g = (genes[["coverage_50", "coverage_90"]] - [0.5, 0.9]).abs().max(axis=1) <= MAX_ERROR
    return f"{genes['coverage_50'].mean():.3f} / {genes['coverage_90'].mean():.3f} ({near_g.mean():.1%})"


def chosen_genes(cells: ad.AnnData, n_top_genes: int, batch_key: str | None) -> ad.AnnData:
    """Return cells with variable genes alone, raw counts in X and in the layer counts."""
    sp.pp.variable_genes(cells, n_top_genes=n_top_genes, batch_key=batch_key)
    cells = cells[:, cells.var["highly_variable"]].copy()
    cells = cells[np.asarray(cells.X.sum(axis=1)).ravel() > 0].copy()
    cells.layers["counts"] = cells.X.copy()
    return cells


@dataclass
class Sampler:
    """Replicates of a model of sparcell, as scvi-tools' checks ask for them."""

    model: Model
    adata: ad.AnnData

    def posterior_predictive_sample(
        self, adata: ad.AnnData, n_samples: int, batch_size: int, indices: NDArray[np.integer]
    ) -> Any:
        """Return replicates, (n, g, s), as a sparse array."""
        import sparse

        generator = torch.Generator().manual_seed(0)
        blocks = []
        with torch.no_grad():
            for posterior, cells in self.model._posteriors(adata[indices].copy(), "error"):
                draws = [
                    self.model._distribution(posterior.sample(generator), cells).sample(generator).numpy()
                    for _ in range(n_samples)
                ]
                blocks.append(sparse.GCXS.from_numpy(np.stack(draws, axis=2)))
        return sparse.concatenate(blocks)


def real(arguments: argparse.Namespace) -> None:
    """Print both packages' checks of a model of sparcell and of scVI."""
    cells = sp.datasets.pbmc3k() if arguments.data == "pbmc3k" else sp.io.read(arguments.data)
    sp.pp.quality_control(cells, batch_key=arguments.batch_key)
    cells = chosen_genes(cells, arguments.n_top_genes, arguments.batch_key)
    rows = np.asarray(subsample(cells.n_obs, N_CHECKED, 0))
    for seed in range(arguments.seeds):
        for likelihood in ("nb", "zinb", "poisson"):
            model = sp.BetaVSC(seed=seed, likelihood=likelihood).fit(
                cells, layer="counts", batch_key=arguments.batch_key, silent=True
            )
            started = time.process_time()
            criticism = model.criticize(cells.copy(), n_cells=N_CHECKED, n_samples=N_SAMPLES)
            seconds = time.process_time() - started
            error = criticism.overall.set_index("check")["error"]
            value = criticism.overall.set_index("check")["observed"]
            print(
                f"| sparcell {likelihood} | criticize | {seed} | {error['cv']:.3f} | {error['zeros']:.4f} | "
                f"{value['coverage_50']:.3f} / {value['coverage_90']:.3f} | {len(criticism.misfits)} | {seconds:.1f} |",
                flush=True,
            )
            if arguments.external == "scvi":
                scvi_checks(f"sparcell {likelihood}", Sampler(model, cells), cells, rows, seed)
        if arguments.external == "scvi":
            external(arguments, cells, rows, seed)


def external(arguments: argparse.Namespace, cells: ad.AnnData, rows: NDArray[np.integer], seed: int) -> None:
    """Train scVI and print the checks of both packages."""
    import scvi

    scvi.settings.seed = seed
    for likelihood in ("nb", "zinb"):
        data = cells.copy()
        scvi.model.SCVI.setup_anndata(data, batch_key=arguments.batch_key)
        model = scvi.model.SCVI(data, gene_likelihood=likelihood)
        model.train(
            max_epochs=arguments.external_epochs, accelerator="cpu", enable_progress_bar=False, logger=False
        )
        inside = f"{coverage_of_scvi(model, data, rows)}" if likelihood == "nb" else "–"
        print(
            f"| scVI {likelihood} | intervals of criticize | {seed} | – | – | {inside} | – | – |", flush=True
        )
        scvi_checks(f"scVI {likelihood}", model, data, rows, seed)


def scvi_checks(title: str, model: Any, cells: ad.AnnData, rows: NDArray[np.integer], seed: int) -> None:
    """Print errors of CV and zeros and the calibration error by scvi-tools' checks."""
    from scvi.criticism import PosteriorPredictiveCheck

    started = time.process_time()
    cells.layers["whole"] = cells.X.astype(np.int32)  # its test for whole numbers fails on sparse floats
    # calibration_error reads the replicates of a model called model1.
    checks = PosteriorPredictiveCheck(
        cells, {"model1": model}, count_layer_key="whole", n_samples=N_SAMPLES, indices=rows
    )
    checks.coefficient_of_variation("cells")
    checks.zero_fraction()
    errors = [
        float((checks.metrics[name]["model1"] - checks.metrics[name]["Raw"]).abs().mean())
        for name in ("cv_gene", "zero_fraction")
    ]
    checks.calibration_error()
    seconds = time.process_time() - started
    calibration = float(checks.metrics["calibration"].to_numpy().ravel()[0])
    print(
        f"| {title} | scvi-tools | {seed} | {errors[0]:.3f} | {errors[1]:.4f} | calibration error {calibration:.3f} | – | {seconds:.1f} |",
        flush=True,
    )


def coverage_of_scvi(model: Any, cells: ad.AnnData, rows: NDArray[np.integer]) -> str:
    """Return the coverage of scVI's negative binomial by randomized intervals, at one draw of the latents."""
    values = model.get_likelihood_parameters(cells, indices=rows, n_samples=1, give_mean=False)
    mean_ng, r_ng = (
        torch.from_numpy(np.asarray(values[name], dtype=np.float64)) for name in ("mean", "dispersions")
    )
    distribution = NegativeBinomialDistribution(mean_ng.log(), r_ng.log())
    x_ng = torch.from_numpy(cells.X[rows].toarray().astype(np.float64))
    sums = CheckSums(cells.n_vars, 1, 0)
    replicate = Replicate(
        distribution.sample(torch.Generator().manual_seed(0)).numpy(), *distribution.cumulative(x_ng)
    )
    sums.add(x_ng.numpy(), [replicate], np.zeros(len(x_ng), dtype=np.int64))
    genes = gene_table(sums, list(cells.var_names))
    return f"{genes['coverage_50'].mean():.3f} / {genes['coverage_90'].mean():.3f}"


if __name__ == "__main__":
    main()
