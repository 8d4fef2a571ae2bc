"""Names for gene programs: over-representation of gene sets among a program's top genes.

Suffixes: b background genes, s gene sets that are tested.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.stats import hypergeom

from sparcell.errors import InputError
from sparcell.tl.gene_sets import ANY_TISSUE, GeneSets, first_three, require_gene_names

log = logging.getLogger("sparcell")

MIN_OVERLAP = 2
"""Default number of genes that a set must share with the tested genes: one shared gene is no evidence."""

EXACT_FRACTION = 0.1
"""Case is ignored if exact matches are fewer than this fraction of the matches that ignore case.

A few human symbols (C3, F5) are spelled the same for mouse, so some exact matches do not prove the same species.
"""

NAME_PATTERNS = (
    ("human Ensembl ids", re.compile(r"ENSG\d{6,}(\.\d+)?")),
    ("Ensembl ids", re.compile(r"ENS[A-Z]*\d{6,}(\.\d+)?")),
    ("numbers, as Entrez ids are", re.compile(r"\d+")),
    ("symbols in capitals, as for human", re.compile(r"[A-Z][A-Z0-9.-]*(orf[0-9A-Z-]+)?")),
    ("symbols with one capital, as for mouse", re.compile(r"[A-Z][a-z0-9.-]+|mt-.+|\d+Rik")),
)
"""Kinds of gene names and their patterns; the first pattern that fits the whole name counts."""

COLUMNS = ("set", "overlap", "set_size", "expected", "fold", "p", "fdr", "genes")
NAME_COLUMNS = ("name", "fdr", "overlap", "set_size", "fold", "genes", "second_name", "second_fdr")

MIN_SECOND_OVERLAP = 3
"""Number of genes that a second name needs after the genes of the first set are removed."""


def enrich(
    genes: Sequence[str], sets: GeneSets, background: Collection[str], *, min_overlap: int = MIN_OVERLAP
) -> pd.DataFrame:
    """Return the gene sets that share more genes with a list than chance explains.

    The p-value is the hypergeometric right tail, P(overlap or more). This is Fisher's one-sided exact test (Rivals et al.,
    Bioinformatics 23, 401, 2007). Sets are first cut to the background. Every set with `min_overlap` genes or more in the background is
    tested, and `fdr` corrects for all of them, also for the sets that the table leaves out.

    Parameters
    ----------
    genes
        Top genes of a program; all of them must be in the background.
    sets
        Gene sets, from `read_gmt` or `builtin_gene_sets`.
    background
        All genes that the list could contain: the genes of the model, and no others.
    min_overlap
        Leave out sets that share fewer genes; 1 or more.

    Returns
    -------
    One row per set, sorted by p, then by name. Columns: set, overlap, set_size (after the cut), expected (overlap by chance), fold
    (overlap / expected), p, fdr, genes (the shared genes as a tuple, in the order of the list). `attrs` holds n_genes, n_background,
    n_tested and matched. `matched` is "exact", or "ignoring case" if the names differ in case (Cd3e, CD3E); the log then says so. The
    symbols of a mouse gene and of its human ortholog mostly, but not always, differ in case only.

    Raises
    ------
    InputError
        If there are no genes, a gene is not in the background, or no gene of the sets is in the background.

    Examples
    --------
    >>> sets = sp.tl.GeneSets({"B cell": ("CD79A", "MS4A1"), "NK": ("GNLY", "NKG7")})
    >>> background = ["CD79A", "MS4A1", "GNLY", "NKG7", *(f"G{i}" for i in range(100))]
    >>> sp.tl.enrich(["CD79A", "G7", "MS4A1"], sets, background)["set"].tolist()
    ['B cell']
    """
    if min_overlap < 1:
        raise InputError(f"min_overlap={min_overlap}; expected 1 or more shared genes.")
    return _test(genes, "genes", _restrict(sets, background, min_overlap), min_overlap)


def name_programs(
    ranked_genes: Mapping[str, Sequence[str]],
    sets: GeneSets,
    background: Collection[str],
    *,
    n_genes: int = 50,
    max_fdr: float = 0.05,
) -> pd.DataFrame:
    """Return a name for each program: the gene set that is most over-represented among its top genes (see `enrich`).

    Each program is tested on its own. Up to a fraction `max_fdr` of programs without meaning therefore gets a name.

    A program can mean two things at once: B cells also present antigen. So a second test removes the genes of the first set from the
    program, from the other sets and from the background. The best set of that test, with three genes or more, is the second name. A
    built-in set of any tissue (MHC class II, proliferation) leaves the first place to a cell type.

    Parameters
    ----------
    ranked_genes
        Program → its genes, the strongest first. A program without genes gets no name.
    sets, background
        As in `enrich`.
    n_genes
        Number of top genes of each program that are tested; 1 or more.
    max_fdr
        Largest false discovery rate of a name, 0 to 1.

    Returns
    -------
    One row per program, in the order of `ranked_genes`. Columns: name ("" if no set is significant), fdr, overlap, set_size, fold, genes
    (shared with the set), second_name ("" if there is none), second_fdr. If a cell type took the first place from a set of any tissue,
    fdr is that of the second test and second_fdr that of the first test. Two programs may have the same name. `attrs` as in `enrich`,
    without n_genes.

    Raises
    ------
    InputError
        As in `enrich`, or if `n_genes` or `max_fdr` is out of range.

    Examples
    --------
    >>> sets = sp.tl.GeneSets({"B cell": ("CD79A", "MS4A1"), "NK": ("GNLY", "NKG7")})
    >>> background = ["CD79A", "MS4A1", "GNLY", "NKG7", *(f"G{i}" for i in range(100))]
    >>> names = sp.tl.name_programs({"vsc_1+": ["CD79A", "G7", "MS4A1"]}, sets, background)
    >>> names.loc["vsc_1+", "name"]
    'B cell'
    """
    if n_genes < 1:
        raise InputError(f"n_genes={n_genes}; expected 1 or more genes of each program.")
    if not 0 <= max_fdr <= 1:
        raise InputError(f"max_fdr={max_fdr}; expected a rate between 0 and 1, such as 0.05.")
    tested = _restrict(sets, background, MIN_OVERLAP)
    rows = []
    for program, ranked in ranked_genes.items():
        what = f"program {program!r}"
        top = ranked if isinstance(ranked, str) else ranked[:n_genes]
        table = _test(top, what, tested, MIN_OVERLAP) if len(ranked) else None
        if table is None or table.empty or not table["fdr"].iloc[0] <= max_fdr:
            rows.append(("", np.nan, 0, 0, np.nan, (), "", np.nan))
            continue
        first, second = table.iloc[0], _second_set(top, what, tested, table["set"].iloc[0])
        if second is None or not second["fdr"] <= max_fdr:
            rows.append((*_name_fields(first), "", np.nan))
        elif _is_of_any_tissue(sets, first) and not _is_of_any_tissue(sets, second):
            rows.append((*_name_fields(second), first["set"], first["fdr"]))
        else:
            rows.append((*_name_fields(first), second["set"], second["fdr"]))
    names = pd.DataFrame(
        rows, columns=list(NAME_COLUMNS), index=pd.Index(list(ranked_genes), name="program", dtype=object)
    )
    names = names.astype(
        {"fdr": float, "overlap": np.int64, "set_size": np.int64, "fold": float, "second_fdr": float}
    )
    names.attrs = tested.attrs()
    return names


def benjamini_hochberg(p_s: ArrayLike) -> NDArray[np.float64]:
    """Return false discovery rates for p-values, (s,) (Benjamini & Hochberg, J. R. Stat. Soc. B 57, 289, 1995).

    The rate of the i-th smallest of m p-values is min over j ≥ i of p_j · m / j. It rises with p and is at most 1.

    Parameters
    ----------
    p_s
        p-values, (s,), in any order.

    Examples
    --------
    >>> sp.tl.benjamini_hochberg([0.01, 0.02, 0.5])
    array([0.03, 0.03, 0.5 ])
    """
    p = np.asarray(p_s, dtype=np.float64)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    fdr = np.empty_like(p)
    fdr[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(fdr, 1.0)


@dataclass(frozen=True)
class _TestedSets:
    """Gene sets that are large enough to test, cut to the background."""

    column: dict[str, int]
    """Background gene → its column of `member_sb`."""
    names: NDArray[np.str_]
    """Names of the sets, (s,)."""
    member_sb: sparse.csr_matrix
    """1 where a gene is in a set, (s, b)."""
    sizes_s: NDArray[np.int64]
    """Number of background genes in each set."""
    matched: str
    """"exact" or "ignoring case"."""

    def without(self, name: str) -> _TestedSets:
        """Return the sets after the genes of one set are removed from the background and from every set."""
        removed_b = self.member_sb[np.flatnonzero(self.names == name)].toarray().ravel() > 0
        column = {gene: b for b, gene in enumerate(g for g, b in self.column.items() if not removed_b[b])}
        member_sb = self.member_sb[:, ~removed_b]
        sizes_s = np.asarray(member_sb.sum(axis=1), dtype=np.int64).ravel()
        large_s = sizes_s >= MIN_OVERLAP
        return _TestedSets(column, self.names[large_s], member_sb[large_s], sizes_s[large_s], self.matched)

    def attrs(self) -> dict[Hashable, Any]:
        """Return what the tables note about the test."""
        return {
            "n_background": len(self.column),
            "n_tested": len(self.names),
            "matched": self.matched,
        }


def _restrict(sets: GeneSets, background: Collection[str], min_size: int) -> _TestedSets:
    """Return the sets with `min_size` background genes or more."""
    unique = dict.fromkeys(require_gene_names(background, "the background"))
    column = {gene: b for b, gene in enumerate(unique)}
    by_case: dict[str, list[str]] = {}
    for gene in column:
        by_case.setdefault(gene.casefold(), []).append(gene)
    exact = _match_exactly(sets, column, by_case)
    names, members = [], []
    for name, genes in sets.genes.items():
        columns = (
            {column[gene] for gene in genes if gene in column}
            if exact
            else {column[gene] for each in genes for gene in by_case.get(each.casefold(), ())}
        )
        if len(columns) >= min_size:
            names.append(name)
            members.append(sorted(columns))
    sizes_s = np.array([len(columns) for columns in members], dtype=np.int64)
    indices = np.concatenate([np.zeros(0, dtype=np.int64), *map(np.asarray, members)]).astype(np.int64)
    member_sb = sparse.csr_matrix(
        (np.ones(len(indices), dtype=np.int64), indices, np.concatenate([[0], np.cumsum(sizes_s)])),
        shape=(len(names), len(column)),
    )
    matched = "exact" if exact else "ignoring case"
    return _TestedSets(column, np.array(names, dtype=np.str_), member_sb, sizes_s, matched)


def _match_exactly(sets: GeneSets, column: Mapping[str, int], by_case: Mapping[str, list[str]]) -> bool:
    """Return whether gene names match as written; False if case must be ignored, which the log then says."""
    set_genes = {gene for genes in sets.genes.values() for gene in genes}
    n_exact = len(set_genes & column.keys())
    n_any_case = len({gene.casefold() for gene in set_genes} & by_case.keys())
    if n_any_case == 0:
        raise InputError(
            f"None of the {len(set_genes)} genes of the sets is in the background. The sets hold "
            f"{_describe(set_genes)}; the background holds {_describe(column)}. Expected the same kind of names. Read sets "
            "with the background's kind of names, or put the sets' kind of names into var_names before the fit."
        )
    exact = n_exact >= EXACT_FRACTION * n_any_case
    if not exact:
        log.warning(
            "%d genes of the sets are in the background if case is ignored, %d as written; case is ignored "
            "(the sets hold %s; the background holds %s)",
            n_any_case,
            n_exact,
            _describe(set_genes),
            _describe(column),
        )
    return exact


def _second_set(top: Sequence[str], what: str, tested: _TestedSets, first: str) -> pd.Series | None:
    """Return the best set after the genes of a program's first set are removed; None if there is none."""
    rest = tested.without(first)
    genes = [gene for gene in top if gene in rest.column]
    table = _test(genes, what, rest, MIN_SECOND_OVERLAP) if genes and len(rest.names) else None
    return None if table is None or table.empty else table.iloc[0]


def _name_fields(row: pd.Series) -> tuple[Any, ...]:
    return tuple(row[column] for column in ("set", *NAME_COLUMNS[1:-2]))


def _is_of_any_tissue(sets: GeneSets, row: pd.Series) -> bool:
    return sets.descriptions[row["set"]].startswith(ANY_TISSUE)


def _test(genes: Sequence[str], what: str, tested: _TestedSets, min_overlap: int) -> pd.DataFrame:
    """Return the table of `enrich` for some genes; `what` begins the error messages."""
    query = list(dict.fromkeys(require_gene_names(genes, what)))
    unknown = [gene for gene in query if gene not in tested.column]
    if unknown:
        raise InputError(
            f"{what}: {len(unknown)} of {len(query)} are not in the background: {first_three(unknown)}; the background "
            f"holds {_describe(tested.column)}. Expected as background all genes of the model."
        )
    query_b = np.zeros(len(tested.column), dtype=np.int64)
    query_b[[tested.column[gene] for gene in query]] = 1
    overlap_s = np.asarray(tested.member_sb @ query_b, dtype=np.int64)
    p_s = _right_tail(overlap_s, tested.sizes_s, len(tested.column), len(query))
    expected_s = tested.sizes_s * (len(query) / len(tested.column))
    order = np.lexsort((tested.names, p_s))
    rows = order[overlap_s[order] >= min_overlap]
    table = pd.DataFrame(
        {
            "set": tested.names[rows].astype(object),
            "overlap": overlap_s[rows],
            "set_size": tested.sizes_s[rows],
            "expected": expected_s[rows],
            "fold": overlap_s[rows] / expected_s[rows],
            "p": p_s[rows],
            "fdr": benjamini_hochberg(p_s)[rows],
            "genes": pd.Series(list(_shared_genes(query, tested, rows)), dtype=object),
        },
        columns=list(COLUMNS),
    )
    table.attrs = {"n_genes": len(query), **tested.attrs()}
    return table


def _shared_genes(query: list[str], tested: _TestedSets, rows: NDArray[np.intp]) -> Iterator[tuple[str, ...]]:
    """Yield the query genes in each of some sets, in the order of the query."""
    indptr, indices = tested.member_sb.indptr, tested.member_sb.indices
    for s in rows:
        members = set(indices[indptr[s] : indptr[s + 1]])
        yield tuple(gene for gene in query if tested.column[gene] in members)


def _right_tail(
    overlap_s: NDArray[np.int64], sizes_s: NDArray[np.int64], n_background: int, n_query: int
) -> NDArray[np.float64]:
    """Return P(overlap or more), (s,), computed once for each distinct pair of overlap and size: scipy sums the tail in Python."""
    pairs, pair_of_s = np.unique(np.stack([overlap_s, sizes_s], axis=1), axis=0, return_inverse=True)
    p = hypergeom.sf(pairs[:, 0] - 1, n_background, pairs[:, 1], n_query)
    tail: NDArray[np.float64] = np.clip(p, 0.0, 1.0)[pair_of_s.ravel()]
    return tail


def _describe(genes: Collection[str]) -> str:
    """Return the most frequent kind of name with three examples: human Ensembl ids (ENSG…, ENSG…, ENSG…)."""
    names = sorted(genes)
    kinds = [
        next((kind for kind, pattern in NAME_PATTERNS if pattern.fullmatch(name)), "names") for name in names
    ]
    kind = max(set(kinds), key=lambda each: (kinds.count(each), each))
    examples = [name for name, each in zip(names, kinds, strict=True) if each == kind]
    return f"{kind} ({first_three(examples)})"
