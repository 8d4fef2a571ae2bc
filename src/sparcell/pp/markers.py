"""Names of clusters from a table of marker genes: reading the table, scores of cell types. Takes arrays.

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
    from sparcell.data.blocks import Matrix

log = logging.getLogger("sparcell")

PBMC_TABLE = Path(__file__).parent / "markers_pbmc.csv"

LEUKOCYTE_GENES = ("PTPRC", "CORO1A", "LAPTM5", "CD52")
"""Genes of white blood cells: nearly all of these cells express at least one, and few other cells do."""

MIN_SCORE = 0.5
"""Smallest score that names a cluster: mean z-score of the type's genes over clusters."""

MIN_SD = 0.05
"""Smallest divisor of a z-score: standard deviation of a gene over clusters, in log units. Keeps noise of unexpressed genes small."""

COLUMNS = ("cell_type", "gene")


def pbmc_markers() -> pd.DataFrame:
    """Return the package's markers of nine blood cell types: a table with columns cell_type and gene."""
    return read_markers(PBMC_TABLE)


def read_markers(markers: pd.DataFrame | str | Path) -> pd.DataFrame:
    """Return a checked marker table.

    Parameters
    ----------
    markers
        A table, or the path of a CSV or TSV file, with columns cell_type and gene and one gene in each row.

    Returns
    -------
    The two columns as strings, without repeated and incomplete rows.

    Raises
    ------
    InputError
        If the file does not exist or is not a table, a column is missing, or no row is left.
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
                "Expected the columns cell_type and gene, with one gene in each row."
            )
    table = table.loc[:, list(COLUMNS)].dropna().astype(str).apply(lambda column: column.str.strip())
    clean: pd.DataFrame = table[(table != "").all(axis=1)].drop_duplicates(ignore_index=True)
    if clean.empty:
        raise InputError(f"{where} has no rows; expected at least one cell_type with one gene.")
    return clean


def fits_table(lognorm_ng: Matrix, gene_names: pd.Index, table: pd.DataFrame) -> bool:
    """Return whether the table of blood cells suits the data, so that it may be used by default.

    At least half of the table's genes must be in the data, and at least half of the cells must express a gene of white
    blood cells. Gene names alone are not enough, because other human tissues are measured on the same genes.

    Parameters
    ----------
    lognorm_ng
        Cells × genes, ≥ 0.
    gene_names
        Length g.
    table
        From `pbmc_markers`.
    """
    fraction_in_data = table["gene"].isin(gene_names).mean()
    leukocyte_g = np.flatnonzero(gene_names.isin(LEUKOCYTE_GENES))
    if fraction_in_data < 0.5 or len(leukocyte_g) == 0:
        return False
    expressing_n = np.asarray(lognorm_ng[:, leukocyte_g].sum(axis=1)).ravel() > 0
    return bool(expressing_n.mean() >= 0.5)


def name_by_markers(
    lognorm_ng: Matrix, gene_names: pd.Index, clusters: pd.Series, table: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return scores of the cell types in each cluster, and a name for each cluster.

    Parameters
    ----------
    lognorm_ng
        Log-normalized expression.
    gene_names
        Length g, unique.
    clusters
        Length n, categorical. Cells without a cluster are left out.
    table
        Columns cell_type and gene.

    Returns
    -------
    scores
        Clusters × cell types with a gene in the data. A score is the mean z-score of the type's genes; the z-score is
        of the cluster mean over clusters.
    names
        Name of each cluster, all different: the type with the highest score if that is at least `MIN_SCORE`, otherwise
        "cluster 5".

    Raises
    ------
    InputError
        If none of the genes is in the data.
    """
    table = _rows_in_data(gene_names, table)
    genes_m = pd.Index(table["gene"].unique())
    columns_m = gene_names.get_indexer(genes_m)
    cluster_n = clusters.cat.codes.to_numpy()
    n_clusters = len(clusters.cat.categories)
    member_cn = sparse.csr_matrix(
        (np.ones(int((cluster_n >= 0).sum())), (cluster_n[cluster_n >= 0], np.flatnonzero(cluster_n >= 0))),
        shape=(n_clusters, len(cluster_n)),
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


def _rows_in_data(gene_names: pd.Index, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose gene is in the data; raise InputError if there are none."""
    genes = table["gene"]
    missing = sorted(set(genes) - set(gene_names))
    if len(missing) == genes.nunique():
        upper = {str(name).upper(): str(name) for name in gene_names}
        other_case = next((upper[gene.upper()] for gene in missing if gene.upper() in upper), None)
        hint = (
            f"the data have {other_case!r}, so write the genes of the table in the same case"
            if other_case
            else "use a table with gene names as in var_names"
        )
        raise InputError(
            f"None of the {len(missing)} marker genes is in the data: the table has "
            f"{', '.join(missing[:3])}; the data have {', '.join(map(str, gene_names[:3]))}. "
            f"Expected the same names: {hint}."
        )
    if missing:
        log.info("%d of %d marker genes are not in the data: %s", len(missing), genes.nunique(), missing[:10])
    return table[genes.isin(gene_names)]


def _choose(scores: pd.DataFrame) -> dict[str, str]:
    """Return a name for each cluster: the type with the highest score, numbered from the second cluster of a type on."""
    n_named: Counter[str] = Counter()
    names: dict[str, str] = {}
    reserved = set(map(str, scores.columns))
    for cluster, row in scores.iterrows():
        best = str(row.idxmax())
        if not row[best] >= MIN_SCORE:
            names[str(cluster)] = f"cluster {cluster}"
            continue
        name = best
        while n_named[best] and (name in reserved or name in names.values()):
            n_named[best] += 1
            name = f"{best} {n_named[best]}"
        n_named[best] = max(n_named[best], 1)
        names[str(cluster)] = name
    return names


def table_order(names: dict[str, str], table: pd.DataFrame) -> list[str]:
    """Return the names in the order of the table's types, numbered names after the first of a type, unnamed clusters last."""
    types = list(dict.fromkeys(table["cell_type"]))

    def position(name: str) -> tuple[int, str, int]:
        matches = [i for i, kind in enumerate(types) if name == kind or name.startswith(f"{kind} ")]
        exact = [i for i in matches if types[i] == name]
        stem, _, number = name.rpartition(" ")
        word, count = (stem, int(number)) if number.isdigit() else (name, 0)
        return (exact or matches or [len(types)])[0], word, count

    return sorted(names.values(), key=position)
