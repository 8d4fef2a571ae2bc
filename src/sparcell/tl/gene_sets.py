"""Collections of gene sets: reading and writing the GMT format, and the package's own sets.

No torch and no AnnData: names in, names out.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sparcell.errors import InputError

BUILTIN_FILE = Path(__file__).parent / "gene_sets.gmt"

ANY_TISSUE = "any tissue"
"""How the descriptions of the built-in sets begin that belong to no one tissue."""


@dataclass(frozen=True)
class GeneSets:
    """Named sets of genes, in the order of their file.

    Raises
    ------
    InputError
        If there is no set, one has no name or no gene, or a description belongs to no set.
    """

    genes: Mapping[str, tuple[str, ...]]
    """Name of the set → its genes, each once."""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    """Name of the set → the second field of its line, often a source or an address; "" where nothing is given."""

    def __post_init__(self) -> None:
        if not self.genes:
            raise InputError("There is no gene set; expected at least one, as name → genes.")
        for name, genes in self.genes.items():
            if not name.strip():
                raise InputError(
                    f"A gene set has no name (its genes: {few(genes)}); expected one for each set."
                )
            checked_names(genes, f"the gene set {name!r}")
        strange = [name for name in self.descriptions if name not in self.genes]
        if strange:
            raise InputError(
                f"{strange[0]!r} has a description and no genes; expected the same names in both."
            )
        unique = {name: tuple(dict.fromkeys(genes)) for name, genes in self.genes.items()}
        object.__setattr__(self, "genes", unique)
        object.__setattr__(self, "descriptions", {name: self.descriptions.get(name, "") for name in unique})

    def __len__(self) -> int:
        return len(self.genes)


def read_gmt(path: str | Path) -> GeneSets:
    """Read a collection of gene sets in the GMT format, as MSigDB, GO and Reactome export it; also gzipped.

    A line is a set: name, description, genes, separated by tabs. Blank lines, and lines without a tab that
    begin with #, are skipped; so are tabs at the end of a line, and a gene's repetitions within its set.

    Raises
    ------
    InputError
        If there is no such file, it is no text or damaged, a line has no tab, no name or no genes, or two
        sets have the same name: which line, and what stands there.
    """
    where = Path(path)
    sets: dict[str, tuple[str, ...]] = {}
    descriptions: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(io.StringIO(_text(where), newline=None), start=1):
        if not line.strip() or (line.startswith("#") and "\t" not in line):
            continue
        at = f"{where}, line {number}"
        if "\t" not in line:
            raise InputError(
                f"{at} has no tab: {line.strip()[:40]!r}; expected the GMT format, on each line a name, a "
                f"description and genes, separated by tabs{_other_format(line)}."
            )
        name, description, *genes = (part.strip() for part in line.split("\t"))
        genes = [gene for gene in genes if gene]
        if not name:
            raise InputError(
                f"{at} begins with a tab, so the set has no name; expected name, description, genes."
            )
        if not genes:
            raise InputError(
                f"{at}: the set {name!r} has no genes; expected name, description, genes, separated by tabs: "
                "take the line out or write its genes behind the second tab."
            )
        if name in sets:
            raise InputError(
                f"{at}: the name {name!r} stands on line {lines[name]} already; expected each name once: "
                "rename one of the two."
            )
        sets[name], descriptions[name], lines[name] = tuple(genes), description, number
    if not sets:
        raise InputError(f"{where} holds no gene set; expected lines of name, description, genes.")
    return GeneSets(sets, descriptions)


def gmt_text(sets: GeneSets) -> str:
    """Write sets in the GMT format, so that `read_gmt` gives them back.

    Raises
    ------
    InputError
        If a name, a description or a gene holds a tab or a line break, or begins or ends with blanks.
    """
    lines = []
    for name, genes in sets.genes.items():
        fields = [name, sets.descriptions[name], *genes]
        for text in fields:
            if text != text.strip() or set(text) & set("\t\r\n\0\ufeff"):
                raise InputError(
                    f"{text!r} of the set {name!r} cannot stand in a GMT file; expected no tabs, line breaks or "
                    "blanks around it."
                )
        lines.append("\t".join(fields) + "\n")
    return "".join(lines)


def builtin(tissue: Literal["blood", "pancreas"] | None = None) -> GeneSets:
    """Give the package's own sets for human blood and pancreas, 8 to 20 textbook markers each.

    Parameters
    ----------
    tissue
        Leaves the sets of the other tissue out; those of any tissue (proliferation, interferon, …) stay.
    """
    sets = read_gmt(BUILTIN_FILE)
    tissues = {text.partition(":")[0] for text in sets.descriptions.values()} - {ANY_TISSUE}
    if tissue is not None and tissue not in tissues:
        raise InputError(
            f"There are no built-in sets for {tissue!r}; there are: {', '.join(sorted(tissues))}."
        )
    wanted = {ANY_TISSUE, tissue} if tissue else {ANY_TISSUE, *tissues}
    kept = [name for name, text in sets.descriptions.items() if text.partition(":")[0] in wanted]
    return GeneSets(
        {name: sets.genes[name] for name in kept}, {name: sets.descriptions[name] for name in kept}
    )


def checked_names(genes: Collection[str], what: str) -> list[str]:
    """Give the names as a list.

    Raises
    ------
    InputError
        If there are none, they are one text, or one of them is no text; `what` begins the message.
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


def few(names: Collection[str]) -> str:
    """Name the first three."""
    return ", ".join(str(name) for name in list(names)[:3]) + (", …" if len(names) > 3 else "")


def _other_format(line: str) -> str:
    if line.lstrip().startswith("<"):
        return "; this is a web page or XML: fetch the file itself"
    if line.lstrip().startswith(("{", "[")):
        return "; this is JSON: choose GMT where it was exported"
    return ""


def _text(path: Path) -> str:
    """Read UTF-8 text, gzipped or not (told by its first bytes)."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}; expected gene sets in the GMT format.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8 (byte {error.start}); expected a GMT file: if it is text of another "
            "encoding, save it as UTF-8."
        ) from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a GMT file, gzipped or not.") from error
    if "\0" in text:
        raise InputError(f"{path} is not text; expected gene sets in the GMT format.")
    return text
