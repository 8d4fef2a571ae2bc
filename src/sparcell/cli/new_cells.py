"""Commands that bring new cells to a saved model: take up their batches, predict their labels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sparcell.cli import fitting, targets
from sparcell.cli.commands import Inputs, Star, start
from sparcell.cli.model_input import open_input
from sparcell.cli.options import MapOptions, PredictOptions, RunOptions, given
from sparcell.config.new_cells import MapConfig, PredictConfig
from sparcell.errors import InputError

if TYPE_CHECKING:
    from sparcell.models.fitted import Model

log = logging.getLogger("sparcell")


def map_query(
    input: Inputs,
    *,
    model_dir: Path,
    out: Path,
    map: Annotated[MapOptions, Star] = None,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Map cells of new donors or chemistries onto a saved model, without training the model again.

    Only the parameters of the new batches are trained. The latent representation of the old cells stays the same to the last bit.

    Parameters
    ----------
    input
        New cells with the genes of the model, and raw counts or log-normalized values as in training. Several files are joined as for
        `fit`.
    model_dir
        Folder of a saved model that was trained with --batch-key. The folder is not changed.
    out
        New .h5ad file or .zarr folder: the new cells with their latent representation in obsm["X_MODEL"].
    """
    how, config = start(run), MapConfig(**given(map))
    targets.check_output_file(out, input, overwrite=how.overwrite)
    if config.mapped_model_dir is not None:
        targets.check_model_folder(config.mapped_model_dir, overwrite=how.overwrite)
        if config.mapped_model_dir.absolute() in (model_dir.absolute(), out.absolute()):
            raise InputError(
                f"--mapped-model-dir is {config.mapped_model_dir}, which is also --model-dir or --out; expected a new folder."
            )
    from sparcell.io import result_files
    from sparcell.models import load
    from sparcell.models.mapping import required_batches

    saved = load(model_dir)
    column = required_batches(saved.schema)
    keys = (config.batch_key or column.key, *saved.schema.covariates.keys[1:])
    adata, model = open_input(input, saved, config, keys=keys, memory=config.memory, out=out)
    mapped = model.map_query(
        adata, batch_key=config.batch_key, unseen=config.unseen, seed=config.seed, silent=how.quiet
    )
    if config.mapped_model_dir is not None:
        mapped.save(config.mapped_model_dir)
        log.info("model of the old and the new batches saved in %s", config.mapped_model_dir)
    fitting.drop_older_results(adata, mapped.settings.name)
    mapped.embed(adata)
    result_files.write_cells(adata, out, with_x=config.with_x)
    key = f"X_{mapped.settings.name}"
    log.info("%s cells mapped; latent representation written to %s, obsm[%r]", f"{adata.n_obs:,}", out, key)


def predict(
    input: Inputs,
    *,
    model_dir: Path,
    out: Path,
    predict: Annotated[PredictOptions, Star] = None,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Predict cell types of new cells with a saved model, with probabilities and "unknown".

    A model trained by `fit --labels-key` knows the types. Another model learns the types once, from --reference and --labels-key.

    Parameters
    ----------
    input
        New cells with the genes of the model, and raw counts or log-normalized values as in training. Several files are joined as for
        `fit`.
    model_dir
        Folder of a saved model. With --reference the labels are added to it; the model itself is not changed.
    out
        New .h5ad file or .zarr folder: the data with obs["LABELS_predicted"], obs["LABELS_probability"], obs["LABELS_distance"], and all
        probabilities in obsm["LABELS_probabilities"].
    """
    how, config = start(run), PredictConfig(**given(predict))
    targets.check_output_file(out, input, overwrite=how.overwrite)
    from sparcell.io import result_files
    from sparcell.models import load

    model = load(model_dir)
    if config.reference is not None:
        learn_labels(model, config, model_dir)
    elif not model.label_classifiers:
        raise InputError(
            f"{model_dir} has learned no labels; add --reference FILE.h5ad --labels-key COLUMN, with labelled cells such as those of the "
            "training."
        )
    result_files.check_columns(
        (label for learned in model.label_classifiers.values() for label in learned.labels), out
    )
    adata, reader = open_input(
        input, model, config, keys=model.schema.covariates.keys, memory=config.memory, out=out
    )
    key = reader.predict_labels(
        adata, config.labels_key, unknown_rate=config.unknown_rate, unseen=config.unseen
    )
    result_files.write_cells(adata, out, with_x=config.with_x)
    counts = adata.obs[f"{key}_predicted"].value_counts()
    largest = ", ".join(f"{label} {count:,}" for label, count in counts.head(6).items())
    log.info("%s cells: %s%s", f"{adata.n_obs:,}", largest, ", …" if len(counts) > 6 else "")
    log.info("labels written to %s, obs[%r]", out, f"{key}_predicted")


def learn_labels(model: Model, config: PredictConfig, model_dir: Path) -> None:
    """Learn labels from the reference, and keep them in the folder of the model."""
    from sparcell import io
    from sparcell.io import model_folder

    assert config.reference is not None
    assert config.labels_key is not None
    model_folder.check_target(model_dir)  # such as a card that was edited, before cells are encoded
    reference = io.read(config.reference, gene_symbols=config.gene_symbols)
    reader = model.for_data(reference, layer=config.layer, missing_genes=config.missing_genes)
    reader.fit_labels(reference, config.labels_key, unseen=config.unseen)
    model.load_labels(reader.labels_as_json())
    model.save(model_dir)
    log.info("labels kept in %s", model_dir)
