"""The commands `differential-expression`, `denoise` and `criticize`. Heavy libraries are imported inside the commands."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sparcell.cli import targets
from sparcell.cli.commands import Inputs, Star, start
from sparcell.cli.options import (
    CriticizeOptions,
    DenoiseOptions,
    DifferentialExpressionOptions,
    RunOptions,
    given,
)
from sparcell.config.expression import CriticizeConfig, DenoiseConfig, DifferentialExpressionConfig
from sparcell.config.input import MAX_MEMORY

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.config.input import ModelInputConfig
    from sparcell.io import StoredCells
    from sparcell.models.fitted import Model

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

    with targets.output_folder(out, overwrite=how.overwrite) as folder:
        files.check_output_folder(folder)
        keys = [key for key in (groupby, config.within, config.batch_key) if key is not None]
        adata, model = _opened(input, model_dir, config, keys=keys)
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
    adata, model = _opened(input, model_dir, config, memory=config.memory)
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

    with targets.output_folder(out, overwrite=how.overwrite) as folder:
        files.check_output_folder(folder)
        adata, model = _opened(input, model_dir, config, memory=config.memory)
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


def _opened(
    input: list[Path],
    model_dir: Path,
    config: ModelInputConfig,
    *,
    keys: Sequence[str] = (),
    memory: str = MAX_MEMORY,
) -> tuple[AnnData | StoredCells, Model]:
    """Return the cells, with the columns of obs that the model and the command read, and the model that reads them."""
    from sparcell.io import stored
    from sparcell.models import load

    model = load(model_dir)
    adata = stored.open_for_model(
        input,
        config.layer or model.schema.layer,
        (*model.schema.covariates.keys, *keys),
        gene_symbols=config.gene_symbols,
        memory=memory,
    )
    return adata, model.for_data(adata, layer=config.layer, missing_genes=config.missing_genes)
