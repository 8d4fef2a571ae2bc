"""Where AnnData meets torch, and nowhere else: settings that can be fitted, and the fitted model.

Suffixes: n cells, g genes, k latents, s steps.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anndata
import numpy as np
import pandas as pd
import torch

import sparcell
from sparcell import checkpoint, io, progress, runtime, sampler
from sparcell.config import DataConfig, LikelihoodConfig, NetworkConfig, TrainConfig, require
from sparcell.contracts import Batch, Epoch
from sparcell.errors import InputError, did_you_mean
from sparcell.likelihoods import LIKELIHOODS
from sparcell.loader import Loader
from sparcell.metrics import live_latents
from sparcell.network import Network
from sparcell.schema import Schema
from sparcell.trainer import train

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.contracts import Latent, Posterior

    Floats = NDArray[np.float32]

READ_BATCH = 1024
"""Cells at a time where nothing is trained."""


@dataclass(frozen=True, kw_only=True)
class Estimator(NetworkConfig, LikelihoodConfig, TrainConfig):
    """Settings of a model, and how to fit it: a model adds its own settings and its latent."""

    name: ClassVar[str]
    """Stem of the keys written into AnnData."""
    generative: ClassVar[bool] = True
    """Whether there is a prior to sample new cells from."""

    def __post_init__(self) -> None:
        for config in (NetworkConfig, LikelihoodConfig, TrainConfig):
            config.__post_init__(self)
        names = ", ".join(LIKELIHOODS)
        require(self.likelihood in LIKELIHOODS, "likelihood", self.likelihood, f"one of {names}")

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return 1.0

    def latent(self, n_features: int) -> Latent:
        """Build the part of the network that is the model's own, from the width of the encoder's last layer."""
        raise NotImplementedError

    def network(self, n_genes: int) -> Network:
        """Build the network, its weights drawn from `seed`."""
        with runtime.seeded(self.seed):
            likelihood = LIKELIHOODS[self.likelihood](self.decoder[-1], n_genes, self)
            return Network(n_genes, self, self.latent(self.encoder[-1]), likelihood)

    def fit(
        self,
        data: AnnData | str | Path,
        *,
        layer: str | None = None,
        genes: str | None = None,
        normalise: bool | None = None,
        scale: bool = False,
        on_epoch: Callable[[Epoch], None] | None = None,
        silent: bool = False,
    ) -> Model:
        """Train on data and return the fitted model; the data is not changed.

        Parameters
        ----------
        data
            AnnData, or a path to anything `sparcell.io.read` reads. n cells × g genes, at least `batch_size` cells.
        layer, genes, normalise, scale
            What the model sees of the data: see `DataConfig`.
        on_epoch
            Called with the record of each epoch.
        silent
            Show no progress.

        Raises
        ------
        InputError
            Before any training, when the data is not what the model needs.
        TrainingError
            When the loss is no longer finite.
        """
        adata = io.read(data) if isinstance(data, str | Path) else data
        schema = Schema.learn(adata, DataConfig(layer=layer, genes=genes, normalise=normalise, scale=scale))
        if adata.n_obs < self.batch_size:
            raise InputError(
                f"the data has {adata.n_obs} cells, fewer than batch_size ({self.batch_size}); "
                f"expected at least one full batch: set batch_size to {adata.n_obs} or less."
            )
        device = runtime.resolve_device(self.device)
        network = self.network(len(schema.genes)).to(device)
        loader = Loader(schema.rows(adata), len(schema.genes), device)
        history: list[Epoch] = []
        epochs = train(
            network,
            lambda epoch: loader.batches(sampler.plan(adata.n_obs, self.batch_size, self.seed, epoch)),
            self,
            self.kl_weight,
            runtime.noise(self.seed, device),
        )
        with progress.bar(f"{type(self).__name__}, seed {self.seed}", self.epochs, silent=silent) as advance:
            for epoch in epochs:
                history.append(epoch)
                advance(f"loss {epoch.loss:,.1f}")
                if on_epoch is not None:
                    on_epoch(epoch)
        return Model(self, schema, network, history)


@dataclass(frozen=True)
class Codes:
    """The codes of some cells."""

    mean_nk: Floats
    """Posterior means."""
    kl_nk: Floats
    """KL to the prior in nats."""
    gamma_nk: Floats | None
    """Posterior probability that a latent is on; None for a model without spikes."""

    @property
    def kl_k(self) -> NDArray[np.float64]:
        """Mean KL of each latent over the cells, in nats."""
        return np.asarray(self.kl_nk.mean(axis=0, dtype=np.float64))

    @property
    def live_k(self) -> NDArray[np.bool_]:
        """Which latents vary over the cells."""
        return live_latents(self.mean_nk)


class Model:
    """A fitted model. Its methods leave the data they are given as it is, but for `annotate`."""

    def __init__(self, settings: Estimator, schema: Schema, network: Network, history: list[Epoch]) -> None:
        self.settings = settings
        self.schema = schema
        self.network = network.eval()
        self.history = pd.DataFrame([asdict(epoch) for epoch in history]).rename(columns={"number": "epoch"})
        """One row an epoch: epoch, loss, nll, kl (nats per cell), seconds."""

    def __repr__(self) -> str:
        return f"fitted {self.settings!r} on {len(self.schema.genes)} genes"

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.network.parameters()).device

    def codes(self, data: AnnData | str | Path) -> Codes:
        """Encode cells in one pass. Needs the genes the model was trained on, in any order; more genes are ignored."""
        posteriors = [posterior for posterior, _ in self._posteriors(data)]
        gammas = [posterior.gamma for posterior in posteriors if posterior.gamma is not None]
        return Codes(
            _gather(posterior.mean for posterior in posteriors),
            _gather(posterior.kl() for posterior in posteriors),
            _gather(gammas) if gammas else None,
        )

    def transform(self, data: AnnData | str | Path) -> Floats:
        """Encode cells: posterior means, (n, k) (beta-VSC: gamma · mu)."""
        return self.codes(data).mean_nk

    def gamma(self, data: AnnData | str | Path) -> Floats:
        """Posterior probability that each latent is on in each cell, (n, k). Only for a model with spikes."""
        gamma_nk = self.codes(data).gamma_nk
        if gamma_nk is None:
            raise InputError(f"{type(self.settings).__name__} has no spikes, so no gamma; use BetaVSC.")
        return gamma_nk

    def annotate(self, adata: AnnData, *, key_added: str | None = None) -> None:
        """Encode cells and write the result into `adata`.

        Writes ``obsm["X_<key>"]`` (posterior means, (n, k), float32), ``obsm["<key>_gamma"]`` (inclusion probabilities, for a model
        with spikes) and ``uns["<key>"]`` (settings, and of each latent its mean KL and whether it is live); <key> is the model's
        name, such as beta_vsc, or `key_added`.
        """
        key = key_added or self.settings.name
        codes = self.codes(adata)
        adata.obsm[f"X_{key}"] = codes.mean_nk
        if codes.gamma_nk is not None:
            adata.obsm[f"{key}_gamma"] = codes.gamma_nk
        settings = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self.settings).items()
        }
        adata.uns[key] = {"settings": settings, "kl": codes.kl_k, "live": codes.live_k}

    def encode(self, x_ng: Floats) -> Floats:
        """Encode log-normalised expression that is no measured cell, such as a generated one: posterior means, (n, k).

        `x_ng` is (n, g) with genes as in `schema.genes`; negative values, which a Gaussian decoder can give, are allowed.
        """
        with torch.no_grad():
            batch = Batch(torch.from_numpy(self.schema.scaled(x_ng)).to(self.device))
            return self.network.posterior(batch).mean.cpu().numpy()

    @torch.no_grad()
    def reconstruct(self, data: AnnData | str | Path) -> Floats:
        """Decode each cell's posterior mean: expected log-normalised expression, (n, g), genes as in `schema.genes`."""
        return self.schema.unscaled(
            _gather(self._decode(posterior.mean) for posterior, _ in self._posteriors(data))
        )

    @torch.no_grad()
    def score(self, data: AnnData | str | Path, *, seed: int = 0) -> float:
        """Mean ELBO of cells in nats (beta = 1, one draw of the code a cell), in the model's units: higher is better.

        For the autoencoder, which has no prior: the mean log likelihood of the restored cells.
        """
        generator = runtime.noise(seed, self.device)
        elbo = _gather(
            -self.network.likelihood.nll(self.network.decode(posterior.rsample(generator)), batch)
            - posterior.kl().sum(dim=1)
            for posterior, batch in self._posteriors(data)
        )
        return float(elbo.mean(dtype=np.float64))

    def sample(self, n_cells: int, *, seed: int = 0, noise: bool = False) -> AnnData:
        """Make new cells: codes from the prior, decoded.

        Returns AnnData, n_cells × g: X expected log-normalised expression (with `noise`, drawn from the likelihood), and the codes in
        ``obsm["X_<model>"]``. The same seed gives the same cells. Raises InputError for a model without a prior.
        """
        if n_cells < 1:
            raise InputError(f"n_cells is {n_cells}; expected at least 1.")
        generator = runtime.noise(seed, self.device)
        with torch.no_grad():
            z_nk = self.network.latent.prior(n_cells, generator)
        return self._decoded(z_nk, "generated", generator if noise else None)

    def interpolate(self, data: AnnData | str | Path, start: str, stop: str, *, n_steps: int = 10) -> AnnData:
        """Walk from one cell to another: codes on the straight line between their posterior means, decoded.

        Parameters
        ----------
        data
            Holds both cells.
        start, stop
            Names of the cells.
        n_steps
            Number of cells on the way, both ends included.

        Returns
        -------
        AnnData, n_steps × g: X expected log-normalised expression, ``obsm["X_<model>"]`` the codes, ``obs["position"]`` 0 … 1.
        """
        adata = io.read(data) if isinstance(data, str | Path) else data
        for cell in (start, stop):
            if cell not in adata.obs_names:
                raise InputError(f"no cell {cell!r} in the data; {did_you_mean(cell, adata.obs_names)}")
        if n_steps < 2:
            raise InputError(f"n_steps is {n_steps}; expected at least 2.")
        ends_2k = torch.from_numpy(self.transform(adata[[start, stop]])).to(self.device)
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
            "history": self.history.to_dict(orient="list"),
            "versions": versions,
        }

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder (safetensors and JSON); an earlier model there is replaced as a whole."""
        checkpoint.save(Path(folder), self.describe(), self.network.state_dict())

    @torch.no_grad()
    def _posteriors(self, data: AnnData | str | Path) -> Iterator[tuple[Posterior, Batch]]:
        adata = io.read(data) if isinstance(data, str | Path) else data
        loader = Loader(self.schema.rows(adata), len(self.schema.genes), self.device, dense_limit=0)
        for batch in loader.batches(sampler.in_order(adata.n_obs, READ_BATCH)):
            yield self.network.posterior(batch), batch

    def _decode(self, z_nk: torch.Tensor) -> torch.Tensor:
        return self.network.likelihood.distribution(self.network.decode(z_nk)).mean

    @torch.no_grad()
    def _decoded(self, z_nk: torch.Tensor, stem: str, generator: torch.Generator | None) -> AnnData:
        distribution = self.network.likelihood.distribution(self.network.decode(z_nk))
        x_ng = distribution.mean if generator is None else distribution.sample(generator)
        names = [f"{stem}_{number}" for number in range(len(z_nk))]
        made = anndata.AnnData(
            self.schema.unscaled(x_ng.cpu().numpy()),
            obs=pd.DataFrame(index=names),
            var=pd.DataFrame(index=list(self.schema.genes)),
        )
        made.obsm[f"X_{self.settings.name}"] = z_nk.cpu().numpy()
        return made


def load(folder: str | Path, estimators: dict[str, type[Estimator]]) -> Model:
    """Read a saved model; `estimators` maps names as saved to classes. No data is needed."""
    folder = Path(folder)
    description, tensors = checkpoint.load(folder)
    try:
        settings = estimators[description["model"]](**_tuples(description["settings"]))
        schema = Schema(**_tuples(description["schema"]))
        network = settings.network(len(schema.genes))
        network.load_state_dict(tensors)
        records = (
            pd.DataFrame(description["history"]).rename(columns={"epoch": "number"}).to_dict(orient="records")
        )
        history = [Epoch(**{str(name): value for name, value in record.items()}) for record in records]
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{folder} does not describe a whole model ({reason}); train and save it again."
        ) from error
    return Model(settings, schema, network.to(runtime.resolve_device("auto")), history)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists only; the frozen settings hold tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _gather(pieces: Iterator[torch.Tensor] | list[torch.Tensor]) -> Floats:
    return torch.cat(list(pieces)).cpu().numpy()
