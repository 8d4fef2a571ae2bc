"""What each command does. Options come from the settings' own types and help texts; nothing is described a second time."""

from __future__ import annotations

import logging
import shlex
import sys
import typing
import warnings
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from anndata import AnnData
from cyclopts import Parameter

import sparcell
from sparcell import io
from sparcell.config.experiments import BenchmarkConfig, FitConfig, ProgramsConfig, StudyConfig
from sparcell.config.settings import ByKind, DataConfig, settings_of
from sparcell.data.schema import read_layer
from sparcell.errors import InputError, did_you_mean
from sparcell.experiments.presets import PRESETS
from sparcell.io import files, model_folder
from sparcell.models import MODELS

log = logging.getLogger("sparcell")

Quiet = Annotated[bool, Parameter(help="Show nothing but errors.", negative="")]


def options(name: str, configs: dict[str, type], *, without: tuple[str, ...] = ()) -> Any:
    """Make a dataclass of options from settings, of several configs the union: None where the user says nothing."""
    found: dict[str, tuple[str, Any, Any]] = {}
    owners: dict[str, list[str]] = {}
    for owner, config in configs.items():
        for setting in settings_of(config):
            if setting.name in without:
                continue
            owners.setdefault(setting.name, []).append(owner)
            kinds = (setting.type, *typing.get_args(setting.type))  # also of "tuple or None"
            many = any(typing.get_origin(kind) is tuple for kind in kinds)
            default = default_text(setting.default)
            text = f"{setting.help} [default: {default}]" if default else setting.help
            if len(owners[setting.name]) < len(configs):
                text = f"{text} Only: {', '.join(owners[setting.name])}."
            parameter = Parameter(
                help=text, consume_multiple=many, negative="" if many else None, show_default=False
            )
            found[setting.name] = (setting.name, Annotated[setting.type | None, parameter], None)
    made = make_dataclass(name, found.values(), frozen=True, kw_only=True)
    made.__module__ = __name__  # where the command line library looks up the types of its fields
    return made


def default_text(default: Any) -> str:
    """Write a default as one would type it; both where it depends on the data, nothing where there is none."""
    if isinstance(default, ByKind):
        expression, counts = default_text(default.expression), default_text(default.counts)
        return expression if expression == counts else f"{expression}; on raw counts {counts}"
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    return "" if default is None else f"{default:.3g}" if isinstance(default, float) else str(default)


def given(chosen: Any) -> dict[str, Any]:
    """Return the options that the user set; none at all come as None."""
    if chosen is None:
        return {}
    return {
        field.name: value for field in fields(chosen) if (value := getattr(chosen, field.name)) is not None
    }


if TYPE_CHECKING:  # the types of these options are made below, from the settings
    ModelName = str
    ModelOptions = Any
    FitOptions = Any
    DataOptions = Any
    StudyOptions = Any
    StudyModelOptions = Any
    BenchmarkOptions = Any
    StudyDataOptions = Any
    ProgramsOptions = Any
else:
    ModelName = Literal[tuple(MODELS)]
    ModelOptions = options("ModelOptions", MODELS)
    FitOptions = options("FitOptions", {"fit": FitConfig})
    DataOptions = options("DataOptions", {"data": DataConfig})
    StudyOptions = options("StudyOptions", {"study": StudyConfig})
    StudyModelOptions = options("StudyModelOptions", MODELS, without=("seed",))
    BenchmarkOptions = options("BenchmarkOptions", {"benchmark": BenchmarkConfig})
    ProgramsOptions = options("ProgramsOptions", {"programs": ProgramsConfig})
    StudyDataOptions = options("StudyDataOptions", {"data": DataConfig}, without=("layer", "normalise"))


def study(
    input: Path | None = None,
    *,
    out: Path,
    study: Annotated[StudyOptions, Parameter(name="*", group="Study")] = None,
    data: Annotated[StudyDataOptions, Parameter(name="*", group="Instead of the presets' data")] = None,
    model: Annotated[StudyModelOptions, Parameter(name="*", group="Instead of the presets' settings")] = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
) -> None:
    """Compare the models on raw counts: codes, maps, scores, figures and a report.

    Without INPUT the study runs on the PBMC3k counts that ship with the package. It writes report.html, a page of gene programs for each
    model with spikes, scores.csv, times.csv, history.csv, figures, study.h5ad, the trained models and provenance.json into the output
    folder.

    Parameters
    ----------
    input
        Raw counts: .h5ad, .zarr, a 10x .h5 or folder, CSV or TSV (also .gz), cells and genes either way round.
    out
        Folder for the results; must be new or empty.
    resume
        Go on with a study that was stopped, or add seeds or models to one: runs already in the folder are kept.
    """
    from sparcell.study import (
        pipeline as whole_study,  # brings the plotting libraries, which no other command needs
    )

    hush(quiet)
    config = StudyConfig(**given(study))
    changes = given(data) | given(model)
    results = whole_study.run(
        input, out, config, changes=changes, resume=resume, silent=quiet, command=typed()
    )
    if not quiet:
        whole_study.show(results)
        print(f"Report: {out / 'report.html'}")


def benchmark(
    input: Path,
    *,
    out: Path,
    benchmark: Annotated[BenchmarkOptions, Parameter(name="*", group="Benchmark")] = None,
    model: Annotated[StudyModelOptions, Parameter(name="*", group="Settings of sparcell's models")] = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
) -> None:
    """Compare models with baselines and with other packages on the same cells: integration, clustering, likelihood, time, memory.

    Every method gets the same cells, the same variable genes and the same split. It writes benchmark.html, tables, figures,
    benchmark.h5ad and provenance.json into the output folder. What is not installed is skipped and named.

    Parameters
    ----------
    input
        Raw counts with cell types (and batches) in obs, in any format that `study` reads.
    out
        Folder for the results; must be new or empty.
    resume
        Go on with a benchmark that was stopped, or add seeds or methods to one: runs already in the folder are kept.
    """
    from sparcell.benchmark import (
        pipeline as whole_benchmark,  # both bring the plotting libraries, which no other command needs
    )
    from sparcell.benchmark import write

    hush(quiet)
    config = BenchmarkConfig(**given(benchmark))
    standings = whole_benchmark.run(
        input, out, config, changes=given(model), resume=resume, silent=quiet, command=typed()
    )
    if not quiet:
        write.show(standings)
        print(f"Page: {out / 'benchmark.html'}")


def fit(
    input: Path,
    *,
    model: ModelName,
    run: Annotated[FitOptions, Parameter(name="*", group="Parameters")] = None,
    data: Annotated[DataOptions, Parameter(name="*", group="Data")] = None,
    settings: Annotated[ModelOptions, Parameter(name="*", group="Settings")] = None,
    quiet: Quiet = False,
) -> None:
    """Train one model; write its codes into a copy of the data, and save it.

    Raw counts are modelled as counts (likelihood nb), log-normalised values as such, unless --likelihood says otherwise.

    Parameters
    ----------
    input
        Counts or log-normalised values, in any format that `study` reads.
    model
        Which model to train.
    """
    hush(quiet)
    wanted = FitConfig(**given(run))
    out, save = wanted.out, wanted.save
    if out is None and save is None:
        raise InputError("nothing would be kept; expected --out FILE.h5ad, --save FOLDER or both.")
    chosen, accepted = given(settings), {setting.name for setting in settings_of(MODELS[model])}
    if wanted.preset is not None:
        chosen = preset_settings(wanted.preset, model) | chosen
    for name in chosen.keys() - accepted:
        raise InputError(
            f"{model} has no setting --{name.replace('_', '-')}; see sparcell fit --help for whose it is."
        )
    if out is not None:
        check_output_file(out, input)
    if save is not None:
        model_folder.check_target(save)
        files.check_output_folder(save.parent, allow_existing=True)
        if out is not None and out.absolute() == save.absolute():
            raise InputError(f"--out and --save are both {out}; expected a file and a folder of other names.")
    adata, seen = io.read(input), given(data)
    if wanted.n_top_genes is not None:
        seen["genes"] = choose_genes(adata, wanted.n_top_genes, seen)
    fitted = MODELS[model](**chosen).fit(adata, **seen, checkpoint=wanted.resume, silent=quiet)
    if save is not None:
        fitted.save(save)
        log.info("model saved in %s", save)
    if out is not None:
        fitted.annotate(adata)
        io.write_h5ad(adata, out)
        log.info("codes written to %s, obsm[%r]", out, f"X_{fitted.settings.name}")


def preset_settings(name: str, model: str) -> dict[str, Any]:
    """Return what a preset sets of a model."""
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}; {did_you_mean(name, PRESETS)}")
    return PRESETS[name].settings_of(model)


def choose_genes(adata: AnnData, n_top_genes: int, seen: dict[str, Any]) -> str:
    """Mark the variable genes of the raw counts that a model is to see; returns the column of var that marks them."""
    from sparcell import pp  # brings scanpy, which no other command here needs

    if "genes" in seen:
        raise InputError("--n-top-genes and --genes both choose genes; expected one of them.")
    work = AnnData(obs=adata.obs.copy(), var=adata.var[[]].copy())
    work.layers["counts"] = read_layer(adata, seen.get("layer"))[0]
    pp.variable_genes(work, n_top_genes=n_top_genes, batch_key=seen.get("batch_key"))
    adata.var["highly_variable"] = work.var["highly_variable"]
    return "highly_variable"


def embed(
    input: Path,
    *,
    load: Path,
    out: Path,
    unseen: Literal["error", "average"] = "error",
    quiet: Quiet = False,
) -> None:
    """Encode cells with a saved model.

    Parameters
    ----------
    input
        Cells with the model's genes, in the units it was trained on. Raw counts in X also do for a model of a study.
    load
        Folder of a saved model, from `fit --save` or from a study's models folder.
    out
        New .h5ad: the data with the codes in obsm["X_MODEL"].
    unseen
        Cells of batches that the model has not seen: an error, or encode them as of an average batch.
    """
    hush(quiet)
    check_output_file(out, input)
    fitted = sparcell.load(load)
    adata = io.read(input)
    fitted.schema = fitted.schema.found_in(adata)
    fitted.annotate(adata, unseen=unseen)
    io.write_h5ad(adata, out)
    log.info("%d cells encoded; codes written to %s, obsm[%r]", adata.n_obs, out, f"X_{fitted.settings.name}")


def programs(
    input: Path,
    *,
    load: Path,
    out: Path,
    programs: Annotated[ProgramsOptions, Parameter(name="*", group="Programs")] = None,
    quiet: Quiet = False,
) -> None:
    """Read a saved model's latents as gene programs: named, compared over seeds, on one page.

    It writes programs.html, programs.csv, genes.csv, effects.csv (gzipped where it is large), enrichment.csv and figures into the output
    folder, with --labels-key labels.csv and with --seeds matches.csv. The data stays as it is.

    Parameters
    ----------
    input
        Cells with the model's genes, in the units it was trained on. Raw counts in X also do for a model of a study.
    load
        Folder of a saved model, from `fit --save` or from a study's models folder.
    out
        Folder for the results; must be new or empty.
    """
    from sparcell.programs import pipeline  # brings the plotting libraries, which no other command needs

    hush(quiet)
    config = ProgramsConfig(**given(programs))
    found = pipeline.run(input, load, out, config, silent=quiet, command=typed())
    if not quiet:
        print(f"{found.n_live} of {found.n_latent} latents live; page: {out / 'programs.html'}")


def check_output_file(out: Path, input: Path) -> None:
    """Refuse, before any work, a target that could not be written or would take the place of the input."""
    if out.suffix != ".h5ad":
        raise InputError(f"--out is {out}; expected a name that ends in .h5ad.")
    if out.exists() and input.exists() and out.samefile(input):
        raise InputError(
            f"--out is the input, {input}; expected another name, so that the input stays as it is."
        )
    if out.exists():
        raise InputError(
            f"--out is {out}, which exists; expected a new name, so that nothing is overwritten."
        )
    files.check_output_folder(out.parent, allow_existing=True)


def typed() -> str:
    """Give the command line that was typed, for the record of what was made."""
    return shlex.join(["sparcell", *sys.argv[1:]])


def hush(quiet: bool) -> None:
    """Show errors only."""
    if quiet:
        log.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
