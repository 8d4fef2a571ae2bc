"""The fitted model: encode, restore, score, make new cells, save.

Suffixes: n cells, g genes, k latents, s steps.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import anndata
import numpy as np
import pandas as pd
import torch
from scipy import sparse

import sparcell
from sparcell import io
from sparcell._utils import torch_runtime
from sparcell.config.settings import require_whole
from sparcell.data import sampler
from sparcell.data.loader import Loader
from sparcell.data.schema import Schema
from sparcell.errors import InputError, did_you_mean
from sparcell.io import model_folder
from sparcell.io.labels import labels_from_obs
from sparcell.protocols import Batch, Epoch
from sparcell.results.latents import Codes
from sparcell.tl.programs import Programs, Reader, find, tables

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.covariates import Known, Unseen
    from sparcell.nn.network import Network
    from sparcell.protocols import Distribution, Posterior

    Floats = NDArray[np.float32]

READ_BATCH = 1024
"""Cells at a time where nothing is trained."""


class Settings(Protocol):
    """What a fitted model needs of the settings it was fitted with: an Estimator has it."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    name: ClassVar[str]
    generative: ClassVar[bool]

    @property
    def n_latent(self) -> int:
        """Number of latents."""
        ...

    @property
    def encode_covariates(self) -> bool:
        """Whether the encoder is told the covariates."""
        ...

    def network(self, n_genes: int, n_batches: int = 0, n_others: int = 0) -> Network:
        """Build the network."""
        ...


class Model:
    """A fitted model. Its methods leave the data they are given as it is, but for `annotate` and `programs`."""

    def __init__(self, settings: Settings, schema: Schema, network: Network, history: list[Epoch]) -> None:
        self.settings = settings
        self.schema = schema
        self.network = network.eval()
        names = [field.name for field in fields(Epoch)]
        records = pd.DataFrame([asdict(epoch) for epoch in history], columns=names)
        self.history = records.astype({"held_out": np.float64}).rename(columns={"number": "epoch"})
        """One row an epoch: epoch; loss, nll, kl in nats per cell; kl_weight; held_out, the loss of the cells held out (missing where
        none were); seconds."""

    def __repr__(self) -> str:
        return f"fitted {self.settings!r} on {len(self.schema.genes)} genes"

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def codes(self, data: AnnData | str | Path, *, unseen: Unseen = "error") -> Codes:
        """Encode cells in one pass. Needs the genes the model was trained on, in any order; more genes are ignored.

        Covariates are read only if the encoder was told them (`encode_covariates`). A batch or category that was not there at fit is
        an InputError; with unseen="average" such cells, or data without the column, are taken as of an average batch.
        """
        posteriors = [posterior for posterior, _ in self._posteriors(data, unseen, decode=False)]
        gammas = [posterior.gamma for posterior in posteriors if posterior.gamma is not None]
        return Codes(
            _gather(posterior.mean for posterior in posteriors),
            _gather(posterior.kl() for posterior in posteriors),
            _gather(gammas) if gammas else None,
        )

    def transform(self, data: AnnData | str | Path, *, unseen: Unseen = "error") -> Floats:
        """Encode cells: posterior means, (n, k) (beta-VSC: gate · mu). `unseen` as for `codes`."""
        return self.codes(data, unseen=unseen).mean_nk

    def transform_sparse(
        self, data: AnnData | str | Path, *, least_gamma: float = 0.5, unseen: Unseen = "error"
    ) -> sparse.csr_matrix:
        """Encode cells as sparse rows, (n, k), float32: a latent that is on with a probability below `least_gamma` is not stored.

        Only for a model with spikes; `scipy.sparse.save_npz` writes it.
        """
        codes = self.codes(data, unseen=unseen)
        if codes.gamma_nk is None:
            raise InputError(
                f"{type(self.settings).__name__} has no spikes, so no sparse codes; use BetaVSC."
            )
        return sparse.csr_matrix(np.where(codes.gamma_nk >= least_gamma, codes.mean_nk, 0))

    def gamma(self, data: AnnData | str | Path, *, unseen: Unseen = "error") -> Floats:
        """Posterior probability that each latent is on in each cell, (n, k). Only for a model with spikes."""
        gamma_nk = self.codes(data, unseen=unseen).gamma_nk
        if gamma_nk is None:
            raise InputError(f"{type(self.settings).__name__} has no spikes, so no gamma; use BetaVSC.")
        return gamma_nk

    def annotate(self, adata: AnnData, *, key_added: str | None = None, unseen: Unseen = "error") -> None:
        """Encode cells and write the result into `adata`.

        Writes ``obsm["X_<key>"]`` (posterior means, (n, k), float32), ``obsm["<key>_gamma"]`` (inclusion probabilities, for a model
        with spikes) and ``uns["<key>"]`` (settings, and of each latent its mean KL and whether it is live); <key> is the model's
        name, such as beta_vsc, or `key_added`.
        """
        key = key_added or self.settings.name
        codes = self.codes(adata, unseen=unseen)
        adata.obsm[f"X_{key}"] = codes.mean_nk
        if codes.gamma_nk is not None:
            adata.obsm[f"{key}_gamma"] = codes.gamma_nk
        told = asdict(self.settings).items()
        settings = {name: list(value) if isinstance(value, tuple) else value for name, value in told}
        adata.uns[key] = {"settings": settings, "kl": codes.kl_k, "live": codes.live_k}

    def programs(
        self,
        adata: AnnData,
        *,
        labels_key: str | None = None,
        n_top: int = 50,
        key_added: str | None = None,
        seed: int = 0,
        unseen: Unseen = "error",
    ) -> Programs:
        """Read each live latent as a gene program: the cells it is on in, the genes it raises there and what it explains (see `Programs`).

        `labels_key` is a column of obs, to tell in which cell types a program is on; `n_top` genes are listed; `seed` draws the cells.
        Writes ``varm["<key>_effects"]`` (log2-fold changes for a rise of each latent, (g, k), float32; 0 for genes the model does not
        know and latents that are not live) and ``uns["<key>_programs"]`` (tables summary and genes); <key> as for `annotate`.
        """
        require_whole("n_top", n_top, 1)
        labels = None if labels_key is None else labels_from_obs(adata, labels_key)
        codes, key = self.codes(adata, unseen=unseen), key_added or self.settings.name
        reader = Reader(self.network, self.schema, self._loader(adata, unseen), codes)
        found = find(reader, seed)
        programs = tables(found, key, self.schema.genes, n_top, labels)
        effect_gk = np.zeros((adata.n_vars, codes.mean_nk.shape[1]), dtype=np.float32)
        effect_gk[adata.var_names.get_indexer(list(self.schema.genes))] = found.by_latent(effect_gk.shape[1])
        adata.varm[f"{key}_effects"] = effect_gk
        adata.uns[f"{key}_programs"] = {"summary": programs.summary.copy(), "genes": programs.genes.copy()}
        return programs

    def encode(self, x_ng: Floats) -> Floats:
        """Encode expression that is no measured cell, such as a generated one: posterior means, (n, k).

        `x_ng` is (n, g) with genes as in `schema.genes`, in the units `reconstruct` gives: log-normalised values (negative ones, which a
        Gaussian decoder can give, are allowed), or counts, which need not be whole. Cells are taken as of an average batch.
        """
        with torch.no_grad():
            batch = self._batch(self.schema.scaled(x_ng), self.schema.covariates.average(len(x_ng)))
            return self.network.posterior(batch).mean.cpu().numpy()

    def decode(self, z_nk: Floats) -> Floats:
        """Decode codes that are no measured cell: expected expression, (n, g), in the units and of the cells that `sample` gives."""
        return np.asarray(self._decoded(torch.from_numpy(z_nk).to(self.device), "code", None).X)

    @torch.no_grad()
    def reconstruct(
        self, data: AnnData | str | Path, *, batch: str | None = None, unseen: Unseen = "error"
    ) -> Floats:
        """Decode each cell's posterior mean: expected expression, (n, g), genes as in `schema.genes`.

        Log-normalised values, or for a model of counts expected counts at the cell's own library size. With `batch`, the name of one or
        "average", as if all cells had been measured in it.
        """
        restored = []
        for posterior, cells in self._posteriors(data, unseen):
            known = cells if batch is None else self._moved(cells, batch)
            restored.append(self._distribution(posterior.mean, known).mean)
        return self.schema.unscaled(_gather(restored))

    @torch.no_grad()
    def score(self, data: AnnData | str | Path, *, seed: int = 0, unseen: Unseen = "error") -> float:
        """Mean ELBO of cells in nats (beta = 1, one draw of the code a cell), in the model's units: higher is better.

        For the autoencoder, which has no prior: the mean log likelihood of the restored cells.
        """
        generator = torch_runtime.noise(seed, self.device)
        elbo = _gather(
            -self._nll(posterior.sample(generator), batch) - posterior.kl().sum(dim=1)
            for posterior, batch in self._posteriors(data, unseen)
        )
        return float(elbo.mean(dtype=np.float64))

    @torch.no_grad()
    def log_likelihood(
        self,
        data: AnnData | str | Path,
        *,
        n_samples: int = 100,
        seed: int = 0,
        unseen: Unseen = "error",
    ) -> NDArray[np.float64]:
        """Importance-weighted bound on log p(x) of each cell in nats, (n,): higher is better.

        log 1/S Σ p(x|z_s) p(z_s) / q(z_s|x) over S draws of q (Burda, Grosse & Salakhutdinov 2016, eq. 8): above the ELBO, below the truth,
        and nearer to it the more draws. Models over the same genes and the same kind of data can be compared by it; for counts the library
        size is given. For the autoencoder: the log likelihood of the restored cells.
        """
        if n_samples < 1:
            raise InputError(f"n_samples is {n_samples}; expected at least 1.")
        generator = torch_runtime.noise(seed, self.device)
        found = []
        for posterior, batch in self._posteriors(data, unseen):
            weights = []
            for _ in range(n_samples):
                z_nk = posterior.sample(generator)
                weights.append(-self._nll(z_nk, batch).double() - posterior.log_ratio(z_nk).double())
            found.append(torch.logsumexp(torch.stack(weights), dim=0) - np.log(n_samples))
        return np.asarray(_gather(found), dtype=np.float64)

    def sample(self, n_cells: int, *, seed: int = 0, noise: bool = False) -> AnnData:
        """Make new cells: codes from the prior, decoded.

        Returns AnnData, n_cells × g: X expected expression (with `noise`, drawn from the likelihood), log-normalised or for a model of
        counts at the median library size of the fit, of an average batch; and the codes in ``obsm["X_<model>"]``. The same seed gives the
        same cells. Raises InputError for a model without a prior.
        """
        if n_cells < 1:
            raise InputError(f"n_cells is {n_cells}; expected at least 1.")
        generator = torch_runtime.noise(seed, self.device)
        with torch.no_grad():
            z_nk = self.network.latent.prior(n_cells, generator)
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
        """Walk from one cell to another: codes on the straight line between their posterior means, decoded.

        Parameters
        ----------
        data
            Holds both cells.
        start, stop
            Names of the cells.
        n_steps
            Number of cells on the way, both ends included.
        unseen
            As for `codes`.

        Returns
        -------
        AnnData, n_steps × g: X expected expression, for a model of counts at the median library size of the fit; of an average batch;
        ``obsm["X_<model>"]`` the codes, ``obs["position"]`` 0 … 1.
        """
        adata = io.read(data) if isinstance(data, str | Path) else data
        for cell in (start, stop):
            if cell not in adata.obs_names:
                raise InputError(f"no cell {cell!r} in the data; {did_you_mean(cell, adata.obs_names)}")
        if n_steps < 2:
            raise InputError(f"n_steps is {n_steps}; expected at least 2.")
        ends_2k = torch.from_numpy(self.transform(adata[[start, stop]], unseen=unseen)).to(self.device)
        position_s = torch.linspace(0, 1, n_steps, device=self.device)
        walk = self._decoded(torch.lerp(ends_2k[:1], ends_2k[1:], position_s[:, None]), "step", None)
        walk.obs["position"] = position_s.cpu().numpy()
        return walk

    def describe(self) -> dict[str, Any]:
        """Settings, schema and versions: what is saved beside the weights."""
        versions = {
            "sparcell": sparcell.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        return {
            "model": self.settings.name,
            "settings": asdict(self.settings),
            "schema": asdict(self.schema),
            "history": {
                name: [None if pd.isna(value) else value for value in self.history[name].tolist()]
                for name in self.history
            },
            "versions": versions,
        }

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder (safetensors and JSON); an earlier model there is replaced as a whole."""
        model_folder.save(Path(folder), self.describe(), self.network.state_dict())

    @torch.no_grad()
    def _posteriors(
        self, data: AnnData | str | Path, unseen: Unseen, *, decode: bool = True
    ) -> Iterator[tuple[Posterior, Batch]]:
        adata = io.read(data) if isinstance(data, str | Path) else data
        loader = self._loader(adata, unseen, decode=decode)
        for batch in loader.batches(sampler.in_order(adata.n_obs, READ_BATCH)):
            yield self.network.posterior(batch), batch

    def _loader(self, adata: AnnData, unseen: Unseen, *, decode: bool = True) -> Loader:
        covariates, needed = self.schema.covariates, decode or self.settings.encode_covariates
        known = covariates.read(adata.obs, unseen) if needed else covariates.average(adata.n_obs)
        return Loader(self.schema.rows(adata), known, len(self.schema.genes), self.device, dense_limit=0)

    def _batch(self, x_ng: Floats, known: Known) -> Batch:
        """Cells that do not come from a loader."""
        x = torch.from_numpy(np.asarray(x_ng, dtype=np.float32)).to(self.device)
        size_n1 = x.sum(dim=1, keepdim=True).clamp_min(1.0)
        return Batch(x, size_n1, *(torch.from_numpy(values).to(self.device) for values in known))

    def _moved(self, cells: Batch, batch: str) -> Batch:
        """The same cells as if they were of another batch."""
        category = self.schema.covariates.batch
        names = () if category is None else category.names
        if category is None or batch not in (*names, "average"):
            raise InputError(f"no batch {batch!r} in the model; {did_you_mean(batch, [*names, 'average'])}")
        rows = category.read(pd.DataFrame({category.key: [batch] * len(cells.size_n1)}), "average")
        return replace(cells, batch_nb=torch.from_numpy(rows).to(self.device))

    def _nll(self, z_nk: torch.Tensor, batch: Batch) -> torch.Tensor:
        return self.network.likelihood.nll(self.network.decode(z_nk, batch), batch)

    def _distribution(self, z_nk: torch.Tensor, batch: Batch) -> Distribution:
        return self.network.likelihood.distribution(self.network.decode(z_nk, batch), batch)

    @torch.no_grad()
    def _decoded(self, z_nk: torch.Tensor, stem: str, generator: torch.Generator | None) -> AnnData:
        typical = self._batch(
            np.zeros((len(z_nk), len(self.schema.genes)), np.float32),
            self.schema.covariates.average(len(z_nk)),
        )
        typical = replace(typical, size_n1=torch.full_like(typical.size_n1, self.schema.median_size))
        distribution = self._distribution(z_nk, typical)
        x_ng = distribution.mean if generator is None else distribution.sample(generator)
        names = [f"{stem}_{number}" for number in range(len(z_nk))]
        made = anndata.AnnData(
            self.schema.unscaled(x_ng.cpu().numpy()),
            obs=pd.DataFrame(index=names),
            var=pd.DataFrame(index=list(self.schema.genes)),
        )
        made.obsm[f"X_{self.settings.name}"] = z_nk.cpu().numpy()
        return made


def _gather(pieces: Iterator[torch.Tensor] | list[torch.Tensor]) -> Floats:
    return torch.cat(list(pieces)).cpu().numpy()
