"""Settings that can be fitted: from AnnData to a trained network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from sparcell import io
from sparcell._utils import progress, torch_runtime
from sparcell.config.settings import ByKind, DataConfig, LikelihoodConfig, NetworkConfig, TrainConfig, require
from sparcell.data import sampler
from sparcell.data.loader import Feed, Loader
from sparcell.data.schema import Schema, read_layer
from sparcell.data.validation import check_matrix, matrix_kind
from sparcell.errors import InputError
from sparcell.likelihoods import LIKELIHOODS
from sparcell.models.fitted import Model
from sparcell.nn import nmf_init
from sparcell.nn.network import EFFECTS, Network
from sparcell.training import checkpoints, divergence
from sparcell.training.loop import Diverged, Plan, train
from sparcell.training.state import Course

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.protocols import Epoch, Latent


@dataclass(frozen=True, kw_only=True)
class Estimator(NetworkConfig, LikelihoodConfig, TrainConfig):
    """Settings of a model, and how to fit it: a model adds its own settings and its latent.

    A setting that is not given takes the default for counts or that for log-normalised expression: at once where the likelihood
    is given, else at `fit`, by what the data are.
    """

    name: ClassVar[str]
    """Stem of the keys written into AnnData."""
    generative: ClassVar[bool] = True
    """Whether there is a prior to sample new cells from."""

    def __post_init__(self) -> None:
        if not _by_kind(self.likelihood):
            names = ", ".join(LIKELIHOODS)
            require(self.likelihood in LIKELIHOODS, "likelihood", self.likelihood, f"one of {names}")
            counts = LIKELIHOODS[self.likelihood].counts
            for field in fields(self):
                default = getattr(self, field.name)
                if isinstance(default, ByKind):
                    object.__setattr__(self, field.name, default.counts if counts else default.expression)
        for config in (NetworkConfig, LikelihoodConfig, TrainConfig):
            config.__post_init__(self)

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return 1.0

    def latent(self, n_features: int) -> Latent:
        """Build the part of the network that is the model's own, from the width of the encoder's last layer."""
        raise NotImplementedError

    def settled(self, *, counts: bool) -> Self:
        """Return the settings with every default chosen, for raw counts or for expression."""
        chosen: Any = self.likelihood
        if isinstance(chosen, ByKind):
            chosen = chosen.counts if counts else chosen.expression
        return replace(self, likelihood=chosen)

    def network(self, n_genes: int, n_batches: int = 0, n_others: int = 0) -> Network:
        """Build the network, its weights drawn from `seed`, for so many genes, batches and columns of further covariates."""
        with torch_runtime.seeded(self.seed):
            n_hidden = EFFECTS[self.effects].n_hidden(self, n_others) + n_batches
            likelihood = LIKELIHOODS[self.likelihood](n_hidden, n_genes, n_batches, self)
            latent = self.latent(self.encoder[-1])
            return Network(n_genes, n_batches + n_others, self, latent, likelihood)

    def fit(
        self,
        data: AnnData | str | Path,
        *,
        layer: str | None = None,
        genes: str | None = None,
        batch_key: str | None = None,
        covariates: str | tuple[str, ...] = (),
        normalise: bool | None = None,
        scale: bool = False,
        checkpoint: str | Path | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        silent: bool = False,
    ) -> Model:
        """Train on data and return the fitted model; the data is not changed.

        Parameters
        ----------
        data
            AnnData, or a path to anything `sparcell.io.read` reads. n cells × g genes, at least `batch_size` cells.
        layer, genes, batch_key, covariates, normalise, scale
            What the model sees of the data: see `DataConfig`. Raw counts are modelled as counts (likelihood nb) unless a likelihood
            is chosen or one of normalise and scale asks for expression.
        checkpoint
            Folder to note the state of the training in, every half minute and at the end. Where it holds one of the same settings and
            data, the training goes on from there and ends with the same model as if it had never stopped.
        on_epoch
            Called with the record of each epoch.
        silent
            Show no progress.

        Raises
        ------
        InputError
            Before any training, when the data is not what the model needs.
        TrainingError
            When the loss is not finite even with small steps; it names genes and cells.
        """
        adata = io.read(data) if isinstance(data, str | Path) else data
        wanted = DataConfig(
            layer=layer,
            genes=genes,
            batch_key=batch_key,
            covariates=(covariates,) if isinstance(covariates, str) else tuple(covariates),
            normalise=normalise,
            scale=scale,
        )
        chosen = self.settled(counts=_are_counts(adata, wanted))
        counts = LIKELIHOODS[chosen.likelihood].counts
        schema = Schema.learn(adata, wanted, counts=counts)
        if adata.n_obs < chosen.batch_size:
            raise InputError(
                f"the data has {adata.n_obs} cells, fewer than batch_size ({chosen.batch_size}); "
                f"expected at least one full batch: set batch_size to {adata.n_obs} or less."
            )
        return chosen.train(adata, schema, Path(checkpoint) if checkpoint else None, on_epoch, silent)

    def train(
        self,
        adata: AnnData,
        schema: Schema,
        checkpoint: Path | None,
        on_epoch: Callable[[Epoch], None] | None,
        silent: bool,
    ) -> Model:
        """Train on data that fits `schema`: `fit` after its checks."""
        device = torch_runtime.resolve_device(self.device)
        torch_runtime.keep_freed_memory()
        known = schema.covariates.read(adata.obs)
        rows = schema.rows(adata)
        network = self.network(len(schema.genes), known.batch_nb.shape[1], known.covariates_nc.shape[1])
        loader = Loader(rows, known, len(schema.genes), device)
        feed = Feed(loader, *sampler.split(adata.n_obs, self.held_out, self.seed), self.batch_size, self.seed)
        some = feed.training[sampler.drawn(len(feed.training), nmf_init.MOST_CELLS, nmf_init.SEED)]
        network.to(device).begin(
            loader.batches(np.array_split(feed.training, feed.n_steps)),
            loader.batches(some[step] for step in sampler.in_order(len(some), self.batch_size)),
        )
        course = Course.start(network, self, torch_runtime.noise(self.seed, device))
        notes = checkpoints.Notes.open(checkpoint, self, schema, rows, known)
        history = notes.take_up(course)
        rounded = torch_runtime.rounds(self.precision, device)
        plan = Plan.of(self, feed.n_steps, self.kl_weight, rounded=rounded)
        title = f"{type(self).__name__}, seed {self.seed}"
        try:
            with progress.bar(title, plan.n_epochs, silent=silent, done=course.epoch) as advance:
                for epoch in train(course, feed, plan):
                    history.append(epoch)
                    advance(f"loss {epoch.loss:,.1f}")
                    notes.keep(course, history)
                    if on_epoch is not None:
                        on_epoch(epoch)
        except Diverged as error:
            raise divergence.explain(error, network, loader, adata.obs_names, schema.genes) from error
        notes.close(course, history)
        return Model(self, schema, network, history)


def _are_counts(adata: AnnData, data: DataConfig) -> bool:
    """Whether the layer holds raw counts; not if normalise or scale, which speak of expression, are given."""
    if data.normalise is not None or data.scale:
        return False
    matrix, where = read_layer(adata, data.layer)
    check_matrix(matrix, where, gene_names=adata.var_names, cell_names=adata.obs_names)
    return matrix_kind(matrix) == "counts"


def _by_kind(value: object) -> bool:
    return isinstance(value, ByKind)
