"""Over-representation of gene sets in a list of genes, and the match of gene names between sets and data.

Suffixes: b background genes, s gene sets that are tested.
"""

from __future__ import annotations

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
from sparcell.tl.gene_sets import GeneSets, first_three, require_gene_names

MIN_OVERLAP = 2
"""Default number of genes that a set must share with the tested genes: one shared gene is no evidence."""

EXACT_FRACTION = 0.5
"""Case is ignored if exact matches are fewer than this fraction of the matches that ignore case.

A few human symbols (C3, F5) are spelled the same for mouse, and the built-in sets hold some mouse symbols, so some exact matches do not
prove the same species.
"""

NAME_PATTERNS = (
    ("human Ensembl ids", re.compile(r"ENSG\d{6,}(\.\d+)?")),
    ("Ensembl ids", re.compile(r"ENS[A-Z]*\d{6,}(\.\d+)?")),
    ("numbers, as Entrez ids are", re.compile(r"\d+")),
    ("symbols in capitals, as for human", re.compile(r"[A-Z][A-Z0-9.-]*(orf[0-9A-Z-]+)?")),
    ("symbols with one capital, as for mouse", re.compile(r"[A-Z][a-z0-9.-]+|mt-.+|\d+Rik")),
)
"""Kinds of gene names and their patterns; the first pattern that fits the whole name counts."""

IGNORING_CASE = "ignoring case"
COLUMNS = ("set", "overlap", "set_size", "expected", "fold", "p", "fdr", "genes")


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
    n_tested and matched. `matched` is "exact", or "ignoring case" if the names differ in case (Cd3e, CD3E). The symbols of a mouse gene
    and of its human ortholog mostly, but not always, differ in case only.

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
    return test_genes(genes, "genes", restrict_sets(sets, background, min_overlap), min_overlap)


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
class TestedSets:
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

    def attrs(self) -> dict[Hashable, Any]:
        """Return what the tables note about the test."""
        return {
            "n_background": len(self.column),
            "n_tested": len(self.names),
            "matched": self.matched,
        }


def restrict_sets(sets: GeneSets, background: Collection[str], min_size: int) -> TestedSets:
    """Return the sets with `min_size` background genes or more.

    Names match as written. If hardly any does, case is ignored (Cd3e, CD3E), and a dot is a dash (H2.Aa, H2-Aa), as R writes it.
    """
    unique = dict.fromkeys(require_gene_names(background, "the background"))
    column = {gene: b for b, gene in enumerate(unique)}
    by_letters: dict[str, list[str]] = {}
    for gene in column:
        by_letters.setdefault(_letters(gene), []).append(gene)
    exact = _match_exactly(sets, column, by_letters)
    names, members = [], []
    for name, genes in sets.genes.items():
        columns = (
            {column[gene] for gene in genes if gene in column}
            if exact
            else {column[gene] for each in genes for gene in by_letters.get(_letters(each), ())}
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
    matched = "exact" if exact else IGNORING_CASE
    return TestedSets(column, np.array(names, dtype=np.str_), member_sb, sizes_s, matched)


def _letters(gene: str) -> str:
    return gene.casefold().replace(".", "-")


def _match_exactly(sets: GeneSets, column: Mapping[str, int], by_letters: Mapping[str, list[str]]) -> bool:
    """Return whether gene names match as written; False if case must be ignored."""
    set_genes = {gene for genes in sets.genes.values() for gene in genes}
    n_exact = len(set_genes & column.keys())
    n_any_case = len({_letters(gene) for gene in set_genes} & by_letters.keys())
    if n_any_case == 0:
        raise InputError(
            f"None of the {len(set_genes)} genes of the sets is in the background. The sets hold "
            f"{_describe(set_genes)}; the background holds {_describe(column)}. Expected the same kind of names. Read sets "
            "with the background's kind of names, or put the sets' kind of names into var_names before the fit."
        )
    return n_exact >= EXACT_FRACTION * n_any_case


def test_genes(genes: Sequence[str], what: str, tested: TestedSets, min_overlap: int) -> pd.DataFrame:
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


def _shared_genes(query: list[str], tested: TestedSets, rows: NDArray[np.intp]) -> Iterator[tuple[str, ...]]:
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
