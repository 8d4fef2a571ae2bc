"""The commands `differential-expression` and `denoise`. Heavy libraries are imported inside the commands."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sparcell.cli import targets
from sparcell.cli.commands import Star, start
from sparcell.cli.options import DenoiseOptions, DifferentialExpressionOptions, RunOptions, given
from sparcell.config.expression import DenoiseConfig, DifferentialExpressionConfig

if TYPE_CHECKING:
    from sparcell.models.fitted import Model

log = logging.getLogger("sparcell")

TABLE = "differential_expression.csv"


def differential_expression(
    input: Path,
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
        Cells with the genes of the model, and raw counts or log-normalized values as in training.
    model_dir
        Folder of a saved model, from `fit --model-dir` or from a study's models folder.
    groupby
        Column of obs with the groups, such as the cell type or the condition.
    out
        Folder for the results, new or empty.
    """
    how, config = start(run), DifferentialExpressionConfig(**given(options))
    from sparcell import io
    from sparcell.io import files, stored

    with targets.output_folder(out, overwrite=how.overwrite) as folder:
        files.check_output_folder(folder)
        model = _load(model_dir)
        keys = [key for key in (groupby, config.within, config.batch_key) if key is not None]
        adata = stored.open_for_model(
            input,
            config.layer or model.schema.layer,
            (*model.schema.covariates.keys, *keys),
            gene_symbols=config.gene_symbols,
        )
        model = model.for_data(adata, layer=config.layer, missing_genes=config.missing_genes)
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
    input: Path,
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
        Cells with the genes of the model, and raw counts or log-normalized values as in training.
    model_dir
        Folder of a saved model, from `fit --model-dir` or from a study's models folder.
    out
        New .h5ad file, which is written by blocks: obs, var and the layer, for the genes of the model.
    """
    how, config = start(run), DenoiseConfig(**given(options))
    targets.check_output_file(out, [input], overwrite=how.overwrite)
    from sparcell.io import stored

    model = _load(model_dir)
    adata = stored.open_for_model(
        input,
        config.layer or model.schema.layer,
        model.schema.covariates.keys,
        gene_symbols=config.gene_symbols,
        memory=config.memory,
    )
    model = model.for_data(adata, layer=config.layer, missing_genes=config.missing_genes)
    batch = config.batch or ("average" if config.unseen == "average" else None)
    model.denoise(adata, library_size=config.size, batch=batch, out=out, own_counts=not config.decoder_only)
    log.info("%s cells; expected expression written to %s, layers['denoised']", f"{adata.n_obs:,}", out)


def _load(folder: Path) -> Model:
    from sparcell.models import load

    return load(folder)
