"""New batches onto a fitted model: the network grows columns for them, and only these are trained.

Suffixes: b batches, g genes, h hidden units, p proportions.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import torch

from sparcell._utils import progress, torch_runtime
from sparcell.data import sampler
from sparcell.data.covariates import CategoricalCovariate, category_names
from sparcell.data.loader import Loader, TrainingData
from sparcell.data.streaming import StreamedTrainingData
from sparcell.errors import InputError, did_you_mean
from sparcell.io import stored
from sparcell.models.labelling import LabellingEncoder
from sparcell.training.loop import train
from sparcell.training.plan import TrainPlan
from sparcell.training.state import TrainState

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from torch import Tensor

    from sparcell.data.missing_genes import MissingGenes
    from sparcell.data.schema import Schema
    from sparcell.nn.network import Network

log = logging.getLogger("sparcell")

UnseenBatches = Literal["train", "average"]
"""What to do with the parameters of a batch that was not there at fit: train them, or take those of the average batch."""

READ_BATCHES = ("encoder", "decoder", "likelihood")
"""Parts of the network whose weights have columns of batches."""

MIN_CELLS = 20
"""A new batch with fewer cells keeps the parameters of the average batch, since training would follow single cells."""

MAPPING_PLAN: dict[str, Any] = {
    "epochs": "auto",
    "max_steps": 300,
    "min_epochs": 5,
    "batch_size": 128,
    "learning_rate": 0.01,
    "lr_schedule": "cosine",
    "weight_decay": 0.0,
    "validation_fraction": 0.1,
    "early_stopping_tolerance": 0.0,
    "early_stopping_patience": 0,
    "kl_warmup_fraction": 0.0,
}
"""How the parameters of new batches are trained, whatever the settings of the fit were."""


class MappingEncoder(LabellingEncoder):
    """A fitted model that can take up new batches. See `Model`."""

    def map_query(
        self,
        query: AnnData | str | Path,
        *,
        batch_key: str | None = None,
        unseen: UnseenBatches = "train",
        missing_genes: MissingGenes | None = None,
        seed: int = 0,
        silent: bool = False,
    ) -> Self:
        """Return a model that also knows the batches of new cells, such as new donors or another chemistry.

        Only the new batches' own parameters are trained: their columns in encoder and decoder, and their dispersions with dispersion
        gene-batch. All other weights stay, so the latent representation of the old cells stays the same to the last bit. This model is not
        changed.

        Parameters
        ----------
        query
            New cells with the genes of the model. Layer and units as at fit; `for_data` names another layer.
        batch_key
            Column of obs with the batches of the query. Default: that of the fit. The returned model reads the batches of all cells from
            this column. A batch that the model knows already is not trained again.
        unseen
            "train", or "average": nothing is trained, and new batches get the parameters of the average batch of the fit.
        missing_genes
            "error", or "zero": genes that the query lacks count as not expressed, and their number is logged. At most 20 % may be missing.
            Default: as `for_data` set it, else "error".
        seed
            Order of the cells and noise of the training.
        silent
            Show no progress.

        Returns
        -------
        A model that embeds and decodes the old and the new batches. It keeps the labels that were learned.

        Raises
        ------
        InputError
            If the model was fitted without batch_key, the column is missing, or the query does not fit the model.

        Examples
        --------
        ::

            mapped = model.map_query(query, batch_key="donor")
            mapped.embed(query)
            mapped.embed(reference)  # the same bits as model.embed(reference)
        """
        if unseen not in get_args(UnseenBatches):
            raise InputError(f"unseen is {unseen!r}; expected one of {', '.join(get_args(UnseenBatches))}.")
        column = required_batches(self.schema)
        key = batch_key or column.key
        if isinstance(query, str | Path):
            keys = (key, *self.schema.covariates.keys[1:])
            query = stored.open_for_model(query, self.schema.layer, keys)
        sizes = batch_sizes(query.obs, key)
        new = tuple(name for name in sizes if name not in column.names)
        if not new:
            log.info("the model knows all batches of the query: nothing is trained")
        schema = replace(self.schema, missing_genes=missing_genes or self.schema.missing_genes)
        mapped = self._with_batches(key, new, schema)
        few = [name for name in new if sizes[name] < MIN_CELLS]
        trained = [name for name in new if name not in few] if unseen == "train" else []
        if few and unseen == "train":
            log.info(
                "%s: under %d cells, taken as an average batch", ", ".join(map(repr, few[:3])), MIN_CELLS
            )
        if trained:
            mapped._train_batches(query, trained, seed, silent)
        return mapped

    def _with_batches(self, key: str, new: tuple[str, ...], schema: Schema) -> Self:
        """Return a copy with parameters of new batches, those of the average batch."""
        column = schema.covariates.batch
        assert column is not None
        names = (*column.names, *new)
        # New batches have no part in the average batch, which stays that of the fit.
        proportions = (*column.proportions, *(0.0 for _ in new))
        grown = replace(schema.covariates, batch=CategoricalCovariate(key, names, proportions))
        mapped = copy.copy(self)
        mapped.schema = replace(schema, covariates=grown)
        mapped.settings = replace(self.settings, encode_covariates=True)
        network = mapped.settings.network(*mapped.schema.sizes)
        grow(network, self.network, Growth.of(column, len(new), grown.n_columns))
        mapped.network = network.to(self.device).eval()
        return mapped

    def _train_batches(self, query: AnnData, names: list[str], seed: int, silent: bool) -> None:
        """Train the parameters of the batches `names` on the cells of the query, in place."""
        column = self.schema.covariates.batch
        assert column is not None
        config: Any = replace(self.settings, **MAPPING_PLAN, seed=seed)
        source, covariates = self.schema.cells(query), self.schema.covariates.read(query.obs)
        loader = Loader(source, covariates, len(self.schema.genes), self.device)
        kind = TrainingData if source.edges is None else StreamedTrainingData
        rows = sampler.train_validation_split(query.n_obs, config.validation_fraction, seed)
        data = kind(loader, *rows, config.batch_size, seed)
        plan = TrainPlan.of(config, data.n_steps, config.kl_weight)
        numbers = [column.names.index(name) for name in names]
        masks = batch_masks(self.network, numbers, len(column.names), self.schema.covariates.n_columns)
        title = f"{len(names)} new batch{'es' if len(names) > 1 else ''}"
        with only_trained(self.network, masks):
            state = TrainState.start(self.network, config, torch_runtime.make_generator(seed, self.device))
            with progress.bar(title, plan.n_epochs, unit="epoch", silent=silent) as advance:
                for record in train(state, data, plan):
                    advance(f"loss {record.loss:,.1f} nats per cell")


@dataclass(frozen=True)
class Growth:
    """By how much a network grows."""

    n_old: int
    """Number of batches before."""
    n_new: int
    n_columns: int
    """Columns of further covariates."""
    proportions_b: Tensor
    """Fraction of the cells of the fit in each of the old batches."""

    @classmethod
    def of(cls, column: CategoricalCovariate, n_new: int, n_columns: int) -> Growth:
        """Return the growth from the batches of a column by `n_new` batches."""
        return cls(len(column.names), n_new, n_columns, torch.tensor(column.proportions))


@torch.no_grad()
def grow(network: Network, old: Network, growth: Growth) -> None:
    """Copy the weights of `old` into a network with more batches. Each new batch gets the mean of the old ones, weighted by cells.

    An encoder that did not read batches and covariates gets weights of 0 for them, so what it says about cells stays the same.
    """
    before, after = old.state_dict(), network.state_dict()
    for name, target in after.items():
        source = before[name].to(target.device)
        if source.shape == target.shape:
            target.copy_(source)
        elif source.shape[1:] == target.shape[1:]:  # one row for each batch
            average = growth.proportions_b @ source
            target.copy_(torch.cat([source, average.expand(growth.n_new, -1)]))
        elif name.startswith("encoder.") and not old.encode_covariates:
            target.zero_()
            target[:, : source.shape[1]] = source
        else:
            stop = source.shape[1] - _columns_behind(name, growth.n_columns)
            average = source[:, stop - growth.n_old : stop] @ growth.proportions_b
            new = average[:, None].expand(-1, growth.n_new)
            target.copy_(torch.cat([source[:, :stop], new, source[:, stop:]], dim=1))
    network.load_state_dict(after)


def _columns_behind(name: str, n_columns: int) -> int:
    """Return how many columns stand behind those of the batches: further covariates in encoder and decoder, none in the head."""
    return 0 if name.startswith("likelihood.") else n_columns


def batch_masks(network: Network, numbers: list[int], n_batches: int, n_columns: int) -> dict[str, Tensor]:
    """Return the masks of the parameters of some batches: name → 1 where the parameter belongs to one of them, else 0."""
    masks = {}
    for name, weight in network.named_parameters():
        mask = torch.zeros_like(weight)
        if name.endswith("log_r"):
            if len(weight) == n_batches:
                mask[numbers] = 1
        elif weight.dim() == 2 and name.split(".")[0] in READ_BATCHES:
            first = weight.shape[1] - _columns_behind(name, n_columns) - n_batches
            mask[:, [first + number for number in numbers]] = 1
        if mask.any():
            masks[name] = mask
    return masks


@contextmanager
def only_trained(network: Network, masks: dict[str, Tensor]) -> Iterator[None]:
    """Train only what the masks mark: other gradients are 0 or not computed, and buffers are as before afterwards.

    Adam leaves a weight whose gradients are all 0 as it is, to the last bit.
    """
    weights = dict(network.named_parameters())
    flags = {name: weight.requires_grad for name, weight in weights.items()}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    augmentation, network.batch_augmentation = network.batch_augmentation, False
    for name, weight in weights.items():
        weight.requires_grad_(name in masks)
    hooks = [
        weights[name].register_hook(mask.mul)  # type: ignore[no-untyped-call]
        for name, mask in masks.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name, weight in weights.items():
            weight.requires_grad_(flags[name])
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
        network.batch_augmentation = augmentation


def required_batches(schema: Schema) -> CategoricalCovariate:
    """Return the column of batches of a model; raise InputError if the model was fitted without one."""
    if schema.covariates.batch is None:
        raise InputError(
            "the model was fitted without batch_key, so it has no parameters of batches. Fit it with one (a single batch is enough), or "
            "use the model as it is. For latents alone: model.embed(query), in a shell sparcell embed. For cell types alone: "
            "model.fit_labels(reference, 'cell_type').predict_labels(query), in a shell sparcell predict."
        )
    return schema.covariates.batch


def batch_sizes(obs: pd.DataFrame, key: str) -> dict[str, int]:
    """Return the number of cells of each batch of a column of obs, in the order of the names."""
    if key not in obs:
        raise InputError(
            f"obs has no column {key!r} with the batches of the query; {did_you_mean(key, obs.columns)}"
        )
    if obs[key].isna().any():
        raise InputError(
            f"obs[{key!r}] is empty for {int(obs[key].isna().sum())} cell(s) of the query; expected a batch for each: fill them in, or "
            "leave those cells out."
        )
    sizes = category_names(obs[key]).value_counts().sort_index()
    return {str(name): int(size) for name, size in sizes.items()}
