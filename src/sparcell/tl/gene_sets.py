"""Collections of gene sets: reading and writing the GMT format, and the sets that ship with the package.

This file needs neither torch nor AnnData: names in, names out.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from sparcell.errors import InputError

BUILTIN_FILE = Path(__file__).parent / "gene_sets.gmt"

ANY_TISSUE, MANY_TISSUES = "any tissue", "many tissues"
"""First words of the descriptions of built-in sets: a process of any cell, and a cell type of many tissues."""
Tissue = Literal["blood", "brain", "gut", "kidney", "liver", "lung", "muscle", "pancreas", "skin"]
TISSUES: tuple[str, ...] = get_args(Tissue)
SUBTYPE_OF = ", subtype of "
"""Words between the tissue and a parent set in the description of a built-in set, which can have several parents."""


@dataclass(frozen=True)
class GeneSets:
    """Named gene sets, in the order of their file.

    Raises
    ------
    InputError
        If there is no set, a set has no name or no gene, or a description belongs to no set.

    Examples
    --------
    >>> sets = sp.tl.GeneSets({"B cell": ("CD79A", "MS4A1"), "NK": ("GNLY", "NKG7")})
    >>> len(sets)
    2
    """

    genes: Mapping[str, tuple[str, ...]]
    """Name of the set → its genes; each gene occurs once."""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    """Name of the set → the second field of its line, often a source or an address; "" where the description is missing."""

    def __post_init__(self) -> None:
        if not self.genes:
            raise InputError("There is no gene set; expected at least one, as name → genes.")
        for name, genes in self.genes.items():
            if not name.strip():
                raise InputError(
                    f"A gene set has no name (its genes: {first_three(genes)}); expected one name for each set."
                )
            require_gene_names(genes, f"the gene set {name!r}")
        unknown = [name for name in self.descriptions if name not in self.genes]
        if unknown:
            raise InputError(
                f"{unknown[0]!r} has a description and no genes; expected the same names in genes and descriptions."
            )
        unique = {name: tuple(dict.fromkeys(genes)) for name, genes in self.genes.items()}
        object.__setattr__(self, "genes", unique)
        object.__setattr__(self, "descriptions", {name: self.descriptions.get(name, "") for name in unique})

    def __len__(self) -> int:
        return len(self.genes)

    def is_cell_type(self, name: str) -> bool:
        """Return whether the description of a set begins with a tissue, as those of the built-in cell types do.

        Examples
        --------
        >>> sets = sp.tl.builtin_gene_sets()
        >>> sets.is_cell_type("B cell"), sets.is_cell_type("Hypoxia")
        (True, False)
        """
        return _tissue(self.descriptions[name]) in {MANY_TISSUES, *TISSUES}

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the sets of the wider cell types that contain a cell type.

        Examples
        --------
        >>> sets = sp.tl.builtin_gene_sets()
        >>> sets.parents("Naive T cell"), sets.parents("B cell")
        (('T cell',), ())
        """
        parents = self.descriptions[name].partition(":")[0].split(SUBTYPE_OF)[1:]
        return tuple(parent for parent in parents if parent in self.genes)


def read_gmt(path: str | Path) -> GeneSets:
    """Return the gene sets of a GMT file, as MSigDB, GO and Reactome export it; the file may be gzipped.

    Each line is a set: name, description and genes, separated by tabs. The reader skips blank lines, lines without a tab that begin with
    #, tabs at the end of a line, and repeated genes within a set.

    Parameters
    ----------
    path
        The GMT file, UTF-8 text.

    Raises
    ------
    InputError
        If the file is missing, damaged or no text, a line has no tab, no name or no genes, or two sets have the same name. The message
        names the line.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("sets.gmt").write_text("B cell\\tmarkers\\tCD79A\\tMS4A1\\n")
    >>> sp.tl.read_gmt("sets.gmt").genes["B cell"]
    ('CD79A', 'MS4A1')
    """
    file = Path(path)
    sets: dict[str, tuple[str, ...]] = {}
    descriptions: dict[str, str] = {}
    line_of: dict[str, int] = {}
    for number, line in enumerate(io.StringIO(_text(file), newline=None), start=1):
        if not line.strip() or (line.startswith("#") and "\t" not in line):
            continue
        name, description, genes = _parse_line(line, f"{file}, line {number}")
        if name in sets:
            raise InputError(
                f"{file}, line {number}: the name {name!r} stands on line {line_of[name]} already; expected each name "
                "once. Rename one of the two sets."
            )
        sets[name], descriptions[name], line_of[name] = genes, description, number
    if not sets:
        raise InputError(f"{file} holds no gene set; expected lines of name, description, genes.")
    return GeneSets(sets, descriptions)


def _parse_line(line: str, where: str) -> tuple[str, str, tuple[str, ...]]:
    """Return name, description and genes of one line; `where` begins the error messages."""
    if "\t" not in line:
        raise InputError(
            f"{where} has no tab: {line.strip()[:40]!r}; expected the GMT format, on each line a name, a "
            f"description and genes, separated by tabs{_format_hint(line)}."
        )
    name, description, *fields = (part.strip() for part in line.split("\t"))
    genes = tuple(gene for gene in fields if gene)
    if not name:
        raise InputError(
            f"{where} begins with a tab, so the set has no name; expected name, description, genes."
        )
    if not genes:
        raise InputError(
            f"{where}: the set {name!r} has no genes; expected name, description, genes, separated by tabs. "
            "Delete the line or write the genes after the second tab."
        )
    return name, description, genes


def gmt_text(sets: GeneSets) -> str:
    """Return the sets in the GMT format; `read_gmt` reads the same sets back.

    Parameters
    ----------
    sets
        The gene sets to write.

    Raises
    ------
    InputError
        If a name, a description or a gene holds a tab or a line break, or begins or ends with a blank.

    Examples
    --------
    >>> sets = sp.tl.GeneSets({"NK": ("GNLY", "NKG7")}, {"NK": "markers"})
    >>> sp.tl.gmt_text(sets).split()
    ['NK', 'markers', 'GNLY', 'NKG7']
    """
    lines = []
    for name, genes in sets.genes.items():
        fields = [name, sets.descriptions[name], *genes]
        for text in fields:
            if text != text.strip() or set(text) & set("\t\r\n\0\ufeff"):
                raise InputError(
                    f"{text!r} of the set {name!r} cannot stand in a GMT file; expected text without tabs, line breaks, "
                    "leading blanks or trailing blanks."
                )
        lines.append("\t".join(fields) + "\n")
    return "".join(lines)


def builtin_gene_sets(tissue: Tissue | None = None) -> GeneSets:
    """Return the gene sets that ship with the package: textbook markers of cell types, and genes of processes, for human and mouse.

    Symbols are those of human genes. Where the symbol of the mouse gene has other letters, the set holds both.

    Parameters
    ----------
    tissue
        Leave out the cell types of other tissues. Sets of processes (cell cycle, interferon response, …) and cell types of many tissues
        (fibroblast, endothelial cell, …) always stay. Default: all sets.

    Raises
    ------
    InputError
        If there are no sets for the tissue.

    Examples
    --------
    >>> sets = sp.tl.builtin_gene_sets("blood")
    >>> "B cell" in sets.genes
    True
    """
    sets = read_gmt(BUILTIN_FILE)
    if tissue is not None and tissue not in TISSUES:
        raise InputError(f"There are no built-in sets for {tissue!r}; there are: {', '.join(TISSUES)}.")
    selected = {ANY_TISSUE, MANY_TISSUES, *([tissue] if tissue else TISSUES)}
    names = [name for name, text in sets.descriptions.items() if _tissue(text) in selected]
    return GeneSets(
        {name: sets.genes[name] for name in names}, {name: sets.descriptions[name] for name in names}
    )


def _tissue(description: str) -> str:
    """Return the tissue at the beginning of a description: "blood, subtype of T cell: naive cells" gives "blood"."""
    return description.partition(":")[0].partition(SUBTYPE_OF)[0]


def require_gene_names(genes: Collection[str], what: str) -> list[str]:
    """Return gene names as a list.

    Raises
    ------
    InputError
        If there is no name, the names are a single text, or a name is no text. `what` begins the message.
    """
    if isinstance(genes, str):
        raise InputError(
            f"{what} is the text {genes[:40]!r}; expected a list of gene names, [{genes[:40]!r}]."
        )
    names = list(genes)
    if not names:
        raise InputError(f"{what}: found no gene; expected at least one name.")
    wrong = next((name for name in names if not isinstance(name, str) or not name), None)
    if wrong is not None:
        raise InputError(
            f"{what}: found {wrong!r} ({type(wrong).__name__}) among the genes; expected names, as in var_names."
        )
    return names


def first_three(names: Collection[str]) -> str:
    """Return the first three names as text, with "…" if there are more."""
    return ", ".join(str(name) for name in list(names)[:3]) + (", …" if len(names) > 3 else "")


def _format_hint(line: str) -> str:
    if line.lstrip().startswith("<"):
        return "; this is a web page or XML: download the file itself"
    if line.lstrip().startswith(("{", "[")):
        return "; this is JSON: choose GMT for the export"
    return ""


def _text(path: Path) -> str:
    """Return the UTF-8 text of a file; its first bytes tell whether it is gzipped."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}; expected gene sets in the GMT format.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8 (byte {error.start}); expected a GMT file. If the text has another encoding, "
            "save it as UTF-8."
        ) from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a GMT file, gzipped or not.") from error
    if "\0" in text:
        raise InputError(f"{path} is not text; expected gene sets in the GMT format.")
    return text
