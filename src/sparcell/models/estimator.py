"""Settings that can be fitted: from AnnData to a trained network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sparcell._utils import launched, progress, signals, torch_runtime
from sparcell.config.data import DataConfig, LabelledDataConfig
from sparcell.config.experiments import CHECKPOINT_SECONDS
from sparcell.config.input import MAX_MEMORY
from sparcell.config.model import ModelConfig
from sparcell.config.validation import require_number
from sparcell.data import sampler
from sparcell.data.budget import plan_memory
from sparcell.data.expression import counts_finder, model_cells, read_layer
from sparcell.data.loader import Loader, TrainingData
from sparcell.data.schema import Schema
from sparcell.data.streaming import StreamedTrainingData, values_per_cell
from sparcell.data.validation import check_matrix, infer_matrix_kind
from sparcell.errors import InputError
from sparcell.io import model_folder
from sparcell.io.backed import leave_on_disk
from sparcell.io.stored import StoredCells, open_cells
from sparcell.likelihoods import LIKELIHOODS
from sparcell.models.fitted import Model
from sparcell.models.labelling import label_column, training_covariates
from sparcell.nn import nmf_init
from sparcell.nn.decoders import DECODERS
from sparcell.nn.network import Network
from sparcell.training import distributed, divergence
from sparcell.training.checkpoints import CheckpointWriter
from sparcell.training.loop import NonFiniteLossError, train
from sparcell.training.plan import TrainPlan
from sparcell.training.state import TrainState

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.protocols import EpochRecord, LatentEncoder, Minibatch

FITTED_ONLY = (
    "transform",
    "embed",
    "latents",
    "inclusion_probability",
    "programs",
    "encode",
    "reconstruct",
    "score",
    "marginal_log_likelihood",
    "sample",
    "interpolate",
    "save",
    "history",
    "decode",
    "latent_representation",
    "map_query",
    "fit_labels",
    "predict_labels",
    "plot_history",
)
"""Attributes that only a fitted model has."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimator(ModelConfig):
    """Settings of a model and how to fit it; each model adds its own settings and its latent encoder."""

    def __getattr__(self, name: str) -> Any:
        kind = type(self).__name__
        if name in FITTED_ONLY:
            raise AttributeError(
                f"{kind} holds settings and has no {name!r}; fit returns the trained model: "
                f"model = {kind}().fit(adata), then model.{name}."
            )
        raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    def latent_encoder(self, n_features: int) -> LatentEncoder:
        """Build the part of the network that differs between models; `n_features` is the width of the encoder's last layer.

        Examples
        --------
        ::

            encoder = sp.BetaVAE().latent_encoder(128)
        """
        raise NotImplementedError

    def finish(self, network: Network, batches: Iterable[Minibatch]) -> None:
        """Change the trained network, if a model needs to; `batches` are some of the training cells. Default: no change.

        Examples
        --------
        ::

            model = sp.BetaVSC.for_programs().fit(adata)  # calls it at the end of training
        """

    def resolve_likelihood(self, *, counts: bool) -> Self:
        """Return the settings with likelihood auto replaced: nb for raw counts, gaussian for log-normalized values.

        Examples
        --------
        ::

            sp.BetaVAE().resolve_likelihood(counts=True).likelihood  # "nb"
        """
        if self.likelihood in LIKELIHOODS:
            return self
        return replace(self, likelihood="nb" if counts else "gaussian")

    def network(self, n_genes: int, n_batches: int = 0, n_covariates: int = 0, n_labels: int = 0) -> Network:
        """Build the network with weights drawn from `seed`, for a number of genes, batches, columns of further covariates and labels.

        Examples
        --------
        ::

            network = sp.BetaVAE(likelihood="nb").network(2000, n_batches=2)
        """
        with torch_runtime.fork_torch_seed(self.seed):
            n_hidden = DECODERS[self.decoder_type].n_hidden(self, n_covariates) + n_batches
            likelihood = LIKELIHOODS[self.likelihood](n_hidden, n_genes, n_batches, self)
            latent_encoder = self.latent_encoder(self.encoder_widths[-1])
            network = Network(n_genes, n_batches, n_covariates, self, latent_encoder, likelihood)
            if n_labels:
                network.add_label_head(n_labels)
            return network

    def fit(
        self,
        data: AnnData | str | Path | Sequence[str | Path],
        *,
        layer: str | None = None,
        genes_key: str | None = None,
        batch_key: str | None = None,
        covariates: str | tuple[str, ...] = (),
        labels_key: str | None = None,
        log_normalize: bool | None = None,
        scale: bool = False,
        memory: str | int = MAX_MEMORY,
        checkpoint_dir: str | Path | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        on_epoch: Callable[[EpochRecord], None] | None = None,
        silent: bool = False,
    ) -> Model:
        """Train on data and return the fitted model. The data is not changed.

        In a script that torchrun starts, all processes train one model together and return it; each makes the same call.

        Parameters
        ----------
        data
            AnnData, `io.StoredCells`, or a path that `io.read` reads. n cells × g genes, with at least `batch_size` cells. Several paths,
            such as one per donor, are joined as in `io.StoredCells`: genes that all files have, and the file of each cell in obs["file"],
            which `batch_key="file"` makes the batch.
        layer, genes_key, batch_key, covariates, log_normalize, scale
            What the model reads of the data: see `DataConfig`. With likelihood auto, raw counts get nb; log-normalized values, and data
            with `log_normalize` or `scale` set, get gaussian.
        labels_key
            Column of obs with cell types, or other labels, that training uses: the latents then keep the labels apart, also in cells of new
            batches, and the fitted model predicts labels (`predict_labels`). Cells whose label is missing, empty or "unknown" are trained
            on without it. The weight of the labels is the setting `label_weight`. Default: training without labels.
        memory
            A path to an .h5ad file or zarr folder whose matrix would take more memory than this, such as "4GB", stays on disk: training
            reads it in windows of shuffled cells. So does the file of a backed AnnData. A Dask array is always computed in windows. Does
            not matter for data in memory.
        checkpoint_dir
            Folder for checkpoints, also amid an epoch, at the end, and at Ctrl-C or SIGTERM. If it holds a checkpoint of the same settings
            and data, training continues from there and ends with the same model as an uninterrupted run. Of several processes, the first
            one writes and reads it.
        checkpoint_seconds
            Least time between two checkpoints. They are written after 200 steps or at the end of an epoch. 0 writes each.
        on_epoch
            Called with the record of each epoch, in every process.
        silent
            Show no progress.

        Returns
        -------
        The fitted model.

        Raises
        ------
        InputError
            Before any training, if the data does not fit the model.
        TrainingError
            If the loss is not finite even with small steps. The message names genes and cells.

        Examples
        --------
        >>> import sparcell as sp
        >>> adata = sp.datasets.pbmc3k()
        >>> model = sp.BetaVAE(epochs=2).fit(adata[:300], silent=True)
        >>> model.transform(adata[:300]).shape
        (300, 10)
        """
        require_number("checkpoint_seconds", checkpoint_seconds, above=0, or_equal=True)
        if checkpoint_dir is not None and launched.rank() == 0:
            model_folder.check_target(Path(checkpoint_dir))
        config = LabelledDataConfig(
            layer=layer,
            genes_key=genes_key,
            batch_key=batch_key,
            covariates=(covariates,) if isinstance(covariates, str) else tuple(covariates),
            log_normalize=log_normalize,
            scale=scale,
            labels_key=labels_key,
        )
        with nullcontext() if silent or launched.rank() > 0 else progress.messages():
            adata: AnnData | StoredCells = (
                data
                if not isinstance(data, str | Path | Sequence)
                else open_cells(data, layer=layer, obs_keys=config.obs_keys, memory=memory)
            )
            adata = leave_on_disk(adata, layer, memory=memory)
            find_counts, adata = counts_finder(adata), model_cells(adata, layer, announce=True)
            resolved = self.resolve_likelihood(counts=_are_counts(adata, config))
            counts = LIKELIHOODS[resolved.likelihood].counts
            schema = Schema.fit(adata, config, counts=counts, find_counts=find_counts)
            if labels_key is not None:
                schema = replace(schema, labels=label_column(adata, labels_key))
            if adata.n_obs < resolved.batch_size:
                raise InputError(
                    f"the data has {adata.n_obs} cells, fewer than batch_size ({resolved.batch_size}); "
                    f"expected at least one full batch: set batch_size to {adata.n_obs} or less."
                )
            folder = Path(checkpoint_dir) if checkpoint_dir else None
            model = resolved.train(adata, schema, folder, on_epoch, silent, checkpoint_seconds)
            if schema.labels is not None:
                model.fit_training_labels(adata, schema.labels)
            return model

    def train(
        self,
        adata: AnnData,
        schema: Schema,
        checkpoint_dir: Path | None,
        on_epoch: Callable[[EpochRecord], None] | None,
        silent: bool,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> Model:
        """Train on data that fits `schema`: what `fit` does after its checks.

        Examples
        --------
        ::

            model = sp.BetaVSC().fit(adata)  # checks the data, then trains
        """
        device = torch_runtime.resolve_device(self.device)
        ranks = distributed.join(device)
        ranks.check(self, schema, adata.n_obs)
        adata = model_cells(adata, schema.layer)
        covariates = training_covariates(adata, schema)
        source = schema.cells(adata)
        network = self.network(*schema.sizes)
        loader = Loader(source, covariates, len(schema.genes), device)
        rows = sampler.train_validation_split(adata.n_obs, self.validation_fraction, self.seed)
        data = self._training_data(
            loader, rows, adata, schema.covariates.n_columns, (ranks.rank, ranks.world)
        )
        some = data.train_rows[sampler.subsample(len(data.train_rows), nmf_init.MAX_CELLS, nmf_init.SEED)]
        network.to(device).init_from_data(data.sequential_batches(), data.some(some))
        state = TrainState.start(network, self, torch_runtime.make_generator(self.seed, device), ranks)
        state.n_lanes = data.n_lanes
        use_bfloat16 = torch_runtime.use_bfloat16(self.precision, device)
        plan = TrainPlan.of(self, data.n_steps, self.kl_weight, use_bfloat16=use_bfloat16)
        title = f"{type(self).__name__}, seed {self.seed}"
        read_before = None if source.edges is None else progress.gigabytes_read()
        silent, folder = (silent, checkpoint_dir) if ranks.is_first else (True, None)
        with (
            ranks.signals_noted(),
            closing(data),
            CheckpointWriter.open(
                folder, checkpoint_seconds, self, schema, source, covariates
            ) as checkpoints,
        ):
            checkpoints.resume(state)
            ranks.start_together(state)
            data.use_lanes(state.n_lanes)
            try:
                with (
                    progress.bar(
                        title, plan.n_epochs, unit="epoch", silent=silent, done=state.epoch
                    ) as advance,
                    signals.sigterm_interrupts() if checkpoint_dir else nullcontext(),
                ):
                    for record in train(state, data, plan, checkpoints.maybe_save):
                        speed = progress.resources_text(len(rows[0]), record.seconds, read_before=read_before)
                        advance(f"loss {record.loss:,.1f} nats per cell, {speed}")
                        checkpoints.end_epoch(state)
                        if on_epoch is not None:
                            on_epoch(record)
            except NonFiniteLossError as error:
                raise divergence.explain(error, network, loader, adata.obs_names, schema.genes) from error
            except KeyboardInterrupt as stop:
                raise checkpoints.interruption(stop, plan) from None
            checkpoints.save(state)
        self.finish(network, data.some(some))
        return Model(self, schema, network, state.history, adata.n_obs)

    def _training_data(
        self,
        loader: Loader,
        rows: tuple[NDArray[np.integer], NDArray[np.integer]],
        adata: AnnData,
        n_columns: int,
        place: tuple[int, int],
    ) -> TrainingData | StreamedTrainingData:
        """Return the training and validation cells: in memory, or in windows that fit the memory that the data may take."""
        source = loader.source
        if source.edges is None:
            return TrainingData(loader, *rows, self.batch_size, self.seed, place=place)
        limit, per_cell = getattr(adata, "memory", None), values_per_cell(source)
        memory = plan_memory(len(source), len(source.edges) - 1, per_cell, len(rows[1]), limit, n_columns)
        return StreamedTrainingData(loader, *rows, self.batch_size, self.seed, memory.n_blocks, place=place)


def _are_counts(adata: AnnData, config: DataConfig) -> bool:
    """Return whether the layer holds raw counts; False if log_normalize or scale, which concern expression, are set."""
    if config.log_normalize is not None or config.scale:
        return False
    matrix, where = read_layer(adata, config.layer)
    check_matrix(matrix, where, gene_names=adata.var_names, cell_names=adata.obs_names)
    return infer_matrix_kind(matrix) == "counts"
