"""Text tables: CSV, TSV and their like, also gzipped, read so that every fault is named by row and column.

Suffixes: r rows, c columns (which of them are cells is decided here too, see `genes_in_rows`).
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.errors import InputError

if TYPE_CHECKING:
    from sparcell.data.validation import Matrix

Orientation = Literal["auto", "cells-by-genes", "genes-by-cells"]

UNREADABLE = (ValueError, OSError, EOFError, zlib.error, csv.Error, OverflowError)
"""What pandas, gzip and csv raise on damaged text (their parser and decoding errors are ValueErrors)."""

CHUNK_VALUES = 1 << 22
"""Tables are read about this many values at a time, so that memory holds the counts and not the text."""

BARCODE = re.compile(r"(?:^|[^A-Za-z])[ACGTN]{8,}(?:[-._]\w+)*$")
"""A 10x or Drop-seq barcode, with prefix or suffix: AAACATACAACCAC-1, ctrl_AAACATTGAGCTAC.1."""

GENE = re.compile(
    r"^(?:ENS[A-Z]*G\d{6,}(?:\.\d+)?|MT-\w+|RP[SL]\d+[A-Z]?|LINC\d+|\w+RIK|GM\d+|HLA-\w+|ACTB|GAPDH|MALAT1|B2M|CD\d+[A-Z]?"
    r"|EEF1A1|TMSB4X|FTH1|FTL|CALM1|HSP90AB1|UBC|VIM)$",
    re.IGNORECASE,
)
"""Names that only genes have, of human or mouse: enough of them are in any count matrix."""

GENE_CORNERS = {
    "gene",
    "genes",
    "symbol",
    "gene_symbol",
    "gene_name",
    "gene_id",
    "geneid",
    "feature",
    "features",
}
CELL_CORNERS = {"cell", "cells", "barcode", "barcodes", "cell_id", "cellid", "cell_barcode", "index_cell"}

MAX_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class NumberTable:
    """Numbers with the names of their rows and columns."""

    values_rc: Matrix
    """CSR float32."""
    rows: list[str]
    columns: list[str]
    corner: str
    """The header of the column of names; "" where there is none."""


def read_strings(path: Path) -> pd.DataFrame:
    """Read a table of text: strings and missing values, the header's names as columns, repeated ones too.

    Raises
    ------
    InputError
        If it is empty, damaged, or its rows differ in length.
    """
    try:
        with _open(path) as handle:
            header, separator = _header(handle, path)
            frame = pd.read_csv(handle, sep=separator, header=None, dtype=str, skipinitialspace=True)
    except pd.errors.EmptyDataError as error:
        raise InputError(f"{path} has a header and no rows; expected one row a cell.") from error
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    frame.columns = pd.Index(_fit_header(header, frame.shape[1], path), dtype=object)
    return frame


def read_numbers(path: Path) -> NumberTable:
    """Read a table of numbers with a header and a first column of names.

    Raises
    ------
    InputError
        If it is empty or damaged, has no names, its rows differ in length, or a value is no finite number:
        the first such row and column and what stands there.
    """
    blocks: list[Matrix] = []
    rows: list[str] = []
    columns: list[str] = []
    corner = ""
    try:
        with _open(path) as handle:
            header, separator = _header(handle, path)
            _require_names(header, path)
            chunks = pd.read_csv(
                handle,
                sep=separator,
                header=None,
                converters={0: str},  # a gene may be called NA
                low_memory=False,
                skipinitialspace=True,
                chunksize=max(1, CHUNK_VALUES // len(header)),
            )
            for chunk in chunks:
                if not blocks:
                    corner, *columns = _fit_header(header, chunk.shape[1], path)
                names = [str(name) for name in chunk.iloc[:, 0]]
                blocks.append(_numbers(chunk.iloc[:, 1:], names, columns, path))
                rows.extend(names)
    except pd.errors.EmptyDataError as error:
        raise InputError(f"{path} has a header and no rows; expected a matrix of cells and genes.") from error
    except InputError:
        raise
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not blocks:
        raise InputError(f"{path} has a header and no rows; expected a matrix of cells and genes.")
    return NumberTable(sparse.vstack(blocks, format="csr"), rows, columns, corner)


def genes_in_rows(table: NumberTable, orientation: Orientation) -> tuple[bool, str]:
    """Decide which way round a table lies, and say why.

    In this order: what the user says; which side has names like barcodes; which has names that only genes
    have; the header of the column of names; the longer side is genes; equal sides: cells are rows.

    Returns
    -------
    Whether the rows are genes, and the reason in words.
    """
    if orientation != "auto":
        return orientation == "genes-by-cells", "as asked"
    barcodes = _share(BARCODE, table.rows), _share(BARCODE, table.columns)
    if max(barcodes) >= 0.5 and min(barcodes) < 0.5:
        return barcodes[1] > barcodes[0], "barcodes " + (
            "in the header" if barcodes[1] >= 0.5 else "in the rows"
        )
    genes = _share(GENE, table.rows), _share(GENE, table.columns)
    if max(genes) > 0 and min(genes) == 0:
        return genes[0] > 0, "gene names " + ("in the rows" if genes[0] > 0 else "in the header")
    corner = table.corner.strip().lower()
    if corner in GENE_CORNERS | CELL_CORNERS:
        return corner in GENE_CORNERS, f"the first column is called {table.corner!r}"
    if len(table.rows) == len(table.columns):
        return False, "nothing tells cells from genes"
    return len(table.rows) > len(table.columns), "the longer side is taken for genes"


def _share(pattern: re.Pattern[str], names: Sequence[str]) -> float:
    return sum(bool(pattern.search(name)) for name in names) / max(1, len(names))


def _open(path: Path) -> TextIO:
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    if zipped:
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open("r", encoding="utf-8-sig", newline="")


def _header(handle: TextIO, path: Path) -> tuple[list[str], str]:
    """Read the first line that is not blank; tell the separator by what is most frequent in it."""
    line = ""
    while not line.strip():
        line = handle.readline()
        if not line:
            raise InputError(f"{path} is empty; expected a header, then one row a cell or gene.")
    by_name = "\t" if {".tsv", ".txt", ".tab"} & {suffix.lower() for suffix in path.suffixes} else ","
    separator = max((by_name, ",", "\t", ";"), key=line.count)
    if line.count(separator) == 0 and len(line.split()) > 1:
        return [field.strip('"') for field in line.split()], r"\s+"
    return next(csv.reader([line.rstrip("\r\n")], delimiter=separator)), separator


def _require_names(header: list[str], path: Path) -> None:
    names = header[1:] or header
    if len(set(names)) < len(names) and all(_is_number(name) for name in header):
        raise InputError(
            f"{path} begins with a row of numbers ({', '.join(header[:4])}, …); expected a header of names "
            "there, and a name at the beginning of each row."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fit_header(header: list[str], n_columns: int, path: Path) -> list[str]:
    """R's write.table leaves the corner out: the header is then one name short."""
    if len(header) == n_columns - 1:
        header = ["", *header]
    if len(header) != n_columns:
        raise InputError(
            f"{path} has {len(header)} names in its header and {n_columns} fields in its first row; expected "
            "as many, or one name less: check the separator."
        )
    return header


def _numbers(chunk: pd.DataFrame, rows: list[str], columns: list[str], path: Path) -> Matrix:
    if not columns:
        raise InputError(
            f"{path} has one column only; expected names and numbers separated by comma, tab or semicolon."
        )
    wrong = [i for i, dtype in enumerate(chunk.dtypes) if dtype.kind not in "iuf"]
    if wrong:
        chunk = chunk.copy()
    for i in wrong:
        text = chunk.iloc[:, i].astype(object)
        numbers = pd.to_numeric(text.map(str), errors="coerce")  # as words: True is no number
        bad_r = (numbers.isna() & text.notna()).to_numpy()
        if bad_r.any():
            row = int(bad_r.argmax())
            raise InputError(
                f"{path} has text among the numbers: {str(text.iloc[row])[:40]!r} in row {rows[row]!r}, "
                f"column {columns[i]!r}; expected numbers only: keep labels and notes in a file of their own."
            )
        chunk.isetitem(i, numbers.to_numpy())
    values_rc = chunk.to_numpy(dtype=np.float64)
    bad_rc = ~(np.abs(values_rc) <= MAX_FLOAT32)
    if bad_rc.any():
        row, column = (int(i) for i in np.argwhere(bad_rc)[0])
        found = values_rc[row, column]
        what = "no value" if np.isnan(found) else f"the value {found:g}"
        raise InputError(
            f"{path} has {what} in row {rows[row]!r}, column {columns[column]!r}; expected a finite number "
            "in every field, as many as the header has names: write 0 where nothing was counted."
        )
    return sparse.csr_matrix(values_rc, dtype=np.float32)


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    ragged = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
    if ragged:
        fields, line, seen = (int(number) for number in ragged.groups())
        return InputError(
            f"{path} has {seen} fields in row {line} after the header and {fields} in the rows before; "
            "expected as many in each row."
        )
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{path} cannot be read as a table ({said}); expected a CSV or TSV file in UTF-8.")
