"""The programs of a fitted model in some cells: computed, named, compared over seeds, and written as page, tables and figures.

Suffixes: n cells.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparcell import io
from sparcell._utils.version import VERSION
from sparcell.config.experiments import ProgramsConfig
from sparcell.data.genes import named_by
from sparcell.errors import format_settings
from sparcell.io import files
from sparcell.io.backed import leave_on_disk
from sparcell.io.files import title_of
from sparcell.io.labels import labels_from_obs
from sparcell.io.obs_columns import log_cell_type_hint
from sparcell.io.samples import sample_in_memory
from sparcell.io.stored import open_for_model
from sparcell.models import load
from sparcell.programs.embedding import embed_cells
from sparcell.programs.naming import has_model_genes, name_and_test, read_gene_sets
from sparcell.programs.prediction import predict_active
from sparcell.programs.traversals import traverse_programs
from sparcell.programs.write import write_tables
from sparcell.results.programs import ProgramResults
from sparcell.tl.enrichment import IGNORING_CASE
from sparcell.tl.stability import Stability, copy_without_results, has_labels, seed_stability

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.models.fitted import Model
    from sparcell.results.latents import LatentRepresentation
    from sparcell.tl.gene_sets import GeneSets
    from sparcell.tl.programs import Programs

    Floats = NDArray[np.floating]

log = logging.getLogger("sparcell")

AUTO_SEEDS, MAX_AUTO_SECONDS = 5, 120.0
"""With seeds="auto" programs are compared over this many seeds, if the training of the other seeds takes at most this long."""


def run(
    data: AnnData | str | Path | Sequence[str | Path],
    model: Model | str | Path,
    out: str | Path,
    config: ProgramsConfig | None = None,
    *,
    silent: bool = False,
    command: str = "",
) -> ProgramResults:
    """Return a model's programs in some cells, and write a page, tables and figures of them into a folder.

    Parameters
    ----------
    data
        Cells with the model's genes, in the units that the model was trained on, or with raw counts in X. AnnData, or anything that
        `sparcell.io.read` reads. The data does not change.
        Several files, such as one per donor, are joined by gene name; obs["file"] names the file of each cell.
    model
        A fitted model, or the folder of a saved one. In a model without spikes, a program is on where its latent is far from 0.
    out
        Folder for the results; new or empty.
    config
        What to compute and how. Default: `ProgramsConfig()`.
    silent
        Show no progress.
    command
        Command line that the provenance quotes.

    Returns
    -------
    The results. Files written into `out`: programs.html, programs.csv, genes.csv, effects.csv (gzipped if it is large), enrichment.csv and
    figures/ (PNG and PDF). With labels also labels.csv, the fraction of each label's cells in which a program is on. With several seeds
    also matches.csv.

    Raises
    ------
    InputError
        Before any training and before anything is written, if data, model, labels or gene sets do not fit.

    Examples
    --------
    ::

        config = sp.ProgramsConfig(labels_key="cell_type", seeds=5)
        results = sp.programs.run(adata, model, "programs", config)
        results.programs[["key", "name", "fraction_explained"]]
    """
    from sparcell import pl, report  # these import the plotting libraries

    config = config or ProgramsConfig()
    sets, sets_source = read_gene_sets(config.gmt)
    folder = _check_output_folder(Path(out))
    fitted = load(model) if isinstance(model, str | Path) else model
    adata = _opened(data, fitted, config)
    if config.labels_key is None:
        log_cell_type_hint(adata.obs)
    results = collect(fitted, adata, config, sets=sets, sets_source=sets_source, silent=silent)
    name = title_of(data) if isinstance(data, str | Path | Sequence) else results.title
    source = {"command": command, "input": name, "model": "" if fitted is model else str(model)}
    results = replace(results, title=config.title or name, provenance={**source, **results.provenance})
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(results, folder)
    pl.save_programs(results, folder / "figures")
    report.write_programs(results, folder / "programs.html")
    if not results.sets_source:
        log.warning(
            "programs have no names: none of the model's genes (%s, …) is in a built-in set. Pass other gene sets with --gmt FILE.",
            ", ".join(fitted.schema.genes[:3]),
        )
    return results


def _opened(
    data: AnnData | str | Path | Sequence[str | Path], model: Model, config: ProgramsConfig
) -> AnnData | io.StoredCells:
    """Return the cells, in memory or on disk; log what happens to large files."""
    layer = config.layer or model.schema.layer
    if not isinstance(data, str | Path | Sequence):
        cells = leave_on_disk(data, layer, memory=config.memory)
        if config.gene_symbols is None:
            return cells
        if not isinstance(cells, io.StoredCells):
            return sample_in_memory(cells, gene_symbols=config.gene_symbols)[0]
        cells = cells.without_results()
        cells.var = named_by(cells.var, config.gene_symbols)
        return cells
    keys = model.schema.covariates.keys
    adata = open_for_model(data, layer, keys, gene_symbols=config.gene_symbols, memory=config.memory)
    if isinstance(adata, io.StoredCells):
        log.info(
            "the matrix stays on disk, since it would take more than %s: all %s cells are encoded, and those to decode are drawn from all "
            "over the file",
            config.memory,
            f"{adata.n_obs:,}",
        )
    return adata


def _check_output_folder(folder: Path) -> Path:
    """Return the folder; raise InputError if it is not empty or cannot be written. A new folder is not left behind."""
    is_new = not folder.exists()
    files.check_output_folder(folder)
    if is_new:
        folder.rmdir()
    return folder


def collect(
    model: Model,
    adata: AnnData,
    config: ProgramsConfig | None = None,
    *,
    sets: GeneSets | None = None,
    sets_source: str = "custom gene sets",
    map_n2: Floats | None = None,
    silent: bool = False,
) -> ProgramResults:
    """Return a model's programs in some cells, as `run` does, and write nothing.

    Parameters
    ----------
    model, adata, config, silent
        As for `run`; a fitted model and AnnData only. Without `config` no further seed is trained.
    sets
        Gene sets to name programs after. Default: those of `config.gmt`.
    sets_source
        Origin of `sets`, as the page shows it.
    map_n2
        A map of the cells, (n, 2). Default: that of the data, or a t-SNE.

    Raises
    ------
    InputError
        As for `run`.

    Examples
    --------
    ::

        results = sp.programs.collect(model, adata)
        sp.pl.program_genes(results)
    """
    start = time.perf_counter()
    config = config or ProgramsConfig(seeds=1)
    if sets is None:
        sets, sets_source = read_gene_sets(config.gmt)
    adata = leave_on_disk(adata, config.layer or model.schema.layer, memory=config.memory)
    fitted = model.for_data(adata, layer=config.layer, missing_genes=config.missing_genes)
    genes = fitted.schema.genes
    if isinstance(adata, io.StoredCells) and config.labels_key is not None:
        adata.read_obs([config.labels_key])
    labels = None if config.labels_key is None else labels_from_obs(adata, config.labels_key)
    sets_fit = has_model_genes(sets, genes, required=bool(config.gmt))
    latents = fitted.latent_representation(adata, unseen=config.unseen)
    programs, stability = _compute_programs(fitted, adata, latents, config, silent)
    settings: Any = fitted.settings
    prediction = predict_active(fitted, adata)
    summary, enrichment = name_and_test(programs, sets if sets_fit else None, config.n_genes_enrichment)
    if enrichment.attrs.get("matched") == IGNORING_CASE:
        sets_source += ", matched without regard to upper and lower case"
    if stability is not None:
        columns = ["n_reproduced", "n_others", "median_match", "stable"]
        summary = summary.join(stability.table[columns])
    seeds = (settings.seed,) if stability is None else stability.seeds
    return ProgramResults(
        title="data in memory",
        model=type(settings).__name__,
        programs=summary,
        genes=programs.genes,
        effects=programs.effects,
        enrichment=enrichment,
        label_fractions=programs.label_fractions,
        embedding=embed_cells(adata, latents, programs, labels, map_n2, config.seed, fitted.schema),
        traversals=traverse_programs(fitted, latents, programs),
        n_cells=adata.n_obs,
        n_genes=len(genes),
        n_latent=latents.mean_nk.shape[1],
        n_active=int(latents.active_k.sum()),
        n_active_predicted=prediction.n_active,
        prediction_exact=prediction.exact,
        n_cells_predicted=prediction.n_cells,
        counts=fitted.schema.counts,
        spikes=latents.inclusion_nk is not None,
        sets_source=sets_source if sets_fit else "",
        n_genes_enrichment=config.n_genes_enrichment,
        matches=None if stability is None else stability.matches,
        min_match=0.0 if stability is None else stability.min_match,
        seconds_for_seeds=seconds_for_seeds(fitted),
        settings=asdict(settings),
        provenance=_provenance(sets_source, seeds, start),
    )


def _provenance(sets_source: str, seeds: Iterable[int], start: float) -> dict[str, object]:
    """Return date, seeds, gene sets, version and seconds of a run that began at `start`."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": list(seeds),
        "gene sets": sets_source,
        "sparcell": VERSION,
        "seconds": round(time.perf_counter() - start, 1),
    }


def seconds_for_seeds(model: Model) -> float:
    """Return the seconds that the training of `AUTO_SEEDS` - 1 further seeds takes, from the training time of the model."""
    return float(model.history["seconds"].sum() * (AUTO_SEEDS - 1))


def choose_n_seeds(model: Model, adata: AnnData, seeds: int | str) -> int:
    """Return the number of seeds to compare; "auto": `AUTO_SEEDS` if their training takes less than `MAX_AUTO_SECONDS`, else 1."""
    if seeds != "auto":
        return int(seeds)
    settings: Any = model.settings
    is_quick = len(model.history) > 0 and seconds_for_seeds(model) <= MAX_AUTO_SECONDS
    if not is_quick or adata.n_obs < settings.batch_size or not has_labels(adata, model):
        return 1
    log.info(
        "training %d more models, to see which programs other seeds reproduce, about %.0f s; %s trains none",
        AUTO_SEEDS - 1,
        max(1.0, seconds_for_seeds(model)),
        format_settings(seeds=1),
    )
    return AUTO_SEEDS


def _compute_programs(
    model: Model, adata: AnnData, latents: LatentRepresentation, config: ProgramsConfig, silent: bool
) -> tuple[Programs, Stability | None]:
    """Return the programs, and with several seeds their stability."""
    stability, n_seeds = None, choose_n_seeds(model, adata, config.seeds)
    if n_seeds > 1:
        stability = seed_stability(model, adata, n_seeds, seed=config.seed, silent=silent)
    programs = model.programs(
        copy_without_results(adata),
        labels_key=config.labels_key,
        n_genes=config.n_genes_listed,
        seed=config.seed,
        unseen=config.unseen,
        latents=latents,
    )
    return programs, stability
