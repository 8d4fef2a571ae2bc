"""The commands `differential-expression`, `denoise` and `criticize`. Heavy libraries are imported inside the commands."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from sparcell.cli import targets
from sparcell.cli.commands import Inputs, Star, start
from sparcell.cli.model_input import open_input
from sparcell.cli.options import (
    CriticizeOptions,
    DenoiseOptions,
    DifferentialExpressionOptions,
    RunOptions,
    given,
)
from sparcell.config.expression import CriticizeConfig, DenoiseConfig, DifferentialExpressionConfig

log = logging.getLogger("sparcell")

TABLE = "differential_expression.csv"


def differential_expression(
    input: Inputs,
    *,
    model_dir: Path,
    groupby: str,
    out: Path,
    options: Annotated[DifferentialExpressionOptions, Star] = None,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Find the genes that differ between groups of cells, with log2 fold changes, credible intervals and error rates.

    The command writes differential_expression.csv into the folder --out: one row per comparison and gene. The input is not changed.

    Parameters
    ----------
    input
        Cells with the genes of the model, and raw counts or log-normalized values as in training. Several files are joined as for
        `fit`.
    model_dir
        Folder of a saved model, from `fit --model-dir` or from a study's models folder.
    groupby
        Column of obs with the groups, such as the cell type or the condition.
    out
        Folder for the results, new or empty.
    """
    how, config = start(run), DifferentialExpressionConfig(**given(options))
    from sparcell import io
    from sparcell.io import files
    from sparcell.models import load

    with targets.output_folder(out, overwrite=how.overwrite) as folder:
        files.check_output_folder(folder)
        saved = load(model_dir)
        keys = [key for key in (groupby, config.within, config.batch_key) if key is not None]
        adata, model = open_input(input, saved, config, keys=[*saved.schema.covariates.keys, *keys])
        # Stops at batches that the encoder does not know, unless they are allowed.
        if model.settings.encode_covariates:
            model.schema.covariates.read(adata.obs, config.unseen)
        table = model.differential_expression(
            *(adata, groupby, config.group1, config.group2),
            batch_key=config.batch_key,
            within=config.within,
            delta=config.delta,
        )
        with io.atomic_write(folder / TABLE) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    if not how.quiet:
        by = ["within", "group"] if "within" in table else ["group"]
        for names, part in table.groupby(by, sort=False):
            first = ", ".join(part.loc[part["is_de"] & (part["scores"] > 0), "names"][:5])
            print(
                f"{': '.join(map(str, names))} against {part['reference'].iloc[0]}: {part['is_de'].sum()} genes; {first}"
            )
        print(f"Table: {out / TABLE}")


def denoise(
    input: Inputs,
    *,
    model_dir: Path,
    out: Path,
    options: Annotated[DenoiseOptions, Star] = None,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Write the expected expression of each cell into the layer "denoised" of a new file.

    Parameters
    ----------
    input
        Cells with the genes of the model, and raw counts or log-normalized values as in training. Several files are joined as for
        `fit`.
    model_dir
        Folder of a saved model, from `fit --model-dir` or from a study's models folder.
    out
        New .h5ad file or .zarr folder, which is written by blocks: obs, var and the layer, for the genes of the model.
    """
    how, config = start(run), DenoiseConfig(**given(options))
    targets.check_output_file(out, input, overwrite=how.overwrite)
    from sparcell.models import load

    saved = load(model_dir)
    adata, model = open_input(input, saved, config, keys=saved.schema.covariates.keys, memory=config.memory)
    batch = config.batch or ("average" if config.unseen == "average" else None)
    model.denoise(adata, library_size=config.size, batch=batch, out=out, own_counts=not config.decoder_only)
    log.info("%s cells; expected expression written to %s, layers['denoised']", f"{adata.n_obs:,}", out)


def criticize(
    input: Inputs,
    *,
    model_dir: Path,
    out: Path,
    options: Annotated[CriticizeOptions, Star] = None,
    run: Annotated[RunOptions, Star] = None,
) -> None:
    """Check how well a saved model describes cells: mean, variance, zeros, total counts and predictive intervals.

    The command writes genes.csv, overall.csv, batches.csv (for a model with batches) and fit.png into the folder --out. The input is not
    changed.

    Parameters
    ----------
    input
        Cells with the genes of the model, and raw counts or log-normalized values as in training. Several files are joined as for
        `fit`.
    model_dir
        Folder of a saved model, from `fit --model-dir` or from a study's models folder.
    out
        Folder for the results, new or empty.
    """
    how, config = start(run), CriticizeConfig(**given(options))
    from sparcell import io, pl
    from sparcell.io import files
    from sparcell.models import load

    with targets.output_folder(out, overwrite=how.overwrite) as folder:
        files.check_output_folder(folder)
        saved = load(model_dir)
        adata, model = open_input(
            input, saved, config, keys=saved.schema.covariates.keys, memory=config.memory
        )
        criticism = model.criticize(
            adata,
            n_cells=config.n_cells or None,
            n_samples=config.n_samples,
            seed=config.seed,
            unseen=config.unseen,
        )
        for name in ("genes", "overall", "batches"):
            table = getattr(criticism, name)
            if table is not None:
                with io.atomic_write(folder / f"{name}.csv") as temporary:
                    table.to_csv(temporary, index=False, float_format="%.6g")
        with io.atomic_write(folder / "fit.png") as temporary:
            temporary.write_bytes(pl.png(pl.model_fit(criticism)))
    if not how.quiet:
        print(criticism)
        print(f"Tables: {out}")
