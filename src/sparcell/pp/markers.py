"""Name clusters after cell types by a table of marker genes: the arithmetic and the table, no AnnData.

Suffixes: n cells, g genes, m marker genes, c clusters, t cell types.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from sparcell.data.validation import Matrix

log = logging.getLogger("sparcell")

PBMC_TABLE = Path(__file__).parent / "markers_pbmc.csv"

LEUKOCYTE_GENES = ("PTPRC", "CORO1A", "LAPTM5", "CD52")
"""Nearly every white blood cell shows one of them, and few other cells do."""

MIN_SCORE = 0.5
"""A type must stand this many standard deviations (over clusters, mean of its genes) out to give its name."""

MIN_SD = 0.05
"""Floor of a gene's standard deviation over clusters, in log units: noise in silent genes names nothing."""

COLUMNS = ("cell_type", "gene")


def pbmc_markers() -> pd.DataFrame:
    """Give the package's table of nine blood cell types: columns cell_type and gene."""
    return read_markers(PBMC_TABLE)


def read_markers(markers: pd.DataFrame | str | Path) -> pd.DataFrame:
    """Read and check a marker table.

    Parameters
    ----------
    markers
        A table, or the path of a CSV (or TSV), with columns cell_type and gene, one gene a row.

    Returns
    -------
    The two columns as strings, without repeated rows.

    Raises
    ------
    InputError
        If there is no such file, it is not a table, a column is missing, or no row is left.
    """
    where = "the marker table"
    if isinstance(markers, pd.DataFrame):
        table = markers
    else:
        path = Path(markers)
        where = str(path)
        if not path.is_file():
            raise InputError(f"There is no file {where}; expected a CSV with columns cell_type and gene.")
        separator = "\t" if {".tsv", ".txt"} & set(path.suffixes) else ","
        try:
            table = pd.read_csv(path, sep=separator, dtype=str, encoding="utf-8-sig", keep_default_na=False)
        except (ValueError, OSError) as error:  # pandas' parser errors and undecodable bytes are ValueErrors
            raise InputError(
                f"{where} cannot be read ({error}); expected a CSV with columns cell_type and gene."
            ) from error
    for column in COLUMNS:
        if column not in table.columns:
            raise InputError(
                f"{where} has no column {column!r}: {did_you_mean(column, table.columns)} "
                "Expected the columns cell_type and gene, one gene a row."
            )
    table = table.loc[:, list(COLUMNS)].dropna().astype(str).apply(lambda column: column.str.strip())
    clean: pd.DataFrame = table[(table != "").all(axis=1)].drop_duplicates(ignore_index=True)
    if clean.empty:
        raise InputError(f"{where} has no rows; expected at least one cell_type with one gene.")
    return clean


def fits_table(lognorm_ng: Matrix, gene_names: pd.Index, table: pd.DataFrame) -> bool:
    """Whether the blood table may be used unasked: its genes are there and most cells are white blood cells.

    Gene names alone do not tell: a human pancreas is measured on the same genes.

    Parameters
    ----------
    lognorm_ng
        Cells × genes, ≥ 0.
    gene_names
        Length g.
    table
        From `pbmc_markers`.
    """
    known = table["gene"].isin(gene_names).mean()
    pan_g = np.flatnonzero(gene_names.isin(LEUKOCYTE_GENES))
    if known < 0.5 or len(pan_g) == 0:
        return False
    shown_n = np.asarray(lognorm_ng[:, pan_g].sum(axis=1)).ravel() > 0
    return bool(shown_n.mean() >= 0.5)


def name_by_markers(
    lognorm_ng: Matrix, gene_names: pd.Index, clusters: pd.Series, table: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Score the cell types in each cluster and choose names.

    Parameters
    ----------
    lognorm_ng
        Log-normalised cells × genes.
    gene_names
        Length g, each once.
    clusters
        Length n, categorical; cells without a cluster count nowhere.
    table
        Columns cell_type and gene.

    Returns
    -------
    scores
        Clusters × cell types that have a gene in the data: mean over the type's genes of the z-score over
        clusters of the cluster mean.
    names
        Cluster → name: the best type if its score is `MIN_SCORE` or more, else "cluster 5"; each name once.

    Raises
    ------
    InputError
        If none of the genes is in the data.
    """
    table = _known_rows(gene_names, table)
    genes_m = pd.Index(table["gene"].unique())
    columns_m = gene_names.get_indexer(genes_m)
    codes_n = clusters.cat.codes.to_numpy()
    n_clusters = len(clusters.cat.categories)
    member_cn = sparse.csr_matrix(
        (np.ones(int((codes_n >= 0).sum())), (codes_n[codes_n >= 0], np.flatnonzero(codes_n >= 0))),
        shape=(n_clusters, len(codes_n)),
    )
    sums_cm = member_cn @ lognorm_ng[:, columns_m]
    sums_cm = sums_cm.toarray() if sparse.issparse(sums_cm) else np.asarray(sums_cm)
    means_cm = sums_cm / np.asarray(member_cn.sum(axis=1))
    z_cm = (means_cm - means_cm.mean(axis=0)) / np.maximum(means_cm.std(axis=0), MIN_SD)
    labels = [str(name) for name in clusters.cat.categories]
    types = list(dict.fromkeys(table["cell_type"]))
    scores = pd.DataFrame(
        {
            name: z_cm[:, genes_m.get_indexer(table.loc[table["cell_type"] == name, "gene"])].mean(axis=1)
            for name in types
        },
        index=pd.Index(labels, name="cluster"),
    )
    return scores, _choose(scores)


def _known_rows(gene_names: pd.Index, table: pd.DataFrame) -> pd.DataFrame:
    """Leave out genes that the data do not have; raise if that is all of them."""
    genes = table["gene"]
    missing = sorted(set(genes) - set(gene_names))
    if len(missing) == genes.nunique():
        upper = {str(name).upper(): str(name) for name in gene_names}
        cased = next((upper[gene.upper()] for gene in missing if gene.upper() in upper), None)
        hint = (
            f"the data write {cased!r}, so write the table in the same case"
            if cased
            else "use a table with names as in var_names"
        )
        raise InputError(
            f"None of the {len(missing)} marker genes is in the data: the table names "
            f"{', '.join(missing[:3])}; the data name {', '.join(map(str, gene_names[:3]))}. "
            f"Expected the same names: {hint}."
        )
    if missing:
        log.info("%d of %d marker genes are not in the data: %s", len(missing), genes.nunique(), missing[:10])
    return table[genes.isin(gene_names)]


def _choose(scores: pd.DataFrame) -> dict[str, str]:
    """Give each cluster, in order, the name of its best type, numbered from the second on."""
    taken: Counter[str] = Counter()
    names: dict[str, str] = {}
    reserved = set(map(str, scores.columns))
    for cluster, row in scores.iterrows():
        best = str(row.idxmax())
        if not row[best] >= MIN_SCORE:
            names[str(cluster)] = f"cluster {cluster}"
            continue
        name = best
        while taken[best] and (name in reserved or name in names.values()):
            taken[best] += 1
            name = f"{best} {taken[best]}"
        taken[best] = max(taken[best], 1)
        names[str(cluster)] = name
    return names


def table_order(names: dict[str, str], table: pd.DataFrame) -> list[str]:
    """Sort names as the table lists the types, numbered ones behind their first, unnamed clusters last."""
    types = list(dict.fromkeys(table["cell_type"]))

    def place(name: str) -> tuple[int, str]:
        fits = [i for i, kind in enumerate(types) if name == kind or name.startswith(f"{kind} ")]
        exact = [i for i in fits if types[i] == name]
        return (exact or fits or [len(types)])[0], name

    return sorted(names.values(), key=place)
