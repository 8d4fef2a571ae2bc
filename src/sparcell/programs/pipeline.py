"""The programs of a fitted model in some cells: read, named, looked for in other seeds, put on a map, written as a page.

Suffixes: n cells, m cells on the map, g genes, k latents, p programs and their directions, s steps.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse.linalg import LinearOperator, eigsh

import sparcell
from sparcell import io
from sparcell.config.experiments import ProgramsConfig
from sparcell.data.sampler import subsample
from sparcell.errors import InputError
from sparcell.io import files
from sparcell.io.labels import labels_from_obs
from sparcell.metrics.active_latents import predict_active_latents
from sparcell.models import load
from sparcell.results.programs import Embedding2D, ProgramResults, Traversal
from sparcell.tl import embedding, enrichment
from sparcell.tl.gene_sets import GeneSets, builtin, read_gmt
from sparcell.tl.stability import Stability, across_seeds, shallow

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy import sparse

    from sparcell.models.fitted import Model
    from sparcell.results.latents import LatentRepresentation
    from sparcell.tl.programs import Programs

    Floats = NDArray[np.floating]

log = logging.getLogger("sparcell")

N_MAPPED = 6_000
"""Most cells on the map: more would make the page heavy and take minutes, not show more."""
MAPS = ("X_umap", "X_tsne")
"""Keys of obsm that are taken as the map, in this order."""
N_STEPS, N_WALKED = 15, 6
"""Steps of a traversal, and genes that it shows."""
FAR = 99
"""A traversal ends at this percentile of the code, over the cells in which the program is on."""
N_SETS = 8
"""Sets shown of each program."""
PER = 1e4
LARGE_TABLE = 1_000_000
"""From so many effects on their table is gzipped."""


def run(
    data: AnnData | str | Path,
    model: Model | str | Path,
    out: str | Path,
    config: ProgramsConfig | None = None,
    *,
    silent: bool = False,
    command: str = "",
) -> ProgramResults:
    """Read a model's programs in some cells and write page, tables and figures into a folder. The data is not changed.

    Parameters
    ----------
    data
        Cells with the model's genes, in the units it was trained on; raw counts in X also do. AnnData, or anything that
        `sparcell.io.read` reads.
    model
        A fitted model, or the folder of a saved one. One without spikes will do: there a program is on where its code is far from 0.
    out
        Folder for the results, new or empty.
    config
        What to read and how; `ProgramsConfig()` when not given.
    silent
        Show no progress.
    command
        What the user typed, for the record.

    Returns
    -------
    What was found. Written: programs.html, programs.csv, genes.csv, effects.csv (gzipped where it is large), enrichment.csv, with labels
    labels.csv (share of each label's cells in which a program is on), with seeds matches.csv, and figures/ (PNG and PDF).

    Raises
    ------
    InputError
        Before any training and before anything is written, where data, model, labels or gene sets do not fit.
    """
    from sparcell import pl, report  # they bring the plotting libraries

    config = config or ProgramsConfig()
    sets, told = read_sets(config.gmt)
    where = free_folder(Path(out))
    fitted = load(model) if isinstance(model, str | Path) else model
    adata = io.read(data) if isinstance(data, str | Path) else data
    title = Path(data).name if isinstance(data, str | Path) else "the data given"
    found = catalogue(fitted, adata, config, sets=sets, sets_source=told, silent=silent)
    source = {"command": command, "input": title, "model": "" if fitted is model else str(model)}
    found = replace(found, title=title, provenance={**source, **found.provenance})
    where.mkdir(parents=True, exist_ok=True)
    write_tables(found, where)
    pl.save_programs(found, where / "figures")
    report.write_programs(found, where / "programs.html")
    if not found.sets_source:
        some = ", ".join(fitted.schema.genes[:3])
        log.warning(
            "no names: none of the model's genes (%s, …) is in a built-in set; --gmt FILE gives others", some
        )
    return found


def free_folder(folder: Path) -> Path:
    """Refuse a folder that holds anything or cannot be written to; a new one is not left behind empty."""
    new = not folder.exists()
    files.check_output_folder(folder)
    if new:
        folder.rmdir()  # made again when there is something to write
    return folder


def catalogue(
    model: Model,
    adata: AnnData,
    config: ProgramsConfig | None = None,
    *,
    sets: GeneSets | None = None,
    sets_source: str = "the gene sets given",
    map_n2: Floats | None = None,
    silent: bool = False,
) -> ProgramResults:
    """Collect all that is shown of a model's programs, and write nothing.

    `sets` instead of those that `config.gmt` names, `sets_source` what the page calls them; `map_n2` a map of the cells, (n, 2). Else as
    `run`.
    """
    started = time.perf_counter()
    config = config or ProgramsConfig()
    if sets is None:
        sets, sets_source = read_sets(config.gmt)
    fitted = copy.copy(model)
    fitted.schema = model.schema.resolve_layer(adata)
    labels = None if config.labels_key is None else labels_from_obs(adata, config.labels_key)
    usable = known_sets(sets, fitted.schema.genes, required=bool(config.gmt))
    codes = fitted.latent_representation(adata, unseen=config.unseen)
    programs, stability = _read(fitted, adata, config, silent)
    settings: Any = fitted.settings
    expected, exact = predict_active(fitted, adata)
    summary, enriched = named(
        programs, sets if usable else None, fitted.schema.genes, config.n_genes_enrichment
    )
    if stability is not None:
        columns = ["n_found", "n_others", "median_match", "stable"]
        summary = summary.join(stability.table[columns])
    return ProgramResults(
        title="the data given",
        model=type(settings).__name__,
        programs=summary,
        genes=programs.genes,
        effects=programs.effects,
        enrichment=enriched,
        shares=programs.labels,
        map=embedding_of(adata, codes, programs, labels, map_n2, config.seed),
        traversals=traversals(fitted, codes, programs),
        n_cells=adata.n_obs,
        n_genes=len(fitted.schema.genes),
        n_latent=codes.mean_nk.shape[1],
        n_active=int(codes.active_k.sum()),
        n_expected=expected,
        exact=exact,
        counts=fitted.schema.counts,
        spikes=codes.inclusion_nk is not None,
        sets_source=sets_source if usable else "",
        n_genes_enrichment=config.n_genes_enrichment,
        matches=None if stability is None else stability.matches,
        least_match=0.0 if stability is None else stability.least_match,
        settings=asdict(settings),
        provenance=_record(sets_source, [settings.seed] if stability is None else stability.seeds, started),
    )


def _record(sets_source: str, seeds: Iterable[int], started: float) -> dict[str, object]:
    """How a catalogue was made."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": list(seeds),
        "gene sets": sets_source,
        "sparcell": sparcell.__version__,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _read(
    model: Model, adata: AnnData, config: ProgramsConfig, silent: bool
) -> tuple[Programs, Stability | None]:
    """The tables, and where several seeds are wanted what became of the programs in these."""
    stability = None
    if config.seeds > 1:
        stability = across_seeds(model, adata, config.seeds, seed=config.seed, silent=silent)
    programs = model.programs(
        shallow(adata),
        labels_key=config.labels_key,
        n_genes=config.n_genes_listed,
        seed=config.seed,
        unseen=config.unseen,
    )
    return programs, stability


def read_sets(paths: Iterable[Path]) -> tuple[GeneSets, str]:
    """Gene sets of some files, or the built-in ones, and what to call them. A name that two files have gets that of its file behind it."""
    chosen = list(paths)
    if not chosen:
        sets = builtin()
        return sets, f"the {len(sets)} built-in sets for human blood and pancreas"
    genes: dict[str, tuple[str, ...]] = {}
    descriptions: dict[str, str] = {}
    for path in chosen:
        read = read_gmt(path)
        for name, members in read.genes.items():
            key = name if name not in genes else f"{name} ({Path(path).stem})"
            genes[key], descriptions[key] = members, read.descriptions[name]
    names = ", ".join(Path(path).name for path in chosen)
    return GeneSets(genes, descriptions), f"{len(genes):,} sets of {names}"


def known_sets(sets: GeneSets, genes: tuple[str, ...], *, required: bool) -> bool:
    """Whether any gene of the sets is among the model's: an error where the user chose the sets."""
    try:
        enrichment.name_programs({}, sets, genes)
    except InputError:
        if required:
            raise
        return False
    return True


def named(
    programs: Programs, sets: GeneSets | None, genes: tuple[str, ...], n_named: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary with names, and the best sets of each program."""
    keys = programs.effects.columns
    summary = programs.summary.assign(key=keys.to_numpy(dtype=object))
    ranked = programs.ranked_genes
    columns = ["key", *enrichment.COLUMNS]
    if sets is None:
        nothing = summary.assign(name="", fdr=np.nan, also="", also_fdr=np.nan)
        return nothing, pd.DataFrame({column: [] for column in columns})
    names = enrichment.name_programs(ranked, sets, genes, n_top=n_named).loc[list(keys)]
    tables = [
        enrichment.enrich(listed[:n_named], sets, genes).head(N_SETS).assign(key=key)
        for key, listed in ranked.items()
        if listed
    ]
    found = [table for table in tables if len(table)]
    enriched = (
        pd.concat(found, ignore_index=True)[columns]
        if found
        else pd.DataFrame({name: [] for name in columns})
    )
    told = {name: names[name].to_numpy() for name in ("name", "fdr", "also", "also_fdr")}
    return summary.assign(**told), enriched


def embedding_of(
    adata: AnnData,
    codes: LatentRepresentation,
    programs: Programs,
    labels: pd.Categorical | None,
    map_n2: Floats | None,
    seed: int,
) -> Embedding2D:
    """At most N_MAPPED cells on the map given, else on one that the data has, else on the t-SNE of their code."""
    cells_m = np.sort(subsample(adata.n_obs, N_MAPPED, seed))
    theirs = {"the one given": map_n2} | {f"obsm[{key!r}] of the data": adata.obsm.get(key) for key in MAPS}
    usable = {
        source: np.asarray(found[cells_m, :2], dtype=np.float64)
        for source, found in theirs.items()
        if isinstance(found, np.ndarray) and found.ndim == 2 and found.shape[1] >= 2
    }
    source = next((name for name, xy_m2 in usable.items() if np.isfinite(xy_m2).all()), "a t-SNE of the code")
    xy_m2 = (
        usable[source] if source in usable else np.array(embedding.tsne(codes.mean_nk[cells_m], seed=seed))
    )
    sign_p = np.where(programs.summary["direction"] == "+", 1, -1)
    latent_p = programs.summary["latent"].to_numpy(dtype=np.int64)
    amount_mp = np.maximum(codes.mean_nk[np.ix_(cells_m, latent_p)] * sign_p, 0)
    if (
        codes.inclusion_nk is not None
    ):  # a code of spikes is hardly anywhere 0 on average, but off in most cells
        amount_mp *= codes.on_nk[np.ix_(cells_m, latent_p)]
    shown = None if labels is None else labels[cells_m]
    return Embedding2D(xy_m2, source, amount_mp, shown, adata.n_obs)


def traversals(model: Model, codes: LatentRepresentation, programs: Programs) -> dict[str, Traversal]:
    """Decode each program's latent from 0 to its 99th percentile, the others at their mean over the cells in which the program is on.

    These cells, and not all, because it is beside what is on in them that the program does what its effects say.
    """
    walks = {}
    columns = {gene: g for g, gene in enumerate(model.schema.genes)}
    latents = programs.summary["latent"].to_numpy(dtype=np.int64)
    signs = np.where(programs.summary["direction"] == "+", 1, -1)
    for (key, ranked), latent, sign in zip(programs.ranked_genes.items(), latents, signs, strict=True):
        on_n = codes.on_nk[:, latent] & (sign * codes.mean_nk[:, latent] > 0)
        end = float(np.percentile(np.abs(codes.mean_nk[on_n, latent]), FAR))
        amount_s = np.linspace(0, end, N_STEPS)
        z_sk = np.tile(codes.mean_nk[on_n].mean(axis=0, dtype=np.float64), (N_STEPS, 1)).astype(np.float32)
        z_sk[:, latent] = sign * amount_s
        genes = tuple(ranked[:N_WALKED])
        expected_sg = model.decode(z_sk)[:, [columns[gene] for gene in genes]].astype(np.float64)
        if model.schema.counts:
            expected_sg = np.log1p(expected_sg / model.schema.median_library_size * PER)
        walks[key] = Traversal(amount_s, genes, expected_sg)
    return walks


def predict_active(model: Model, adata: AnnData) -> tuple[int | None, bool]:
    """How many latents were to be expected to live, and whether the theory covers the model; None for counts and without a prior.

    It covers a linear decoder of Gaussian expression from Gaussian latents; for the other models of expression it is a guide.
    """
    settings: Any = model.settings
    if model.schema.counts or not settings.generative:
        return None, False
    x_ng = model.schema.matrix(adata)
    n_latent = int(settings.n_latent)
    value_g = leading_eigenvalues(x_ng, n_latent)
    variance = settings.gaussian_variance if isinstance(settings.gaussian_variance, float | int) else None
    exact = model.network.decoder_type.additive and settings.gaussian_posterior
    return predict_active_latents(value_g, n_latent, beta=settings.kl_weight, variance=variance), exact


def leading_eigenvalues(x_ng: sparse.csr_matrix, n_latent: int) -> Floats:
    """Eigenvalues of the covariance of the genes, (g,): the first ones, more than `n_latent`, and their rest spread evenly."""
    n_cells, n_genes = x_ng.shape
    mean_g = np.asarray(x_ng.mean(axis=0)).ravel()
    square = float(x_ng.multiply(x_ng).sum())
    total = square / n_cells - float(mean_g @ mean_g)
    n_wanted = min(n_latent + 1, n_genes, n_cells)
    if n_wanted >= n_genes - 1:
        dense_ng = x_ng.toarray() - mean_g
        return np.asarray(np.linalg.eigvalsh(dense_ng.T @ dense_ng / n_cells)[::-1])

    def covariance(v_g: Floats) -> Floats:
        flat_g = v_g.ravel()
        return np.asarray(x_ng.T @ (x_ng @ flat_g) / n_cells - mean_g * (mean_g @ flat_g))

    operator = LinearOperator((n_genes, n_genes), matvec=covariance, dtype=np.float64)
    first = eigsh(operator, k=n_wanted, return_eigenvectors=False, v0=np.ones(n_genes))
    rest = max(total - float(first.sum()), 0.0) / (n_genes - n_wanted)
    return np.concatenate([np.sort(first)[::-1], np.full(n_genes - n_wanted, rest)])


def write_tables(found: ProgramResults, folder: Path) -> None:
    """Write the tables as CSV, each aside and renamed."""
    tables = {"programs": found.programs, "genes": found.genes, "enrichment": _readable(found.enrichment)}
    for name, table in tables.items():
        files.write_text(folder / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    for name, wide in (("labels", found.shares), ("matches", found.matches)):
        if wide is not None:
            files.write_text(folder / f"{name}.csv", wide.to_csv(index_label="program", lineterminator="\n"))
    ending = ".csv.gz" if found.effects.size >= LARGE_TABLE else ".csv"
    with files.atomic_write(folder / f"effects{ending}") as aside:
        found.effects.to_csv(aside, index_label="gene", float_format="%.5g", lineterminator="\n")


def _readable(enriched: pd.DataFrame) -> pd.DataFrame:
    """Genes as text."""
    return enriched.assign(genes=[" ".join(genes) for genes in enriched["genes"]])
