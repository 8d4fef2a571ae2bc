"""Name gene programs after gene sets: over-representation of a set among a program's top genes.

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
from sparcell.tl.gene_sets import ANY_TISSUE, GeneSets, checked_names, few

log = logging.getLogger("sparcell")

LEAST_OVERLAP = 2
"""One gene in common is no program."""

EXACT_SHARE = 0.1
"""Exact matches must be this share of the matches that ignore case, else case is ignored: of the human symbols
a few (C3, F5) are written alike for mouse."""

KINDS = (
    ("human Ensembl ids", re.compile(r"ENSG\d{6,}(\.\d+)?")),
    ("Ensembl ids", re.compile(r"ENS[A-Z]*\d{6,}(\.\d+)?")),
    ("numbers, as Entrez ids are", re.compile(r"\d+")),
    ("symbols in capitals, as for human", re.compile(r"[A-Z][A-Z0-9.-]*(orf[0-9A-Z-]+)?")),
    ("symbols with one capital, as for mouse", re.compile(r"[A-Z][a-z0-9.-]+|mt-.+|\d+Rik")),
)
"""What gene names look like, the first that fits the whole name."""

COLUMNS = ("set", "overlap", "set_size", "expected", "fold", "p", "fdr", "genes")
NAME_COLUMNS = ("name", "fdr", "overlap", "set_size", "fold", "genes", "also", "also_fdr")

LEAST_LEFT = 3
"""So many genes must speak for a second name once those of the first are left out."""


def enrich(
    genes: Sequence[str], sets: GeneSets, background: Collection[str], *, least_overlap: int = LEAST_OVERLAP
) -> pd.DataFrame:
    """Test which sets hold more of the given genes than as many genes drawn from the background would.

    The p-value is the hypergeometric right tail, P(overlap or more), which is Fisher's one-sided exact test
    (Rivals et al., Bioinformatics 23, 401, 2007). Sets are cut to the background first. Tested are all sets
    of which `least_overlap` genes are left, whatever their overlap; `fdr` is over these, so that leaving the
    small overlaps out of the table does not flatter the rest.

    Parameters
    ----------
    genes
        A program's top genes; all of them in the background.
    sets
        From `gene_sets.read_gmt` or `gene_sets.builtin`.
    background
        The genes that could have been in `genes`: all that the model saw, and no others.
    least_overlap
        Sets that share fewer genes are not shown, ≥ 1.

    Returns
    -------
    A row a set, sorted by p, then by name: set, overlap, set_size (after the cut), expected (overlap by
    chance), fold (overlap / expected), p, fdr, genes (the shared ones, a tuple, in the given order). Its
    `attrs`: n_genes, n_background, n_tested, and matched: "exact", or "ignoring case" where the names differ
    in case (Cd3e, CD3E), which is logged too. The symbols of a mouse gene and its human orthologue mostly
    differ in case only, but not always.

    Raises
    ------
    InputError
        If there are no genes, one is not in the background, or none of the sets' genes is.
    """
    if least_overlap < 1:
        raise InputError(f"least_overlap={least_overlap}; expected 1 or more shared genes.")
    return _test(genes, "genes", _cut(sets, background, least_overlap), least_overlap)


def name_programs(
    ranked_genes: Mapping[str, Sequence[str]],
    sets: GeneSets,
    background: Collection[str],
    *,
    n_top: int = 50,
    most_fdr: float = 0.05,
) -> pd.DataFrame:
    """Name each program after the set in which its top genes are most over-represented, see `enrich`.

    Each program is tested on its own: of programs with no meaning, a share of up to `most_fdr` gets a name. Many programs are two
    things at once (B cells present antigen), and many collections hold sets that say the same. So the genes of the first set are taken
    out of the program, of the other sets and of the background, and what is left is tested again: a set found then, with three genes
    or more, is in `also`. Of the built-in sets, those of any tissue (MHC class II, proliferation) leave the first place to a cell type.

    Parameters
    ----------
    ranked_genes
        Program → its genes, the strongest first; an empty program gets no name.
    sets, background
        As in `enrich`.
    n_top
        How many genes of each program are used, ≥ 1.
    most_fdr
        A set with a larger FDR gives no name, 0 to 1.

    Returns
    -------
    Indexed by program, in the given order: name ("" where no set is found), fdr, overlap, set_size, fold,
    genes (shared with the set), also ("" where there is no second one) and also_fdr. Where the two changed places, also_fdr is that of
    the first test and fdr that of what was left. Programs of the same name keep it. `attrs` as in `enrich`, less n_genes.
    """
    if n_top < 1:
        raise InputError(f"n_top={n_top}; expected 1 or more genes of each program.")
    if not 0 <= most_fdr <= 1:
        raise InputError(f"most_fdr={most_fdr}; expected a rate between 0 and 1, such as 0.05.")
    cut = _cut(sets, background, LEAST_OVERLAP)
    rows = []
    for program, ranked in ranked_genes.items():
        what = f"program {program!r}"
        top = ranked if isinstance(ranked, str) else ranked[:n_top]
        table = _test(top, what, cut, LEAST_OVERLAP) if len(ranked) else None
        if table is None or table.empty or not table["fdr"].iloc[0] <= most_fdr:
            rows.append(("", np.nan, 0, 0, np.nan, (), "", np.nan))
            continue
        best, second = table.iloc[0], _second(top, what, cut, table["set"].iloc[0])
        if second is None or not second["fdr"] <= most_fdr:
            rows.append((*_named(best), "", np.nan))
        elif _of_any_tissue(sets, best) and not _of_any_tissue(sets, second):
            rows.append((*_named(second), best["set"], best["fdr"]))
        else:
            rows.append((*_named(best), second["set"], second["fdr"]))
    named = pd.DataFrame(
        rows, columns=list(NAME_COLUMNS), index=pd.Index(list(ranked_genes), name="program", dtype=object)
    )
    named = named.astype(
        {"fdr": float, "overlap": np.int64, "set_size": np.int64, "fold": float, "also_fdr": float}
    )
    named.attrs = cut.told()
    return named


def benjamini_hochberg(p_s: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values to false discovery rates (Benjamini & Hochberg, J. R. Stat. Soc. B 57, 289, 1995).

    fdr of the i-th smallest of m = the least of p_j · m / j over j ≥ i, so it rises with p and is at most 1.
    """
    p = np.asarray(p_s, dtype=np.float64)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    fdr = np.empty_like(p)
    fdr[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(fdr, 1.0)


@dataclass(frozen=True)
class _Cut:
    """The sets that can be tested, cut to the background."""

    column: dict[str, int]
    """Background gene → its column."""
    names: NDArray[np.str_]
    """Length s."""
    member_sb: sparse.csr_matrix
    sizes_s: NDArray[np.int64]
    matched: str

    def without(self, name: str) -> _Cut:
        """The same without the genes of one set, in the background and in every set."""
        inside_b = self.member_sb[np.flatnonzero(self.names == name)].toarray().ravel() > 0
        left = {gene: b for b, gene in enumerate(g for g, b in self.column.items() if not inside_b[b])}
        member_sb = self.member_sb[:, ~inside_b]
        sizes_s = np.asarray(member_sb.sum(axis=1), dtype=np.int64).ravel()
        keep_s = sizes_s >= LEAST_OVERLAP
        return _Cut(left, self.names[keep_s], member_sb[keep_s], sizes_s[keep_s], self.matched)

    def told(self) -> dict[Hashable, Any]:
        return {
            "n_background": len(self.column),
            "n_tested": len(self.names),
            "matched": self.matched,
        }


def _cut(sets: GeneSets, background: Collection[str], least: int) -> _Cut:
    column = {gene: b for b, gene in enumerate(dict.fromkeys(checked_names(background, "the background")))}
    of_sets = {gene for genes in sets.genes.values() for gene in genes}
    by_case: dict[str, list[str]] = {}
    for gene in column:
        by_case.setdefault(gene.casefold(), []).append(gene)
    n_exact = len(of_sets & column.keys())
    n_any_case = len({gene.casefold() for gene in of_sets} & by_case.keys())
    if n_any_case == 0:
        raise InputError(
            f"None of the {len(of_sets)} genes of the sets is in the background. The sets name "
            f"{_looks(of_sets)}; the background names {_looks(column)}. Expected the same kind of names: read a "
            "collection of the background's kind, or put the other names into var_names before the fit."
        )
    exact = n_exact >= EXACT_SHARE * n_any_case
    if not exact:
        log.warning(
            "%d genes of the sets are in the background if case is ignored, %d as written: case is ignored "
            "(the sets name %s; the background names %s)",
            n_any_case,
            n_exact,
            _looks(of_sets),
            _looks(column),
        )
    names, members = [], []
    for name, genes in sets.genes.items():
        found = (
            {column[gene] for gene in genes if gene in column}
            if exact
            else {column[gene] for each in genes for gene in by_case.get(each.casefold(), ())}
        )
        if len(found) >= least:
            names.append(name)
            members.append(sorted(found))
    sizes_s = np.array([len(found) for found in members], dtype=np.int64)
    indices = np.concatenate([np.zeros(0, dtype=np.int64), *map(np.asarray, members)]).astype(np.int64)
    member_sb = sparse.csr_matrix(
        (np.ones(len(indices), dtype=np.int64), indices, np.concatenate([[0], np.cumsum(sizes_s)])),
        shape=(len(names), len(column)),
    )
    return _Cut(
        column, np.array(names, dtype=np.str_), member_sb, sizes_s, "exact" if exact else "ignoring case"
    )


def _second(top: Sequence[str], what: str, cut: _Cut, first: str) -> pd.Series | None:
    """The best set of what is left of a program without the genes of its first set; None where there is none."""
    rest = cut.without(first)
    genes = [gene for gene in top if gene in rest.column]
    table = _test(genes, what, rest, LEAST_LEFT) if genes and len(rest.names) else None
    return None if table is None or table.empty else table.iloc[0]


def _named(found: pd.Series) -> tuple[Any, ...]:
    return tuple(found[column] for column in ("set", *NAME_COLUMNS[1:-2]))


def _of_any_tissue(sets: GeneSets, found: pd.Series) -> bool:
    return sets.descriptions[found["set"]].startswith(ANY_TISSUE)


def _test(genes: Sequence[str], what: str, cut: _Cut, least_overlap: int) -> pd.DataFrame:
    """Test genes in all sets of a cut; columns and order as `enrich` says, `what` begins the messages."""
    drawn = list(dict.fromkeys(checked_names(genes, what)))
    strange = [gene for gene in drawn if gene not in cut.column]
    if strange:
        raise InputError(
            f"{what}: {len(strange)} of {len(drawn)} are not in the background: {few(strange)}; the background "
            f"names {_looks(cut.column)}. Expected as background all genes that could have been found, those "
            "that the model saw."
        )
    drawn_b = np.zeros(len(cut.column), dtype=np.int64)
    drawn_b[[cut.column[gene] for gene in drawn]] = 1
    overlap_s = np.asarray(cut.member_sb @ drawn_b, dtype=np.int64)
    p_s = _right_tail(overlap_s, cut.sizes_s, len(cut.column), len(drawn))
    expected_s = cut.sizes_s * (len(drawn) / len(cut.column))
    order = np.lexsort((cut.names, p_s))
    shown = order[overlap_s[order] >= least_overlap]
    table = pd.DataFrame(
        {
            "set": cut.names[shown].astype(object),
            "overlap": overlap_s[shown],
            "set_size": cut.sizes_s[shown],
            "expected": expected_s[shown],
            "fold": overlap_s[shown] / expected_s[shown],
            "p": p_s[shown],
            "fdr": benjamini_hochberg(p_s)[shown],
            "genes": pd.Series(list(_shared(drawn, cut, shown)), dtype=object),
        },
        columns=list(COLUMNS),
    )
    table.attrs = {"n_genes": len(drawn), **cut.told()}
    return table


def _shared(drawn: list[str], cut: _Cut, shown: NDArray[np.intp]) -> Iterator[tuple[str, ...]]:
    """Genes that are drawn and in the set, in the order in which they were drawn, for each set shown."""
    for s in shown:
        inside = set(cut.member_sb.indices[cut.member_sb.indptr[s] : cut.member_sb.indptr[s + 1]])
        yield tuple(gene for gene in drawn if cut.column[gene] in inside)


def _right_tail(
    overlap_s: NDArray[np.int64], sizes_s: NDArray[np.int64], n_background: int, n_drawn: int
) -> NDArray[np.float64]:
    """P(overlap or more), once for each distinct pair of overlap and size: scipy sums the tail in Python."""
    pairs, which_s = np.unique(np.stack([overlap_s, sizes_s], axis=1), axis=0, return_inverse=True)
    p = hypergeom.sf(pairs[:, 0] - 1, n_background, pairs[:, 1], n_drawn)
    tail: NDArray[np.float64] = np.clip(p, 0.0, 1.0)[which_s.ravel()]
    return tail


def _looks(genes: Collection[str]) -> str:
    """What most of the names look like, with three of these: human Ensembl ids (ENSG…, ENSG…, ENSG…)."""
    names = sorted(genes)
    kinds = [next((kind for kind, looks in KINDS if looks.fullmatch(name)), "names") for name in names]
    kind = max(set(kinds), key=lambda each: (kinds.count(each), each))
    return f"{kind} ({few([name for name, each in zip(names, kinds, strict=True) if each == kind])})"
