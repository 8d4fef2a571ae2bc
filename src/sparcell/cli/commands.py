"""What each command does. Heavy libraries are imported inside the commands, so that help is printed at once."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sparcell._utils import launched
from sparcell.cli import fitting, targets
from sparcell.cli.model_input import open_input
from sparcell.cli.options import (
    BenchmarkOptions,
    DataOptions,
    EmbedOptions,
    FitOptions,
    ModelName,
    ModelOptions,
    PresetDataOptions,
    PresetModelOptions,
    ProgramsOptions,
    RunOptions,
    StudyOptions,
    given,
)
from sparcell.config.data import LabelledDataConfig
from sparcell.config.experiments import (
    BenchmarkConfig,
    EmbedConfig,
    FitConfig,
    ProgramsConfig,
    RunConfig,
    StudyConfig,
)
from sparcell.config.options import settings_of
from sparcell.config.presets import find_preset
from sparcell.errors import InputError, SparcellError

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.io import StoredCells
    from sparcell.models.fitted import Model

log = logging.getLogger("sparcell")

Resume = Annotated[bool, Parameter(negative="", show_default=False)]
Star = Parameter(name="*")
Inputs = Annotated[list[Path], Parameter(negative="")]


def study(
    input: Inputs | None = None,
    *,
    out: Path,
    study: Annotated[StudyOptions, Star] = None,
    data: Annotated[PresetDataOptions, Star] = None,
    model: Annotated[PresetModelOptions, Star] = None,
    resume: Resume = False,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Compare autoencoder, β-VAE and β-VSC on raw counts: latent representations, maps, scores, figures and a report.

    The command writes report.html, pages of gene programs, tables, figures, study.h5ad and the trained models into the folder --out.

    Parameters
    ----------
    input
        Raw counts: .h5ad, .zarr, 10x .h5 or folder, or a table: .csv, .tsv, .csv.gz. Several files are joined as for `fit`. Default:
        PBMC3k, which ships with sparcell.
    out
        Folder for the results, new or empty.
    resume
        Continue an interrupted study in --out, or add seeds or models to a finished one.
    """
    how, config = start(run), StudyConfig(**given(study))
    from sparcell.study import run as run_study
    from sparcell.study import show

    changes = given(data) | given(model)
    with targets.output_folder(out, overwrite=how.overwrite) as folder:
        results = run_study(
            *(input, folder, config),
            changes=changes,
            resume=resume or folder != out,
            silent=how.quiet,
            command=command_line(),
        )
    if not how.quiet:
        show(results)
        print(f"Report: {out / 'report.html'}")


def benchmark(
    input: Inputs,
    *,
    out: Path,
    benchmark: Annotated[BenchmarkOptions, Star] = None,
    model: Annotated[PresetModelOptions, Star] = None,
    resume: Resume = False,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Compare models, baselines and other packages on the same cells: integration, clustering, likelihood, time, memory.

    The command writes benchmark.html, tables, figures and benchmark.h5ad into the folder --out. It skips methods that are not installed.

    Parameters
    ----------
    input
        Raw counts, with cell types and batches in obs; formats as for `study`.
    out
        Folder for the results, new or empty.
    resume
        Continue an interrupted benchmark in --out, or add seeds or methods to a finished one.
    """
    how, config = start(run), BenchmarkConfig(**given(benchmark))
    from sparcell.benchmark import run as run_benchmark
    from sparcell.benchmark import show

    with targets.output_folder(out, overwrite=how.overwrite) as folder:
        results = run_benchmark(
            *(input, folder, config),
            changes=given(model),
            resume=resume or folder != out,
            silent=how.quiet,
            command=command_line(),
        )
    if not how.quiet:
        show(results)
        print(f"Page: {out / 'benchmark.html'}")


def fit(
    input: Inputs,
    *,
    model: ModelName,
    fit: Annotated[FitOptions, Star] = None,
    data: Annotated[DataOptions, Star] = None,
    settings: Annotated[ModelOptions, Star] = None,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Train one model; write its latent representation into a copy of the data, and save the model.

    Parameters
    ----------
    input
        Raw counts or log-normalized values, in any format of `study`. Several files are joined by gene name (their batch:
        --batch-key file).
    model
        The model to train.
    """
    how, config = start(run, several_processes=True), FitConfig(**given(fit))
    if "flavor" in given(fit) and config.n_top_genes is None:
        raise InputError("--flavor needs a number of genes to choose; add --n-top-genes 2000.")
    model_settings = fit_settings(config, model, given(settings))
    if "label_weight" in model_settings and "labels_key" not in given(data):
        raise InputError("--label-weight is the weight of labels in training; add --labels-key COLUMN.")
    if not config.dry_run and launched.rank() == 0:
        check_fit_targets(config, input, overwrite=how.overwrite)
    from sparcell import io
    from sparcell.cli import dry_run
    from sparcell.io import result_files
    from sparcell.io.obs_columns import log_batch_hint
    from sparcell.models import MODELS

    started = time.perf_counter()
    data_settings = given(data)
    keys = LabelledDataConfig(**data_settings).obs_keys
    adata = io.open_cells(
        input,
        layer=data_settings.get("layer"),
        obs_keys=keys,
        gene_symbols=config.gene_symbols,
        memory=config.memory,
    )
    if config.out is not None:
        result_files.check_result(adata, config.out)
    log_batch_hint(adata.obs, keys)
    if config.dry_run:
        dry_run.print_fit(adata, MODELS[model](**model_settings), config, data_settings)
        return
    if config.n_top_genes is not None:
        data_settings["genes_key"] = fitting.choose_genes(adata, config, data_settings)
    estimator = MODELS[model](**model_settings)
    fitting.log_data(adata, estimator, data_settings)
    fitted = estimator.fit(
        adata,
        **data_settings,
        checkpoint_dir=config.checkpoint_dir,
        checkpoint_seconds=config.checkpoint_seconds,
        silent=how.quiet,
    )
    if launched.rank() > 0:  # the first process writes the results
        return
    save_fitted(fitted, adata, config, started)


def save_fitted(fitted: Model, adata: AnnData | StoredCells, config: FitConfig, started: float) -> None:
    """Encode the cells, say what came out, and write model and latents; `started` is when the command was called."""
    from sparcell.io import result_files

    failure = None
    latents = fitted.latent_representation(adata)
    fitting.log_result(fitted, latents, time.perf_counter() - started)
    if config.model_dir is not None:
        try:
            fitted.save(config.model_dir)
            log.info("model saved in %s", config.model_dir)
        except SparcellError as error:  # the other result may lie on another disk
            failure = error
    if config.out is not None:
        fitting.drop_older_results(adata, fitted.settings.name)
        fitted.write_latents(adata, latents)
        result_files.write_cells(adata, config.out, with_x=config.with_x)
        key = f"X_{fitted.settings.name}"
        log.info("latent representation written to %s, obsm[%r]", config.out, key)
    if failure is not None:
        raise failure


def fit_settings(config: FitConfig, model: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a model: those of the preset, then the user's changes; raise InputError for others."""
    from sparcell.config.model import MODEL_SETTINGS

    accepted = {setting.name for setting in settings_of(MODEL_SETTINGS[model])}
    for name in changes.keys() - accepted:
        raise InputError(
            f"{model} has no setting --{name.replace('_', '-')}; sparcell fit --help-all lists the models that have it."
        )
    if config.preset is None:
        return changes
    preset = find_preset(config.preset)
    from sparcell.experiments.presets import preset_settings

    return preset_settings(preset, model) | changes


def check_fit_targets(config: FitConfig, input: list[Path], *, overwrite: bool) -> None:
    """Raise InputError, before any work, if nothing would be saved or a target cannot be written."""
    from sparcell.io import model_folder

    out, model_dir, checkpoint_dir = config.out, config.model_dir, config.checkpoint_dir
    if out is None and model_dir is None:
        raise InputError(
            "nothing would be saved; expected --out FILE.h5ad or FOLDER.zarr, --model-dir FOLDER or both."
        )
    if out is not None:
        targets.check_output_file(out, input, overwrite=overwrite)
    if model_dir is not None:
        targets.check_model_folder(model_dir, overwrite=overwrite)
        if out is not None and out.absolute() == model_dir.absolute():
            raise InputError(f"--out and --model-dir are both {out}; expected two different names.")
    if checkpoint_dir is not None:
        model_folder.check_target(checkpoint_dir)
    if config.resume and checkpoint_dir is None:
        raise InputError("--resume needs the folder of the checkpoint; add --checkpoint-dir FOLDER.")
    if not config.resume and checkpoint_dir is not None and model_folder.is_whole(checkpoint_dir):
        raise InputError(
            f"{checkpoint_dir} holds a checkpoint. Add --resume to continue from it, or pass a new folder."
        )


def embed(
    input: Inputs,
    *,
    model_dir: Path,
    out: Path,
    embed: Annotated[EmbedOptions, Star] = None,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Encode cells with a saved model.

    Parameters
    ----------
    input
        Cells with the genes of the model, and raw counts or log-normalized values as in training. A model from `study` also reads raw
        counts. Several files are joined as for `fit`.
    model_dir
        Folder of a saved model, from `fit --model-dir` or from a study's models folder.
    out
        New .h5ad file or .zarr folder: the data with the latent representation in obsm["X_MODEL"].
    """
    how, config = start(run), EmbedConfig(**given(embed))
    if not config.dry_run:
        targets.check_output_file(out, input, overwrite=how.overwrite)
    from sparcell.cli import dry_run
    from sparcell.io import result_files
    from sparcell.models import load

    saved = load(model_dir)
    adata, model = open_input(
        input, saved, config, keys=saved.schema.covariates.keys, memory=config.memory, out=out
    )
    if config.dry_run:
        dry_run.print_embed(adata, model, config.unseen)
        return
    fitting.drop_older_results(adata, model.settings.name)
    model.embed(adata, unseen=config.unseen)
    result_files.write_cells(adata, out, with_x=config.with_x)
    key = f"X_{model.settings.name}"
    log.info("%s cells encoded; latent representation written to %s, obsm[%r]", f"{adata.n_obs:,}", out, key)


def programs(
    input: Inputs,
    *,
    model_dir: Path,
    out: Path,
    programs: Annotated[ProgramsOptions, Star] = None,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Read the latents of a saved model as gene programs: named, compared over seeds, on one page.

    The command writes programs.html, programs.csv, genes.csv, effects.csv (gzipped if large), enrichment.csv and figures into the
    folder --out; also labels.csv with --labels-key, and matches.csv with several seeds. The input is not changed.

    Parameters
    ----------
    input
        Cells with the genes of the model, and raw counts or log-normalized values as in training. A model from `study` also reads raw
        counts. Several files are joined as for `fit`.
    model_dir
        Folder of a saved model, from `fit --model-dir` or from a study's models folder.
    out
        Folder for the results, new or empty.
    """
    how, config = start(run), ProgramsConfig(**given(programs))
    from sparcell.programs import run as run_programs

    with targets.output_folder(out, overwrite=how.overwrite) as folder:
        results = run_programs(input, model_dir, folder, config, silent=how.quiet, command=command_line())
    if not how.quiet:
        print(f"{results.n_active} of {results.n_latent} latents active; page: {out / 'programs.html'}")


def command_line() -> str:
    """Return the command line that was typed, for the provenance of a result."""
    return shlex.join(["sparcell", *sys.argv[1:]])


def start(options: RunOptions, *, several_processes: bool = False) -> RunConfig:
    """Return how a command runs; set its threads, and silence progress and warnings if asked to.

    Raises InputError if torchrun started several processes, unless the command is for several; the first one then has all messages.
    """
    config = RunConfig(**given(options))
    if launched.world_size() > 1 and not several_processes:
        raise InputError(
            f"torchrun started {launched.world_size()} processes, and this command runs in one; only fit trains in several. Start it "
            "without torchrun."
        )
    if config.quiet or launched.rank() > 0:
        log.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
    if config.threads is not None:
        for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[variable] = str(
                config.threads
            )  # read when torch is imported, here and in worker processes
        from sparcell._utils import torch_runtime

        torch_runtime.set_threads(config.threads)
    return config
