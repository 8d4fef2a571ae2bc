"""What each command does. Heavy libraries are imported inside the commands, so that help is printed at once."""

from __future__ import annotations

import logging
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from sparcell.cli.options import (
    BenchmarkOptions,
    DataOptions,
    FitOptions,
    ModelName,
    ModelOptions,
    PresetDataOptions,
    PresetModelOptions,
    ProgramsOptions,
    StudyOptions,
    given,
)
from sparcell.config.experiments import BenchmarkConfig, FitConfig, ProgramsConfig, StudyConfig
from sparcell.config.options import settings_of
from sparcell.config.presets import PRESETS
from sparcell.errors import InputError, SparcellError, did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger("sparcell")

OUTPUT = Group("Output", sort_key=1)
DATA = Group("Data", sort_key=2)
SETTINGS = Group(
    "Settings", help="The defaults hold without --preset; a preset sets other values.", sort_key=3
)
STUDY = Group("Study", sort_key=1)
BENCHMARK = Group("Benchmark", sort_key=1)
PROGRAMS = Group("Programs", sort_key=1)
OVERRIDE_DATA = Group(
    "Override the preset: data",
    help="These options apply to all models. Default: the value of the preset, else the default in sparcell fit --help.",
    sort_key=2,
)
OVERRIDE_MODELS = Group(
    "Override the preset: models",
    help="These options apply to all models. Default: the value of the preset, else the default in sparcell fit --help.",
    sort_key=3,
)

Quiet = Annotated[bool, Parameter(help="Show errors only.", negative="", show_default=False)]
Resume = Annotated[bool, Parameter(negative="", show_default=False)]


def study(
    input: Path | None = None,
    *,
    out: Path,
    study: Annotated[StudyOptions, Parameter(name="*", group=STUDY)] = None,
    data: Annotated[PresetDataOptions, Parameter(name="*", group=OVERRIDE_DATA)] = None,
    model: Annotated[PresetModelOptions, Parameter(name="*", group=OVERRIDE_MODELS)] = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Compare autoencoder, β-VAE and β-VSC on raw counts: latent representations, maps, scores, figures and a report.

    Without INPUT the study runs on the PBMC3k counts that ship with sparcell. It writes report.html, a page of gene programs for each
    β-VSC, scores.csv, times.csv, history.csv, figures, study.h5ad, the trained models and provenance.json into the output
    folder.

    Parameters
    ----------
    input
        Raw counts: .h5ad, .zarr, a 10x .h5 or folder, CSV or TSV (also .gz); cells in rows or in columns. Default: the PBMC3k counts
        that ship with sparcell.
    out
        Folder for the results; must be new or empty, unless --resume is given.
    resume
        Continue an interrupted study, or add seeds or models to a finished one. Finished runs are not trained again.
    """
    from sparcell.study import run, show

    show_only_errors(quiet)
    config = StudyConfig(**given(study))
    changes = given(data) | given(model)
    results = run(input, out, config, changes=changes, resume=resume, silent=quiet, command=command_line())
    if not quiet:
        show(results)
        print(f"Report: {out / 'report.html'}")


def benchmark(
    input: Path,
    *,
    out: Path,
    benchmark: Annotated[BenchmarkOptions, Parameter(name="*", group=BENCHMARK)] = None,
    model: Annotated[PresetModelOptions, Parameter(name="*", group=OVERRIDE_MODELS)] = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Compare models, baselines and other packages on the same cells: integration, clustering, likelihood, time, memory.

    All methods use the same cells, highly variable genes and train/test split. The command writes benchmark.html, tables, figures,
    benchmark.h5ad and provenance.json into the output folder. Methods that are not installed are skipped and named.

    Parameters
    ----------
    input
        Raw counts with cell types (and batches) in obs, in any format that `study` reads.
    out
        Folder for the results; must be new or empty, unless --resume is given.
    resume
        Continue an interrupted benchmark, or add seeds or methods to a finished one. Finished runs are not repeated.
    """
    from sparcell.benchmark import run, show

    show_only_errors(quiet)
    config = BenchmarkConfig(**given(benchmark))
    results = run(
        input, out, config, changes=given(model), resume=resume, silent=quiet, command=command_line()
    )
    if not quiet:
        show(results)
        print(f"Page: {out / 'benchmark.html'}")


def fit(
    input: Path,
    *,
    model: ModelName,
    run: Annotated[FitOptions, Parameter(name="*", group=OUTPUT)] = None,
    data: Annotated[DataOptions, Parameter(name="*", group=DATA)] = None,
    settings: Annotated[ModelOptions, Parameter(name="*", group=SETTINGS)] = None,
    quiet: Quiet = False,
) -> None:
    """Train one model; write its latent representation into a copy of the data, and save the model.

    Parameters
    ----------
    input
        Raw counts or log-normalized values, in any format that `study` reads.
    model
        The model to train.
    """
    show_only_errors(quiet)
    config = FitConfig(**given(run))
    model_settings = fit_settings(config, model, given(settings))
    check_fit_targets(config, input)
    from sparcell import io
    from sparcell.models import MODELS

    adata, data_settings = io.read(input), given(data)
    if config.out is not None:
        io.check_writable(adata, config.out.name)
    if config.n_top_genes is not None:
        data_settings["genes_key"] = choose_genes(adata, config.n_top_genes, data_settings)
    estimator = MODELS[model](**model_settings)
    fitted = estimator.fit(adata, **data_settings, checkpoint_dir=config.checkpoint_dir, silent=quiet)
    failure = None
    if config.model_dir is not None:
        try:
            fitted.save(config.model_dir)
            log.info("model saved in %s", config.model_dir)
        except SparcellError as error:  # the other result may lie on another disk
            failure = error
    if config.out is not None:
        fitted.embed(adata)
        io.write_h5ad(adata, config.out)
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
            f"{model} has no setting --{name.replace('_', '-')}; sparcell fit --help lists the models that have it."
        )
    if config.preset is None:
        return changes
    if config.preset not in PRESETS:
        raise InputError(f"no preset {config.preset!r}; {did_you_mean(config.preset, PRESETS)}")
    from sparcell.experiments.presets import preset_settings

    return preset_settings(PRESETS[config.preset], model) | changes


def check_fit_targets(config: FitConfig, input: Path) -> None:
    """Raise InputError, before any work, if nothing would be saved or a target cannot be written."""
    from sparcell.io import model_folder

    out, model_dir, checkpoint_dir = config.out, config.model_dir, config.checkpoint_dir
    if out is None and model_dir is None:
        raise InputError("nothing would be saved; expected --out FILE.h5ad, --model-dir FOLDER or both.")
    if out is not None:
        check_output_file(out, input)
    if model_dir is not None:
        model_folder.check_target(model_dir)
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


def choose_genes(adata: AnnData, n_top_genes: int, data_settings: dict[str, Any]) -> str:
    """Mark the highly variable genes of the raw counts in `adata.var`; return the name of that column."""
    from anndata import AnnData

    from sparcell import pp
    from sparcell.data.expression import read_layer

    if "genes_key" in data_settings:
        raise InputError("--n-top-genes and --genes-key both choose genes; expected one of them.")
    work = AnnData(obs=adata.obs.copy(), var=adata.var[[]].copy())
    work.layers["counts"] = read_layer(adata, data_settings.get("layer"))[0]
    pp.variable_genes(work, n_top_genes=n_top_genes, batch_key=data_settings.get("batch_key"))
    adata.var["highly_variable"] = work.var["highly_variable"]
    return "highly_variable"


def embed(
    input: Path,
    *,
    model_dir: Path,
    out: Path,
    unseen: Literal["error", "average"] = "error",
    quiet: Quiet = False,
) -> None:
    """Encode cells with a saved model.

    Parameters
    ----------
    input
        Cells with the genes of the model and the same values as in training (raw counts or log-normalized). Raw counts in X also work for a
        model from `study`.
    model_dir
        Folder of a saved model, from `fit --model-dir` or from a study's models folder.
    out
        New .h5ad file: the data with the latent representation in obsm["X_MODEL"].
    unseen
        Cells of a batch that was not in training. error: stop. average: use the batch proportions of the training data.
    """
    show_only_errors(quiet)
    check_output_file(out, input)
    from sparcell import io
    from sparcell.models import load

    model = load(model_dir)
    adata = io.read(input)
    io.check_writable(adata, out.name)
    model.schema = model.schema.resolve_layer(adata)
    model.embed(adata, unseen=unseen)
    io.write_h5ad(adata, out)
    key = f"X_{model.settings.name}"
    log.info("%d cells encoded; latent representation written to %s, obsm[%r]", adata.n_obs, out, key)


def programs(
    input: Path,
    *,
    model_dir: Path,
    out: Path,
    programs: Annotated[ProgramsOptions, Parameter(name="*", group=PROGRAMS)] = None,
    quiet: Quiet = False,
) -> None:
    """Read the latents of a saved model as gene programs: named, compared over seeds, on one page.

    The command writes programs.html, programs.csv, genes.csv, effects.csv (gzipped if large), enrichment.csv and figures into the
    output folder; also labels.csv with --labels-key, and matches.csv with --seeds. The input is not changed.

    Parameters
    ----------
    input
        Cells with the genes of the model and the same values as in training (raw counts or log-normalized). Raw counts in X also work for a
        model from `study`.
    model_dir
        Folder of a saved model, from `fit --model-dir` or from a study's models folder.
    out
        Folder for the results; must be new or empty.
    """
    from sparcell.programs import run

    show_only_errors(quiet)
    config = ProgramsConfig(**given(programs))
    results = run(input, model_dir, out, config, silent=quiet, command=command_line())
    if not quiet:
        print(f"{results.n_active} of {results.n_latent} latents active; page: {out / 'programs.html'}")


def check_output_file(out: Path, input: Path) -> None:
    """Raise InputError, before any work, if a target cannot be written or would replace a file."""
    from sparcell.io import files, places

    if out.suffix != ".h5ad":
        raise InputError(f"--out is {out}; expected a name that ends in .h5ad.")
    files.check_output_folder(out.parent, allow_existing=True)
    places.check_file(out)
    if out.exists() and input.exists() and out.samefile(input):
        raise InputError(
            f"--out is the input, {input}; expected another name, so that the input stays as it is."
        )
    if out.exists():
        raise InputError(
            f"--out is {out}, which exists; expected a new name, so that nothing is overwritten."
        )


def command_line() -> str:
    """Return the command line that was typed, for the provenance of a result."""
    return shlex.join(["sparcell", *sys.argv[1:]])


def show_only_errors(quiet: bool) -> None:
    """Silence progress and warnings if `quiet` is set."""
    if quiet:
        log.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
