"""The fitted model: encode, reconstruct, score, sample new cells, save.

Suffixes: n cells, g genes, k latents, s steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse as scipy_sparse

from sparcell import io
from sparcell._utils import torch_runtime
from sparcell.config.validation import require_whole
from sparcell.data import sampler
from sparcell.data.loader import Loader
from sparcell.errors import InputError, did_you_mean
from sparcell.io import model_folder
from sparcell.io.labels import labels_from_obs
from sparcell.models.decoding import average_minibatch, decoded_cells, in_batch
from sparcell.models.description import describe
from sparcell.protocols import EpochRecord
from sparcell.results.latents import MIN_INCLUSION, LatentRepresentation
from sparcell.tl.program_effects import ProgramDecoder, find_programs
from sparcell.tl.programs import Programs, program_tables

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.covariates import Unseen
    from sparcell.data.schema import Schema
    from sparcell.nn.network import Network
    from sparcell.protocols import Distribution, Minibatch, ModelSettings, Posterior

    Floats = NDArray[np.float32]

INFERENCE_BATCH = 1024
"""Cells at a time outside of training."""


class Model:
    """A fitted model. Only `embed` and `programs` write into the data they are given.

    Attributes
    ----------
    settings
        The settings that were fitted: an `Autoencoder`, `BetaVAE` or `BetaVSC`.
    history
        One row per epoch: epoch; loss, reconstruction_loss and kl in nats per cell; kl_weight; validation_loss (missing without
        validation cells); seconds.
    schema
        Genes, units and covariates of the training data.
    """

    def __init__(
        self, settings: ModelSettings, schema: Schema, network: Network, history: list[EpochRecord]
    ) -> None:
        self.settings = settings
        self.schema = schema
        self.network = network.eval()
        names = [field.name for field in fields(EpochRecord)]
        records = pd.DataFrame([asdict(record) for record in history], columns=names)
        self.history = records.astype({"validation_loss": np.float64}).rename(columns={"number": "epoch"})

    def __repr__(self) -> str:
        return f"fitted {self.settings!r} on {len(self.schema.genes)} genes"

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def latent_representation(
        self, data: AnnData | str | Path, *, unseen: Unseen = "error"
    ) -> LatentRepresentation:
        """Encode cells in one pass: posterior means, KL and inclusion probabilities.

        Parameters
        ----------
        data
            Cells with the genes the model was trained on, in any order; further genes are ignored.
        unseen
            What to do with a batch or category that was not there at fit: "error", or "average" to encode such cells, or data without
            the column, as an average batch. Only matters with `encode_covariates`.

        Raises
        ------
        InputError
            If genes are missing, or the values are not what the model was trained on.
        """
        posteriors = [posterior for posterior, _ in self._posteriors(data, unseen, decode=False)]
        gammas = [posterior.gamma for posterior in posteriors if posterior.gamma is not None]
        return LatentRepresentation(
            _gather(posterior.mean for posterior in posteriors),
            _gather(posterior.kl() for posterior in posteriors),
            _gather(gammas) if gammas else None,
        )

    def transform(
        self,
        data: AnnData | str | Path,
        *,
        sparse: bool = False,
        min_inclusion: float = MIN_INCLUSION,
        unseen: Unseen = "error",
    ) -> Any:
        """Encode cells: posterior means, (n, k), float32.

        Parameters
        ----------
        data, unseen
            As for `latent_representation`.
        sparse
            Return a CSR matrix without the latents whose inclusion probability is below `min_inclusion`. Only for a model with spikes.
        min_inclusion
            Used with `sparse`.

        Raises
        ------
        InputError
            As `latent_representation`, and for `sparse` with a model without spikes.
        """
        latents = self.latent_representation(data, unseen=unseen)
        if not sparse:
            return latents.mean_nk
        inclusion_nk = self._required_inclusion(latents)
        return scipy_sparse.csr_matrix(np.where(inclusion_nk >= min_inclusion, latents.mean_nk, 0))

    def inclusion_probability(self, data: AnnData | str | Path, *, unseen: Unseen = "error") -> Floats:
        """Return the posterior inclusion probability of each latent in each cell, (n, k). Only for a model with spikes."""
        return self._required_inclusion(self.latent_representation(data, unseen=unseen))

    def _required_inclusion(self, latents: LatentRepresentation) -> Floats:
        if latents.inclusion_nk is None:
            kind = type(self.settings).__name__
            raise InputError(f"{kind} has no inclusion probabilities, since it has no spikes; use BetaVSC.")
        return latents.inclusion_nk

    def embed(self, adata: AnnData, *, key_added: str | None = None, unseen: Unseen = "error") -> None:
        """Encode cells and write the result into `adata`.

        Parameters
        ----------
        adata
            The cells, as for `latent_representation`.
        key_added
            Stem of the keys, with or without the prefix ``X_``. Default: the model's name, such as beta_vsc.
        unseen
            As for `latent_representation`.

        Writes
        ------
        ``obsm["X_<key>"]``, posterior means, (n, k), float32. ``obsm["<key>_inclusion"]``, inclusion probabilities, (n, k), for a model
        with spikes. ``uns["<key>"]``: settings, and for each latent its mean KL (kl) and whether it is active (active).
        """
        key = self._key(key_added)
        latents = self.latent_representation(adata, unseen=unseen)
        adata.obsm[f"X_{key}"] = latents.mean_nk
        if latents.inclusion_nk is not None:
            adata.obsm[f"{key}_inclusion"] = latents.inclusion_nk
        settings = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self.settings).items()
        }
        adata.uns[key] = {"settings": settings, "kl": latents.kl_k, "active": latents.active_k}

    def programs(
        self,
        adata: AnnData,
        *,
        labels_key: str | None = None,
        n_genes: int = 50,
        key_added: str | None = None,
        seed: int = 0,
        unseen: Unseen = "error",
    ) -> Programs:
        """Read each active latent as a gene program: the cells it is on in, the genes it raises there, what it explains.

        Parameters
        ----------
        adata
            The cells, as for `latent_representation`.
        labels_key
            Column of obs with cell types, to report in which types a program is on.
        n_genes
            Number of genes listed for each program.
        key_added
            As for `embed`.
        seed
            Draws the cells that are decoded.
        unseen
            As for `latent_representation`.

        Returns
        -------
        The programs as tables: see `Programs`.

        Writes
        ------
        ``varm["<key>_effects"]``: log2 fold changes for a rise of each latent, (g, k), float32; 0 for genes the model does not know and
        for inactive latents. ``uns["<key>_programs"]``: the tables summary and genes.
        """
        require_whole("n_genes", n_genes, 1)
        labels = None if labels_key is None else labels_from_obs(adata, labels_key)
        latents, key = self.latent_representation(adata, unseen=unseen), self._key(key_added)
        decoder = ProgramDecoder(self.network, self.schema, self._loader(adata, unseen), latents)
        effects = find_programs(decoder, seed)
        programs = program_tables(effects, key, self.schema.genes, n_genes, labels)
        effect_gk = np.zeros((adata.n_vars, latents.mean_nk.shape[1]), dtype=np.float32)
        effect_gk[adata.var_names.get_indexer(list(self.schema.genes))] = effects.by_latent(
            effect_gk.shape[1]
        )
        adata.varm[f"{key}_effects"] = effect_gk
        adata.uns[f"{key}_programs"] = {"summary": programs.summary.copy(), "genes": programs.genes.copy()}
        return programs

    def _key(self, key_added: str | None) -> str:
        return (key_added or self.settings.name).removeprefix("X_")

    @torch.no_grad()
    def encode(self, x_ng: Floats) -> Floats:
        """Encode expression that is not a measured cell, such as a generated one: posterior means, (n, k).

        `x_ng` is (n, g) with genes as in `schema.genes`, in the units of `reconstruct`: log-normalized values (values below 0, which a
        Gaussian decoder can return, are allowed), or counts, which need not be whole. Cells are encoded as an average batch.
        """
        batch = average_minibatch(self.schema, self.schema.zscore(x_ng), self.device)
        return self.network.posterior(batch).mean.cpu().numpy()

    def decode(self, z_nk: Floats) -> Floats:
        """Decode latents that are not those of a measured cell: expected expression, (n, g), in the units of `sample`."""
        return np.asarray(self._decoded(torch.from_numpy(z_nk).to(self.device), "latent").X)

    @torch.no_grad()
    def reconstruct(
        self, data: AnnData | str | Path, *, batch: str | None = None, unseen: Unseen = "error"
    ) -> Floats:
        """Decode each cell's posterior mean: expected expression, (n, g), genes as in `schema.genes`.

        Log-normalized values; for a model of counts, expected counts at the cell's own library size. `batch`, a batch name or "average",
        decodes all cells as if they had been measured in that batch.
        """
        means = []
        for posterior, cells in self._posteriors(data, unseen):
            cells = cells if batch is None else in_batch(cells, batch, self.schema.covariates.batch)
            means.append(self._distribution(posterior.mean, cells).mean)
        return self.schema.inverse_zscore(_gather(means))

    @torch.no_grad()
    def score(self, data: AnnData | str | Path, *, seed: int = 0, unseen: Unseen = "error") -> float:
        """Return the mean ELBO of cells in nats (beta = 1, one draw of the latents per cell); higher is better.

        For the autoencoder, which has no prior: the mean log likelihood of the reconstruction.
        """
        generator = torch_runtime.make_generator(seed, self.device)
        elbo_n = _gather(
            -self._nll(posterior.sample(generator), batch) - posterior.kl().sum(dim=1)
            for posterior, batch in self._posteriors(data, unseen)
        )
        return float(elbo_n.mean(dtype=np.float64))

    @torch.no_grad()
    def marginal_log_likelihood(
        self,
        data: AnnData | str | Path,
        *,
        n_samples: int = 100,
        seed: int = 0,
        unseen: Unseen = "error",
    ) -> NDArray[np.float64]:
        """Return the importance-weighted bound on log p(x) of each cell in nats, (n,); higher is better.

        log 1/S Σ p(x|z_s) p(z_s) / q(z_s|x) over S draws of q (Burda, Grosse & Salakhutdinov 2016, eq. 8). It lies between the ELBO and
        the truth, closer to the truth with more draws. It is comparable between models of the same genes and the same kind of data; for
        counts, the library size is given. For the autoencoder: the log likelihood of the reconstruction.
        """
        require_whole("n_samples", n_samples, 1)
        generator = torch_runtime.make_generator(seed, self.device)
        bounds = []
        for posterior, batch in self._posteriors(data, unseen):
            log_weights = []
            for _ in range(n_samples):
                z_nk = posterior.sample(generator)
                log_weights.append(-self._nll(z_nk, batch).double() - posterior.log_ratio(z_nk).double())
            bounds.append(torch.logsumexp(torch.stack(log_weights), dim=0) - np.log(n_samples))
        return np.asarray(_gather(bounds), dtype=np.float64)

    def sample(self, n_cells: int, *, seed: int = 0, noise: bool = False) -> AnnData:
        """Generate new cells: latents from the prior, decoded.

        Parameters
        ----------
        n_cells
            Number of cells.
        seed
            The same seed gives the same cells.
        noise
            Draw expression from the likelihood; otherwise X holds the expected expression.

        Returns
        -------
        AnnData, n_cells × g, of an average batch. X: log-normalized values, or counts at the median library size of the fit.
        ``obsm["X_<model>"]``: the latents.

        Raises
        ------
        InputError
            For a model without a prior.
        """
        require_whole("n_cells", n_cells, 1)
        generator = torch_runtime.make_generator(seed, self.device)
        with torch.no_grad():
            z_nk = self.network.latent_encoder.prior(n_cells, generator)
        return self._decoded(z_nk, "generated", generator if noise else None)

    def interpolate(
        self,
        data: AnnData | str | Path,
        start: str,
        stop: str,
        *,
        n_steps: int = 10,
        unseen: Unseen = "error",
    ) -> AnnData:
        """Decode latents on the straight line between the posterior means of two cells.

        Parameters
        ----------
        data
            Data with both cells.
        start, stop
            Names of the cells.
        n_steps
            Number of points, both ends included, at least 2.
        unseen
            As for `latent_representation`.

        Returns
        -------
        AnnData, n_steps × g, of an average batch. X: expected expression, for a model of counts at the median library size of the fit.
        ``obsm["X_<model>"]``: the latents. ``obs["position"]``: 0 … 1.
        """
        adata = io.read(data) if isinstance(data, str | Path) else data
        for cell in (start, stop):
            if cell not in adata.obs_names:
                raise InputError(f"no cell {cell!r} in the data; {did_you_mean(cell, adata.obs_names)}")
        require_whole("n_steps", n_steps, 2)
        ends_2k = torch.from_numpy(self.transform(adata[[start, stop]], unseen=unseen)).to(self.device)
        position_s = torch.linspace(0, 1, n_steps, device=self.device)
        path = self._decoded(torch.lerp(ends_2k[:1], ends_2k[1:], position_s[:, None]), "step")
        path.obs["position"] = position_s.cpu().numpy()
        return path

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder (safetensors and JSON). A model that is already there is replaced as a whole."""
        description = describe(self.settings, self.schema, self.history)
        model_folder.save(Path(folder), description, self.network.state_dict())

    @torch.no_grad()
    def _posteriors(
        self, data: AnnData | str | Path, unseen: Unseen, *, decode: bool = True
    ) -> Iterator[tuple[Posterior, Minibatch]]:
        adata = io.read(data) if isinstance(data, str | Path) else data
        loader = self._loader(adata, unseen, decode=decode)
        for batch in loader.batches(sampler.sequential_batches(adata.n_obs, INFERENCE_BATCH)):
            yield self.network.posterior(batch), batch

    def _loader(self, adata: AnnData, unseen: Unseen, *, decode: bool = True) -> Loader:
        covariates, needed = self.schema.covariates, decode or self.settings.encode_covariates
        values = covariates.read(adata.obs, unseen) if needed else covariates.average(adata.n_obs)
        n_genes = len(self.schema.genes)
        return Loader(self.schema.cells(adata), values, n_genes, self.device, max_resident_bytes=0)

    def _decoded(self, z_nk: torch.Tensor, stem: str, generator: torch.Generator | None = None) -> AnnData:
        cells = decoded_cells(self.network, self.schema, z_nk, generator)
        cells.obs_names = [f"{stem}_{number}" for number in range(cells.n_obs)]
        cells.obsm[f"X_{self.settings.name}"] = z_nk.cpu().numpy()
        return cells

    def _nll(self, z_nk: torch.Tensor, batch: Minibatch) -> torch.Tensor:
        return self.network.likelihood.nll(self.network.decode(z_nk, batch), batch)

    def _distribution(self, z_nk: torch.Tensor, batch: Minibatch) -> Distribution:
        return self.network.likelihood.distribution(self.network.decode(z_nk, batch), batch)


def _gather(pieces: Iterator[torch.Tensor] | list[torch.Tensor]) -> Floats:
    return torch.cat(list(pieces)).cpu().numpy()
